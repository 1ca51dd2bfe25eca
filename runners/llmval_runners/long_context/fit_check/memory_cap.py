"""A device with a limit of memory, so that "fits" and "does not fit" can be tried.

On a GPU, allocations fill the memory up to the limit. On a CPU, the bytes of all tensors are counted.
"""

import weakref
from typing import Any

import torch
from llmval_runners.process.errors import Refused
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GRANULE = 2 * 1024**2  # the driver hands out memory in blocks of this size
ROUNDS = 8


class CappedGpu:
    """A context that leaves `free_bytes` free on a GPU. Other processes must not use the GPU meanwhile."""

    def __init__(self, device: torch.device, free_bytes: int) -> None:
        self._device, self._free = device, free_bytes
        self._ballast: list[torch.Tensor] = []
        self._allocated_before = 0

    def __enter__(self) -> "CappedGpu":
        """Raises Refused if less memory is free, or if more remains free than `free_bytes`."""
        torch.cuda.empty_cache()
        for _ in range(ROUNDS):
            excess = self._excess()
            if 0 <= excess < GRANULE:
                break
            if excess > 0:
                block = torch.empty(excess // GRANULE * GRANULE, dtype=torch.uint8, device=self._device)
                self._ballast.append(block)
        if not 0 <= self._excess() <= ROUNDS * GRANULE:
            free = self._free + self._excess()
            self.__exit__()
            raise Refused(
                f"{free:,} bytes are free on {self._device} instead of {self._free:,}: end other processes on "
                "this GPU, or use a GPU with more memory."
            )
        torch.cuda.reset_peak_memory_stats(self._device)
        self._allocated_before = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        self._ballast.clear()
        torch.cuda.empty_cache()

    @property
    def peak(self) -> int:
        """Peak of the allocated bytes since the context was entered, without those allocated before."""
        return torch.cuda.max_memory_allocated(self._device) - self._allocated_before

    def _excess(self) -> int:
        return torch.cuda.mem_get_info(self._device)[0] - self._free


class CappedCpu(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves __init_subclass__ untyped
    """A context that counts the bytes of all tensors that torch makes. Above the limit it raises the error of CUDA.

    Memory that a kernel takes and returns internally is not counted. Views share a storage, which is counted once.
    """

    def __init__(self, device: torch.device, free_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._device, self._free = device, free_bytes
        self._storages: dict[int, int] = {}
        self.allocated = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`. Raises torch.OutOfMemoryError if its results are too large."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages or storage.device != self._device:
            return
        self._storages[key] = size
        self.allocated += size
        weakref.finalize(storage, self._forget, key)
        if self.allocated > self._free:
            raise torch.OutOfMemoryError(
                f"Tried to allocate {size} bytes, with {self.allocated - size:,} of {self._free:,} bytes held"
            )
        self.peak = max(self.peak, self.allocated)

    def _forget(self, key: int) -> None:
        self.allocated -= self._storages.pop(key)


def memory_cap(device: torch.device, free_bytes: int) -> CappedGpu | CappedCpu:
    """A context in which only `free_bytes` are free on the device; its `peak` is the peak of allocated bytes."""
    return CappedGpu(device, free_bytes) if device.type == "cuda" else CappedCpu(device, free_bytes)
