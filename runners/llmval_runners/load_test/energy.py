"""Energy of the run's GPUs over the measured window, by NVML's total-energy counter, which steps every 100 ms."""

import time
from typing import Any

import torch
from llmval_runners.measure.nvml_meter import MeterFault, NvmlMeter, open_meter
from llmval_runners.measure.uuids import uuids_of

SHORTEST_S = 2.0  # a step of the counter is then 5 % of the window


class WindowEnergy:
    """Reads the counters at both ends of one window. `reason` says why there is no energy; "" if there is."""

    def __init__(self) -> None:
        self.reason = "no window was measured"
        self._meter: NvmlMeter | None = None
        self._gpus = 0
        self._limit_w: float | None = None
        self._began: tuple[float, float] | None = None  # seconds, J
        self._spent: tuple[float, float] | None = None

    def begin(self, device: torch.device, ranks: int) -> None:
        """Open the meter of `ranks` GPUs, from this rank's own on: those of its replica, on one host."""
        first = device.index or 0
        devices = [torch.device("cuda", first + rank) for rank in range(ranks)] if device.type == "cuda" else []
        if devices and first + ranks > torch.cuda.device_count():
            self.reason = "this process does not see the GPUs of all ranks"
            return
        meter = open_meter(uuids_of(devices))
        if not isinstance(meter, NvmlMeter):
            self.reason = meter.reason
            return
        self._meter, self._gpus = meter, len(devices)
        limits = [gpu["power_limit_w"] for gpu in meter.gpus()]
        self._limit_w = None if None in limits else sum(limits)
        self._began = self._read()

    def end(self) -> None:
        """Read the counters again, and release the meter."""
        if self._meter is None or self._began is None:
            return
        ended = self._read()
        if ended is not None:
            self._spent = ended[0] - self._began[0], ended[1] - self._began[1]
            self.reason = "" if self._spent[0] >= SHORTEST_S else f"the window was shorter than {SHORTEST_S:g} s"
        self._meter.close()
        self._meter = None

    def record(self, output_tokens: int) -> dict[str, Any] | None:
        """`joules`, mean `power_w`, its limit, output `tokens_per_joule`, `gpus`; None without both readings."""
        if self._meter is not None:  # the window was cut short
            self.end()
        if self._spent is None or self.reason:
            return None
        seconds, joules = self._spent
        return {
            "joules": joules,
            "power_w": joules / seconds,
            "tokens_per_joule": output_tokens / joules if joules > 0 else None,
            "gpus": self._gpus,
            "power_limit_w": self._limit_w,
        }

    def _read(self) -> tuple[float, float] | None:
        assert self._meter is not None
        try:
            return time.monotonic(), sum(self._meter.energy_j(gpu) for gpu in range(self._gpus))
        except MeterFault as fault:
            self.reason = str(fault)
            return None
