"""Two ranks as two threads of one process, with collectives through shared memory."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from llmval_runners.engine.parallel import Parallel

T = TypeVar("T")
LOST_S = 60.0  # a rank must not wait forever if its peer fails or calls fewer collectives


class _Rank(Parallel):
    def __init__(self, rank: int, barrier: threading.Barrier, table: list[torch.Tensor | None]) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.size = rank, 2
        self._barrier, self._table = barrier, table

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        self._table[self.rank] = tensor
        self._barrier.wait(LOST_S)
        both = torch.stack([tensor for tensor in self._table if tensor is not None])
        self._barrier.wait(LOST_S)  # nobody writes the next tensor before both have read this one
        return both

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(self.all_gather(tensor).sum(0))

    def min_over_ranks(self, value: int) -> int:
        return int(self.all_gather(torch.tensor(value)).min())


def together(rank: Callable[[Parallel], T]) -> list[T]:
    """Run `rank` on both ranks. Returns the results of rank 0 and rank 1."""
    barrier = threading.Barrier(2)
    table: list[torch.Tensor | None] = [None, None]

    def one(parallel: Parallel) -> T:
        try:
            return rank(parallel)
        except BaseException:  # whatever happened: the other rank waits for this one
            barrier.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, [_Rank(0, barrier, table), _Rank(1, barrier, table)]))
