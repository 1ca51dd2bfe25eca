"""The runner: prepares, starts torchrun and the watchdog, waits for both, and writes result, report and archive."""

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

from llmval_runners.compile_study.bundle import bundle, finish
from llmval_runners.compile_study.bundle.last_screen import last_screen, verdict_of
from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.compile_study.bundle.redact import allowed
from llmval_runners.compile_study.bundle.report import REPORT, report
from llmval_runners.compile_study.options import StudyOptions
from llmval_runners.compile_study.run.ablate import ablate
from llmval_runners.compile_study.run.prepare import prepare
from llmval_runners.compile_study.watch.processes import read_process
from llmval_runners.process.errors import SIGNAL_EXIT
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import read_json, replace_bytes, write_json
from llmval_runners.process.launch import launch_command
from llmval_runners.process.output import show

COLLECT_ENV, COLLECT_ENV_S = "collect_env.txt", 120.0
FOLDER_VARIABLE = "LLMVAL_COMPILE_STUDY"  # tells a rank the folder of its study


class Study:
    """One study on this node. `run` returns the exit code."""

    def __init__(self, options: StudyOptions, argv: list[str], events: EventLog) -> None:
        self.layout, self.options = prepare(options, [str(SCRIPT), *argv])
        self.events = events
        self.signal: int | None = None
        self.notes: list[str] = []

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, self._on_signal)
        agent = self._start_agent()
        watchdog = start_watchdog(self.layout)
        shown = ""
        while agent.poll() is None:
            # Exit code 0 means that all ranks have ended.
            if watchdog.poll() and agent.poll() is None and not self.layout.ending.exists():
                self.notes.append(f"the watchdog ended with {watchdog.returncode} before the run, and was restarted")
                self.events.warning("watchdog_died", self.notes[-1])
                watchdog = start_watchdog(self.layout)
                time.sleep(2.0)
            if self.signal is not None:
                agent.send_signal(signal.SIGTERM)
                break
            shown = self._show_phase(shown)
            time.sleep(0.3)
        agent.wait()
        if self.signal is not None:
            watchdog.terminate()
        watchdog.wait()
        if self.options.ablate and self.signal is None:
            # Complete the bundle first: the variants take hours, and may be killed meanwhile.
            self._complete(last=False)
            ablate(self.options, self.layout, self.events, stopped=lambda: self.signal is not None)
        return self._finish()

    def _start_agent(self) -> subprocess.Popen[bytes]:
        ranks = f"--nproc_per_node={self.options.tensor_parallel_gpus}"
        torchrun = [ranks, str(SCRIPT), "--output-dir", str(self.layout.root)]
        command = launch_command(self.layout.logs, self.layout.exit_codes, torchrun)
        environment = {**os.environ, FOLDER_VARIABLE: str(self.layout.root)}
        agent = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        process = read_process(agent.pid)
        write_json(
            self.layout.agent,
            {"pid": agent.pid, "start": process.start if process else None, "command": command},
            indent=1,
        )
        return agent

    def _on_signal(self, number: int, _frame: object) -> None:
        self.signal = number

    def _show_phase(self, shown: str) -> str:
        """Show the phase on the terminal, if the ranks have no event file."""
        if self.events.recording:
            return shown
        phase = str((read_json(self.layout.beat(0)) or {}).get("phase", shown))
        if phase != shown:
            self.events.phase(phase)
        return phase

    def _complete(self, *, last: bool) -> dict[str, Any]:
        collect = not self.options.no_collect_env and not (self.layout.root / COLLECT_ENV).exists()
        return complete(
            self.layout,
            include_model_code=self.options.include_model_code,
            signal_number=self.signal,
            notes=self.notes,
            collect=collect,
            last=last,
        )

    def _finish(self) -> int:
        result = self._complete(last=True)
        self.events.result(str(self.layout.result), shown=False)
        self.events.clear()
        verdict = verdict_of(result)
        show(self.options.report, result, verdict.as_json(), lambda: last_screen(result, verdict, self.layout))
        if self.signal is not None:
            return SIGNAL_EXIT + self.signal
        # llmval judges the logits in the result itself, and reads 1 as "the study failed".
        return finish.EXIT[result["outcome"]] if self.events.recording else verdict.exit_code


def start_watchdog(layout: Layout) -> subprocess.Popen[bytes]:
    """Start the watchdog in its own session, so that a signal that ends the runner does not end it."""
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
    *,
    include_model_code: bool,
    signal_number: int | None,
    notes: list[str],
    collect: bool,
    last: bool = True,
    gone: bool = False,
) -> dict[str, Any]:
    """Write result, report and archive after the ranks have ended. Reads only the folder, so it can be repeated.

    Args:
        layout: the study's folder.
        include_model_code: pack the compile traces too.
        signal_number: the signal that ended the runner, if any.
        notes: for the result.
        collect: run torch's `collect_env` too.
        last: False if the ablation follows; the folder then stays marked as partial.
        gone: runner and watchdog were killed, so an incomplete run is not a failure.
    """
    run = read_json(layout.run) or {}
    if not run.get("keep_cache"):
        shutil.rmtree(run["cache_dir"], ignore_errors=True)
    result = finish.write_result(layout, signal_number=signal_number, notes=notes, gone=gone)
    if collect and signal_number is None:
        collect_env(layout)
    replace_bytes(layout.root / REPORT, report(layout, result).encode())
    # Write the result again: it lists the files, and some are new.
    result = finish.write_result(layout, signal_number=signal_number, notes=notes, gone=gone)
    bundle.pack(layout, include_model_code=include_model_code, partial=not last)
    if last:
        layout.partial.unlink(missing_ok=True)
    return result


def collect_env(layout: Layout) -> None:
    """Write torch's description of the machine, with allowed variables only. Runs after the study: it uses CPU time."""
    needed = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "torch.utils.collect_env"],
            capture_output=True,
            env={**allowed(os.environ), **needed},
            timeout=COLLECT_ENV_S,
            check=False,
        )
        text = done.stdout or done.stderr
    except subprocess.TimeoutExpired:
        text = f"torch.utils.collect_env did not finish in {COLLECT_ENV_S:g} s\n".encode()
    replace_bytes(layout.root / COLLECT_ENV, text)
