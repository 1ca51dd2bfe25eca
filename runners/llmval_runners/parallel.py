"""The ranks of one node: process group, the few collectives that the engine needs, and its end."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from llmval_runners.one_shot import OneShot

TIMEOUT = timedelta(seconds=120)  # rank 0 sends at least an idle plan each second, so silence this long is a hang


class RankLost(RuntimeError):
    """A collective failed: another rank ended, or hangs."""


class Parallel:
    """This rank among `size`. With one rank there is no process group and every collective is the identity."""

    def __init__(self, device: torch.device, rank: int = 0, size: int = 1) -> None:
        self.device, self.rank, self.size = device, rank, size
        self._control: dist.ProcessGroup | None = None
        self._one_shot: OneShot | None = None
        if size > 1:
            if os.environ.get("LOCAL_WORLD_SIZE") == str(size):  # one node: its name need not resolve
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            with self._guarded("joining the process group"):
                if device.type == "cuda":
                    dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
                    # Plans travel over the CPU: a broadcast on the GPU would queue behind the step it should overlap.
                    self._control = dist.new_group(backend="gloo", timeout=TIMEOUT)
                    self._one_shot = OneShot(device) if OneShot.asked() else None
                else:
                    dist.init_process_group("gloo", timeout=TIMEOUT)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks: in place, or in new memory where a one-shot kernel serves."""
        if self._one_shot is not None and OneShot.takes(tensor):
            return self._one_shot(tensor)
        if self.size > 1:
            with self._guarded("all-reduce"):
                dist.all_reduce(tensor)
        return tensor

    def connect(self, largest: int) -> None:
        """Make NCCL take its buffers: it connects the ranks anew for each algorithm, and so for each order of size.

        `largest`: elements of the largest tensor that will be summed, in 16 bits.
        """
        if self.size == 1:
            return
        for count in (1, largest):
            self.all_reduce(torch.zeros(count, dtype=torch.bfloat16, device=self.device))
        self.all_gather(torch.zeros(1, device=self.device))
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Stack every rank's tensor: [ranks, *shape]."""
        if self.size == 1:
            return tensor[None]
        out = [torch.empty_like(tensor) for _ in range(self.size)]
        with self._guarded("all-gather"):
            dist.all_gather(out, tensor.contiguous())
        return torch.stack(out)

    def broadcast_plan(self, wire: torch.Tensor) -> torch.Tensor:
        """Rank 0's tensor to every rank, in place, over the CPU."""
        if self.size > 1:
            with self._guarded("plan broadcast"):
                dist.broadcast(wire, src=0, group=self._control)
        return wire

    def smallest(self, value: int) -> int:
        """The least of the ranks' values, over the CPU."""
        tensor = torch.tensor([value], dtype=torch.int64)
        if self.size > 1:
            with self._guarded("agreement"):
                dist.all_reduce(tensor, op=dist.ReduceOp.MIN, group=self._control)
        return int(tensor)

    def close(self) -> None:
        """Leave the process group; only where all ranks are alive, or it may wait for one that is gone."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo raises RuntimeError itself, NCCL a subclass
            text = re.sub(r"\[\S+:\d+\] ", "", str(error))  # the place in gloo's source
            cause = (text.strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
            raise RankLost(f"rank {self.rank} lost another rank during {what} ({cause})") from error
