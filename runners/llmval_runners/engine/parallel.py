"""The ranks that share the model: the process group, the few collectives that the engine needs, and the shutdown."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from llmval_runners.engine.kernels import all_reduce
from llmval_runners.measure.profiler_ranges import ALL_GATHER, ALL_REDUCE, PLAN, mark
from llmval_runners.process.errors import RankLost, Refused
from torch.distributed.distributed_c10d import Store

TIMEOUT = timedelta(seconds=120)  # rank 0 sends at least an idle plan each second, so this much silence is a hang
SHUTDOWN_TIMEOUT = timedelta(hours=1)  # at the end, rank 0 writes the record and the others wait without plans


class Parallel:
    """This rank among `size`. With one rank there is no process group, and every collective is the identity."""

    def __init__(
        self,
        device: torch.device,
        rank: int = 0,
        size: int = 1,
        *,
        store: Store | None = None,
        first_rank: int = 0,
    ) -> None:
        """`store`: where these ranks meet, if they are not all of the launch; `first_rank`: the launch's number of
        their rank 0, for messages."""
        self.device, self.rank, self.size = device, rank, size
        self._first_rank = first_rank
        self._control: dist.ProcessGroup | None = None
        self._shutdown_group: dist.ProcessGroup | None = None
        self._symmetric: all_reduce.SymmetricAllReduce | None = None
        self._sharing_error: str | None = None
        self._choice = all_reduce.NCCL
        if size > 1:
            if int(os.environ.get("LOCAL_WORLD_SIZE", 0)) >= size:  # one node: its host name need not resolve
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            meeting: dict[str, Any] = {} if store is None else {"store": store, "rank": rank, "world_size": size}
            with self._guarded("joining the process group"):
                if device.type == "cuda":
                    dist.init_process_group("nccl", timeout=TIMEOUT, device_id=device, **meeting)
                    # Plans travel over the CPU: on the GPU, a broadcast would wait for the step that it should overlap.
                    self._control = dist.new_group(backend="gloo", timeout=TIMEOUT)
                else:
                    dist.init_process_group("gloo", timeout=TIMEOUT, **meeting)
                self._shutdown_group = dist.new_group(backend="gloo", timeout=SHUTDOWN_TIMEOUT)
            self.use_all_reduce(all_reduce.from_environment())

    def use_all_reduce(self, choice: str) -> None:
        """Sum small tensors by `choice`, one of `all_reduce.CHOICES`, from now on. Call it equally on every rank.

        Raises:
            Refused: the ranks are not GPUs that can access each other's memory.
        """
        if choice != all_reduce.NCCL and self.size > 1:
            if self.device.type != "cuda":
                raise Refused(f"a {choice} all-reduce needs GPUs, and these ranks are on CPUs: use {all_reduce.NCCL}.")
            self._symmetric = self._symmetric or all_reduce.SymmetricAllReduce(self.device)
        self._choice = choice

    def symmetric_memory_error(self) -> str | None:
        """Why these ranks cannot sum in each other's memory; None if they can. Collective; the result is cached."""
        if self.size == 1 or self.device.type != "cuda":
            return "these ranks are not several GPUs"
        if self._symmetric is None and self._sharing_error is None:
            try:
                self._symmetric = all_reduce.SymmetricAllReduce(self.device)
            except Refused as refusal:
                self._sharing_error = str(refusal)
        return self._sharing_error

    @contextmanager
    def using_all_reduce(self, choice: str) -> Iterator[None]:
        """`use_all_reduce` within a `with` block."""
        before = self._choice
        self.use_all_reduce(choice)
        try:
            yield
        finally:
            self.use_all_reduce(before)

    @property
    def all_reduce_name(self) -> str:
        """The algorithms in use, by size: `nccl`, `one-shot up to 1 MiB, else nccl`, …"""
        return all_reduce.ALGORITHMS.get(self.all_reduce_choice, self.all_reduce_choice)

    @property
    def all_reduce_choice(self) -> str:
        """The algorithm for small tensors: `none` with one rank, `gloo`, or one of `all_reduce.CHOICES`."""
        return "none" if self.size == 1 else "gloo" if self.device.type == "cpu" else self._choice

    def all_reduce_for(self, tensor: torch.Tensor) -> str:
        """The algorithm for such a tensor: `none` with one rank, `gloo`, `nccl`, `one-shot` or `two-shot`."""
        if self.size == 1:
            return "none"
        return "gloo" if self.device.type == "cpu" else all_reduce.algorithm(self._choice, tensor)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks. Returns `tensor` itself, new memory, or memory that is valid until the next call."""
        if self._symmetric is not None and (how := self.all_reduce_for(tensor)) != all_reduce.NCCL:
            with mark(ALL_REDUCE):
                return self._symmetric(tensor, how)
        if self.size > 1:
            with self._guarded(ALL_REDUCE):
                dist.all_reduce(tensor)
        return tensor

    def warm_up_nccl(self, largest: int) -> None:
        """Let NCCL allocate its buffers now. It connects the ranks separately for each algorithm, so for small and for
        large tensors.

        `largest`: the number of 16-bit elements in the largest tensor that will be summed.
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
        with self._guarded(ALL_GATHER):
            dist.all_gather(out, tensor.contiguous())
        return torch.stack(out)

    def broadcast_plan(self, wire: torch.Tensor) -> torch.Tensor:
        """Copy rank 0's tensor to every rank, in place, over the CPU."""
        if self.size > 1:
            with self._guarded(PLAN):
                dist.broadcast(wire, src=0, group=self._control)
        return wire

    def min_over_ranks(self, value: int) -> int:
        """The smallest of the ranks' values, over the CPU."""
        tensor = torch.tensor([value], dtype=torch.int64)
        if self.size > 1:
            with self._guarded("agreement"):
                dist.all_reduce(tensor, op=dist.ReduceOp.MIN, group=self._control)
        return int(tensor)

    def close(self) -> None:
        """Wait for all ranks to finish. Call it only if all are alive: it would wait for a lost one.

        NCCL's communicator is not destroyed; the caller ends the process by `os._exit`. To destroy it, NCCL waits until
        no CUDA graph holds one of its calls (pytorch#115388), but an engine's graphs may live as long as the process.
        """
        if self.size > 1 and dist.is_initialized():
            with self._guarded("the end"):
                dist.barrier(group=self._shutdown_group)
            if self.device.type != "cuda":
                dist.destroy_process_group()

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            with mark(what):
                yield
        except (torch.OutOfMemoryError, torch.AcceleratorError):  # this rank's own error, not another rank's end
            raise
        except RuntimeError as error:  # from gloo; NCCL raises a subclass
            if "out of memory" in str(error):  # for NCCL's buffers, on this rank
                raise
            text = re.sub(r"\[\S+:\d+\] ", "", str(error))  # strip the position in gloo's source
            cause = (text.strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
            raise RankLost(f"rank {self._first_rank + self.rank} lost another rank during {what} ({cause})") from error
