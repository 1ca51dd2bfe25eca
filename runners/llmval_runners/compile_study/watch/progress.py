"""Which ranks make progress. Pure state over heartbeats; the caller passes the time."""

from dataclasses import dataclass, field
from typing import Any

ENDED = ("done", "failed")


@dataclass(slots=True)
class Progress:
    """The last time each rank moved, in seconds of the caller's clock.

    A rank moves when a number of its heartbeat's `progress` changes, or the set of its child processes does. A rank
    that waits in a collective does not move, and that is not a stall as long as another rank moves. Sooner or later all
    ranks wait for the one that is stuck. So the run is stalled when no unfinished rank has moved for `stall_after`.
    """

    stall_after: float
    moved: dict[int, float] = field(default_factory=dict)
    moves: int = 0  # moves of all ranks together, without each rank's first observation
    _last: dict[int, Any] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    def observe(self, rank: int, token: Any, phase: str, now: float) -> None:
        if phase in ENDED:
            self._ended.add(rank)
        if rank not in self._last or self._last[rank] != token:
            self.moves += rank in self._last
            self._last[rank], self.moved[rank] = token, now

    def mark_ended(self, rank: int) -> None:
        """The rank's process has ended; torchrun handles that."""
        self._ended.add(rank)

    @property
    def unfinished(self) -> list[int]:
        return sorted(set(self.moved) - self._ended)

    def idle(self, rank: int, now: float) -> float:
        return now - self.moved[rank]

    def stalled(self, now: float) -> bool:
        idle = [self.idle(rank, now) for rank in self.unfinished]
        return bool(idle) and min(idle) >= self.stall_after
