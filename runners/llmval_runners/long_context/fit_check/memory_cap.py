"""A device made small: on a GPU by memory that is taken and held, on a CPU by an allocator that only counts.

So that "fits" and "does not fit" can be tried, not only predicted.
"""

import weakref
from typing import Any

import torch
from llmval_runners.process.errors import Refused
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GRANULE = 2 * 1024**2  # in which blocks of this size are taken from the device
ROUNDS = 8


class SmallGpu:
    """Leaves `free_bytes` free on a GPU, by holding the rest; as a context. Other processes must be still meanwhile."""

    def __init__(self, device: torch.device, free_bytes: int) -> None:
        self._device, self._free = device, free_bytes
        self._ballast: list[torch.Tensor] = []
        self._held = 0

    def __enter__(self) -> "SmallGpu":
        """Raises Refused where less is free as it is, or more remains."""
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
                f"{self._free:,} bytes were to be left free on {self._device} and {free:,} are: let no other process "
                "use the GPU meanwhile, and use one with more memory if nothing does."
            )
        torch.cuda.reset_peak_memory_stats(self._device)
        self._held = torch.cuda.memory_allocated(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        self._ballast.clear()
        torch.cuda.empty_cache()

    @property
    def peak(self) -> int:
        """The most bytes that were allocated at once since it was entered, without what was held then."""
        return torch.cuda.max_memory_allocated(self._device) - self._held

    def _excess(self) -> int:
        return torch.cuda.mem_get_info(self._device)[0] - self._free


class SmallCpu(TorchDispatchMode):
    """Counts the bytes of all tensors that torch makes while it is entered; beyond the limit it raises what CUDA does.

    What a kernel takes inside itself and gives back is not seen. Copies are counted once: storages, not tensors.
    """

    def __init__(self, device: torch.device, free_bytes: int) -> None:
        super().__init__()
        self._device, self._free = device, free_bytes
        self._held: dict[int, int] = {}
        self.allocated = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`; raises torch.OutOfMemoryError where what it made is too much."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._held or storage.device != self._device:
            return
        self._held[key] = size
        self.allocated += size
        weakref.finalize(storage, self._forget, key)
        if self.allocated > self._free:
            raise torch.OutOfMemoryError(
                f"Tried to allocate {size} bytes, with {self.allocated - size:,} of {self._free:,} bytes held"
            )
        self.peak = max(self.peak, self.allocated)

    def _forget(self, key: int) -> None:
        self.allocated -= self._held.pop(key)


def small_card(device: torch.device, free_bytes: int) -> "SmallGpu | SmallCpu":
    """The device, with so much left free, as a context with `peak`."""
    return SmallGpu(device, free_bytes) if device.type == "cuda" else SmallCpu(device, free_bytes)
