"""All-reduce of small tensors over NVLink in one kernel, instead of NCCL's rings, and without NVLink multicast.

Each rank has a buffer that its peers can read and write (`torch.distributed._symmetric_memory`). One-shot: each rank
reads all buffers and writes their sum to new memory. Two-shot: each rank sums its slice of all buffers and writes the
sum to all of them, so less data is moved. Both kernels add in rank order, so all ranks get the same bits.

One buffer is enough for consecutive calls on one stream. Before a kernel reads, it waits until its peers' kernels have
started, and so until their copies into the buffers are done. Before it ends, it waits until its peers have read and
written the shared data (`sync_remote_blocks` at both ends of the kernels in torch/csrc/distributed/c10d/symm_mem/
CUDASymmetricMemoryOps.cu). So the next copy overwrites only data that nobody reads any more. And a peer's next kernel
writes here only after this rank has started its own next kernel, which runs after all readers of the last sum.

`one_shot_all_reduce_copy` would save the copy, but it is not safe: its blocks signal their peers without first waiting
for their own threads.
"""

import os

import torch
import torch.distributed as dist
from llmval_runners.process.errors import Refused

VARIABLE = "LLMVAL_ALL_REDUCE"
NCCL, ONE_SHOT, TWO_SHOT, AUTO = "nccl", "one-shot", "two-shot", "auto"
CHOICES = (NCCL, ONE_SHOT, TWO_SHOT, AUTO)
MAX_BYTES = 1024 * 1024  # the buffer's size; NCCL sums larger tensors, whatever the choice
# `auto` uses one-shot up to this size. µs in a CUDA graph, NCCL / one-shot / two-shot, on H200, NVLink, no multicast:
# 4 GPUs 128 KiB 19.3 / 9.0 / 8.9, 512 KiB 23.5 / 13.1 / 9.6, 1 MiB 26.1 / 18.7 / 13.0; 2 GPUs 1 MiB 21.0 / 13.2 / 10.1.
ONE_SHOT_UP_TO = 128 * 1024
ALGORITHMS = {  # what `algorithm` returns for each choice, in words
    ONE_SHOT: "one-shot up to 1 MiB, else nccl",
    TWO_SHOT: "two-shot up to 1 MiB, else nccl",
    AUTO: "one-shot up to 128 KiB, two-shot up to 1 MiB, else nccl",
}
_VECTOR_BYTES = 16  # a thread's load; smaller alignments work, but slower


def from_environment() -> str:
    """The choice in the environment variable; NCCL if it is not set. Raises Refused if it is not one of `CHOICES`."""
    choice = os.environ.get(VARIABLE, NCCL)
    if choice not in CHOICES:
        raise Refused(f"{VARIABLE}={choice} is none of {', '.join(CHOICES)}: set one of these, or unset it.")
    return choice


def algorithm(choice: str, tensor: torch.Tensor) -> str:
    """The algorithm for `tensor`: `nccl`, `one-shot` or `two-shot`. It depends on size and type, so all ranks agree."""
    fits = tensor.dtype == torch.bfloat16 and tensor.nbytes <= MAX_BYTES and tensor.nbytes % _VECTOR_BYTES == 0
    if choice == NCCL or not fits:
        return NCCL
    if choice == AUTO:
        return ONE_SHOT if tensor.nbytes <= ONE_SHOT_UP_TO else TWO_SHOT
    return choice


class SymmetricAllReduce:
    """Sums bfloat16 tensors of up to `MAX_BYTES` over all ranks of the default group. A CUDA graph can capture it."""

    def __init__(self, device: torch.device) -> None:
        """Collective. Raises Refused if the GPUs cannot access each other's memory."""
        # No kernel here uses multicast, and binding memory to it may be unwanted. Torch reads this variable when it
        # first queries the device's capabilities.
        os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
        import torch.distributed._symmetric_memory as symmetric  # private to torch; loads NVSHMEM

        world = dist.group.WORLD
        assert world is not None  # `Parallel` has joined the process group
        self._group = world.group_name
        try:
            self._buffer = symmetric.empty(MAX_BYTES // 2, dtype=torch.bfloat16, device=device)
            symmetric.rendezvous(self._buffer, self._group)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise Refused(
                f"the GPUs' memory cannot be shared for one-shot and two-shot all-reduces ({cause}): "
                f"use NCCL ({VARIABLE}={NCCL}, or --all-reduce {NCCL})."
            ) from error

    def __call__(self, tensor: torch.Tensor, how: str) -> torch.Tensor:
        """The sum by `how`: `one-shot` (new memory), or `two-shot` (the buffer itself, valid until the next call)."""
        shared = self._buffer[: tensor.numel()]
        shared.copy_(tensor.flatten())
        if how == ONE_SHOT:
            total: torch.Tensor = torch.ops.symm_mem.one_shot_all_reduce(shared, "sum", self._group)
            return total.view_as(tensor)
        torch.ops.symm_mem.two_shot_all_reduce_(shared, "sum", self._group)
        return shared.view_as(tensor)
