"""Memory of a rank, read from the allocator, the device and NVML; and its peaks during a stretch of work."""

import threading
from dataclasses import dataclass
from typing import Any

import torch
from llmval_runners.process.install import how_to_install

SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Peaks:
    """Bytes. None if unknown; `missing` then holds the reason."""

    allocated: int | None
    reserved: int | None
    nvml_used: int | None
    missing: str | None


class NvmlMemory:
    """The device's used memory, of all processes. `missing` says why it cannot be read."""

    def __init__(self, device: torch.device) -> None:
        self.missing: str | None = None
        self._handle: Any = None
        if device.type != "cuda":
            self.missing = "NVML reads NVIDIA GPUs only, and this run is on a CPU"
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(
                uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
            )
            self._read = pynvml.nvmlDeviceGetMemoryInfo
            self.used()
        except ImportError:
            self.missing = f"the Python package nvidia-ml-py is missing: {how_to_install('nvidia-ml-py')}"
        except pynvml.NVMLError as error:
            self._handle, self.missing = None, f"NVML cannot be used: {error}"

    def used(self) -> int | None:
        return None if self._handle is None else int(self._read(self._handle).used)


class PeakWatch:
    """Peaks from `start` to `stop`. The allocator keeps its own; NVML is sampled every 50 ms by a thread."""

    def __init__(self, device: torch.device, nvml: NvmlMemory) -> None:
        self._device, self._nvml = device, nvml
        self._most: int | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> "PeakWatch":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        if self._nvml.missing is None:
            self._most = self._nvml.used()
            self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> Peaks:
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._most = max(self._most or 0, self._nvml.used() or 0)
        if self._device.type != "cuda":
            return Peaks(None, None, None, "a CPU has no caching allocator whose peak could be read")
        return Peaks(
            torch.cuda.max_memory_allocated(self._device),
            torch.cuda.max_memory_reserved(self._device),
            self._most,
            self._nvml.missing,
        )

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            self._most = max(self._most or 0, self._nvml.used() or 0)


def live_metrics(
    device: torch.device, *, weights: int, kv_pool: int, kv_filled: int, free_bytes: int
) -> dict[str, float | None]:
    """The parts of this rank's memory. On a GPU they add up to the device's total.

    The whole cache is allocated before the first token; `memory_kv_bytes` is the part that tokens have filled. A CPU's
    memory is shared with other processes, so its activations are unknown.
    """
    parts: dict[str, float | None] = {
        "memory_weights_bytes": weights,
        "memory_kv_bytes": kv_filled,
        "memory_kv_unfilled_bytes": kv_pool - kv_filled,
        "memory_activation_bytes": None,
        "memory_other_bytes": None,
        "memory_free_bytes": free_bytes,
        "memory_total_bytes": None,
    }
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        peak = max(torch.cuda.max_memory_allocated(device) - weights - kv_pool, 0)
        parts |= {
            "memory_activation_bytes": peak,
            "memory_other_bytes": max(total - free - weights - kv_pool - peak, 0),
            "memory_free_bytes": free,
            "memory_total_bytes": total,
        }
    return parts
