"""Times of device work: CUDA events on a GPU, the host's clock on a CPU, where work is done when the call returns."""

import time
from typing import Protocol

import torch


class Mark(Protocol):
    """An instant in the order of the device's work."""

    def wait(self) -> None:
        """Until the device has come that far."""

    def seconds_since(self, earlier: "Mark") -> float:
        """Between two marks that the device has passed."""


class _CudaMark:
    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def wait(self) -> None:
        self.event.synchronize()

    def seconds_since(self, earlier: "_CudaMark") -> float:
        return earlier.event.elapsed_time(self.event) / 1000


class _HostMark:
    def __init__(self) -> None:
        self.at = time.perf_counter()

    def wait(self) -> None:
        """Nothing is under way."""

    def seconds_since(self, earlier: "_HostMark") -> float:
        return self.at - earlier.at


def mark(device: torch.device) -> Mark:
    """Now, in the order of the device's work."""
    return _CudaMark() if device.type == "cuda" else _HostMark()
