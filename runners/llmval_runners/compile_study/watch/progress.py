"""Who moves and who does not. Pure state over heartbeats; the clock is the caller's."""

from dataclasses import dataclass, field
from typing import Any

ENDED = ("done", "failed")


@dataclass(slots=True)
class Progress:
    """When each rank last moved, in seconds of the caller's clock.

    A rank moves when a number of its heartbeat's `progress` changes, or the set of its child processes does. A rank
    that waits in a collective rightly stands still as long as another one moves, and sooner or later all wait for the
    one that does not: so a stall is that no unfinished rank has moved for `stall_after`.
    """

    stall_after: float
    moved: dict[int, float] = field(default_factory=dict)
    moves: int = 0  # of all ranks together, first sights not counted
    _seen: dict[int, Any] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)

    def see(self, rank: int, token: Any, phase: str, now: float) -> None:
        if phase in ENDED:
            self._ended.add(rank)
        if rank not in self._seen or self._seen[rank] != token:
            self.moves += rank in self._seen
            self._seen[rank], self.moved[rank] = token, now

    def gone(self, rank: int) -> None:
        """Its process has ended: torchrun deals with it."""
        self._ended.add(rank)

    @property
    def unfinished(self) -> list[int]:
        return sorted(set(self.moved) - self._ended)

    def idle(self, rank: int, now: float) -> float:
        return now - self.moved[rank]

    def stalled(self, now: float) -> bool:
        idle = [self.idle(rank, now) for rank in self.unfinished]
        return bool(idle) and min(idle) >= self.stall_after
