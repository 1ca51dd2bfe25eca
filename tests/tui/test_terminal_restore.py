"""However the dashboard ends, the terminal gets back its modes and its screen. Each test has a terminal of its own."""

import asyncio
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pyte
import pytest

from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import WIDE, Make, ready

CHILDREN = Path(__file__).parent / "children"
SIZE = (120, 40)
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"  # the terminal's other screen


class Terminal:
    """`llmval` on a pseudo-terminal; `errors` is a file that gets its stderr."""

    def __init__(self, argv: list[str], cache: Path, errors: Path | None = None) -> None:
        self.seen = b""
        self.terminal, self.line = os.openpty()
        self._ends = ExitStack()
        self._ends.callback(os.close, self.terminal)
        self._ends.callback(os.close, self.line)
        fcntl.ioctl(self.line, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
        self.before = termios.tcgetattr(self.line)
        unset = ("NO_COLOR", "COLUMNS", "LINES", "TEXTUAL_")  # the plugin for snapshots sets the last ones
        env = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "XDG_CACHE_HOME": str(cache), "LANG": "C.UTF-8"}
        self._errors = errors
        self.process = subprocess.Popen(
            [sys.executable, *argv], env=env, start_new_session=True, preexec_fn=self._log_in, pass_fds=(self.line,)
        )

    def _log_in(self) -> None:
        os.login_tty(self.line)
        if self._errors is not None:
            os.dup2(os.open(self._errors, os.O_WRONLY | os.O_CREAT), 2)

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.line)

    def read(self) -> bytes:
        while select.select([self.terminal], [], [], 0.02)[0]:
            self.seen += os.read(self.terminal, 65536)
        return self.seen

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait, and read meanwhile: a terminal that nobody reads takes 4 KiB."""
        deadline = time.monotonic() + 180
        while self.read() is None or not condition():
            assert time.monotonic() < deadline, f"{what} did not happen"

    def type(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def shows(self, *texts: str) -> bool:
        screen = pyte.Screen(*SIZE)
        pyte.ByteStream(screen).feed(self.read())
        return all(text in "\n".join(screen.display) for text in texts)

    def end(self) -> int:
        self.until(lambda: self.process.poll() is not None, "the end")
        return self.process.returncode

    def restored(self) -> bool:
        """Whether the terminal has its modes, screen, mouse and cursor back."""
        return (
            self.modes == self.before
            and self.seen.count(ENTER) == self.seen.count(LEAVE)
            and b"\x1b[?1000l" in self.seen
            and b"\x1b[?25h" in self.seen
        )

    def lose(self) -> None:
        """The terminal goes away, as with a line that breaks."""
        self._ends.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._ends.close()


Start = Callable[..., Terminal]


@pytest.fixture
def start(workspace: Workspace, tmp_path: Path) -> Iterator[Start]:
    opened: list[Terminal] = []

    def begin(*arguments: str, child: str = "", errors: Path | None = None) -> Terminal:
        program = [str(CHILDREN / child)] if child else ["-m", "llmval_tui"]
        named = ("--workspace", str(workspace.root), "--checklist", str(workspace.checklist), *arguments)
        opened.append(Terminal([*program, *named], tmp_path, errors))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


@pytest.fixture
def running(start: Start) -> Terminal:
    """A dashboard that shows its first picture and handles signals."""
    terminal = start()
    terminal.until(lambda: terminal.shows(" llmval ", "quit"), "the first picture")
    return terminal


def test_control_c_asks_and_leaves(running: Terminal) -> None:
    assert running.modes != running.before
    running.type(b"\x03")
    running.until(lambda: running.shows("Nothing is running"), "the question")
    running.type(b"\r")
    assert running.end() == 0 and running.restored()


def test_with_stderr_in_a_file_it_draws_on_the_terminal(start: Start, tmp_path: Path) -> None:
    opened = start(errors=tmp_path / "errors.txt")
    opened.until(lambda: opened.shows(" llmval ", "quit"), "the first picture")
    opened.type(b"q")
    assert opened.end() == 0 and opened.restored()
    assert (tmp_path / "errors.txt").read_text() == ""


def test_control_z_goes_to_the_shell_and_back(running: Terminal) -> None:
    running.type(b"\x1a")
    running.until(lambda: psutil.Process(running.process.pid).status() == psutil.STATUS_STOPPED, "the stop")
    assert running.read().endswith(b"\x1b[?1004l") and running.modes == running.before
    running.process.send_signal(signal.SIGCONT)
    running.until(lambda: running.read().count(ENTER) == 2, "the dashboard's screen again")
    running.until(lambda: running.modes != running.before, "its modes")
    running.type(b"q")
    assert running.end() == 0 and running.restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_while_the_line_is_there(running: Terminal, number: signal.Signals) -> None:
    running.process.send_signal(number)
    assert running.end() == 130 and running.restored()
    assert running.seen.count(LEAVE) == 1


def test_sigterm_while_textual_starts_the_terminal(start: Start) -> None:
    opened = start(child="sigterm_at_start.py")
    assert opened.end() == 130 and opened.restored()
    assert opened.seen.count(LEAVE) == 1


def test_a_lost_line_ends_it(running: Terminal) -> None:
    running.lose()
    assert running.process.wait(30) == -signal.SIGHUP


def test_a_refusal_leaves_the_terminal_alone(start: Start) -> None:
    opened = start("--theme", "mine")
    assert opened.end() == 2 and opened.modes == opened.before
    assert ENTER not in opened.seen and b"llmval: there is no theme 'mine'" in opened.seen


async def test_nohup_keeps_sighup_ignored(dashboard: Make) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        async with dashboard().run_test(size=WIDE) as pilot:
            (await ready(pilot)).handle_signals()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
