"""All-reduce of small tensors by reading every peer's memory over NVLink in one kernel, in place of NCCL's rings.

Off unless `LLMVAL_ONE_SHOT_ALL_REDUCE=1`, until it has been measured with this engine. It needs no NVLink multicast and
uses none.
"""

import os

import torch
import torch.distributed as dist

VARIABLE = "LLMVAL_ONE_SHOT_ALL_REDUCE"
MOST_BYTES = 512 * 1024  # above, rings move less


class OneShot:
    """Sums bfloat16 tensors of up to `MOST_BYTES` over all ranks of the default group."""

    def __init__(self, device: torch.device) -> None:
        import torch.distributed._symmetric_memory as symmetric  # private to torch, and loads NVSHMEM

        self._group = dist.group.WORLD.group_name
        self._buffer = symmetric.empty(MOST_BYTES // 2, dtype=torch.bfloat16, device=device)
        symmetric.rendezvous(self._buffer, self._group)

    @staticmethod
    def asked() -> bool:
        return os.environ.get(VARIABLE) == "1"

    @staticmethod
    def takes(tensor: torch.Tensor) -> bool:
        return tensor.dtype == torch.bfloat16 and tensor.nbytes <= MOST_BYTES and tensor.numel() % 8 == 0

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum, in new memory; capturable in a CUDA graph. The kernel waits for the peers at both its ends."""
        shared = self._buffer[: tensor.numel()]
        shared.copy_(tensor.flatten())
        return torch.ops.symm_mem.one_shot_all_reduce(shared, "sum", self._group).view_as(tensor)
