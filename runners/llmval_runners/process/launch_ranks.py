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
from typing import BinaryIO

from llmval_runners.process.errors import USAGE_EXIT
from llmval_runners.process.launch import launch_command

ENTRY = Path(__file__).resolve().parents[2] / "long_context_validation.py"
RUN_FOLDER = "LLMVAL_RUN_FOLDER"  # set by the dashboard: the output of the ranks goes into its logs
LABEL = "main"
POLL_S = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def launch(argv: list[str], ranks: int, entry: Path = ENTRY) -> int:
    """Run `entry` with `argv` on `ranks` ranks. Returns 0, 1 if a rank failed, 2 if it refused, or 128 + signal."""
    folder = os.environ.get(RUN_FOLDER)
    if folder is not None and not any((Path(folder) / "logs").glob(f"{LABEL}.rank*.log")):
        return _run([str(entry), *argv], ranks, Path(folder) / "logs", Path(folder) / f"ranks.{LABEL}.json", show=False)
    own = Path(tempfile.mkdtemp(prefix=f"llmval-{entry.stem.replace('_', '-')}-"))
    code = _run([str(entry), *argv], ranks, own / "logs", own / "ranks.json", show=True)
    # After a failure the output of the other ranks is kept, and the launcher has printed its place.
    if code in (0, USAGE_EXIT):
        shutil.rmtree(own, ignore_errors=True)
    return code


def _run(command_line: list[str], ranks: int, logs: Path, codes: Path, *, show: bool) -> int:
    command = launch_command(logs, codes, [f"--nproc_per_node={ranks}", *command_line], LABEL)
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
    return _exit_code(codes, agent.returncode)


def _exit_code(codes: Path, agent: int) -> int:
    """The exit code of the launch: 2 if the first failed rank refused its arguments, else the launcher's own code."""
    if agent == 0:
        return 0
    try:
        first = json.loads(codes.read_text())["first_failure"]
    except (OSError, ValueError, KeyError):
        return agent or 1
    return USAGE_EXIT if first and first["exit_code"] == USAGE_EXIT else agent


def _streams() -> tuple[tuple[str, BinaryIO], ...]:
    return (("stdout", sys.stdout.buffer), ("stderr", sys.stderr.buffer))


class _Mirror:
    """Copies a growing log file of a rank to one of this process's streams."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path, self._stream, self._at = path, stream, 0

    def copy(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        self._at += len(text)
        if text:
            self._stream.write(text)
            self._stream.flush()
