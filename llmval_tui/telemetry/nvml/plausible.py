"""Values that no GPU has: the placeholders with which a driver says that it has no value, returned as a success.

On record: 4,294,967 W (0xFFFFFFFF mW), -1 % and 1e18 % of GPM, memory of 0 of 0 bytes where CPU and GPU share it.
"""

import math
from collections.abc import Mapping
from typing import Any

PLACEHOLDERS = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, -1})  # nvml.h's NVML_VALUE_NOT_AVAILABLE in all its widths

# Field of GpuSample -> unit, lowest and highest value that is believed. Far above what any GPU does, so that only a
# placeholder or a broken counter is outside.
_BOUNDS: dict[str, tuple[str, float, float]] = {
    "sm_util_percent": ("%", 0, 101),
    "sm_occupancy_percent": ("%", 0, 101),
    "tensor_util_percent": ("%", 0, 101),
    "dram_util_percent": ("%", 0, 101),
    "power_w": ("W", 0, 10_000),
    "power_instant_w": ("W", 0, 10_000),
    "power_limit_w": ("W", 0, 10_000),
    "energy_j": ("J", 0, 1e13),  # 10 kW for 30 years
    "temperature_c": ("°C", -50, 200),
    "sm_clock_mhz": ("MHz", 0, 20_000),
    "memory_clock_mhz": ("MHz", 0, 50_000),
    "nvlink_tx_gb_per_s": ("GB/s", 0, 20_000),
    "nvlink_rx_gb_per_s": ("GB/s", 0, 20_000),
    "pcie_tx_gb_per_s": ("GB/s", 0, 2_000),
    "pcie_rx_gb_per_s": ("GB/s", 0, 2_000),
    "memory_used_bytes": ("bytes", 0, 1e15),
    "memory_total_bytes": ("bytes", 1, 1e15),
}
_RAW_FACTORS = {"power_w": 1000, "power_instant_w": 1000, "power_limit_w": 1000, "energy_j": 1000}  # mW and mJ in NVML
# Values that a reading has only together with another one.
_TOGETHER = {
    "memory_total_bytes": "memory_used_bytes",
    "memory_used_bytes": "memory_total_bytes",
    "sm_util_percent": "sm_util_source",
    "energy_j": "energy_mono_ns",
}


def without_placeholders(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values with None for each one that no GPU has, and those values as text by field, for a note."""
    kept, refused = dict(values), dict[str, str]()
    for name, value in values.items():
        if name == "throttle_reasons":
            if value is not None and len(value) >= 32:  # every bit of the mask is set
                kept[name], refused[name] = None, f"{name} with all bits set"
        elif name in _BOUNDS and value is not None and not _believed(name, value):
            kept[name], refused[name] = None, f"{name} {value:g} {_BOUNDS[name][0]}"
    used, total = kept.get("memory_used_bytes"), kept.get("memory_total_bytes")
    if used is not None and total is not None and used > total:
        kept["memory_used_bytes"] = None
        refused["memory_used_bytes"] = f"memory of {used:g} bytes used out of {total:g}"
    for name in refused:
        if (other := _TOGETHER.get(name)) in kept:
            kept[other] = None
    return kept, refused


def known(name: str, value: float) -> float | None:
    """One value of `GpuSample`; None if no GPU has it."""
    return value if _believed(name, value) else None


def _believed(name: str, value: float) -> bool:
    _, low, high = _BOUNDS[name]
    if not math.isfinite(value) or not low <= value <= high:
        return False
    return round(value * _RAW_FACTORS.get(name, 1)) not in PLACEHOLDERS
