"""The dashboard as a process on its own terminal: what happens to it and to its run when the connection is lost."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from llmval_tui.plans.records import active_plan
from tests.helpers.processes import until


class Screen:
    """`llmval` on a pseudo-terminal, started as sshd does: as session leader with a controlling terminal."""

    def __init__(self, folder: str, *arguments: str, lead: Callable[[], None]) -> None:
        self.terminal, line = os.openpty()
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmval_tui", "--workspace", folder, *arguments],
            stdin=line, stdout=line, stderr=line, cwd=folder, env={**os.environ, "TERM": "xterm-256color"},
            preexec_fn=lead,
        )  # fmt: skip
        os.close(line)

    def shows(self, text: str) -> bool:
        with suppress(OSError):
            while select.select([self.terminal], [], [], 0)[0]:
                self.seen += os.read(self.terminal, 65536)
        return text.encode() in self.seen

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def lead() -> None:
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def screen(workspace) -> Iterator[Callable[..., Screen]]:
    opened: list[Screen] = []

    def start(*arguments: str, lead: Callable[[], None] = lead) -> Screen:
        opened.append(Screen(str(workspace.folder), *arguments, lead=lead))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize("loss", ["line closed", "killed"])
def test_a_run_outlives_the_dashboard_that_started_it(workspace, screen, loss: str) -> None:
    first = screen()
    until(lambda: first.shows("slow.py"), "the first picture")
    os.write(first.terminal, b"jjc")  # the third step; in one burst, as over a slow connection
    # A key waits at most two seconds for the one before it, and a busy machine may take longer to prepare a dialog.
    until(lambda: first.shows("Complete 1.3?"), "the dialog")
    os.write(first.terminal, b"y")
    # The terminal is read meanwhile: one that nobody reads takes 4 KiB.
    until(lambda: first.shows("") and (workspace.folder / "started").exists(), "the run")
    if loss == "killed":
        first.process.send_signal(signal.SIGKILL)
    else:
        os.close(first.terminal)
    until(lambda: first.process.poll() is not None, "the end of the dashboard")
    assert active_plan(workspace.folder) is not None
    second = screen()
    until(lambda: second.shows("1.3 running"), "the run, found again")
    (workspace.folder / "go").touch()
    until(lambda: b"- [x] Run: `python slow.py" in workspace.checklist.read_bytes(), "the tick")
    until(lambda: second.shows("exit code"), "the tick on the screen")
    os.write(second.terminal, b"ql")  # it asks if it has not seen the plan's end yet; l leaves the plan alone
    until(lambda: second.process.poll() is not None, "the end")
    assert second.process.returncode == 0


def lead_without_sighup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lead()


@pytest.mark.parametrize("begin", [lead_without_sighup, os.setsid], ids=["nohup", "no controlling terminal"])
def test_a_closed_terminal_ends_it_without_a_signal(workspace, screen, begin: Callable[[], None]) -> None:
    opened = screen(lead=begin)
    until(lambda: opened.shows("slow.py"), "the first picture")
    os.close(opened.terminal)
    until(lambda: opened.process.poll() is not None, "the end")


def test_sigterm_restores_the_terminal(workspace, screen) -> None:
    opened = screen()
    until(lambda: opened.shows("slow.py"), "the first picture")
    os.write(opened.terminal, b"?")
    until(lambda: opened.shows("Keys"), "a dialog")
    opened.process.terminate()
    until(lambda: opened.shows("\x1b[?1049l"), "the original screen")
    until(lambda: opened.process.poll() is not None, "the end")
    assert opened.process.returncode == 130
    assert opened.shows("\x1b[?25h") and opened.shows("\x1b[?1000l") and not opened.shows("defect")


def test_coming_back_from_the_shell_draws_the_whole_screen(workspace, screen) -> None:
    opened = screen()
    until(lambda: opened.shows("slow.py"), "the first picture")
    process = psutil.Process(opened.process.pid)
    os.write(opened.terminal, b"\x1a")
    until(lambda: process.status() == psutil.STATUS_STOPPED, "the stop")
    assert opened.shows("\x1b[?1049l")
    opened.seen = b""
    opened.process.send_signal(signal.SIGCONT)  # as the shell's fg does
    until(lambda: opened.shows("slow.py"), "the unchanged list")
