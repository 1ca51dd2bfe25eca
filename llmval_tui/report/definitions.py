"""What each metric means, its unit and in which direction it is better. The report prints these beside the figures.

s = intended arrival, d = dispatch, f = first token, e = last token, n = output tokens of one request.
"""

from dataclasses import dataclass

_SCHED = "counted from the intended arrival, so that a late generator cannot hide queueing (coordinated omission)"


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric's unit, better direction ("higher", "lower", "" where neither), and meaning with its source."""

    unit: str
    better: str
    text: str


_BASE = {
    "offered_qps": Definition(
        "requests/s", "", "(N−1) / last scheduled arrival of the schedule (MLPerf LoadGen); what was asked of the node"
    ),
    "achieved_qps": Definition(
        "requests/s", "", "N / (span of the dispatches + one mean gap): what the load generator sent"
    ),
    "completed_qps": Definition("requests/s", "higher", "completed requests / time to the last completion"),
    "goodput_qps": Definition("requests/s", "higher", "requests that met every stated service level / the same time"),
    "max_qps": Definition(
        "requests/s", "higher", "the highest rate at which a trial held the service level, confirmed with another seed"
    ),
    "lowest_not_held_qps": Definition(
        "requests/s", "", "the lowest rate whose trial did not hold it: the upper bound of the highest rate"
    ),
    "search_trials": Definition("trials", "", "open-loop windows of the search for the highest rate"),
    "output_tokens_per_s": Definition(
        "tokens/s", "higher", "output tokens of completed requests / time to the last completion, all GPUs together"
    ),
    "requests": Definition("requests", "", "requests that were sent"),
    "traced_s": Definition("s", "", "length of the traced window; start-up, warm-up and drain are outside"),
    "communication_percent": Definition(
        "%", "", "kernels of collectives, by name, of all kernels' summed time; holds their wait for other GPUs"
    ),
    "attention_percent": Definition("%", "", "attention kernels, by name, of all kernels' summed time"),
    "gemm_percent": Definition("%", "", "matrix-product kernels, by name, of all kernels' summed time"),
    "gpu_busy_percent": Definition(
        "%", "", "part of the traced window in which at least one kernel ran, mean over the traced GPUs"
    ),
    "failed_requests": Definition("requests", "lower", "requests that were sent and did not complete"),
}
_LATENCY = {
    "schedule_delay": "d−s: how late the generator sent a request",
    "ttft": "time to first token, f−d (as vLLM's benchmark counts)",
    "ttft_sched": f"time to first token, f−s, {_SCHED}",
    "tpot": "time per output token after the first, (e−f)/(n−1) for n ≥ 2 (vLLM)",
    "e2e": "whole request, e−d (vLLM's E2EL)",
    "e2e_sched": f"whole request, e−s, {_SCHED}",
}
# Longest first: `_tokens_per_s` also ends in `_s`.
_UNITS = (
    ("_tokens_per_s", "tokens/s"),
    ("_gb_per_s", "GB/s"),
    ("_mb_per_s", "MB/s"),
    ("_tokens_per_j", "tokens/J"),
    ("_percent", "%"),
    ("_bytes", "bytes"),
    ("_tflops", "TFLOP/s"),
    ("_gib", "GiB"),
    ("_qps", "requests/s"),
    ("_usd", "USD"),
    ("_ms", "ms"),
    ("_w", "W"),
    ("_j", "J"),
    ("_c", "°C"),
    ("_s", "s"),
)
_VARIANTS = ("with_", "without_")  # a paired run's metrics carry their half's name


def define(metric: str) -> Definition:
    """The definition of a metric by its name; one that is not known gets the unit that its name ends in."""
    for variant in _VARIANTS:
        if metric.startswith(variant):
            found = define(metric.removeprefix(variant))
            return Definition(found.unit, found.better, f"{variant.removesuffix('_')} the flags: {found.text}")
    if metric in _BASE:
        return _BASE[metric]
    stem, _, percentile = metric.removesuffix("_ms").rpartition("_p")
    if metric.endswith("_ms") and stem in _LATENCY and percentile.isdigit():
        which = "median" if percentile == "50" else f"{percentile}th percentile"
        return Definition("ms", "lower", f"{which} of {_LATENCY[stem]}")
    unit = next((unit for ending, unit in _UNITS if metric.endswith(ending)), "")
    return Definition(unit, "", "as the run's own artifact defines it")


def figure(value: float | None) -> str:
    """A number for people: four significant digits, thousands grouped; None is not 0."""
    if value is None:
        return "not available"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
