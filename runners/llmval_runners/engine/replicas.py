"""The replicas of a model over several nodes: what their leaders tell each other, and how they learn of a lost one.

The ranks of a replica have a process group of their own, so no collective leaves it. The leaders (the first rank of
each replica) exchange a few small messages, and at the end their samples, through the store at which torchrun's agents
met. Each leader reports once a second that it is alive. The first replica that ends early says why, and all others end
too: a measurement over all nodes is over then.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from llmval_runners.process.errors import RankLost, Refused
from llmval_runners.process.output import say
from llmval_runners.process.placement import Placement, node_name
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

JOIN_S = 120.0  # as long as a process group waits for its ranks
BEAT_S = 1.0
SILENT_S = 20.0  # after so much silence a replica counts as lost, as a node does in llmval's fleet
POLL_S = 0.1
PART_BYTES = 4 << 20  # the store takes values of up to 8 MiB
EARLY_S = 5.0  # a run that ends early waits so long for what the other replicas have measured
AGENTS_S = 1.0  # torchrun's agents look at their ranks ten times a second
_SAVED = "saved"  # the message that rank 0 has written the record, with the verdict and its exit code
_ENDED = "ended"


def _nothing() -> None:
    """Nothing to do while this rank waits."""


class Replicas:
    """This rank's view of the replicas. With one replica nothing is connected, and no wait waits."""

    def __init__(self, place: Placement) -> None:
        self.place = place
        self.node = node_name()
        self.on_end: Callable[[], None] = _nothing  # called by another thread when a replica has ended
        self.nodes: dict[int, str] = {}  # rank 0: the node of each replica (its last one, if it has several)
        self._store: Store | None = None
        self._ended: dict[str, Any] | None = None
        self._answered_at = time.monotonic()
        self._closed = threading.Event()
        self._watching = False  # whether a thread looks

    @property
    def several(self) -> bool:
        return self.place.data_parallel > 1

    @property
    def over(self) -> bool:
        """Whether some replica has ended early."""
        return self._ended is not None

    def others(self) -> range:
        """The replicas whose leaders answer to rank 0."""
        return range(1, self.place.data_parallel)

    def store_for_ranks(self) -> Store | None:
        """The store for the process group of this replica's ranks; None: the default one, of all ranks."""
        return _connected(f"replica {self.place.replica}") if self.several else None

    def start(self, stopped: Callable[[], None] = _nothing) -> None:
        """Connect, and agree with all ranks on the placement. `stopped` raises if this rank shall end.

        Raises:
            Refused: the ranks do not agree: their nodes have another number of ranks, or other flags.
            RankLost: not all ranks came.
        """
        if not self.several:
            return
        with _lost_with_the_store():
            self._store = store = _connected("llmval")
        self._answered_at = time.monotonic()
        place = self.place
        self.tell(f"place/{place.rank}", [place.tensor_parallel, place.local_world_size, self.node])
        if place.rank == 0:
            found = [self.hear(f"place/{rank}", stopped, JOIN_S) for rank in range(place.world_size)]
            self.nodes = {rank // place.tensor_parallel: node for rank, (*_, node) in enumerate(found)}
            self.tell("agreed", _disagreement(place, found))
        if refusal := self.hear("agreed", stopped, JOIN_S + BEAT_S):
            raise Refused(str(refusal))
        if place.leads:
            self._watching = True
            threading.Thread(target=self._watch, args=(store,), name="replicas", daemon=True).start()

    def refuse(self, why: str) -> None:
        """Tell all that this rank refuses to start, so that they do not wait for it. Never raises.

        Only under torchrun, whose agent has the store: rank 0 might never open one of its own.
        """
        if self.several and _has_agent_store():
            with suppress(RuntimeError):
                self._store = self._store or _connected("llmval")
            self.end(why, refused=True)

    def tell(self, key: str, value: Any) -> None:
        """Leave a small message, as JSON, for whoever hears it."""
        if self._store is not None:
            with _lost_with_the_store():
                self._store.set(key, json.dumps(value))

    def hear(self, key: str, idle: Callable[[], None] = _nothing, limit_s: float | None = None) -> Any:
        """Wait for a message, and call `idle` meanwhile; it may raise.

        Raises:
            RankLost: another replica has ended, or nothing came within `limit_s`.
        """
        assert self._store is not None
        return json.loads(self._wait(key, idle, limit_s))

    def meet(self, what: str, idle: Callable[[], None] = _nothing) -> None:
        """Wait until every leader has come here. Other ranks may wait with theirs."""
        if self._store is None:
            return
        with _lost_with_the_store():
            if self.place.leads and self._store.add(f"meet/{what}", 1) == self.place.data_parallel:
                self._store.set(f"met/{what}", "1")
        self._wait(f"met/{what}", idle)

    def give(self, what: str, data: bytes, idle: Callable[[], None] = _nothing, *, asked: bool = True) -> None:
        """Hand `data` to rank 0. `asked`: only when it asks, so that the store holds those of one replica at a time."""
        assert self._store is not None
        key = f"{what}/{self.place.replica}"
        if asked:
            self._wait(f"want/{key}", idle)
        parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
        with _lost_with_the_store():
            for number, part in enumerate(parts):
                self._store.set(f"{key}/{number}", part)  # type: ignore[arg-type]  # bytes work; the stub says str
            self._store.set(key, json.dumps(len(parts)))

    def take(self, what: str, replica: int, idle: Callable[[], None] = _nothing) -> bytes:
        """Rank 0: what the leader of a replica gives. Raises RankLost."""
        assert self._store is not None
        self.tell(f"want/{what}/{replica}", True)
        return self._taken(f"{what}/{replica}", self._wait(f"{what}/{replica}", idle))

    def take_early(self, what: str) -> dict[int, bytes]:
        """Rank 0, after `end`: what the other leaders give within `EARLY_S`. Never raises."""
        found: dict[int, bytes] = {}
        ended = self._ended or {}
        awaited = set(self.others()) - ({ended["replica"]} if ended.get("silent") else set())
        deadline = time.monotonic() + EARLY_S
        while self._store is not None and awaited and time.monotonic() < deadline:
            try:
                for replica in sorted(awaited):
                    key = f"{what}/{replica}"
                    if self._store.check([key]):
                        found[replica] = self._taken(key, self._store.get(key))
                        awaited.remove(replica)
            except RuntimeError:  # the store is gone: what came is all
                break
            time.sleep(POLL_S)
        return found

    def end(self, why: str, *, refused: bool = False) -> None:
        """Tell all that this replica ends early. The first one to say so is the cause. Never raises."""
        self._end(self.place.replica, why, refused=refused)

    def check(self) -> None:
        """Raise if another replica has ended.

        Raises:
            Refused: it refused its own node.
            RankLost: it ended early, or is silent.
        """
        if (ended := self._ended) is not None and ended["replica"] != self.place.replica:
            sentence = f"{self.place.name(ended['replica'], ended['node'])}: {ended['why']}"
            raise Refused(sentence) if ended["refused"] else RankLost(sentence)
        if self._store is not None and time.monotonic() - self._answered_at > SILENT_S and self.place.leads:
            raise RankLost(f"the store at rank 0's node has not answered for {SILENT_S:.0f} s: that node is lost")

    def tell_verdict(self, verdict: Mapping[str, Any], code: int) -> None:
        """Rank 0: the record is written. `verdict`: of all replicas. `code`: with which rank 0 exits."""
        self.tell(_SAVED, {"word": verdict["word"], "reason": verdict["reason"], "code": code})

    def hear_verdict(self, idle: Callable[[], None] = _nothing) -> int:
        """Another leader: wait until rank 0 has written the record. Returns the exit code of this rank: rank 0's.

        Each node says the verdict once, because whoever started it there by hand sees only its own output.
        """
        found, place = self.hear(_SAVED, idle), self.place
        if place.rank < place.local_world_size:
            return 0  # not rank 0's code: their launcher would take this rank for the first that failed
        if place.local_rank == 0:
            verdict = f"{found['word']}: {found['reason']}" if found["reason"] else str(found["word"])
            say(f"{verdict} (of all {place.data_parallel} replicas; rank 0 has the record)")
        return int(found["code"])

    def close(self, code: int = 0) -> None:
        """Leave; who has the store, as its own or as its agent's, leaves last. `code`: with which this rank exits.

        After a failure torchrun's agents do not wait for each other, and one that finds the store gone prints a stack.
        """
        self._closed.set()
        if self._store is None or not self.place.leads:
            return
        deadline = time.monotonic() + SILENT_S
        several_nodes = self.place.world_size > self.place.local_world_size
        # The agents meet at a store of their own, which may be on another node than rank 0's.
        has_rendezvous = bool(code and several_nodes and _has_agent_store()) and bool(
            _listening(os.getppid()) - {int(os.environ["MASTER_PORT"])}
        )
        is_last = self.place.rank == 0 or has_rendezvous
        try:
            gone = self._store.add("gone", 1)
            while is_last and gone < self.place.data_parallel and time.monotonic() < deadline:
                time.sleep(POLL_S)
                gone = self._store.add("gone", 0)
            if is_last and code and several_nodes:
                time.sleep(2 * AGENTS_S if has_rendezvous else AGENTS_S)
        except RuntimeError:  # the others were faster
            pass

    def _end(self, replica: int, why: str, *, refused: bool = False, silent: bool = False) -> None:
        if self._store is None:
            return
        node = self.node if replica == self.place.replica else self.nodes.get(replica)
        try:
            ended = {"replica": replica, "node": node, "why": why, "refused": refused, "silent": silent}
            value = json.dumps(ended)
            self._ended = json.loads(self._store.compare_set(_ENDED, "", value))
        except RuntimeError:  # the store is gone with rank 0's node: the others see that themselves
            pass

    def _wait(self, key: str, idle: Callable[[], None], limit_s: float | None = None) -> bytes:
        assert self._store is not None
        began = time.monotonic()
        while True:
            with _lost_with_the_store():
                if self._store.check([key]):
                    found: bytes = self._store.get(key)
                    return found
            if not self._watching:
                self._look(self._store)
            self.check()
            idle()
            if limit_s is not None and time.monotonic() - began > limit_s:
                whom = f"rank {key.partition('/')[2]}" if key.startswith("place/") else "rank 0"
                raise RankLost(f"{whom} did not answer within {limit_s:.0f} s: its own output says why")
            time.sleep(POLL_S)

    def _taken(self, key: str, parts: bytes) -> bytes:
        assert self._store is not None
        with _lost_with_the_store():
            found = b"".join(self._store.get(f"{key}/{number}") for number in range(json.loads(parts)))
            for number in range(json.loads(parts)):
                self._store.delete_key(f"{key}/{number}")
        return found

    def _look(self, store: Store) -> None:
        """Whether some replica has ended."""
        with _lost_with_the_store():
            if self._ended is None and store.check([_ENDED]):
                self._ended = json.loads(store.get(_ENDED))

    def _watch(self, store: Store) -> None:
        """Report that this leader is alive, and look whether the others are: rank 0 at all of them, they at rank 0."""
        own, seen = self.place.replica, dict[int, tuple[int, float]]()
        watched = self.others() if own == 0 else range(1)
        try:
            while not self._closed.wait(BEAT_S):
                store.add(f"beat/{own}", 1)
                now = time.monotonic()
                for replica in watched:
                    count = store.add(f"beat/{replica}", 0)
                    if replica not in seen or seen[replica][0] != count:
                        seen[replica] = count, now
                    elif now - seen[replica][1] > SILENT_S:
                        self._end(replica, f"no sign of life for {SILENT_S:.0f} s", silent=True)
                self._look(store)
                self._answered_at = now
                if self._ended is not None:
                    self.on_end()
        except RuntimeError:
            if not self._closed.is_set():
                why = "the store at its node is gone, so its launch has ended"
                gone = {"replica": 0, "node": None, "why": why, "refused": False, "silent": True}
                self._ended = self._ended or gone
                self.on_end()


def _connected(prefix: str) -> Store:
    """A connection of its own to the store of the launch."""
    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_S)))
    return PrefixStore(prefix, store)


def _has_agent_store() -> bool:
    """Whether a torchrun's agent has the store, and not rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)


def _listening(pid: int) -> set[int]:
    """The TCP ports on which a process listens; empty also if that cannot be seen.

    Source: proc(5), /proc/net/tcp: local address, state (0A: listening) and inode are the columns 1, 3 and 9.
    """
    ports: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            rows = (line.split() for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:])
            ports |= {f"socket:[{row[9]}]": int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A"}
    found: set[int] = set()
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found |= {port for name, port in ports.items() if name == str(link.readlink())}
    return found


def _disagreement(place: Placement, found: list[Any]) -> str:
    """Why the placements of all ranks do not fit together; "" if they do."""
    for rank, (size, here, node) in enumerate(found):
        if [size, here] != [place.tensor_parallel, place.local_world_size]:
            return (
                f"rank {rank} on {node} is one of {here} ranks of its node and shares a replica of {size}, and rank 0 "
                f"is one of {place.local_world_size} and shares one of {place.tensor_parallel}: start the same number "
                "with the same flags on every node."
            )
    return ""


@contextmanager
def _lost_with_the_store() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RankLost):
            raise
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise RankLost(f"the store at rank 0's node does not answer ({cause[:120]})") from error
