"""A terminal emulator without a window: runs a program on a pty, counts its bytes and times its screen."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

import psutil
import pyte

from benchmarks.line import Direction, Line

SWITCH_S = 0.0005
REST_S = 0.003
_STARTED_REQUEST = re.compile(rb"\x1b(?:\[5?)?\Z")


class Terminal:
    """A program on a pty of `columns` × `rows`.

    One thread reads as fast as the program writes and notes the time; another draws. The emulator takes tens of
    milliseconds for a full screen, which must not delay the program or count as its time: the reading thread gets the
    interpreter within `SWITCH_S`, and not after Python's 5 ms. With a `line`, the program is elsewhere, as over ssh.
    """

    def __init__(
        self,
        argv: list[str],
        columns: int,
        rows: int,
        environment: Mapping[str, str] | None = None,
        line: Line | None = None,
    ) -> None:
        sys.setswitchinterval(SWITCH_S)
        self.started = time.perf_counter()
        self.bytes_read = 0
        self.last_output = self.started
        self.drawn_at = self.started  # arrival of the newest bytes that are drawn
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = {
            name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TMUX", "COLUMNS", "LINES")
        }
        env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", **(environment or {})}
        self.process = subprocess.Popen(
            argv, env=env, start_new_session=True, preexec_fn=lambda: os.login_tty(slave), pass_fds=(slave,)
        )
        os.close(slave)
        self._usage = psutil.Process(self.process.pid)
        self._cut = b""  # the beginning of a status request
        self._awaited: tuple[int | None, str] | None = None
        self._seen = threading.Event()
        self._seen_at = 0.0
        self._open = True
        self._chunks: SimpleQueue[tuple[float, bytes] | None] = SimpleQueue()
        self._down = Direction(line, self._arrived) if line is not None else None
        self._up = Direction(line, self._type) if line is not None else None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._draw, daemon=True).start()

    def _read(self) -> None:
        while self._open:
            try:
                if not select.select([self._master], [], [], 0.1)[0]:
                    continue
                data = os.read(self._master, 1 << 16)
            except OSError:
                break
            if not data:
                break
            self.bytes_read += len(data)
            (self._arrived if self._down is None else self._down.put)(data)
        self._chunks.put(None)

    def _arrived(self, data: bytes) -> None:
        """The terminal gets bytes of the program."""
        self.last_output = time.perf_counter()
        data, self._cut = self._cut + data, b""
        if cut := _STARTED_REQUEST.search(data):  # the rest of it comes with the next packet
            data, self._cut = data[: cut.start()], data[cut.start() :]
        if requests := data.count(b"\x1b[5n"):  # a terminal says that it has drawn everything before the request
            self.send(b"\x1b[0n" * requests)
        self._chunks.put((self.last_output, data))

    def _type(self, data: bytes) -> None:
        """The program gets what was typed."""
        with suppress(OSError):  # it has ended
            os.write(self._master, data)

    @property
    def queued(self) -> int:
        """Bytes of the program that are on the line."""
        return self._down.queued if self._down is not None else 0

    def _draw(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            arrived, data = chunk
            time.sleep(REST_S)  # the rest of the frame arrives, and its time is noted, before drawing takes the core
            with self._lock:
                self._stream.feed(data)
                self.drawn_at = arrived
                if self._awaited is not None and self._shows(*self._awaited):
                    self._awaited, self._seen_at = None, arrived
                    self._seen.set()

    def _shows(self, row: int | None, text: str) -> bool:
        return any(text in self._row(number) for number in (range(self._screen.lines) if row is None else (row,)))

    def _row(self, number: int) -> str:
        cells = self._screen.buffer[number]
        return "".join(cells[column].data for column in range(self._screen.columns))

    def press(self, key: str, row: int | None, shown: str, timeout_s: float = 10.0) -> float:
        """Type a key and return the seconds until the bytes arrived that put `shown` on the screen.

        Args:
            row: where `shown` must appear; None for any row.

        Raises:
            TimeoutError: it did not appear. The message contains the screen.
        """
        with self._lock:
            self._seen.clear()
            self._awaited = (row, shown)
        sent = self.send(key)
        if not self._seen.wait(timeout_s):
            raise TimeoutError(f"not shown within {timeout_s} s:\n{self.text()}")
        return self._seen_at - sent

    def send(self, keys: str | bytes) -> float:
        """Type keys; returns the time of `time.perf_counter`."""
        now = time.perf_counter()
        (self._type if self._up is None else self._up.put)(keys if isinstance(keys, bytes) else keys.encode())
        return now

    def text(self) -> str:
        """The screen as lines of text."""
        with self._lock:
            return "\n".join(self._screen.display)

    def wait_for(self, shown: str | Callable[[str], bool], timeout_s: float = 10.0) -> float:
        """Seconds from now until the bytes arrived that put `shown` on the screen.

        Raises:
            TimeoutError: it did not appear. The message contains the screen.
        """
        condition = shown if callable(shown) else (lambda text: shown in text)
        start = time.perf_counter()
        while True:
            with self._lock:
                text, arrived = "\n".join(self._screen.display), self.drawn_at
            if condition(text):
                return max(0.0, arrived - start)
            if time.perf_counter() - start > timeout_s:
                raise TimeoutError(f"not shown within {timeout_s} s:\n{self.text()}")
            time.sleep(0.01)

    def cpu_seconds(self) -> float:
        """User and system time of the program and its children so far."""
        total = 0.0
        for process in [self._usage, *self._usage.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def own_cpu_seconds(self) -> float:
        """User and system time of the program alone."""
        times = self._usage.cpu_times()
        return times.user + times.system

    def rss_bytes(self) -> int:
        return int(self._usage.memory_info().rss)

    def hang_up(self) -> None:
        """Close the line, as a lost SSH connection does."""
        self._open = False
        for direction in (self._up, self._down):
            if direction is not None:
                direction.close()
        self._reader.join()
        os.close(self._master)

    def end_children(self) -> None:
        """Kill the processes that the program has started."""
        for process in self._usage.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def end(self) -> None:
        """Kill the program if it still runs, and close the pty."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self._open:
            self.hang_up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
