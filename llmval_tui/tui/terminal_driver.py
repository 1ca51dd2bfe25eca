"""Textual's driver for Linux, made safe for slow and dead lines and for any byte that a terminal may send.

Output: a frame is sent only if the terminal has drawn enough of the earlier ones, which it confirms by answering a
status request after each frame. So a slow line shows the newest state, and never a queue of old ones. Bytes already
sent cannot be taken back, and they may lie in buffers between here and the terminal that nobody can look into.
"""

import codecs
import curses
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from textual.events import Key

from llmval_tui.tui.textual_private import FrameApp, LinuxDriver, WriterThread, XTermParser, set_writer

STATUS_REQUEST, STATUS_REPORT = "\x1b[5n", b"\x1b[0n"  # ECMA-48 DSR; every terminal emulator answers it
# A mouse report of the 1980s: three bytes after the introducer, which need not be UTF-8 right of column 95.
_OLD_MOUSE = re.compile(rb"\x1b\[M[\x20-\xff]{3}", re.DOTALL)
_UNFINISHED = re.compile(rb"\x1b(?:\[(?:0|M[\x20-\xff]{0,2})?)?\Z", re.DOTALL)
LAG_S = 0.5  # bytes on their way may take this long
LEAST_BYTES, MOST_BYTES = 512, 1 << 15  # bounds of the bytes on their way
SILENT_S = 6.0  # after this time without an answer one frame goes out all the same: the answer may be lost
STOP_S = 1.0  # a line that is stuck at the end may take this long for the sequences that restore the terminal


class FrameGate:
    """Decides whether the next frame may be sent. Thread-safe; times are monotonic seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._sent: deque[tuple[float, int]] = deque(maxlen=1000)  # time and bytes of each frame without an answer
        self._answered_at: float | None = None  # None: the terminal has never answered
        self._bytes_per_s = MOST_BYTES / LAG_S

    def sent(self, size: int) -> None:
        """A frame of `size` bytes goes out, followed by a status request."""
        with self._lock:
            self._sent.append((self._now(), size))

    def answered(self) -> None:
        """The terminal has drawn the oldest frame."""
        with self._lock:
            now = self._now()
            if self._sent:
                sent, size = self._sent.popleft()
                # A frame waits for the one before it. The round trip counts too: a guess that is too low does no harm.
                took = now - max(sent, self._answered_at or sent)
                rate = size / max(took, 1e-3)
                # A small frame shows only that the line is at least so fast.
                self._bytes_per_s = rate if size >= LEAST_BYTES else max(self._bytes_per_s, rate)
            self._answered_at = now

    def busy(self) -> bool:
        """Whether too many bytes are still on their way."""
        with self._lock:
            if self._answered_at is None or not self._sent:  # a terminal that never answers gets every frame
                return False
            if self._now() - self._sent[-1][0] > SILENT_S:
                self._sent.clear()
                return False
            window = min(MOST_BYTES, max(LEAST_BYTES, self._bytes_per_s * LAG_S))
            return sum(size for _, size in self._sent) >= window


class FrameWriter(WriterThread):
    """Writes to the terminal. `write` never blocks, and a dead line is reported once.

    What the kernel takes at once is written at once: a thread may get the interpreter and a core 1 to 10 ms later. The
    rest is written by the thread.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__(file)
        self.lost: Callable[[], None] = lambda: None
        self._descriptor = file.fileno()  # not the file: its lock would block the end of the process on a stuck line
        self._direct = never_blocking(self._descriptor)
        self._waiting: deque[bytes] = deque()
        self._wake = threading.Condition()
        self._pending = 0
        self._ends = False

    @property
    def pending(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._pending

    def write(self, text: str) -> None:
        data = text.encode(errors="replace")
        with self._wake:
            if self._direct is not None and not self._pending:
                with suppress(OSError):  # it takes nothing now; a lost line is noticed by the thread
                    data = data[os.write(self._direct, data) :]
            if data:
                self._waiting.append(data)
                self._pending += len(data)
                self._wake.notify()

    def fileno(self) -> int:
        return self._descriptor

    def run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._ends:
                    self._wake.wait()
                if not self._waiting:
                    return
                data = b"".join(self._waiting)
                self._waiting.clear()
            try:
                while data:
                    written = os.write(self._descriptor, data)
                    data = data[written:]
                    with self._wake:
                        self._pending -= written
            except OSError:
                self.lost()
                return  # later writes have no effect

    def stop(self) -> None:
        """Write the rest and end; a line that is stuck is left alone after `STOP_S`."""
        with self._wake:
            self._ends = True
            self._wake.notify()
        self.join(STOP_S)
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None


set_writer(FrameWriter)


class TerminalDriver(LinuxDriver):
    """The driver of the dashboard."""

    def __init__(self, app: FrameApp, **settings: Any) -> None:
        super().__init__(app, **settings)
        # Textual draws on stderr; stdout has been checked to be a terminal. So `llmval 2> errors.txt` shows the screen.
        self._file = sys.__stdout__
        self.gate = FrameGate()
        self._lost = app.line_lost
        self._key_arrived = app.key_arrived

    def start_application_mode(self) -> None:
        super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual's
        if isinstance(self._writer_thread, FrameWriter):
            self._writer_thread.lost = self._lost

    @property
    def busy(self) -> bool:
        """Whether a frame would only queue behind earlier ones."""
        writer = self._writer_thread
        return self.gate.busy() or (isinstance(writer, FrameWriter) and writer.pending > LEAST_BYTES)

    def send_frame(self, frame: str) -> None:
        """Send one frame, followed by a status request if the terminal answers them."""
        self.gate.sent(len(frame))
        self.write(frame + STATUS_REQUEST)

    def run_input_thread(self) -> None:
        """Read keys, mouse and reports. Bytes that are not UTF-8 are ignored. The end of the input is a lost line."""
        parser = XTermParser(self._debug)
        decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        rest = b""
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        while not self.exit_event.is_set():
            if poll.poll(100):
                try:
                    data = os.read(self.fileno, 4096)
                except OSError:
                    data = b""
                if not data:
                    self._lost()
                    return
                data, rest = self._without_reports(rest + data)
            else:
                data, rest = rest, b""  # nothing completes it: it is a key
            for event in parser.feed(text) if (text := decoder.decode(data)) else ():
                if isinstance(event, Key):
                    self._key_arrived()
                self.process_message(event)
            for event in parser.tick():
                self.process_message(event)

    def _without_reports(self, data: bytes) -> tuple[bytes, bytes]:
        """The input without status and old mouse reports, and an unfinished sequence at its end."""
        for _ in range(data.count(STATUS_REPORT)):
            self.gate.answered()
        data = _OLD_MOUSE.sub(b"", data.replace(STATUS_REPORT, b""))
        unfinished = _UNFINISHED.search(data)
        return (data[: unfinished.start()], data[unfinished.start() :]) if unfinished else (data, b"")


def never_blocking(terminal: int) -> int | None:
    """The same terminal opened again so that a write never waits; None if it is none, or this user may not open it.

    The flag is one of the opened file, which other programs share: on the descriptor itself, it would break the shell.
    """
    if not os.isatty(terminal):
        return None
    try:
        return os.open(f"/proc/self/fd/{terminal}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def erases_with_colour(term: str) -> bool:
    """Whether this terminal fills erased cells with the background colour (terminfo's `bce`); False if unknown."""
    try:
        curses.setupterm(term, 1)
    except (curses.error, ValueError):
        return False
    return curses.tigetflag("bce") > 0
