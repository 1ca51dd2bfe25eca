"""GPU state at a stall, read from NVML if pynvml is installed. Run as a script, it prints one JSON object.

NVML can block or crash on a lost device, and the watchdog must reach its verdict all the same. So NVML is read by a
process of its own, with a deadline. It opens no CUDA context, which could hang on a stuck device.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

READ_S = 5.0


class Reading:
    """A reading in the background. `result` waits for it, until `timeout` seconds after its start."""

    def __init__(self, command: list[str] | None = None, timeout: float = READ_S) -> None:
        self._timeout, self._deadline = timeout, time.monotonic() + timeout
        command = command or [sys.executable, "-P", str(Path(__file__).resolve())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def result(self) -> dict[str, Any]:
        """The result of `read`. If it failed, there are no devices and `note` says why."""
        try:
            output, _ = self._process.communicate(timeout=max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()  # without a wait: a process that hangs on a lost device does not end
            return _no_devices(f"NVML did not answer in {self._timeout:g} s; if a device was lost, dmesg shows its Xid")
        if self._process.returncode:
            return _no_devices(f"the process that read NVML ended with {self._process.returncode}")
        value: dict[str, Any] = json.loads(output)
        return value


def _no_devices(note: str) -> dict[str, Any]:
    return {"source": None, "devices": [], "note": note}


def read() -> dict[str, Any]:
    """`{source, devices, note}`; for each device its load, memory, clocks, power and processes."""
    try:
        import pynvml
    except ImportError:
        return _no_devices("pynvml is not installed in this interpreter")
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
            return None  # unknown on this device: null, never 0

    utilisation, memory, power = (
        ask(f) for f in (nvml.nvmlDeviceGetUtilizationRates, nvml.nvmlDeviceGetMemoryInfo, nvml.nvmlDeviceGetPowerUsage)
    )
    clock = ask(lambda device: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM))
    temperature = ask(lambda device: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU))
    throttled = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
    processes = ask(nvml.nvmlDeviceGetComputeRunningProcesses)
    return {
        "index": index,
        "utilisation_percent": utilisation.gpu if utilisation else None,
        "memory_used_bytes": int(memory.used) if memory else None,
        "sm_clock_mhz": clock,
        "temperature_c": temperature,
        "throttle_reasons_mask": throttled,  # nvmlClocksThrottleReason… in nvml.h
        "power_w": power / 1000 if power is not None else None,
        "pids": [process.pid for process in processes] if processes is not None else None,
    }


if __name__ == "__main__":
    print(json.dumps(read()))
