"""The runner: prepares, starts torchrun and the watchdog, waits for both, and leaves result, report and archive."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from llmval_runners.compile_study.bundle import bundle, finish
from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.compile_study.bundle.redact import allowed
from llmval_runners.compile_study.bundle.report import REPORT, report
from llmval_runners.compile_study.run.ablate import ablate
from llmval_runners.compile_study.run.prepare import prepare
from llmval_runners.compile_study.watch.processes import read_process
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import read_json, replace_bytes, write_json
from llmval_runners.process.launcher import launcher

COLLECT_ENV, COLLECT_ENV_S = "collect_env.txt", 120.0
OF_RUN = "LLMVAL_COMPILE_STUDY"  # tells a rank which folder its study has


class Study:
    """One study on this node. `run` gives the exit code."""

    def __init__(self, options: argparse.Namespace, argv: list[str], events: EventLog) -> None:
        self.options, self.events = options, events
        self.layout: Layout = prepare(options, [str(SCRIPT), *argv])
        self.signal: int | None = None
        self.notes: list[str] = []

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)
        agent = self._start_agent()
        watchdog = start_watchdog(self.layout)
        shown = ""
        while agent.poll() is None:
            if watchdog.poll() and agent.poll() is None and not self.layout.ending.exists():  # 0: all ranks have ended
                self.notes.append(
                    f"the watchdog ended with {watchdog.returncode} before the run did, and was started again"
                )
                self.events.warning("watchdog_died", self.notes[-1])
                watchdog = start_watchdog(self.layout)
                time.sleep(2.0)
            if self.signal is not None:
                agent.send_signal(signal.SIGTERM)
                break
            shown = self._show(shown)
            time.sleep(0.3)
        agent.wait()
        if self.signal is not None:
            watchdog.terminate()
        watchdog.wait()
        if self.options.ablate and self.signal is None:
            # What was found is written and packed first: the variants take hours, and may be killed meanwhile.
            self._complete(last=False)
            ablate(self.options, self.layout, self.events, stopped=lambda: self.signal is not None)
        return self._finish()

    def _start_agent(self) -> subprocess.Popen[bytes]:
        ranks = f"--nproc_per_node={self.options.tensor_parallel_gpus}"
        torchrun = [ranks, str(SCRIPT), "--output-dir", str(self.layout.root)]
        command = launcher(self.layout.logs, self.layout.exit_codes, torchrun)
        agent = subprocess.Popen(command, env={**os.environ, OF_RUN: str(self.layout.root)}, stdin=subprocess.DEVNULL)
        process = read_process(agent.pid)
        write_json(
            self.layout.watch / "agent.json",
            {"pid": agent.pid, "start": process.start if process else None, "command": command},
            indent=1,
        )
        return agent

    def _heard(self, number: int, _frame: object) -> None:
        self.signal = number

    def _show(self, shown: str) -> str:
        """Phases on the terminal, where ranks have no event file to tell them in."""
        if self.events.recording:
            return shown
        phase = (read_json(self.layout.beat(0)) or {}).get("phase", shown)
        if phase != shown:
            self.events.phase(phase)
        return phase

    def _complete(self, *, last: bool) -> dict[str, Any]:
        collect = not self.options.no_collect_env and not (self.layout.root / COLLECT_ENV).exists()
        return complete(
            self.layout, self.options, signal_number=self.signal, notes=self.notes, collect=collect, last=last
        )

    def _finish(self) -> int:
        result = self._complete(last=True)
        self.events.result(str(self.layout.result))
        print(result["summary"])
        print(f"bundle: {self.layout.archive}")
        return 128 + self.signal if self.signal is not None else finish.EXIT[result["outcome"]]


def start_watchdog(layout: Layout) -> subprocess.Popen[bytes]:
    """In a session of its own: what ends the runner leaves it."""
    with (layout.logs / "watchdog.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), "--watch", str(layout.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def complete(
    layout: Layout,
    options: argparse.Namespace,
    *,
    signal_number: int | None,
    notes: list[str],
    collect: bool,
    last: bool = True,
    gone: bool = False,
) -> dict[str, Any]:
    """Everything that is written once the ranks have ended. Reads the folder only, so it can be done again.

    Not `last`: something is still to come, and the folder goes on to call itself partial. `gone`: both that should have
    done this, runner and watchdog, were killed.
    """
    run = read_json(layout.run) or {}
    if not run.get("keep_cache"):
        shutil.rmtree(run["cache_dir"], ignore_errors=True)
    result = finish.write_result(layout, signal_number=signal_number, notes=notes, gone=gone)
    if collect and signal_number is None:
        collect_env(layout)
    replace_bytes(layout.root / REPORT, report(layout, result).encode())
    # Again: now it names the files that came meanwhile.
    result = finish.write_result(layout, signal_number=signal_number, notes=notes, gone=gone)
    bundle.pack(layout, include_model_code=options.include_model_code, partial=not last)
    if last:
        layout.partial.unlink(missing_ok=True)
    return result


def collect_env(layout: Layout) -> None:
    """torch's own account of the machine, under the allow-listed environment only. After the run: it takes CPU time."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "torch.utils.collect_env"],
            capture_output=True,
            env={**allowed(os.environ), **kept},
            timeout=COLLECT_ENV_S,
            check=False,
        )
        text = done.stdout or done.stderr
    except subprocess.TimeoutExpired:
        text = f"torch.utils.collect_env was not done in {COLLECT_ENV_S:g} s\n".encode()
    replace_bytes(layout.root / COLLECT_ENV, text)
