"""Terminals that change their size again and again, or stop reading."""

import fcntl
import os
import pty
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pyte

from faults.report import Finding, Row

_LIST = "# List\n\n## 1. Part\n" + "".join(f"- [ ] Look at cable {number}\n" for number in range(60))
RESIZES = 1000


class Dashboard:
    """`llmval` on a pseudo-terminal of 120 × 36, whose reader the caller is."""

    def __init__(self, options: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.terminal, line = pty.openpty()
        self.screen = pyte.Screen(120, 36)
        self._stream = pyte.ByteStream(self.screen)
        self.bytes = 0
        fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        unset = ("NO_COLOR", "COLUMNS", "LINES", "TMUX", "TEXTUAL_")
        env = {name: value for name, value in environment.items() if not name.startswith(unset)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmval_tui", *options], cwd=folder, start_new_session=True,
            env={**env, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            preexec_fn=lambda: os.login_tty(line), pass_fds=(line,),
        )  # fmt: skip
        os.close(line)

    def read(self, seconds: float = 0.0) -> None:
        """Read what there is; wait so long for something. Answers the requests for the terminal's status."""
        with suppress(OSError):
            while select.select([self.terminal], [], [], seconds)[0]:
                data = os.read(self.terminal, 65536)
                if not data:
                    return
                self.bytes += len(data)
                self._stream.feed(data)
                os.write(self.terminal, b"\x1b[0n" * data.count(b"\x1b[5n"))
                seconds = 0.0

    def shows(self, *words: str, seconds: float = 60) -> bool:
        """Whether one of the words comes on the screen within this many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(word in line for line in self.screen.display for word in words):
                return True
            if self.process.poll() is not None:
                return False
            self.read(0.2)
        return False

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self, seconds: float = 60) -> int | None:
        """Send SIGTERM; the exit code, or None if it still runs after this many seconds."""
        self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.1)
        return self.process.poll()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.terminal)


def _dashboard(folder: Path) -> Dashboard:
    workspace = folder / "ws"
    workspace.mkdir()
    (workspace / "list.md").write_text(_LIST)
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    return Dashboard(["--workspace", str(workspace), "list.md"], workspace, environment)


def resizes(row: Row, every: int = 1) -> None:
    """Sizes from 1 × 1 to 300 × 100, as fast as they come; then the list is shown, and the process ends on SIGTERM."""
    count = max(20, RESIZES // every)
    folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    dashboard = _dashboard(folder)
    try:
        wrong = [] if dashboard.shows("Look at cable") else ["it did not start"]
        chance = random.Random(1)
        before = psutil.Process(dashboard.process.pid).memory_info().rss
        for number in range(count):
            dashboard.resize(
                chance.choice((1, 2, 20, 79, 80, 120, 160, 300)), chance.choice((1, 2, 10, 24, 36, 50, 100))
            )
            dashboard.read(0.01 if number % 10 else 0.05)
            ended = dashboard.process.poll() is not None
            row.add(Finding(f"resize {number}", ["the dashboard ended"] if ended else []))
            if ended:
                break
        dashboard.resize(120, 36)
        if not dashboard.shows("Look at cable"):
            wrong.append("the list is not shown after the last resize")
        grown = psutil.Process(dashboard.process.pid).memory_info().rss - before
        row.note = f"memory {grown / 1e6:+.0f} MB"
        if dashboard.end() is None:
            wrong.append("SIGTERM does not end it")
        row.add(Finding("after all", wrong))
    finally:
        dashboard.close()
        shutil.rmtree(folder, ignore_errors=True)


def stopped_readers(row: Row, every: int = 1) -> None:
    """The terminal's other end stops reading for a while or for good, with keys in flight."""
    for number in range(max(1, 10 // every)):
        folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
        dashboard = _dashboard(folder)
        wrong = []
        try:
            if not dashboard.shows("Look at cable"):
                wrong.append("it did not start")
            for _ in range(40):
                with suppress(OSError):
                    os.write(dashboard.terminal, b"jjjjkk\x1b[B\xe9")
                time.sleep(0.05)
            time.sleep(1)
            if number % 2:
                if not dashboard.shows("Look at cable 5"):
                    wrong.append("it does not go on after its reader went on")
                if dashboard.end() is None:
                    wrong.append("SIGTERM does not end it")
            else:
                dashboard.process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    dashboard.process.wait(60)
                if dashboard.process.poll() is None:
                    wrong.append("SIGTERM does not end it while nobody reads")
        finally:
            dashboard.close()
            shutil.rmtree(folder, ignore_errors=True)
        row.add(Finding(f"{'goes on' if number % 2 else 'for good'}, {number}", wrong))
