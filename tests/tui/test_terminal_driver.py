"""Slow and dead lines, and input that is not text."""

import os
import select
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmval_tui.tui.terminal_driver import LEAST_BYTES, SILENT_S, FrameGate, FrameWriter, TerminalDriver
from tests.helpers.tui_builder import Workspace


class Line:
    """A line of `rate` bytes/s and a terminal behind it; its clock stands still unless it is moved."""

    def __init__(self, rate: float, round_trip_s: float = 0.0) -> None:
        self.now = 0.0
        self.rate, self.round_trip_s = rate, round_trip_s
        self.gate = FrameGate(lambda: self.now)
        self.free_at = 0.0
        self.answers: list[float] = []

    def send(self, size: int) -> bool:
        if self.gate.busy():
            return False
        self.gate.sent(size)
        self.free_at = max(self.free_at, self.now) + size / self.rate
        self.answers.append(self.free_at + self.round_trip_s)
        return True

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.answers and self.answers[0] <= end:
            self.now = max(self.now, self.answers.pop(0))
            self.gate.answered()
        self.now = end

    @property
    def lag_s(self) -> float:
        """The age of the newest frame that has been sent, once it is drawn."""
        return max(0.0, self.free_at - self.now)


@pytest.mark.parametrize("round_trip_s", [0.0, 0.3])
@pytest.mark.parametrize(("rate", "size"), [(2500, 900), (1200, 600), (100_000, 6000), (2500, 60)])
def test_frames_are_dropped_and_not_queued(rate: float, size: int, round_trip_s: float) -> None:
    line = Line(rate, round_trip_s)
    line.send(5500)  # the start
    worst, sent = 0.0, 0
    for tick in range(600):
        line.advance(0.5 if tick < 20 else 0.1)
        sent += line.send(size)
        if tick > 40:
            worst = max(worst, line.lag_s)
    assert worst <= 2
    assert sent >= min(600, 60 * rate / size) * 0.4  # and the line is used


def test_a_terminal_that_does_not_answer_gets_every_frame() -> None:
    gate = FrameGate(lambda: 0.0)
    for _ in range(2000):
        gate.sent(10_000)
        assert not gate.busy()


def test_a_lost_answer_stops_the_screen_only_for_a_while() -> None:
    line = Line(1e6)
    line.send(100)
    line.advance(1)
    line.answers.clear()
    while line.send(LEAST_BYTES):
        line.answers.clear()
    line.advance(SILENT_S + 1)
    assert line.send(LEAST_BYTES)


def test_writing_to_a_stuck_line_does_not_block() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as file:
        thread = FrameWriter(file)
        thread.start()
        for _ in range(100):
            thread.write("x" * 10_000)
        assert thread.pending > 500_000
        os.close(reader)  # ends the thread
        thread.join(30)


def test_what_the_terminal_takes_at_once_needs_no_thread() -> None:
    terminal, line = os.openpty()
    tty.setraw(line)
    with os.fdopen(line, "w") as file:
        thread = FrameWriter(file)
        thread.write("a frame")
        assert not thread.pending and select.select([terminal], [], [], 30)[0]
        assert os.read(terminal, 100) == b"a frame"
        assert os.get_blocking(line)  # the flag of the descriptor that the shell shares
        text = "".join(f"{number:07d}" for number in range(100_000))
        thread.write(text[:350_000])  # more than the kernel takes: the rest, and all after it, waits for the thread
        thread.write(text[350_000:])
        assert thread.pending
        thread.start()
        seen = b""
        while len(seen) < len(text):
            seen += os.read(terminal, 65536)
        assert seen.decode() == text
        thread.stop()
    os.close(terminal)


def test_a_dead_line_is_reported() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    lost = threading.Event()
    with os.fdopen(writer, "w") as file:
        thread = FrameWriter(file)
        thread.lost = lost.set
        thread.start()
        thread.write("x")
        assert lost.wait(30)


def test_a_key_is_announced_before_it_is_delivered() -> None:
    terminal, line = os.pipe()
    os.write(line, b"j")
    ends = threading.Event()
    told: list[Any] = []

    def deliver(event: object) -> None:
        told.append(event)
        ends.set()

    driver: Any = SimpleNamespace(
        _debug=False, fileno=terminal, exit_event=ends, process_message=deliver,
        _key_arrived=lambda: told.append("arrived"), _without_reports=lambda data: (data, b""),
    )  # fmt: skip
    TerminalDriver.run_input_thread(driver)
    assert told[0] == "arrived" and told[1].key == "j"
    os.close(terminal)
    os.close(line)


class Opened:
    """The dashboard on a pseudo-terminal that does not control it, as under `su -c`."""

    def __init__(self, workspace: Workspace, state: Path) -> None:
        self.terminal, line = os.openpty()
        env = {name: value for name, value in os.environ.items() if not name.startswith(("NO_COLOR", "TEXTUAL_"))}
        env |= {"TERM": "xterm-256color", "XDG_CACHE_HOME": str(state), "COLUMNS": "100", "LINES": "30"}
        argv = [sys.executable, "-m", "llmval_tui", "--workspace", str(workspace.root)]
        argv += ["--checklist", str(workspace.checklist)]
        self.process = subprocess.Popen(argv, env=env, stdin=line, stdout=line, stderr=line, start_new_session=True)
        os.close(line)
        self.seen = b""

    def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 180
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen"
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.seen += os.read(self.terminal, 65536)


@pytest.fixture
def opened(workspace: Workspace, tmp_path: Path):
    one = Opened(workspace, tmp_path)
    one.until(lambda: b"quit" in one.seen, "the first picture")
    yield one
    if one.process.poll() is None:
        one.process.kill()
    one.process.wait()


def test_a_lost_line_without_a_controlling_terminal_ends_it(opened: Opened) -> None:
    os.write(opened.terminal, b"j" * 300)
    os.close(opened.terminal)
    assert opened.process.wait(30) != 0


@pytest.mark.parametrize("garbage", [b"\xe9", b"\x1b[M \xff\xff", b"\xff\xfe\x80", b"\x1b[0n" * 3])
def test_bytes_that_are_not_text_are_ignored(opened: Opened, garbage: bytes) -> None:
    os.write(opened.terminal, garbage)
    opened.seen = b""
    os.write(opened.terminal, b"?")
    opened.until(lambda: b"Keys" in opened.seen, "the help")
    assert opened.process.poll() is None
