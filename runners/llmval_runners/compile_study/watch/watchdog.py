"""The watchdog: a process of its own that notices stalls, collects evidence, classifies it, and ends a run in time.

It reads only the output folder and /proc, so it continues if the runner is killed. It imports no torch, so that the
cause of a hang in the ranks cannot make it hang too.
"""

import contextlib
import os
import signal
import time
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch import evidence, stacks
from llmval_runners.compile_study.watch.classify import classify
from llmval_runners.compile_study.watch.processes import Process, children_of_all, descendants, is_alive, read_process
from llmval_runners.compile_study.watch.progress import Progress
from llmval_runners.process.files import read_json, replace_bytes, write_json

POLL_S = 0.5
GRACE_S = 3.0
BUSY = 0.1  # share of a core; an idle worker of Inductor uses a thousandth
NATIVE_FRAMES_S = 45.0  # after the verdict, before the run is ended
FIRST_HEARTBEAT_S = 60.0  # the limit if torchrun's agent is unknown


class Watchdog:
    """Watches the run of `run.json` until its ranks have ended, or ends them."""

    def __init__(self, layout: Layout) -> None:
        run = read_json(layout.run)
        if run is None:
            raise SystemExit(f"{layout.run} is missing: the watchdog needs a prepared run.")
        self.layout, self.options, self.size = layout, run["options"], run["ranks"]
        self.began, self.timeout = run["started_mono_s"], self.options["timeout"]
        self.py_spy = stacks.find_py_spy() if self.options["stacks"] == "auto" else None
        self.progress = Progress(self.options["stall_after"])
        self.processes: dict[int, Process] = {}
        # An earlier watchdog may have been killed: keep its stalls.
        self.stalls: list[dict[str, Any]] = (read_json(layout.stalls) or {}).get("stalls", [])
        self._moves_at_stall = 0
        self._tree: dict[int, Process] = {}
        self._cpu: dict[tuple[int, int], tuple[float, float]] = {}
        self._busy: dict[int, int] = {}

    def run(self) -> None:
        replace_bytes(self.layout.watch / "watchdog.pid", str(os.getpid()).encode())
        while True:
            now = time.monotonic()
            self._observe_ranks(now)
            if len(self.processes) == self.size and not self.progress.unfinished:
                break
            if not self.processes and self._launch_failed(now):
                break
            if self.layout.exit_codes.exists() and not any(is_alive(process) for process in self.processes.values()):
                break
            self._check_for_stall(now)
            if now - self.began > self.timeout:
                self._out_of_time(now)
                break
            if self.stalls and not self.stalls[-1]["recovered"] and self.options["after_stall"] == "end":
                self._end("stalled")
                break
            time.sleep(POLL_S)
        self._write_stalls()

    def _launch_failed(self, now: float) -> bool:
        """Whether the launch failed before the first heartbeat: the agent has ended, or none was seen for a minute.

        A running agent may only be slow: importing torch from a cold disk takes a minute.
        """
        return self.layout.exit_codes.exists() or (now - self.began > FIRST_HEARTBEAT_S and self._agent() is None)

    def _observe_ranks(self, now: float) -> None:
        children_by_parent = children_of_all()
        for rank in range(self.size):
            beat = read_json(self.layout.beat(rank))
            if beat is None:
                continue
            process = read_process(beat["pid"])
            if process is None or process.start != beat["start"]:
                self.progress.mark_ended(rank)
                self.processes.setdefault(rank, Process(beat["pid"], 0, beat["start"], "Z", 0.0, 0, ""))
                continue
            self.processes[rank] = process
            children = descendants(process.pid, children_by_parent)
            self._tree |= {child.pid: child for child in children}
            token = [
                beat["progress"],
                sorted(child.pid for child in children),
                self._compile_activity(rank, children, now),
            ]
            self.progress.observe(rank, token, beat["phase"], now)

    def _compile_activity(self, rank: int, children: list[Process], now: float) -> int:
        """A counter that grows while one of the rank's compile workers is busy: a slow C++ compile is not a stall.

        A worker is busy by its rate of CPU time. Its total would grow slowly even when it is idle, and hide a stall.
        """
        for child in children:
            if child.compile_worker:
                before, cpu_s = self._cpu.get((child.pid, child.start), (now, child.cpu_s))
                if child.cpu_s - cpu_s > BUSY * (now - before):
                    self._busy[rank] = self._busy.get(rank, 0) + 1
                self._cpu[child.pid, child.start] = (now, child.cpu_s)
        return self._busy.get(rank, 0)

    def _check_for_stall(self, now: float) -> None:
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
        found = evidence.collect(self.layout, idle, number, self.py_spy)
        verdict = classify(found)
        elapsed = time.monotonic() - since
        stall = {
            "stall": number, "why": why, "since_mono_s": since, "started_after_s": round(since - self.began, 3),
            "verdict_after_s": round(elapsed, 3), "recovered": False, "recovered_after_s": None,
            "stack_sources": {str(item["rank"]): item["stack"]["source"] for item in found["ranks"]},
        } | verdict  # fmt: skip
        self.stalls.append(stall)
        write_json(self.layout.verdict, stall, indent=1)
        self._write_stalls()
        print(
            f"stall {number}: {verdict['kind']}, rank {verdict['ranks']}; {'; '.join(verdict['reasons'])}", flush=True
        )
        extra = NATIVE_FRAMES_S if self.options["after_stall"] == "end" else max(NATIVE_FRAMES_S, self.timeout / 10)
        native = not self.options["no_native_stacks"]
        stall["notes"] = evidence.deepen(self.layout, found, self.py_spy, time.monotonic() + extra, native=native)
        self._write_stalls()

    def _out_of_time(self, now: float) -> None:
        """Collect once more before the end: to compare with an earlier stall, or to show where a slow run was."""
        self._collect(now, "timeout")
        self._end("timeout")

    def _end(self, why: str) -> None:
        """SIGTERM to the agent, then to the ranks, then SIGKILL. A pid that was reused meanwhile is not signalled."""
        write_json(self.layout.ending, {"why": why, "t_ns": time.time_ns(), "stall": len(self.stalls)}, indent=1)
        now = children_of_all()
        for process in self.processes.values():
            self._tree |= {child.pid: child for child in descendants(process.pid, now)}
        processes = [*self.processes.values(), *self._tree.values()]
        agent = self._agent()
        for process in [agent] if agent else self.processes.values():
            if is_alive(process):
                _signal(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S + 5.0  # torchrun gives its ranks 5 s
        while time.monotonic() < deadline and any(is_alive(process) for process in processes):
            time.sleep(0.2)
            if time.monotonic() > deadline - 5.0:
                for process in self.processes.values():
                    if is_alive(process):
                        _signal(process.pid, signal.SIGTERM)
        for process in processes:
            if is_alive(process):
                _signal(process.pid, signal.SIGKILL)

    def _agent(self) -> Process | None:
        """torchrun's agent, if the runner started it and it still runs."""
        seen = read_json(self.layout.agent) or {}
        process = read_process(seen.get("pid", 0))
        return process if process is not None and process.start == seen.get("start") else None

    def _write_stalls(self) -> None:
        write_json(self.layout.stalls, {"v": 1, "stalls": self.stalls, "py_spy": self.py_spy}, indent=1)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
