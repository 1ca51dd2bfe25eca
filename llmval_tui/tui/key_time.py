"""While a key takes effect, nothing else uses the thread that draws.

Four things did, and made one key in twenty twice as slow. Python collects garbage when many objects are new, which is
in the middle of a frame. A busy thread gets the interpreter whenever it asks. A frame for a timer was drawn first,
although the frame of the key shows the same change. What other threads had found was built into the old pane first. All
of them can wait for a tenth of a second.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Callable

SWITCH_S = 0.0005  # a key needs the interpreter several times, and a busy thread keeps it for 5 ms by default
KEEP_S = 0.02  # the drawing thread keeps it so long while a key takes effect
QUIET_S = 0.1  # after a key
YIELD_S = 0.05  # other frames and the messages of threads wait no longer for a key


class KeyTime:
    """The time from a key's arrival to its frame."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._arrived_s: float | None = None  # of a key that has not taken effect
        self._end: asyncio.TimerHandle | None = None
        self.collects = False  # whether garbage is collected now; False while the dashboard opens

    def arrived(self) -> None:
        """A key was read. Called by any thread."""
        self._arrived_s = self._now()

    @property
    def waits(self) -> bool:
        """Whether a key has arrived and has not taken effect: other frames wait for its frame."""
        arrived = self._arrived_s
        return arrived is not None and self._now() - arrived < YIELD_S

    def begin(self) -> None:
        """A key is delivered."""
        if not self.collects:
            return
        gc.disable()
        sys.setswitchinterval(KEEP_S)
        if self._end is None:
            self._end = asyncio.get_running_loop().call_later(QUIET_S, self.end)

    def drawn(self) -> None:
        """A frame is complete: the thread that sends it needs the interpreter."""
        if self._end is not None:
            sys.setswitchinterval(SWITCH_S)

    def took_effect(self) -> None:
        """Other frames need not wait any more."""
        self._arrived_s = None

    def end(self) -> None:
        """Garbage is collected again, and other threads get the interpreter soon."""
        self._end = None
        sys.setswitchinterval(SWITCH_S)
        gc.enable()
