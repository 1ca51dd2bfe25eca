"""Starts torchrun, through our launcher, if plain Python starts a runner for several GPUs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from llmval_runners.process.errors import USAGE_EXIT, Refused
from llmval_runners.process.launch import first_failure_in_words, launch_command
from llmval_runners.process.output import drop, say

ENTRY = Path(__file__).resolve().parents[2] / "long_context_validation.py"
RUN_FOLDER = "LLMVAL_RUN_FOLDER"  # set by the dashboard: the output of the ranks goes into its logs
LABEL = "main"
POLL_S = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def launch(argv: list[str], ranks: int, entry: Path = ENTRY) -> int:
    """Run `entry` with `argv` on `ranks` ranks, and return the launcher's exit code.

    Without a run of the dashboard, rank 0's output is shown. That of the other ranks is kept, and its place said, only
    if the launch failed and they wrote something.
    """
    folder = os.environ.get(RUN_FOLDER)
    if folder is not None and not any((Path(folder) / "logs").glob(f"{LABEL}.rank*.log")):
        return _run([str(entry), *argv], ranks, Path(folder) / "logs", Path(folder) / f"ranks.{LABEL}.json", show=False)
    try:
        own = Path(tempfile.mkdtemp(prefix=f"llmval-{entry.stem.replace('_', '-')}-"))
    except OSError as error:
        raise Refused(f"the output of the ranks needs a temporary folder ({error}): set TMPDIR to one.") from None
    logs = own / "logs"
    code = _run([str(entry), *argv], ranks, logs, own / "ranks.json", show=True)
    kept = code not in (0, USAGE_EXIT) and any(log.stat().st_size for log in _of_other_ranks(logs))
    _say_how_it_ended(own / "ranks.json", f"the output of all ranks is in {logs}" if kept else "")
    if not kept:
        shutil.rmtree(own, ignore_errors=True)
    return code


def _of_other_ranks(logs: Path) -> list[Path]:
    return [log for log in logs.glob(f"{LABEL}.rank*.log") if not log.name.startswith(f"{LABEL}.rank0.")]


def _say_how_it_ended(codes: Path, kept: str) -> None:
    """Rank 0 has said itself how it ended, unless a signal killed it."""
    try:
        record = json.loads(codes.read_text())
    except (OSError, ValueError):  # the launcher was killed
        record = {"first_failure": None}
    first = record["first_failure"]
    told = first_failure_in_words(record) if first and (first["rank"] or first["exit_code"] < 0) else ""
    if words := "; ".join(part for part in (told, kept) if part):
        say(words, to_stderr=True)


def _run(command_line: list[str], ranks: int, logs: Path, codes: Path, *, show: bool) -> int:
    command = launch_command(logs, codes, [f"--nproc_per_node={ranks}", *command_line], LABEL, quiet=show)
    heard: list[int] = []
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda got, _frame: heard.append(got))
    # In its own session: a Ctrl-C in the terminal would otherwise reach the launcher twice, directly and passed on.
    agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    mirrors = [_Mirror(logs / f"{LABEL}.rank0.{name}.log", stream) for name, stream in _streams()] if show else []
    passed_on = False
    while agent.poll() is None:
        if heard and not passed_on:
            passed_on = True
            agent.send_signal(signal.SIGTERM if heard[0] == signal.SIGHUP else heard[0])
        for mirror in mirrors:
            mirror.copy()
        time.sleep(POLL_S)
    for mirror in mirrors:
        mirror.copy()
    if heard:
        return 128 + heard[0]
    return agent.returncode if agent.returncode >= 0 else 128 - agent.returncode


def _streams() -> tuple[tuple[str, TextIO], ...]:
    return (("stdout", sys.stdout), ("stderr", sys.stderr))


class _Mirror:
    """Copies a growing log file of a rank to one of this process's streams."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path, self._stream, self._at = path, stream, 0

    def copy(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        self._at += len(text)
        if text:
            try:
                self._stream.buffer.write(text)
                self._stream.flush()
            except OSError:  # its reader has gone, or the disk is full: the ranks go on
                drop(self._stream)
