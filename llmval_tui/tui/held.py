"""The terminal from the first frame on until the application takes it over: its modes, its screen, and signals.

Keys that are typed meanwhile must not show, and must arrive as keys. However that time ends, by a refusal, a defect or
a signal, the terminal gets back what it had.
"""

import os
import signal
import sys
import termios
import tty
from contextlib import suppress
from typing import Any, Self, TextIO

from llmval_tui.foundation.errors import ExitCode

ENTER, HIDE, LEAVE = "\x1b[?1049h", "\x1b[?25l", "\x1b[0m\x1b[?1049l\x1b[?25h"
SYNC, SHOW = "\x1b[?2026h", "\x1b[?2026l"  # all between them is shown at once, where the terminal can do that
ENDING = (signal.SIGTERM, signal.SIGHUP)


def terminal() -> tuple[TextIO, TextIO] | None:
    """Where Textual's driver reads and writes, if these and standard output are one terminal that lets writers wait."""
    streams = [stream for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__) if stream is not None]
    if len(streams) < 3 or not all(stream.isatty() for stream in streams):
        return None
    if len({os.fstat(stream.fileno()).st_rdev for stream in streams}) > 1 or not os.get_blocking(streams[2].fileno()):
        return None
    return streams[0], streams[2]


class HeldTerminal:
    """Shows a picture on the terminal's other screen; a context, after which the terminal is as before, or taken."""

    def __init__(self, keyboard: TextIO, screen: TextIO, picture: str) -> None:
        self.held = False  # whether the first frame is what stands on it
        self._input, self._output = keyboard.fileno(), screen.fileno()
        self._picture = f"{SYNC}{ENTER}{HIDE}{picture}{SHOW}".encode(screen.encoding, screen.errors or "strict")
        self.modes = termios.tcgetattr(self._input)  # from before

    def __enter__(self) -> Self:
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._ended)
        self.held = True
        try:
            termios.tcsetattr(self._input, termios.TCSANOW, _keys_only(self.modes))
            left = self._picture
            while left:
                left = left[os.write(self._output, left) :]
        except BaseException:  # a signal's exception too: whatever it is goes on, with the terminal given back
            self.leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def taken(self) -> None:
        """The application has the terminal now, and gives it back itself."""
        self.held = False
        self._let_signals_be(signal.SIGHUP)  # the other one it has taken too

    def leave(self) -> None:
        """Give back what there was before; nothing where the application has taken the terminal."""
        if not self.held:
            return
        with suppress(termios.error):
            termios.tcflush(self._input, termios.TCIFLUSH)  # what was typed was not meant for the shell
            termios.tcsetattr(self._input, termios.TCSANOW, self.modes)
        with suppress(OSError):
            os.write(self._output, f"{SHOW}{LEAVE}".encode())
        self.held = False  # now, for a signal that came before has to do it all
        self._let_signals_be(*ENDING)

    def _let_signals_be(self, *numbers: signal.Signals) -> None:
        for number in numbers:
            if signal.getsignal(number) == self._ended:
                signal.signal(number, signal.SIG_DFL)

    def _ended(self, number: int, _: object) -> None:
        self.leave()
        if number == signal.SIGTERM:
            os._exit(ExitCode.INTERRUPTED)  # in the middle of an import; there is nothing else to be put away
        os.kill(os.getpid(), number)


def _keys_only(modes: list[Any]) -> list[Any]:
    """The modes in which each key comes by itself, unseen and unchanged: those that Textual's driver sets."""
    changed: list[Any] = list(modes)
    changed[tty.LFLAG] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    changed[tty.IFLAG] &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR)
    changed[tty.CC] = [*changed[tty.CC][: termios.VMIN], 1, *changed[tty.CC][termios.VMIN + 1 :]]
    return changed
