"""The ranks of the test: one group over the CPU for agreement, one for the measured collectives."""

import os
import pickle
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from llmval_runners.process.errors import RankLost
from torch._C._distributed_c10d import HashStore


class Group:
    """This rank among `size`. `measured` is NCCL's group on GPUs, gloo's on CPUs."""

    def __init__(self, device: torch.device, rank: int, size: int, timeout_s: float) -> None:
        """Join the group over the CPU only: NCCL must not start before the ranks have agreed on its version."""
        self.device, self.rank, self.size = device, rank, size
        self.waiting_since: float | None = None  # time.monotonic() at which the present wait for other ranks began
        self._timeout = timedelta(seconds=timeout_s)
        if os.environ.get("LOCAL_WORLD_SIZE", "1") == str(size):  # one node: its host name need not resolve
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        with self.guarded("joining the process group"):
            if "MASTER_ADDR" in os.environ:
                dist.init_process_group("gloo", timeout=self._timeout)
            else:  # plain Python with one rank
                dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1, timeout=self._timeout)
        assert dist.group.WORLD is not None
        self.measured: dist.ProcessGroup = dist.group.WORLD

    @property
    def backend(self) -> str:
        return "nccl" if self.device.type == "cuda" else "gloo"

    def connect(self) -> None:
        """Start NCCL and let all ranks connect: point-to-point calls of two ranks need a group that exists."""
        if self.device.type != "cuda":
            return
        with self.guarded("starting NCCL"):
            group = dist.new_group(backend="nccl", timeout=self._timeout)
            assert isinstance(group, dist.ProcessGroup)
            self.measured = group
            dist.all_reduce(torch.ones(1, device=self.device), group=self.measured)
            torch.cuda.synchronize(self.device)

    def gather(self, mine: Any) -> list[Any]:
        """Every rank's object, on every rank; also a barrier.

        `dist.all_gather_object` does the same, and needs NumPy, which PyTorch does not bring.
        """
        data = _bytes(mine)
        with self.guarded("agreement"):
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(sizes, torch.tensor([len(data)]))
            longest = max(int(size) for size in sizes)
            found = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(found, torch.cat([data, torch.zeros(longest - len(data), dtype=torch.uint8)]))
        return [_object(one[: int(size)]) for one, size in zip(found, sizes, strict=True)]

    def from_first(self, value: Any) -> Any:
        """Rank 0's object, on every rank."""
        return self.gather(value if self.rank == 0 else None)[0]

    @contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """Name the lost rank's effect if a call with other ranks fails."""
        self.waiting_since = time.monotonic()
        try:
            yield
        except (torch.OutOfMemoryError, torch.AcceleratorError):  # this rank's own error
            raise
        except RuntimeError as error:  # from gloo; NCCL raises a subclass
            if "out of memory" in str(error):
                raise
            text = re.sub(r"\[\S+:\d+\] ", "", str(error))  # strip the position in gloo's source
            cause = (text.strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
            raise RankLost(f"rank {self.rank} lost another rank during {what} ({cause})") from error
        finally:
            self.waiting_since = None


def _bytes(value: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)


def _object(data: torch.Tensor) -> Any:
    return pickle.loads(bytes(data.tolist()))
