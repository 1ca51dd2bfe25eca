"""All-reduce of small tensors over NVLink in one kernel, in place of NCCL's rings; without NVLink multicast.

Each rank has a buffer that its peers can read and write (`torch.distributed._symmetric_memory`). One-shot: each rank
reads all buffers and adds them up, into new memory. Two-shot: each rank adds up its slice of all buffers and writes the
sum into all of them, so less travels. Both kernels add in the order of the ranks, so all ranks get the same bits.

One buffer is enough for consecutive calls of one stream. Before it reads, a kernel waits for its peers to have begun,
thus for their copies into the buffers; before it ends, it waits for its peers to have read and written what it shares
with them (`sync_remote_blocks` at both ends of the kernels in torch/csrc/distributed/c10d/symm_mem/
CUDASymmetricMemoryOps.cu). So the next copy overwrites what nobody reads any more, and a peer's next kernel writes here
only once this rank has begun its own, behind all that read the last sum. `one_shot_all_reduce_copy`, which would save
the copy, is left alone: there the block signals its peers without first waiting for its own threads.
"""

import os

import torch
import torch.distributed as dist
from llmval_runners.process.errors import Refused

VARIABLE = "LLMVAL_ALL_REDUCE"
NCCL, ONE_SHOT, TWO_SHOT, AUTO = "nccl", "one-shot", "two-shot", "auto"
CHOICES = (NCCL, ONE_SHOT, TWO_SHOT, AUTO)
MOST_BYTES = 1024 * 1024  # of the buffer; above, NCCL serves whatever was chosen
# What `auto` takes. µs in a CUDA graph, NCCL / one-shot / two-shot, on H200 with NVLink and without multicast:
# 4 GPUs 128 KiB 19.3 / 9.0 / 8.9, 512 KiB 23.5 / 13.1 / 9.6, 1 MiB 26.1 / 18.7 / 13.0; 2 GPUs 1 MiB 21.0 / 13.2 / 10.1.
ONE_SHOT_UP_TO = 128 * 1024
ALGORITHMS = {  # what each choice comes to, as `algorithm` has it
    ONE_SHOT: "one-shot up to 1 MiB, else nccl",
    TWO_SHOT: "two-shot up to 1 MiB, else nccl",
    AUTO: "one-shot up to 128 KiB, two-shot up to 1 MiB, else nccl",
}
_VECTOR_BYTES = 16  # what a thread loads at once; smaller alignments work, slower


def asked() -> str:
    """The choice that the environment states; NCCL where it states none. Raises Refused for what is no choice."""
    choice = os.environ.get(VARIABLE, NCCL)
    if choice not in CHOICES:
        raise Refused(f"{VARIABLE}={choice} is none of {', '.join(CHOICES)}: set one of these, or unset it.")
    return choice


def algorithm(choice: str, tensor: torch.Tensor) -> str:
    """What serves `tensor` under `choice`: `nccl`, `one-shot` or `two-shot`; by size alone, so alike on all ranks."""
    fits = tensor.dtype == torch.bfloat16 and tensor.nbytes <= MOST_BYTES and tensor.nbytes % _VECTOR_BYTES == 0
    if choice == NCCL or not fits:
        return NCCL
    if choice == AUTO:
        return ONE_SHOT if tensor.nbytes <= ONE_SHOT_UP_TO else TWO_SHOT
    return choice


class SymmetricAllReduce:
    """Sums bfloat16 tensors of up to `MOST_BYTES` over all ranks of the default group; capturable in a CUDA graph."""

    def __init__(self, device: torch.device) -> None:
        """Collective. Raises Refused where the GPUs cannot reach each other's memory."""
        # No kernel here uses multicast, and memory that is bound to it may not be wanted: torch reads this variable
        # when it first asks what the device can do.
        os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
        import torch.distributed._symmetric_memory as symmetric  # private to torch, and loads NVSHMEM

        self._group = dist.group.WORLD.group_name
        try:
            self._buffer = symmetric.empty(MOST_BYTES // 2, dtype=torch.bfloat16, device=device)
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
        """The sum by `how`, `one-shot` (new memory) or `two-shot` (the buffer itself: valid until the next call)."""
        shared = self._buffer[: tensor.numel()]
        shared.copy_(tensor.flatten())
        if how == ONE_SHOT:
            return torch.ops.symm_mem.one_shot_all_reduce(shared, "sum", self._group).view_as(tensor)
        torch.ops.symm_mem.two_shot_all_reduce_(shared, "sum", self._group)
        return shared.view_as(tensor)
