"""The watchdog: a process of its own that sees a stall, collects, classifies, and ends the run when its time is up.

It needs nothing of the runner but the output folder, so it goes on where the runner is killed; and imports no torch,
so that what makes the ranks hang does not make it hang.
"""

import contextlib
import os
import signal
import time
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch import evidence as collecting
from llmval_runners.compile_study.watch import stacks
from llmval_runners.compile_study.watch.classify import classify
from llmval_runners.compile_study.watch.processes import Process, children_of_all, descendants, read_process, same
from llmval_runners.compile_study.watch.progress import Progress
from llmval_runners.process.files import read_json, replace_bytes, write_json

POLL_S = 0.5
GRACE_S = 3.0
BUSY = 0.1  # of a core: an idle worker of Inductor uses a thousandth
EXTRA_S = 45.0  # for native frames after the verdict, before the run is ended
JOIN_S = 60.0  # for the first heartbeat, where there is no agent to be seen


class Watchdog:
    """Watches the run that `run.json` describes until its ranks have ended or it has ended them."""

    def __init__(self, layout: Layout) -> None:
        run = read_json(layout.run)
        if run is None:
            raise SystemExit(f"{layout.run} is not there: the watchdog watches a run that has been prepared.")
        self.layout, self.options, self.size = layout, run["options"], run["ranks"]
        self.began, self.timeout = run["started_mono_s"], self.options["timeout"]
        self.py_spy = stacks.find_py_spy() if self.options["stacks"] == "auto" else None
        self.progress = Progress(self.options["stall_after"])
        self.processes: dict[int, Process] = {}
        # Where an earlier watchdog was killed, what it had seen stays.
        self.stalls: list[dict[str, Any]] = (read_json(layout.watch / "stalls.json") or {}).get("stalls", [])
        self._moves_at_stall = 0
        self._tree: dict[int, Process] = {}
        self._cpu: dict[tuple[int, int], tuple[float, float]] = {}
        self._busy: dict[int, int] = {}

    def run(self) -> None:
        replace_bytes(self.layout.watch / "watchdog.pid", str(os.getpid()).encode())
        while True:
            now = time.monotonic()
            self._look(now)
            if len(self.processes) == self.size and not self.progress.unfinished:
                break
            if not self.processes and self._launch_failed(now):
                break
            if self.layout.exit_codes.exists() and not any(same(process) for process in self.processes.values()):
                break
            self._stalls(now)
            if now - self.began > self.timeout:
                self._out_of_time(now)
                break
            if self.stalls and not self.stalls[-1]["recovered"] and self.options["after_stall"] == "end":
                self._end("stalled")
                break
            time.sleep(POLL_S)
        self._write_stalls()

    def _launch_failed(self, now: float) -> bool:
        """Without a single heartbeat: the agent has ended, or there has been none for a while.

        As long as it runs it may only be slow: torch on a cold disk takes a minute.
        """
        return self.layout.exit_codes.exists() or (now - self.began > JOIN_S and self._agent() is None)

    def _look(self, now: float) -> None:
        everybody = children_of_all()
        for rank in range(self.size):
            beat = read_json(self.layout.beat(rank))
            if beat is None:
                continue
            process = read_process(beat["pid"])
            if process is None or process.start != beat["start"]:
                self.progress.gone(rank)
                self.processes.setdefault(rank, Process(beat["pid"], 0, beat["start"], "Z", 0.0, 0, ""))
                continue
            self.processes[rank] = process
            children = descendants(process.pid, everybody)
            self._tree |= {child.pid: child for child in children}
            token = [beat["progress"], sorted(child.pid for child in children), self._compiling(rank, children, now)]
            self.progress.see(rank, token, beat["phase"], now)

    def _compiling(self, rank: int, children: list[Process], now: float) -> int:
        """How often one of the rank's compile workers was seen at work: one slow C++ compile is no stall.

        By its rate of CPU time, so that the seconds that idle workers gather over an hour do not hide a stall.
        """
        for child in children:
            if child.compile_worker:
                then, cpu_s = self._cpu.get((child.pid, child.start), (now, child.cpu_s))
                if child.cpu_s - cpu_s > BUSY * (now - then):
                    self._busy[rank] = self._busy.get(rank, 0) + 1
                self._cpu[child.pid, child.start] = (now, child.cpu_s)
        return self._busy.get(rank, 0)

    def _stalls(self, now: float) -> None:
        stalled = self.progress.stalled(now)
        open_stall = bool(self.stalls) and not self.stalls[-1]["recovered"]
        if stalled and not open_stall:
            self._collect(now, "stalled")
        elif open_stall and self.progress.moves > self._moves_at_stall:
            self.stalls[-1] |= {"recovered": True, "recovered_after_s": round(now - self.stalls[-1]["since_mono_s"], 3)}
            self._write_stalls()

    def _collect(self, now: float, why: str) -> None:
        number, self._moves_at_stall = len(self.stalls) + 1, self.progress.moves
        idle = {rank: self.progress.idle(rank, now) for rank in self.progress.unfinished}
        since = now - min(idle.values(), default=0.0)
        evidence = collecting.collect(self.layout, idle, number, self.py_spy)
        verdict = classify(evidence)
        after = time.monotonic() - since
        stall = {
            "stall": number, "why": why, "since_mono_s": since, "started_after_s": round(since - self.began, 3),
            "verdict_after_s": round(after, 3), "recovered": False, "recovered_after_s": None,
            "stack_sources": {str(item["rank"]): item["stack"]["source"] for item in evidence["ranks"]},
        } | verdict  # fmt: skip
        self.stalls.append(stall)
        write_json(self.layout.verdict, stall, indent=1)
        self._write_stalls()
        print(
            f"stall {number}: {verdict['kind']}, rank {verdict['ranks']}; {'; '.join(verdict['reasons'])}", flush=True
        )
        spare = EXTRA_S if self.options["after_stall"] == "end" else max(EXTRA_S, self.timeout / 10)
        native = not self.options["no_native_stacks"]
        stall["notes"] = collecting.deepen(self.layout, evidence, self.py_spy, time.monotonic() + spare, native=native)
        self._write_stalls()

    def _out_of_time(self, now: float) -> None:
        """Look once more before ending: at a hang to compare, at a run that only was too slow to say where it was."""
        self._collect(now, "timeout")
        self._end("timeout")

    def _end(self, why: str) -> None:
        """SIGTERM to the agent, then to the ranks, then SIGKILL; each only if it still is the process that was seen."""
        write_json(self.layout.ending, {"why": why, "t_ns": time.time_ns(), "stall": len(self.stalls)}, indent=1)
        now = children_of_all()
        for process in self.processes.values():
            self._tree |= {child.pid: child for child in descendants(process.pid, now)}
        everybody = [*self.processes.values(), *self._tree.values()]
        agent = self._agent()
        for process in [agent] if agent else self.processes.values():
            if same(process):
                _signal(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S + 5.0  # torchrun gives its ranks 5 s
        while time.monotonic() < deadline and any(same(process) for process in everybody):
            time.sleep(0.2)
            if time.monotonic() > deadline - 5.0:
                for process in self.processes.values():
                    if same(process):
                        _signal(process.pid, signal.SIGTERM)
        for process in everybody:
            if same(process):
                _signal(process.pid, signal.SIGKILL)

    def _agent(self) -> Process | None:
        """torchrun's agent where the runner started it; None where the operator did."""
        seen = read_json(self.layout.watch / "agent.json") or {}
        process = read_process(seen.get("pid", 0))
        return process if process is not None and process.start == seen.get("start") else None

    def _write_stalls(self) -> None:
        write_json(self.layout.watch / "stalls.json", {"v": 1, "stalls": self.stalls, "py_spy": self.py_spy}, indent=1)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
