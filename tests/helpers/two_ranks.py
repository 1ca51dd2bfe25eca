"""Two ranks as two threads of one process: what they say to each other is exchanged between them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from llmval_runners.engine.parallel import Parallel

T = TypeVar("T")
LOST_S = 60.0  # a rank whose peer fails, or asks for less than it does, must not wait for ever


class _Rank(Parallel):
    def __init__(self, rank: int, barrier: threading.Barrier, table: list[torch.Tensor | None]) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.size = rank, 2
        self._barrier, self._table = barrier, table

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        self._table[self.rank] = tensor
        self._barrier.wait(LOST_S)
        both = torch.stack(self._table)
        self._barrier.wait(LOST_S)  # nobody writes the next one before both have read this one
        return both

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.copy_(self.all_gather(tensor).sum(0))

    def min_over_ranks(self, value: int) -> int:
        return int(self.all_gather(torch.tensor(value)).min())


def together(rank: Callable[[Parallel], T]) -> list[T]:
    """What `rank` gives on rank 0 and on rank 1."""
    barrier, table = threading.Barrier(2), [None, None]

    def one(parallel: Parallel) -> T:
        try:
            return rank(parallel)
        except BaseException:  # whatever it was, the other rank waits for this one
            barrier.abort()
            raise

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, [_Rank(0, barrier, table), _Rank(1, barrier, table)]))
