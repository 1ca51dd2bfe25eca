"""The collectives: sizes, bandwidths and values by the definitions of nccl-tests.

Source: https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md and the `*GetCollByteCount` functions of its
src/: S bytes are the whole array. Where it is shared out over n ranks, a rank's part is rounded down to 16 bytes, and S
with it. algbw = S / t, busbw = algbw · factor, with t the time of one call.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist

_ALIGNMENT = 16  # bytes of a rank's part
_MASK = 0xFFFFF  # values have 20 bits, so that the sum of 2,048 ranks fits in an int32
_CHUNK = 1 << 22  # elements that are checked at once, in 8 bytes each
# The names since torch 2.13, and before.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


@dataclass(frozen=True, slots=True)
class Operation:
    """One collective. `shared`: S is shared out over the ranks. `in_place`: send and receive buffer are the same."""

    name: str
    program: str  # program of nccl-tests
    reduces: bool = False
    shared: bool = False
    in_place: bool = False

    def bus_factor(self, ranks: int) -> float:
        """busbw / algbw."""
        if self.name == "all_reduce":
            return 2 * (ranks - 1) / ranks
        return (ranks - 1) / ranks if self.shared else 1.0

    def elements(self, asked_bytes: int, ranks: int, itemsize: int) -> int:
        """The elements of the whole array for about `asked_bytes`; 0 if a rank's part would be empty."""
        if not self.shared:
            return asked_bytes // itemsize
        return asked_bytes // ranks // _ALIGNMENT * _ALIGNMENT // itemsize * ranks

    def buffers(self, elements: int, ranks: int) -> tuple[int, int]:
        """Elements of the send and of the receive buffer; the same memory if `in_place`."""
        part = elements // ranks
        if self.name == "all_gather":
            return part, elements
        return elements, part if self.name == "reduce_scatter" else elements

    def bytes_needed(self, elements: int, ranks: int, itemsize: int) -> int:
        """Memory of the buffers of one rank."""
        send, receive = self.buffers(elements, ranks)
        return (receive if self.in_place else send + receive) * itemsize


BY_NAME = {
    one.name: one
    for one in (
        Operation("all_reduce", "all_reduce_perf", reduces=True, in_place=True),
        Operation("all_gather", "all_gather_perf", shared=True),
        Operation("reduce_scatter", "reduce_scatter_perf", reduces=True, shared=True),
        Operation("all_to_all", "alltoall_perf", shared=True),
        Operation("broadcast", "broadcast_perf", in_place=True),
        Operation("send_recv", "sendrecv_perf"),
    )
}


class Call:
    """One collective on one rank with its buffers. Calling it runs the collective in the current stream."""

    def __init__(
        self, operation: Operation, elements: int, dtype: torch.dtype, device: torch.device, group: dist.ProcessGroup,
    ) -> None:  # fmt: skip
        """`elements`: of the whole array, from `Operation.elements`."""
        self.operation, self.group = operation, group
        self.rank, self.ranks = dist.get_rank(group), dist.get_world_size(group)
        send, receive = operation.buffers(elements, self.ranks)
        self.receive = torch.empty(receive, dtype=dtype, device=device)
        self.send = self.receive if operation.in_place else torch.empty(send, dtype=dtype, device=device)

    def __call__(self) -> None:
        name, group = self.operation.name, self.group
        if name == "all_reduce":
            dist.all_reduce(self.receive, group=group)
        elif name == "all_gather":
            _all_gather(self.receive, self.send, group=group)
        elif name == "reduce_scatter":
            _reduce_scatter(self.receive, self.send, group=group)
        elif name == "all_to_all":
            dist.all_to_all_single(self.receive, self.send, group=group)
        elif name == "broadcast":
            dist.broadcast(self.receive, src=0, group=group)
        else:
            after, before = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
            exchange(self.send, after, self.receive, before, group)

    def fill(self) -> None:
        """Write this rank's values into its send buffer, and -1 into a receive buffer of its own."""
        if not self.operation.in_place:
            self.receive.fill_(-1)
        for start in range(0, self.send.numel(), _CHUNK):
            part = self.send[start : start + _CHUNK]
            part.copy_(values(self.rank, start, part.numel(), self.send.dtype, self.send.device))

    def fill_random(self) -> None:
        """Random data, small enough that sums of sums stay finite: zeros would be moved faster than real data."""
        if self.send.dtype.is_floating_point:
            self.send.normal_().mul_(2.0**-100)
        else:
            self.send.random_()

    def wrong(self) -> tuple[int, str]:
        """The number of wrong elements in the receive buffer, and the first of them in words."""
        total, first = 0, ""
        for start in range(0, self.receive.numel(), _CHUNK):
            got = self.receive[start : start + _CHUNK]
            wanted, bound = expected(self.operation, self.rank, self.ranks, start, got, self.receive.numel())
            # Written so that NaN is wrong.
            bad = ~((got.double() - wanted).abs() <= bound)
            count = int(bad.sum())
            if count and not first:
                at = int(bad.nonzero()[0, 0])
                first = f"element {start + at} is {got[at].item():g} instead of {wanted[at].item():g}"
            total += count
        return total, first


def exchange(
    send: torch.Tensor | None, to: int, receive: torch.Tensor | None, source: int, group: dist.ProcessGroup
) -> None:
    """Send to one rank and receive from another at the same time; None: only the other of the two."""
    operations = []
    if send is not None:
        operations.append(dist.P2POp(dist.isend, send, group=group, group_peer=to))
    if receive is not None:
        operations.append(dist.P2POp(dist.irecv, receive, group=group, group_peer=source))
    for work in dist.batch_isend_irecv(operations):
        work.wait()


def values(rank: int, start: int, count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The elements `start` … `start + count - 1` of a rank's send buffer, hashed from rank and position, so that data
    of another rank or from another position are seen. Integers are from 0 to 2^20 - 1, floats from -1 to 1."""
    index = torch.arange(start, start + count, dtype=torch.int64, device=device)
    mixed = index * 2654435761 + (rank + 1) * 40503 * 65537
    mixed = (mixed ^ (mixed >> 15)) & _MASK
    if dtype.is_floating_point:
        return ((mixed - (_MASK >> 1)).double() / (_MASK >> 1)).to(dtype)
    return mixed.to(dtype)


def expected(
    operation: Operation, rank: int, ranks: int, start: int, like: torch.Tensor, receive_elements: int
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """The right values of a part of the receive buffer, in float64, and how far each may be from them.

    Data that is only moved, and integers, must be equal. A sum of n floats may differ by (n-1)·u / (1-(n-1)·u) · Σ|x|,
    in any order of the additions, with u half of the distance between 1 and the next number of the type
    (N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, equation 4.4).
    """
    count, dtype, device = like.numel(), like.dtype, like.device
    if operation.reduces:
        offset = start + (rank * receive_elements if operation.shared else 0)
        parts = (values(one, offset, count, dtype, device).double() for one in range(ranks))
        total = torch.zeros(count, dtype=torch.float64, device=device)
        size = torch.zeros_like(total)
        for part in parts:
            total += part
            size += part.abs()
        if not dtype.is_floating_point:
            return total, 0.0
        relative = (ranks - 1) * torch.finfo(dtype).eps / 2
        return total, size * (relative / (1 - relative) if relative < 0.5 else 1.0)
    if operation.name == "broadcast":
        return values(0, start, count, dtype, device).double(), 0.0
    if operation.name == "send_recv":
        return values((rank - 1) % ranks, start, count, dtype, device).double(), 0.0
    part_size = receive_elements // ranks
    pieces = []
    while count:  # all_gather and all_to_all: a part from each rank
        source, within = divmod(start, part_size)
        here = min(count, part_size - within)
        offset = within + (rank * part_size if operation.name == "all_to_all" else 0)
        pieces.append(values(source, offset, here, dtype, device).double())
        start, count = start + here, count - here
    return torch.cat(pieces), 0.0
