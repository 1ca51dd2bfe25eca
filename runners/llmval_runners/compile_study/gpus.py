"""GPU state at a stall, by NVML if pynvml is there.

The watchdog must not open a CUDA context of its own on a stuck device.
"""

from typing import Any


def read() -> dict[str, Any]:
    """`{source, devices, note}`; each device with utilisation (percent), memory (bytes), power (W), and who uses it."""
    try:
        import pynvml
    except ImportError:
        return {"source": None, "devices": [], "note": "pynvml is not installed in this interpreter"}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"source": "nvml", "devices": [], "note": str(error)}
    try:
        return {
            "source": "nvml",
            "devices": [_device(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())],
            "note": None,
        }
    except pynvml.NVMLError as error:
        return {"source": "nvml", "devices": [], "note": str(error)}
    finally:
        pynvml.nvmlShutdown()


def _device(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(function: Any) -> Any:
        try:
            return function(handle)
        except nvml.NVMLError:
            return None  # not on this device: null, never 0

    utilisation, memory, power = (
        ask(f) for f in (nvml.nvmlDeviceGetUtilizationRates, nvml.nvmlDeviceGetMemoryInfo, nvml.nvmlDeviceGetPowerUsage)
    )
    processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses)
    return {
        "index": index,
        "utilisation_percent": utilisation.gpu if utilisation else None,
        "memory_used_bytes": int(memory.used) if memory else None,
        "power_w": power / 1000 if power is not None else None,
        "pids": [process.pid for process in processes] if processes is not None else None,
    }
