"""The metrics: meaning, unit and better direction, for the report and for the comparison of nodes.

s = intended arrival, d = dispatch, f = first token, e = last token, n = output tokens of one request.
"""

import re
from dataclasses import dataclass

_FROM_SCHEDULE = "counted from the intended arrival, so a late generator cannot hide queueing (coordinated omission)"


@dataclass(frozen=True, slots=True)
class Definition:
    """A metric's unit, better direction ("higher", "lower" or "" for neither), and its meaning with the source."""

    unit: str
    better: str
    text: str


_WINDOW = "window (the schedule, until the last completion or the end of the wait for it)"
_BASE = {
    "offered_qps": Definition(
        "requests/s", "", "(N−1) / time of the last scheduled arrival (MLPerf LoadGen): the load that was requested"
    ),
    "achieved_qps": Definition(
        "requests/s", "", "N / (time from first to last dispatch + one mean gap): the load that was sent"
    ),
    "completed_qps": Definition("requests/s", "higher", f"completed requests / {_WINDOW}"),
    "goodput_qps": Definition("requests/s", "higher", f"requests that met every SLO / {_WINDOW}"),
    "slo_attainment_percent": Definition("%", "higher", "share of the sent requests that completed and met every SLO"),
    "max_qps": Definition(
        "requests/s",
        "higher",
        "the highest rate that meets the SLO, where half of the trials hold: lower end of its interval, confirmed by "
        "a trial",
    ),
    "lowest_not_held_qps": Definition(
        "requests/s", "", "the lowest rate whose trial missed the SLO: the upper bound of the highest rate"
    ),
    "search_trials": Definition("trials", "", "measurement windows of the search for the highest rate"),
    "output_tokens_per_s": Definition(
        "tokens/s", "higher", f"output tokens of completed requests / {_WINDOW}, of all GPUs together"
    ),
    "requests": Definition("requests", "", "requests that were sent"),
    "traced_s": Definition("s", "", "length of the traced window, without start-up, warm-up and drain"),
    "communication_percent": Definition(
        "%", "", "time of collective kernels (by name) / time of all kernels; includes waiting for other GPUs"
    ),
    "attention_percent": Definition("%", "", "time of attention kernels (by name) / time of all kernels"),
    "gemm_percent": Definition("%", "", "time of matrix-product kernels (by name) / time of all kernels"),
    "gpu_busy_percent": Definition(
        "%", "", "share of the traced window in which at least one kernel ran, mean of the traced GPUs"
    ),
    "failed_requests": Definition("requests", "lower", "requests that were sent but did not complete"),
}
_COLLECTIVE = (
    ("_busbw_gb_per_s", "GB/s", "higher", "busbw of the {0} at its largest size: S / t times the factor of nccl-tests"),
    (
        "pair_min_gb_per_s",
        "GB/s",
        "higher",
        "the slowest pair of GPUs, one way, by the copy engine (else send/receive)",
    ),
    ("pair_median_gb_per_s", "GB/s", "higher", "the median of the pairs of GPUs, one way"),
    ("node_link_min_gb_per_s", "GB/s", "higher", "the slowest pair of nodes, each way, all GPUs together"),
    ("node_link_median_gb_per_s", "GB/s", "higher", "the median of the pairs of nodes, each way, all GPUs together"),
    ("node_ring_gb_per_s", "GB/s", "higher", "each node to the next one, all GPUs together, as fast as the slowest"),
    ("all_reduce_smallest_us", "µs", "lower", "time of the smallest all-reduce, slowest rank, median of the repeats"),
    ("all_reduce_of_line_percent", "%", "higher", "busbw of the largest all-reduce / line rate of the links"),
    ("wrong", "elements", "lower", "elements of a collective that differ from the right result by more than its bound"),
)
_LATENCY = {
    "schedule_delay": "d−s: how late the generator sent the request",
    "ttft": "time to first token, f−d (as in vLLM's benchmark)",
    "ttft_sched": f"time to first token, f−s, {_FROM_SCHEDULE}",
    "tpot": "time per output token after the first, (e−f)/(n−1) for n ≥ 2 (vLLM)",
    "itl": "gaps between tokens, pooled over the requests (vLLM)",
    "e2e": "whole request, e−d (vLLM's E2EL)",
    "e2e_sched": f"whole request, e−s, {_FROM_SCHEDULE}",
}
# Longer suffixes first: `_tokens_per_s` also ends in `_s`.
_UNITS = (
    ("_tokens_per_s", "tokens/s"),
    ("_gb_per_s", "GB/s"),
    ("_mb_per_s", "MB/s"),
    ("_tokens_per_joule", "tokens/J"),
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
# What every tool and runner measures so that more is better; the stem is free, a context length may follow.
_MORE_IS_BETTER = ("_tokens_per_s", "_tokens_per_joule", "_tokens_per_j", "_tflops")
_OTHERS = {
    "request_throughput_per_s": "higher",
    "busbw_avg_gb_per_s": "higher",
    "busbw_max_gb_per_s": "higher",
    "speed_up": "higher",
    "compile_s": "lower",
    "compiled_peak_memory_gib": "lower",
    "peak_memory_bytes": "lower",
    "decode_step_ms": "lower",
    "ttft_mean_ms": "lower",
    "tpot_mean_ms": "lower",
    "itl_mean_ms": "lower",
}
_HALVES = ("with_", "without_")  # prefixes of the metrics of a paired run


def define(metric: str) -> Definition:
    """The definition of a metric. An unknown metric gets the unit of its suffix."""
    for half in _HALVES:
        if metric.startswith(half):
            whole = define(metric.removeprefix(half))
            return Definition(whole.unit, whole.better, f"{half.removesuffix('_')} the flags: {whole.text}")
    if metric in _BASE:
        return _BASE[metric]
    for ending, unit, better, text in _COLLECTIVE:
        if metric == ending or (ending.startswith("_") and metric.endswith(ending)):
            return Definition(unit, better, text.format(metric.removesuffix(ending).replace("_", "-")))
    stem, _, percentile = metric.removesuffix("_ms").rpartition("_p")
    if metric.endswith("_ms") and stem in _LATENCY and percentile.isdigit():
        which = "median" if percentile == "50" else f"{percentile}th percentile"
        return Definition("ms", "lower", f"{which} of {_LATENCY[stem]}")
    plain = re.sub(r"_\d{3,}$", "", metric)  # of a context length
    unit = next((unit for ending, unit in _UNITS if plain.endswith(ending)), "")
    better = _OTHERS.get(plain) or ("higher" if plain.endswith(_MORE_IS_BETTER) else "")
    return Definition(unit, better, "defined by the run's artifact")
