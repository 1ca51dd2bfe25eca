"""The list that is drawn before Textual is imported: the same cells as afterwards, keys that wait, and a terminal that
gets back what it had, however the time between ends. Each `llmval` is a process on a terminal of its own."""

import asyncio
import errno
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
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pyte
import pytest

from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.records import Outcome, State
from llmval_tui.tui.geometry import list_place
from llmval_tui.tui.held import HeldTerminal
from tests.helpers.tui_builder import CHECKLIST, Workspace, verdict
from tests.helpers.tui_pilot import WIDE, Make, ready

# The command line, but between the first frame and the import of Textual it tells what is imported, and waits.
CHILD = """
import os, signal, sys, time
from pathlib import Path
from llmval_tui import cli
from llmval_tui.console import dashboard

told, gate = Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
go_on = dashboard._run

def wait(*given):
    told.with_suffix(".part").write_text("\\n".join(sys.modules))
    told.with_suffix(".part").rename(told)
    while not gate.exists():
        time.sleep(0.01)
    if gate.read_text() == "break":
        raise RuntimeError("a defect between the two")
    if gate.read_text() == "end":
        from textual.drivers.linux_driver import LinuxDriver
        ask = LinuxDriver._query_in_band_window_resize
        # Among the last things that the driver does before the application's loop runs.
        LinuxDriver._query_in_band_window_resize = lambda self: (os.kill(os.getpid(), signal.SIGTERM), ask(self))
    return go_on(*given)

dashboard._run = wait
sys.exit(cli.main(sys.argv[1:]))
"""
# Sections and states of all kinds, more rows than fit, the first open step far below, and text of wide characters.
LIST = (
    "# Validation of 節点 – a node whose name is longer than any title row\n\n## 1. Before\n"
    + "".join(f"- [x] Step {n} of `runners/some_script_{n}.py --all`\n" for n in range(1, 20))
    + "\n## 2. 電力 – power and a title that goes on and on\n- [x] Wide: 消費電力を測定して記録する、そして比較する\n"
    + "- [ ] Run: `python runners/precision_power_sweep.py --output-dir power_results/x`\n"
    + "".join(f"- [ ] Step “{n}” × **later**\n" for n in range(1, 12))
)
SIZES = ((80, 24), (120, 40), (160, 50), (200, 60))
COUNT = count()
COLOURS = {"truecolor": ("xterm-256color", "truecolor"), "256": ("tmux-256color", ""), "16": ("xterm", "")}


class Started:
    """`llmval` on a terminal, which waits between its first frame and Textual until it is let go on."""

    def __init__(
        self, folder: Path, size: tuple[int, int], arguments: tuple[str, ...], environment: dict[str, str]
    ) -> None:
        self.size, self.seen = size, b""
        self.told, self._gate = folder / f"told-{next(COUNT)}", folder / "gate"
        self.terminal, self.line = os.openpty()
        self._ends = ExitStack()
        self._ends.callback(os.close, self.terminal)
        self._ends.callback(os.close, self.line)
        fcntl.ioctl(self.line, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.before = termios.tcgetattr(self.line)
        unset = ("NO_COLOR", "COLUMNS", "LINES", "TEXTUAL_")  # the last are set by the plugin for snapshots
        env = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        term, depth = COLOURS[environment.pop("colours", "truecolor")]
        env |= {"TERM": term, "COLORTERM": depth, "XDG_CACHE_HOME": str(folder), "LANG": "C.UTF-8", **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(self.told), str(self._gate), *arguments], env=env,
            start_new_session=True, preexec_fn=lambda: os.login_tty(self.line), pass_fds=(self.line,),
        )  # fmt: skip
        self.until(lambda: self.told.exists() or self.process.poll() is not None, "the wait")
        self.frame = self.read()

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.line)

    def go_on(self, how: str = "") -> None:
        self._gate.with_suffix(".part").write_text(how)
        self._gate.with_suffix(".part").rename(self._gate)

    def read(self) -> bytes:
        while select.select([self.terminal], [], [], 0.02)[0]:
            self.seen += os.read(self.terminal, 65536)
        return self.seen

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait, and read meanwhile: a terminal that nobody reads takes 4 KiB."""
        deadline = time.monotonic() + 60
        while self.read() is None or not condition():
            assert time.monotonic() < deadline, f"{what} did not happen"

    def type(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def shown(self) -> list[str]:
        return list(drawn(self.size, self.read()).display)

    def shows(self, *texts: str) -> bool:
        shown = "\n".join(self.shown())
        return all(text in shown for text in texts)

    def end(self) -> int:
        self.until(lambda: self.process.poll() is not None, "the end")
        return self.process.returncode

    def lose(self) -> None:
        """The terminal goes away, as with a line that breaks."""
        self._ends.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._ends.close()


def drawn(size: tuple[int, int], data: bytes) -> pyte.Screen:
    screen = pyte.Screen(*size)
    pyte.ByteStream(screen).feed(data)
    return screen


Start = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    opened: list[Started] = []

    def begin(*arguments: str, size: tuple[int, int] = (120, 40), text: str = LIST, **environment: str) -> Started:
        workspace = Workspace(tmp_path / "node", text)
        if text is LIST:
            workspace.run("2.2", state=State.FINISHED, verdict=verdict(Outcome.FAIL))
        named = ("--workspace", str(workspace.root), "--checklist", str(workspace.checklist), *arguments)
        opened.append(Started(tmp_path, size, named, environment))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


@pytest.mark.parametrize("theme", ["dark", "ansi", "mono"])
@pytest.mark.parametrize(("size", "colours"), list(zip(SIZES, ("truecolor", "256", "16", "truecolor"), strict=True)))
def test_textual_changes_no_cell_of_the_list(start: Start, size: tuple[int, int], colours: str, theme: str) -> None:
    opened = start("--theme", theme, size=size, colours=colours)
    place = list_place(*size)
    assert place is not None
    columns = place.width + place.divided
    screen = drawn(size, opened.frame)

    def cells() -> list[Any]:
        return [screen.buffer[y][x] for y in range(1, size[1] - 1) for x in range(columns)]

    first, grounds = cells(), [[screen.buffer[y][x].bg for x in range(size[0])] for y in range(size[1])]
    assert any("❯ 2.2" in line and "✗ failed" in line for line in screen.display)
    assert any("電" in line for line in screen.display) and screen.cursor.hidden
    opened.go_on()
    opened.until(lambda: opened.shows(" llmval ", "quit"), "Textual's picture")
    stream, pieces = pyte.ByteStream(screen), opened.seen[len(opened.frame) :].split(b"\x1b[")
    for index, piece in enumerate(pieces):
        stream.feed(b"\x1b[" + piece if index else piece)
        if index % 40 == 0:
            assert cells() == first
    assert cells() == first
    assert [[screen.buffer[y][x].bg for x in range(size[0])] for y in range(size[1])] == grounds
    assert opened.seen.count(b"\x1b[?1049h") == 1 and b"\x1b[2J" not in opened.seen and b"\x1b[J" not in opened.seen
    opened.type(b"q")
    assert opened.end() == 0 and opened.modes == opened.before
    assert opened.seen.count(b"\x1b[?1049h") == opened.seen.count(b"\x1b[?1049l") == 1


def test_the_first_frame_needs_little(start: Start) -> None:
    start(text=CHECKLIST).close()  # which kept what it found in the list
    opened = start(text=CHECKLIST)
    modules = opened.told.read_text().split("\n")
    outside = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert {name for name in outside if not name.startswith("_")} - {"sitecustomize"} == {"llmval_tui", "orjson"}
    heavy = ("asyncio", "concurrent", "email", "hashlib", "http", "logging", "selectors", "socket", "ssl", "subprocess")
    assert [name for name in heavy if name in modules] == []
    ours = (
        "llmval_tui.tui.widgets",
        "llmval_tui.tui.screens",
        "llmval_tui.tui.app",
        "llmval_tui.tui.drawing.theme_styles",
    )
    assert [name for name in modules if name.startswith(ours)] == []


def test_keys_typed_before_textual_runs_wait_for_it(start: Start) -> None:
    opened = start()
    opened.until(lambda: "❯" in "".join(opened.shown()), "the list")
    opened.type(b"jj3")
    assert opened.read() == opened.frame  # nothing echoes
    between = opened.modes
    opened.go_on()
    opened.until(lambda: any("❯" in line and "2.4" in line for line in opened.shown()), "the third step")
    opened.until(lambda: opened.shows("▌3 Telemetry▐"), "the pane")
    assert between == opened.modes  # Textual's own
    opened.type(b"q")
    assert opened.end() == 0 and opened.modes == opened.before


def test_control_c_before_textual_runs_leaves_as_it_does_later(start: Start) -> None:
    opened = start()
    opened.type(b"\x03")
    opened.go_on()
    assert opened.end() == 0 and opened.modes == opened.before


def test_control_z_before_textual_runs_goes_to_the_shell_and_back(start: Start) -> None:
    opened = start()
    opened.type(b"\x1a")
    opened.go_on()
    opened.until(lambda: psutil.Process(opened.process.pid).status() == psutil.STATUS_STOPPED, "the stop")
    assert opened.read().endswith(b"\x1b[?1004l") and opened.modes == opened.before
    opened.process.send_signal(signal.SIGCONT)
    opened.until(lambda: opened.read().count(b"\x1b[?1049h") == 2, "the dashboard's screen again")
    opened.until(lambda: opened.modes != opened.before, "its modes")
    opened.type(b"q")
    assert opened.end() == 0 and opened.modes == opened.before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGHUP, -signal.SIGHUP)])
def test_a_signal_before_textual_runs_gives_the_terminal_back(start: Start, number: int, code: int) -> None:
    opened = start()
    opened.process.send_signal(number)
    assert opened.end() == code and opened.modes == opened.before
    assert opened.seen[len(opened.frame) :].endswith(b"\x1b[?1049l\x1b[?25h")


def test_an_interrupt_before_textual_runs_gives_the_terminal_back(start: Start) -> None:
    opened = start()
    opened.process.send_signal(signal.SIGINT)
    assert opened.end() == 130 and opened.modes == opened.before
    assert opened.seen[len(opened.frame) :].endswith(b"\x1b[?1049l\x1b[?25h")


def test_a_hang_up_while_the_line_is_there_gives_the_terminal_back(start: Start) -> None:
    opened = start()
    opened.go_on()
    opened.until(lambda: opened.shows(" llmval ", "quit"), "Textual's picture")
    time.sleep(0.5)  # the handler is set once the application's loop runs
    opened.process.send_signal(signal.SIGHUP)
    assert opened.end() == 130 and opened.modes == opened.before
    assert opened.seen.count(b"\x1b[?1049l") == 1 and b"\x1b[?1000l" in opened.seen and b"\x1b[?25h" in opened.seen


def test_a_lost_line_ends_it(start: Start) -> None:
    opened = start()
    opened.go_on()
    opened.until(lambda: opened.shows(" llmval ", "quit"), "Textual's picture")
    time.sleep(0.5)
    opened.lose()
    assert opened.process.wait(30) == -signal.SIGHUP


def test_sigterm_while_textual_begins_gives_the_terminal_back(start: Start) -> None:
    opened = start()
    opened.go_on("end")
    assert opened.end() == 130 and opened.modes == opened.before
    assert opened.seen.count(b"\x1b[?1049l") == 1 and b"\x1b[?1000l" in opened.seen


@pytest.mark.parametrize("how", ["refused", "defect"])
def test_what_ends_it_before_textual_runs_is_said_on_the_screen_from_before(
    start: Start, tmp_path: Path, how: str
) -> None:
    theme = tmp_path / "llmval" / "themes" / "mine.toml"
    theme.parent.mkdir(parents=True)
    theme.write_bytes((bundled("themes") / "light.toml").read_bytes())
    opened = start("--theme", "mine", XDG_CONFIG_HOME=str(tmp_path))
    assert b"\x1b[?1049h" in opened.frame
    opened.type(b"j")
    theme.unlink()
    opened.go_on("break" if how == "defect" else "")
    assert opened.end() == (1 if how == "defect" else 2) and opened.modes == opened.before
    left, said = opened.seen.split(b"\x1b[?1049l\x1b[?25h")
    assert left.startswith(opened.frame)
    words = b"RuntimeError: a defect" if how == "defect" else b"llmval: there is no theme 'mine'"
    assert words in said and words not in left


@pytest.mark.parametrize(
    "unsure",
    [
        {"COLUMNS": "120"},
        {"TEXTUAL_COLOR_SYSTEM": "256"},
        {"TERM": "DUMB"},
        {"size": (39, 24)},
        {"size": (120, 3)},
    ],
    ids=str,
)
def test_nothing_is_drawn_where_textuals_drawing_cannot_be_told(start: Start, unsure: dict[str, Any]) -> None:
    opened = start(**unsure)
    assert opened.frame == b"" and opened.modes == opened.before


def test_a_frame_that_cannot_be_written_whole_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(fd: int, data: bytes) -> int:
        raise OSError(errno.EIO, "the line is lost")

    terminal, line = os.openpty()
    with os.fdopen(terminal, "rb"), os.fdopen(line, "w", encoding="utf-8") as stream:
        before = termios.tcgetattr(line)
        monkeypatch.setattr("os.write", breaks)
        with pytest.raises(OSError, match="the line is lost"), HeldTerminal(stream, stream, "half"):
            pass
        assert termios.tcgetattr(line) == before and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


async def test_a_hang_up_that_nohup_has_ignored_stays_ignored(dashboard: Make) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        async with dashboard().run_test(size=WIDE) as pilot:
            (await ready(pilot)).end_when_told()
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
