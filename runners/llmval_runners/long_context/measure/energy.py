"""Energy of this rank's GPU, read from its total-energy counter. GPU only: no host, fans or network."""

import time
from typing import Any

import torch
from llmval_runners.measure.nvml_meter import MeterFault, NoMeter, open_meter

COUNTER_STEP_S = 0.1  # measured on an H200: 97 to 103 ms
MIN_WINDOW_S = 1.0  # in a shorter window, the counter's step is more than a tenth of the time


class EnergyMeter:
    """Call `begin`, then `end`, which returns (joules, None) or (None, the reason)."""

    def __init__(self, device: torch.device) -> None:
        uuids = []
        if device.type == "cuda":
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            uuids = [uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"]
        self._meter = open_meter(uuids)
        self._start: tuple[float, float] | None = None
        self._fault: str | None = self._meter.reason if isinstance(self._meter, NoMeter) else None

    def begin(self) -> None:
        self._start = None if self._fault else (time.perf_counter(), self._joules())

    def end(self) -> tuple[float | None, str | None]:
        if self._start is None:
            return None, self._fault or "no window was begun"
        seconds, joules = time.perf_counter() - self._start[0], self._joules() - self._start[1]
        if self._fault:
            return None, self._fault
        if seconds < MIN_WINDOW_S:
            return None, f"{seconds:.2f} s are too short: the counter moves every {COUNTER_STEP_S:g} s"
        return joules, None

    def _joules(self) -> float:
        if isinstance(self._meter, NoMeter):
            return 0.0
        try:
            return self._meter.energy_j(0)
        except MeterFault as fault:
            self._fault = str(fault)
            return 0.0


def energy_json(joules: list[float | None], seconds: float, tokens: int, missing: str | None) -> dict[str, Any]:
    """The energy of all GPUs together; null with the reason if any GPU has no reading."""
    if missing is not None or any(value is None for value in joules):
        return {"energy_j": None, "power_w": None, "tokens_per_joule": None, "missing": missing or "a GPU has none"}
    total = sum(value for value in joules if value is not None)
    return {
        "energy_j": total,
        "power_w": total / seconds,
        "tokens_per_joule": tokens / total if total > 0 else None,
        "missing": None,
        "resolution_percent": 100 * COUNTER_STEP_S / seconds,
        "scope": "GPU only",
    }
