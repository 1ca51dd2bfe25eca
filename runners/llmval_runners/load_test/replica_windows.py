"""The windows of a load test over several replicas: planned by rank 0, opened together, gathered in one record."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from llmval_runners.engine.replicas import Replicas
from llmval_runners.load_test.config import LoadConfig
from llmval_runners.load_test.exchange import packed, unpacked
from llmval_runners.load_test.generator import Load
from llmval_runners.load_test.result import Measured
from llmval_runners.process.errors import RankLost

Idle = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """The next window. `qps` and `seed` are those of all replicas together."""

    qps: float
    seed: int
    label: str | None = None


class ReplicaWindows:
    """With one replica all of this does nothing."""

    def __init__(self, peers: Replicas, load: LoadConfig) -> None:
        self.peers, self._load = peers, load
        self.plan: Plan | None = None  # of the present window
        self._number = 0
        self._taken: dict[int, Measured] = {}

    @property
    def several(self) -> bool:
        return self.peers.several

    def tell_plan(self, plan: Plan | None) -> None:
        """Rank 0: announce the next window; None: there is no other."""
        self._number += 1
        if plan is not None:
            self.plan, self._taken = plan, {}
        self.peers.tell(f"plan/{self._number}", None if plan is None else asdict(plan))

    def next_plan(self, idle: Idle) -> Plan | None:
        """Another leader: wait for it. Raises RankLost."""
        self._number += 1
        found = self.peers.hear(f"plan/{self._number}", idle)
        self.plan = None if found is None else Plan(**found)
        return self.plan

    def meet(self, idle: Idle) -> None:
        """Wait until all replicas can open their windows, so that they measure at the same time."""
        self.peers.meet(f"window/{self._number}", idle)

    def give(self, measured: Measured, idle: Idle) -> None:
        self.peers.give(f"window/{self._number}", packed(measured), idle)

    def give_early(self, measured: Measured) -> None:
        """What there is of a window, if rank 0 still takes it."""
        if self.several:
            with suppress(RankLost):
                self.peers.give("early", packed(measured), asked=False)

    def take(self, idle: Idle) -> None:
        """Rank 0: the windows of the other replicas. Raises RankLost."""
        for replica in self.peers.others():
            data = self.peers.take(f"window/{self._number}", replica, idle)
            self._taken[replica] = unpacked(data, self._arrivals(replica))

    def taken(self) -> list[Measured]:
        return [self._taken[replica] for replica in self.peers.others()]

    def take_early(self) -> list[Measured]:
        """Rank 0: what the others have measured so far. What does not come is not in the record, and it says so."""
        if len(self._taken) < len(self.peers.others()):
            for replica, data in self.peers.take_early("early").items():
                self._taken.setdefault(replica, unpacked(data, self._arrivals(replica)))
        return [self._taken.get(replica) or self._absent(replica) for replica in self.peers.others()]

    def named(self, measured: Measured, load: Load, device_name: str, cache: Mapping[str, Any]) -> Measured:
        """The window with what tells this replica from the others."""
        if not self.several:
            return measured
        place = self.peers.place
        facts: dict[str, Any] = {
            "replica": place.replica,
            "host": self.peers.node,
            "ranks": list(place.ranks_of(place.replica)),
            "device_name": device_name,
            "seed": load.seed,
            "target_qps": load.target_qps,
            "kv_cache": dict(cache),
        }
        return replace(measured, replica=facts)

    def _arrivals(self, replica: int) -> list[Any]:
        plan = self.plan
        return self._load.load(plan.qps if plan else None, plan.seed if plan else None, replica).arrivals

    def _absent(self, replica: int) -> Measured:
        place = self.peers.place
        why = "its requests did not reach rank 0; if its node lives, it keeps them in a file of its own"
        load = self._load.load(replica=replica)
        facts: dict[str, Any] = {
            "replica": replica,
            "host": self.peers.nodes.get(replica),
            "ranks": list(place.ranks_of(replica)),
            "device_name": None,
            "seed": load.seed,
            "target_qps": load.target_qps,
            "kv_cache": {},
        }
        return Measured([], load.arrivals, 0.0, why, replica=facts)
