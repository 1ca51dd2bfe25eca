"""What limited a GPU while it worked, from the figures of a record. Plain numbers, no torch.

The first rule that applies decides:

1. heat or power brake: the driver named one of `SLOWED_DOWN` in at least `SLOWED_SHARE` of the samples.
2. power limit: the driver named `sw_power_cap` in at least half of the samples, or the mean power was at least
   `AT_POWER_LIMIT` of the enforced limit. A mean that high leaves no room for time below the limit.
3. compute or memory bandwidth: the larger of MFU and MBU is at least `NEAR`. At most 1.4 times as much is possible.
4. not seen: both are below it. Something else took the time: the host, the links, small kernels, or no work.

Without a peak rate and without a throttle reason nothing is claimed: n/a, with the reason.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NEAR = 0.70
AT_POWER_LIMIT = 0.97
SLOWED_SHARE = 0.01
# hw_slowdown covers hw_thermal_slowdown and hw_power_brake.
SLOWED_DOWN = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake")
POWER_CAP, HALF = "sw_power_cap", 0.5
HEAT, POWER, COMPUTE, BANDWIDTH, NOT_SEEN, UNKNOWN = (
    "heat or power brake", "power limit", "compute", "memory bandwidth", "not seen", "n/a",
)  # fmt: skip
_NAMES = {"MFU": COMPUTE, "MBU": BANDWIDTH}


@dataclass(frozen=True, slots=True)
class Peak:
    """A share of a peak rate. `value`: from 0 to 1; `of`: the peak and whether it was measured."""

    metric: str  # MFU or MBU
    value: float
    of: str


@dataclass(frozen=True, slots=True)
class Power:
    """Of all GPUs of a run over its window; None for what is not known."""

    mean_w: float | None = None
    limit_w: float | None = None
    throttle_share: Mapping[str, float] | None = None  # the driver's reason → share of the samples


@dataclass(frozen=True, slots=True)
class Limit:
    """What limited, and the figures that say so."""

    name: str
    figures: str
    peak: Peak | None = None  # the peak rate that is nearly reached

    def __str__(self) -> str:
        return f"{self.name} ({self.figures})"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def peak_of(metric: str, entries: Sequence[Mapping[str, Any]]) -> Peak | None:
    """The last entry of `mfu` or `mbu` in a record: against the measured peak if there is one, else the datasheet's."""
    if not entries:
        return None
    entry = entries[-1]
    key = next(name for name in ("peak", "peak_tflops", "peak_tflops_per_s", "peak_tb_per_s") if name in entry)
    value = entry["value"] if "value" in entry else entry["percent"] / 100
    source = entry.get("source") or entry["peak_source"]
    origin = source.split(" (")[0].split(":")[0].split(",")[0]
    return Peak(metric, value, f"{entry[key]:.3g} {'TFLOP/s' if metric == 'MFU' else 'TB/s'}, {origin}")


def limit_of(peaks: Sequence[Peak | None], power: Power | None = None, unknown: str = "") -> Limit:
    """Apply the rules. `unknown`: why there is no peak."""
    found, power = [peak for peak in peaks if peak is not None], power or Power()
    shares = power.throttle_share or {}
    slowed = {reason: shares[reason] for reason in SLOWED_DOWN if shares.get(reason, 0.0) >= SLOWED_SHARE}
    if slowed:
        worst = max(slowed, key=lambda reason: slowed[reason])
        return Limit(HEAT, f"{worst} in {percent(slowed[worst])} of the samples")
    watts = None
    if power.mean_w is not None and power.limit_w:
        watts = f"{power.mean_w:,.0f} W of {power.limit_w:,.0f} W"
    if shares.get(POWER_CAP, 0.0) >= HALF:
        return Limit(
            POWER, f"{POWER_CAP} in {percent(shares[POWER_CAP])} of the samples{f', {watts}' if watts else ''}"
        )
    if watts and power.mean_w is not None and power.limit_w and power.mean_w >= AT_POWER_LIMIT * power.limit_w:
        return Limit(POWER, watts)
    if not found:
        return Limit(UNKNOWN, unknown or "no peak rate is known")
    largest = max(found, key=lambda peak: peak.value)
    if largest.value >= NEAR:
        return Limit(_NAMES[largest.metric], f"{largest.metric} {percent(largest.value)} of {largest.of}", largest)
    texts = " and ".join(f"{peak.metric} {percent(peak.value)}" for peak in found)
    return Limit(NOT_SEEN, f"{texts}, below {percent(NEAR)}")


def clauses(phases: Sequence[tuple[str, Sequence[Limit]]]) -> list[str]:
    """One clause for each phase that was measured, its most frequent limit first; one for all if none is known."""
    known = [(name, limits) for name, limits in phases if limits]
    every = {str(limit) for _, limits in known for limit in limits}
    if len(every) == 1 and (only := every.pop()).startswith(UNKNOWN):
        return [only]
    return [f"{name}: {_counted(limits)}" for name, limits in known]


def _counted(limits: Sequence[Limit]) -> str:
    found = []
    for name, count in Counter(limit.name for limit in limits).most_common():
        some = f" in {count} of {len(limits)}" if count < len(limits) else ""
        found.append(f"{name}{some} ({_figures([limit for limit in limits if limit.name == name])})")
    return ", ".join(found)


def _figures(limits: Sequence[Limit]) -> str:
    """The figures of one limit: the range of the shares of one peak, else those of the first measurement."""
    first, values = limits[0], [limit.peak.value for limit in limits if limit.peak is not None]
    low, high = (f"{100 * share:.0f}" for share in (min(values, default=0), max(values, default=0)))
    peaks = {(limit.peak.metric, limit.peak.of) for limit in limits if limit.peak is not None}
    if first.peak is not None and len(values) == len(limits) and len(peaks) == 1 and low != high:
        return f"{first.peak.metric} {low} to {high} % of {first.peak.of}"
    return first.figures if len({limit.figures for limit in limits}) == 1 else f"for example {first.figures}"
