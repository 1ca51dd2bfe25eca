"""Times of device work: CUDA events on a GPU, the host clock on a CPU, where work is done when its call returns."""

import time
from collections.abc import Callable
from typing import Protocol

import torch


class Mark(Protocol):
    """A point in the order of the device's work."""

    def wait(self) -> None:
        """Block until the device has reached this point."""

    def seconds_since(self, earlier: "Mark") -> float:
        """Seconds between two marks that the device has passed."""


class _CudaMark:
    def __init__(self, *, blocking: bool = False) -> None:
        """`blocking`: a host that waits sleeps instead of spinning."""
        self.event = torch.cuda.Event(enable_timing=True, blocking=blocking)  # type: ignore[no-untyped-call]  # torch's
        self.event.record()

    def wait(self) -> None:
        self.event.synchronize()

    def seconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, _CudaMark)
        return float(earlier.event.elapsed_time(self.event)) / 1000


class _HostMark:
    def __init__(self) -> None:
        self.at = time.perf_counter()

    def wait(self) -> None:
        """The host has no work in flight."""

    def seconds_since(self, earlier: Mark) -> float:
        assert isinstance(earlier, _HostMark)
        return self.at - earlier.at


def mark(device: torch.device) -> Mark:
    """Mark the present point in the work of the current stream."""
    return _CudaMark() if device.type == "cuda" else _HostMark()


class GpuClock:
    """Converts a GPU's event times to the host's clock. The two are aligned once, while the GPU is idle.

    A host only learns of an event when it gets to wait for it, which may be late: an eager step of many layers fills
    CUDA's launch queue, where enqueueing blocks. The event itself is timed by the GPU. The clocks drift apart by a few
    parts per million, less than a millisecond in a phase of minutes.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        """`clock` returns the host's time in seconds."""
        self._device = device
        with torch.cuda.device(device):
            torch.cuda.synchronize(device)
            self._anchor = _CudaMark(blocking=True)
            self._anchor.wait()
            self._at = clock()

    def mark(self) -> Callable[[], float]:
        """Mark the GPU's current stream. The returned function waits for that point and returns its time (host, s)."""
        with torch.cuda.device(self._device):
            here = _CudaMark(blocking=True)

        def when() -> float:
            here.wait()
            return self._at + here.seconds_since(self._anchor)

        return when
