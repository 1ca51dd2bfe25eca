"""When a GPU's work was done, in the host's time but by the GPU's own clock."""

from collections.abc import Callable

import torch


class GpuClock:
    """Ties a device's event times to the host's clock, once, while the device is idle.

    A host that waits for an event learns of it only when it gets round to waiting, and an eager step of many layers
    fills CUDA's launch queue, where enqueueing blocks. The event itself was timed by the GPU. The two clocks drift by
    some millionths: less than a millisecond in a phase of minutes.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self._device = device
        with torch.cuda.device(device):
            torch.cuda.synchronize(device)
            self._anchor = self._recorded()
            self._anchor.synchronize()
            self._at = clock()

    def mark(self) -> Callable[[], float]:
        """Mark the device's current stream here; the function waits for it and returns its time, s of the clock."""
        with torch.cuda.device(self._device):
            event = self._recorded()

        def when() -> float:
            event.synchronize()
            return self._at + self._anchor.elapsed_time(event) / 1e3

        return when

    @staticmethod
    def _recorded() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # blocking: the host sleeps instead of spinning
        event.record()
        return event
