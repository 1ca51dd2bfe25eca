"""Virtual time, which passes only while a thread waits for it, so that measurements are exact on a busy machine.

The test's thread and the load generator's thread take turns. The generator runs when it is due, and the test stands
still until the generator waits again. A `Clock` replaces the modules `time` and `threading`.
"""

import math
import threading
from collections.abc import Callable
from typing import Any

STUCK_S = 60.0  # real seconds; after this, the other thread must be waiting for something outside this clock


class Clock:
    def __init__(self) -> None:
        self.ns = 10**9  # not 0, so that a test notices if the origin is not subtracted
        self._turn = threading.Condition()
        self._other: threading.Thread | None = None  # while it is alive
        self._others_turn = False
        self._due = math.inf  # the time when the other thread continues by itself

    def perf_counter_ns(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.wait(lambda: False, seconds)

    def wait(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Let time pass until `ready`, for at most `seconds`. Returns the last value of `ready`."""
        until = math.inf if seconds is None else self.ns + math.ceil(seconds * 1e9)
        if threading.current_thread() is self._other:
            while not ready() and self.ns < until:
                self._due = until
                self._pass_turn(to_other=False)
            return ready()
        while not ready():
            due = math.inf if self._other is None else self._due
            if due > until:
                self.ns = int(until)
                break
            assert due < math.inf, "no thread is left that could end this wait"
            self.ns = int(due)
            self._pass_turn(to_other=True)
        return ready()

    def look(self) -> None:
        """Let the other thread check its condition, after something happened."""
        if self._other is not None and threading.current_thread() is not self._other:
            self._pass_turn(to_other=True)

    def _pass_turn(self, *, to_other: bool) -> None:
        with self._turn:
            self._others_turn = to_other
            self._turn.notify_all()
            back = self._turn.wait_for(lambda: self._others_turn != to_other, STUCK_S if to_other else None)
            assert back, "the other thread does not wait on this clock"

    def Event(self) -> "Event":
        return Event(self)

    def Semaphore(self, value: int) -> "Semaphore":
        return Semaphore(self, value)

    def Thread(self, **given: Any) -> threading.Thread:
        return _Thread(self, **given)


class Event:
    def __init__(self, clock: Clock) -> None:
        self._clock, self._set = clock, False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._clock.look()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        return self._clock.wait(self.is_set, timeout)


class Semaphore:
    def __init__(self, clock: Clock, value: int) -> None:
        self._clock, self._free = clock, value

    def acquire(self) -> None:
        self._clock.wait(lambda: self._free > 0)
        self._free -= 1

    def release(self) -> None:
        self._free += 1
        self._clock.look()


class _Thread(threading.Thread):
    """Runs at once: when `start` returns, the thread waits for the first time, or has ended."""

    def __init__(self, clock: Clock, **given: Any) -> None:
        super().__init__(**given)
        self._clock = clock

    def start(self) -> None:
        assert self._clock._other is None, "only one other thread at a time"
        self._clock._other = self
        super().start()
        self._clock._pass_turn(to_other=True)

    def run(self) -> None:
        clock = self._clock
        with clock._turn:
            clock._turn.wait_for(lambda: clock._others_turn)
        try:
            super().run()
        finally:
            with clock._turn:
                clock._other, clock._others_turn = None, False
                clock._turn.notify_all()
