"""A wait that never ends, noticed from outside: a GPU that waits for a rank that hangs cannot be asked to stop."""

import threading
import time
from collections.abc import Callable

LOOK_S = 1.0


class HangWatch(threading.Thread):
    """Calls `hung` once, from a thread of its own, when a wait has lasted `limit_s`.

    NCCL's watchdog does not see the collectives inside a replayed CUDA graph, and a rank that is stopped or stuck in
    its driver ends no process whose end would be seen.
    """

    def __init__(self, since: Callable[[], float | None], limit_s: float, hung: Callable[[float], None]) -> None:
        """`since`: the monotonic time at which the present wait began; None while there is none."""
        super().__init__(name="hang watch", daemon=True)
        self._since, self._limit_s, self._hung = since, limit_s, hung

    def run(self) -> None:
        while True:
            time.sleep(LOOK_S)
            began = self._since()
            if began is not None and (waited := time.monotonic() - began) >= self._limit_s:
                self._hung(waited)
                return
