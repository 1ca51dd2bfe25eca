"""SIGINT, SIGTERM and SIGHUP, without losing the record: the loop ends by itself, or a guard thread ends the process.

A signal handler of Python runs only between bytecodes of the main thread, so it never runs while that thread waits
inside a collective for a rank that is gone. The wake-up descriptor is written by the C handler itself, so a thread
hears at once.

A record of millions of token times takes seconds to write, longer than those who stop a run give a rank that does not
end. So a process that writes one says so in its name (/proc/PID/comm, as ps and top show it), and is given `SAVING_S`.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

GRACE_S = 3.0
SAVING = "llmval-saving"  # launch.py and the dashboard's cancel ladder look for it
SAVING_S = 60.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Hears the first stopping signal. `number` is set then; `on_signal` callbacks wake whoever waits."""

    def __init__(self, last_words: Callable[[int], None], grace_s: float = GRACE_S) -> None:
        """`last_words(signal)` runs in the guard thread where the main thread did not end within the grace."""
        self.number: int | None = None
        self.on_signal: list[Callable[[], None]] = []
        self._last_words = last_words
        self._grace_s = grace_s
        self._over = threading.Event()
        self._writes = threading.Event()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._read, True)

    @property
    def exit_code(self) -> int:
        return 128 + (self.number or 0)

    def install(self) -> None:
        """Take the signals over; from the main thread only. An ignored SIGHUP stays ignored (nohup)."""
        for number in STOPPING:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._guard, name="stop signals", daemon=True).start()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """While the record is written: the process is not stuck, and whoever stops it waits."""
        comm = Path(f"/proc/{os.getpid()}/comm")  # the main thread's, whichever one writes
        name = comm.read_text().strip()
        self._writes.set()
        comm.write_text(SAVING)
        try:
            yield
        finally:
            self._writes.clear()
            comm.write_text(name)

    def finished(self) -> None:
        """The main thread has written its record and will end by itself."""
        self._over.set()

    def _guard(self) -> None:
        while (number := os.read(self._read, 1)[0]) not in STOPPING:
            pass
        self.number = number
        for callback in self.on_signal:
            callback()
        if self._over.wait(self._grace_s) or (self._writes.is_set() and self._over.wait(SAVING_S)):
            return
        try:
            self._last_words(number)
        finally:
            os._exit(self.exit_code)
