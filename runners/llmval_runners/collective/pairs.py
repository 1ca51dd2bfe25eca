"""The bandwidth of every ordered pair of ranks: by NCCL's (or gloo's) send and receive, and on GPUs of one node by the
copy engine and by an SM kernel, written by the source or read by the target, one way and both ways at once.

All ranks measure the same cells in the same order. A cell of a copy is measured by one process of the node, which
drives both GPUs. The NVLink counters of both GPUs are read around each cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import torch
from llmval_runners.collective import peer_copy
from llmval_runners.collective.group import Group
from llmval_runners.collective.operations import exchange, values
from llmval_runners.collective.peer_copy import COPY_ENGINE, READ, SM, WRITE, Copy, NotPossible
from llmval_runners.collective.timing import eager
from llmval_runners.measure.nvml_links import LinkFault, NoLinks, NvmlLinks

REPEATS = 3
_CHUNK = 1 << 22  # elements that are checked at once


@dataclass(frozen=True, slots=True)
class Cell:
    """One bandwidth between two ranks. `access` is None for send and receive, where both take part."""

    source: int
    target: int
    method: str  # nccl, gloo, copy_engine, sm
    access: str | None
    directions: int  # 1; 2: both ways at once, the sum

    @property
    def kind(self) -> tuple[str, str | None, int]:
        """What cells have in common that may be compared."""
        return self.method, self.access, self.directions


@dataclass(frozen=True, slots=True)
class Measured:
    """A cell's seconds for `nbytes` in each direction, one for each repeat; or why there is none.

    `sent`, `tx`, `rx`: bytes that went from source to target, and what the NVLink counters of the two saw of them.
    """

    cell: Cell
    nbytes: int
    seconds: tuple[float, ...] = ()
    wrong: int | None = None  # elements, after the copy
    sent: int | None = None
    tx: int | None = None
    rx: int | None = None
    peer_access: bool | None = None  # False: the driver copies through the host's memory
    reason: str = ""

    @property
    def gb_per_s(self) -> float | None:
        """The median over the repeats, in 10^9 bytes/s."""
        return self._rate(median(self.seconds)) if self.seconds else None

    @property
    def least_gb_per_s(self) -> float | None:
        return self._rate(max(self.seconds)) if self.seconds else None

    @property
    def most_gb_per_s(self) -> float | None:
        return self._rate(min(self.seconds)) if self.seconds else None

    def _rate(self, seconds: float) -> float | None:
        return self.cell.directions * self.nbytes / seconds / 1e9 if seconds > 0 else None


def cells(backend: str, hosts: Sequence[str]) -> list[Cell]:
    """All cells for ranks on these hosts. One rank has only the copies within its GPU."""
    ranks = range(len(hosts))
    pairs = [(one, other) for one in ranks for other in ranks if one != other]
    found = [Cell(one, other, backend, None, 1) for one, other in pairs]
    found += [Cell(one, other, backend, None, 2) for one, other in pairs if one < other]
    if backend != "nccl":
        return found
    near = [(one, other) for one, other in pairs if hosts[one] == hosts[other]] or [(0, 0)]
    for method in (COPY_ENGINE, SM):
        for access in (WRITE, READ) if len(hosts) > 1 else (WRITE,):
            found += [Cell(one, other, method, access, 1) for one, other in near]
            found += [Cell(one, other, method, access, 2) for one, other in near if one < other]
    return found


class PairTest:
    """Measures cells, with buffers of `nbytes` that live as long as it does. Every rank makes one."""

    def __init__(
        self, group: Group, hosts: Sequence[str], uuids: Sequence[str], links: NvmlLinks | NoLinks, nbytes: int,
        iterations: int,
    ) -> None:  # fmt: skip
        """`hosts` and `uuids`: of every rank. Collective."""
        self.group, self.hosts, self.uuids, self.links = group, hosts, uuids, links
        elements = peer_copy.check_elements(nbytes)
        self.nbytes, self.iterations = elements * 4, iterations
        self._outgoing = send_buffer(elements, group.device, group.rank)
        self._incoming = torch.empty_like(self._outgoing)
        self._by_rank = {group.rank: (self._outgoing, self._incoming)}  # of the node's ranks, if this one drives them
        self._access: dict[frozenset[int], bool] = {}
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def measure(self, cell: Cell) -> Measured:
        """Measure one cell. Collective; every rank gets the result."""
        if cell.method in ("nccl", "gloo"):
            mine = self._exchange(cell)
        else:  # by the first rank of the node
            drives = self.group.rank == self.hosts.index(self.hosts[cell.source])
            mine = self._copied(cell) if drives else None
        return merged(cell, self.nbytes, [one for one in self.group.gather(mine) if one is not None])

    def _exchange(self, cell: Cell) -> Measured | None:
        """This rank's part of send and receive; None if it takes no part."""
        rank = self.group.rank
        if rank not in (cell.source, cell.target):
            return None
        peer = cell.target if rank == cell.source else cell.source
        sends = rank == cell.source or cell.directions == 2
        receives = rank == cell.target or cell.directions == 2
        self._incoming.fill_(-1)
        before, calls = self._traffic(rank), 0

        def call() -> None:
            nonlocal calls
            calls += 1
            exchange(
                self._outgoing if sends else None, peer, self._incoming if receives else None, peer,
                self.group.measured,
            )  # fmt: skip

        with self.group.guarded(f"send and receive of ranks {cell.source} and {cell.target}"):
            call()
            seconds = tuple(eager(call, self.group.device, self.iterations) for _ in range(REPEATS))
        tx, rx = _grown(before, self._traffic(rank))
        return Measured(
            cell, self.nbytes, seconds, check_received(self._incoming, peer) if receives else 0, calls * self.nbytes,
            tx if rank == cell.source else None, rx if rank == cell.target else None,
        )  # fmt: skip

    def _copied(self, cell: Cell) -> Measured:
        """The cell's copies, all by this process."""
        one, other, access = cell.source, cell.target, cell.access or WRITE
        try:
            ends = [self._buffers_of(rank) for rank in (one, other)]
            opened = self._opened(one, other)
            if cell.method == SM and not opened:
                raise NotPossible("the driver does not let these GPUs access each other's memory")
            copies = [Copy(ends[0][0], ends[1][1], access)]
            copies += [Copy(ends[1][0], ends[0][1], access)] if cell.directions == 2 else []
            for copy in copies:
                copy.target.fill_(-1)
            for device in {copy.device for copy in copies} | {copy.target.device for copy in copies}:
                torch.cuda.synchronize(device)
            before = self._traffic(one), self._traffic(other)
            peer_copy.seconds(copies, cell.method, 2, self._streams)
            seconds = tuple(
                peer_copy.seconds(copies, cell.method, self.iterations, self._streams) / self.iterations
                for _ in range(REPEATS)
            )
            tx, _ = _grown(before[0], self._traffic(one))
            _, rx = _grown(before[1], self._traffic(other))
            sources = (one, other)  # of the first copy and of the second
            wrong = sum(check_received(copy.target, sources[at]) for at, copy in enumerate(copies))
        except NotPossible as reason:
            return Measured(cell, self.nbytes, reason=str(reason))
        sent = (2 + REPEATS * self.iterations) * self.nbytes
        within = one == other  # nothing crosses a link
        return Measured(
            cell, self.nbytes, seconds, wrong, 0 if within else sent, None if within else tx, None if within else rx,
            peer_access=opened,
        )  # fmt: skip

    def _buffers_of(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        if rank not in self._by_rank:
            device = peer_copy.visible_device(self.uuids[rank])
            outgoing = send_buffer(self._outgoing.numel(), device, rank)
            self._by_rank[rank] = outgoing, torch.empty_like(outgoing)
        return self._by_rank[rank]

    def _opened(self, one: int, other: int) -> bool:
        pair = frozenset((one, other))
        if pair not in self._access:
            self._access[pair] = peer_copy.open_access(self._buffers_of(one)[1], self._buffers_of(other)[1])
        return self._access[pair]

    def _traffic(self, rank: int) -> tuple[int, int] | None:
        if isinstance(self.links, NoLinks):
            return None
        try:
            return self.links.traffic(self.uuids[rank])
        except LinkFault:
            return None


def merged(cell: Cell, nbytes: int, parts: Sequence[Measured]) -> Measured:
    """One result of the ranks that took part: the slower time, all wrong elements, each end's counter."""
    if (refused := next((one for one in parts if one.reason), None)) is not None:
        return refused
    known = [one.wrong for one in parts if one.wrong is not None]
    return Measured(
        cell,
        nbytes,
        tuple(max(times) for times in zip(*(one.seconds for one in parts), strict=True)),
        sum(known) if known else None,
        max((one.sent for one in parts if one.sent is not None), default=None),
        next((one.tx for one in parts if one.tx is not None), None),
        next((one.rx for one in parts if one.rx is not None), None),
        next((one.peer_access for one in parts if one.peer_access is not None), None),
    )


def _grown(before: tuple[int, int] | None, after: tuple[int, int] | None) -> tuple[int | None, int | None]:
    """What was sent and received between two readings; None if a counter is unknown or ran backwards (it was reset)."""
    if before is None or after is None or after[0] < before[0] or after[1] < before[1]:
        return None, None
    return after[0] - before[0], after[1] - before[1]


def send_buffer(elements: int, device: torch.device, rank: int) -> torch.Tensor:
    """A rank's data to send."""
    found = torch.empty(elements, dtype=torch.int32, device=device)
    for start, part in _parts(found):
        part.copy_(values(rank, start, part.numel(), torch.int32, device))
    return found


def check_received(received: torch.Tensor, rank: int) -> int:
    """The number of elements that are not those of the rank that sent them."""
    return sum(
        int((part != values(rank, start, part.numel(), torch.int32, part.device)).sum())
        for start, part in _parts(received)
    )


def _parts(tensor: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    return [(start, tensor[start : start + _CHUNK]) for start in range(0, tensor.numel(), _CHUNK)]
