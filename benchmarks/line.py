"""A line between a program's pty and its terminal: late, narrow, lossy, frozen or dead, as ssh over TCP makes it.

ssh takes what the program writes at once and keeps it until the other end has room, so the program does not feel that
the line is slow. Nothing is lost or out of order: a lost packet makes everything behind it late.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW = 2 << 20  # bytes that OpenSSH takes ahead of the other end
PACKET = 1400
RESEND_S = 0.2  # Linux waits at least so long, and a round trip, before it sends a lost packet again


class Line:
    """Two directions with the same delay, rate and loss.

    Args:
        round_trip_s: half of it is the delay of each direction.
        bytes_per_s: of each direction; None: no limit.
        loss: probability that a packet is lost.
        seed: of the losses.
    """

    def __init__(
        self, round_trip_s: float = 0.0, bytes_per_s: float | None = None, loss: float = 0.0, seed: int = 1
    ) -> None:
        self.round_trip_s, self.bytes_per_s, self.loss = round_trip_s, bytes_per_s, loss
        self._chance = random.Random(seed)
        self.losses = 0
        self._moves = threading.Event()  # cleared while the line is frozen or dead
        self._moves.set()

    def freeze(self) -> None:
        """Let nothing pass from now on, in either direction; what is sent meanwhile passes afterwards."""
        self._moves.clear()

    def go_on(self) -> None:
        self._moves.set()

    def late_s(self) -> float:
        """How much later than without losses the next packet arrives: each loss of it doubles the wait."""
        late, wait = 0.0, RESEND_S + self.round_trip_s
        while self._chance.random() < self.loss:
            self.losses += 1
            late, wait = late + wait, 2 * wait
        return late


class Direction:
    """One direction of a line: `put` takes bytes at once, a thread calls `arrive` when they are through."""

    def __init__(self, line: Line, arrive: Callable[[bytes], None]) -> None:
        self._line, self._arrive = line, arrive
        self._packets: deque[tuple[float, bytes]] = deque()  # with the time at which each is through
        self._wake = threading.Condition()
        self._free_at = 0.0  # when the narrow part of the line has sent all that it took
        self._last_due = 0.0
        self._open = True
        self._queued = 0
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def queued(self) -> int:
        """Bytes that are not through yet."""
        return self._queued

    def put(self, data: bytes) -> None:
        """Take bytes; waits only while `WINDOW` is full."""
        line = self._line
        size = PACKET if line.bytes_per_s is None else max(1, min(PACKET, int(line.bytes_per_s / 20)))
        with self._wake:
            self._wake.wait_for(lambda: self._queued < WINDOW or not self._open)
            for at in range(0, len(data), size):
                packet = data[at : at + size]
                now = time.monotonic()
                if line.bytes_per_s is not None:
                    self._free_at = max(now, self._free_at) + len(packet) / line.bytes_per_s
                due = max(now, self._free_at) + line.round_trip_s / 2 + line.late_s()
                self._last_due = max(due, self._last_due)  # TCP gives nothing out of order
                self._packets.append((self._last_due, packet))
                self._queued += len(packet)
            self._wake.notify_all()

    def close(self) -> None:
        """Drop what is on its way."""
        with self._wake:
            self._open = False
            self._wake.notify_all()
        self._line.go_on()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._packets or not self._open)
                if not self._open:
                    return
                due, packet = self._packets.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            self._line._moves.wait()
            if not self._open:
                return
            self._arrive(packet)
            with self._wake:
                self._queued -= len(packet)
                self._wake.notify_all()
