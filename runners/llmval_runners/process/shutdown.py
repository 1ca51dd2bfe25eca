"""How a runner ends early without losing its record: on SIGINT, SIGTERM or SIGHUP, or when it hangs.

On a signal the main loop normally ends by itself. If it does not, a guard thread saves the record and ends the process.

Python runs a signal handler only between bytecodes of the main thread, so never while that thread waits inside a
collective for a rank that has died. The C-level handler writes to the wake-up descriptor at once, so a thread that
reads from it always notices.

A record of millions of token times takes seconds to write, longer than the usual grace of whoever stops a run. A
process therefore renames itself while it writes its record (/proc/PID/comm, shown by ps and top) and is then given up
to `SAVING_S`. A rename works on a full disk too.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GRACE_S = 3.0
SAVING = "llmval-saving"  # the process name; the dashboard's termination ladder looks for the same
SAVING_S = 60.0
HANG_POLL_S = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_on_signals() -> None:
    """Until there is something to save: a stop signal ends this process with one sentence (of rank 0) and 128 + signal.

    The handler raises nothing, because an import could swallow it. An ignored SIGHUP (nohup) stays ignored.
    """
    for number in _in_use():
        signal.signal(number, _end)


def _in_use() -> list[signal.Signals]:
    return [number for number in _SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]


def _end(number: int, _frame: object) -> None:
    say_nothing_measured(number)
    os._exit(128 + number)


def say_nothing_measured(number: int) -> None:
    """The sentence for an end before the first result."""
    if int(os.environ.get("RANK", 0)) == 0:
        with suppress(OSError):  # a terminal that is gone
            os.write(2, f"ended by {signal.Signals(number).name}: nothing was measured yet\n".encode())


class StopSignals:
    """Notices the first stop signal: `number` is set and the `on_signal` callbacks run, to wake up waiting threads."""

    def __init__(self, emergency_save: Callable[[int], None], grace_s: float = GRACE_S) -> None:
        """`emergency_save(signal)` runs in the guard thread if the main thread has not ended after `grace_s`."""
        self.number: int | None = None
        self.on_signal: list[Callable[[], None]] = []
        self._emergency_save = emergency_save
        self._grace_s = grace_s
        self._done = threading.Event()
        self._writing = threading.Event()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._read, True)

    @property
    def exit_code(self) -> int:
        return 128 + (self.number or 0)

    def install(self) -> None:
        """Replace the signal handlers. Call it from the main thread. An ignored SIGHUP (nohup) stays ignored."""
        for number in _in_use():
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._guard, name="stop signals", daemon=True).start()

    @contextmanager
    def protect_write(self) -> Iterator[None]:
        """Show, while the record is written, that the process is not stuck, so that others wait for it."""
        self._writing.set()
        try:
            with name_as_saving():
                yield
        finally:
            self._writing.clear()

    def done(self) -> None:
        """Tell the guard that the record is written and the main thread is about to end."""
        self._done.set()

    def _guard(self) -> None:
        while (number := os.read(self._read, 1)[0]) not in _SIGNALS:
            pass
        self.number = number
        for callback in self.on_signal:
            callback()
        if self._done.wait(self._grace_s) or (self._writing.is_set() and self._done.wait(SAVING_S)):
            return
        try:
            self._emergency_save(number)
        finally:
            os._exit(self.exit_code)


@contextmanager
def name_as_saving() -> Iterator[None]:
    """Rename this process to `SAVING` while it writes a record."""
    comm = Path(f"/proc/{os.getpid()}/comm")  # the name of the main thread, whichever thread writes
    name = comm.read_text().strip()
    comm.write_text(SAVING)
    try:
        yield
    finally:
        comm.write_text(name)


def is_saving(pid: int) -> bool:
    """Whether a process is writing its record; False if it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == SAVING
    except OSError:
        return False


class HangWatch(threading.Thread):
    """Calls `on_hang(seconds waited)` once, from its own thread, after a wait of `limit_s` seconds.

    NCCL's watchdog does not see the collectives inside a replayed CUDA graph, and a rank that is stopped or stuck in
    its driver does not exit. So nothing else would notice.
    """

    def __init__(self, since: Callable[[], float | None], limit_s: float, on_hang: Callable[[float], None]) -> None:
        """`since` returns the time.monotonic() at which the present wait began, or None if nothing waits."""
        super().__init__(name="hang watch", daemon=True)
        self._since, self._limit_s, self._on_hang = since, limit_s, on_hang

    def run(self) -> None:
        while True:
            time.sleep(HANG_POLL_S)
            began = self._since()
            if began is not None and (waited := time.monotonic() - began) >= self._limit_s:
                self._on_hang(waited)
                return
