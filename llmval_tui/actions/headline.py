"""The headline figures of a run: at most three, from the metrics of its verdict.

A list of runs reads one small file of each run. Old verdicts have these metrics, too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

MOST = 3
ORDINARY = 0.05  # a run within 5 % of the median is ordinary
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a run."""

    name: str  # name of the metric
    label: str  # "completed", "TTFT p99"
    unit: str  # "QPS", "ms"; "" for a plain number
    better: str  # "higher", "lower", or "" if neither is
    value: float | None = None  # in `unit`
    factor: float = 1.0  # from the metric to `value`


# In order of importance. Of a line with several, the first that the verdict has counts.
_KNOWN: tuple[tuple[Figure, ...], ...] = (
    (Figure("max_qps", "highest rate", "QPS", "higher"),),
    (
        Figure("completed_qps", "completed", "QPS", "higher"),
        Figure("request_throughput_per_s", "completed", "QPS", "higher"),
    ),
    (
        Figure("ttft_sched_p99_ms", "TTFT p99", "ms", "lower"),
        Figure("ttft_p99_ms", "TTFT p99", "ms", "lower"),
    ),
    (
        Figure("tpot_p50_ms", "TPOT p50", "ms", "lower"),
        Figure("tpot_mean_ms", "TPOT mean", "ms", "lower"),
        Figure("itl_p50_ms", "ITL p50", "ms", "lower"),
    ),
    (
        Figure("output_tokens_per_s", "output", "tokens/s", "higher"),
        Figure("output_throughput_tokens_per_s", "output", "tokens/s", "higher"),
        Figure("total_throughput_tokens_per_s", "throughput", "tokens/s", "higher"),
    ),
    (Figure("best_decode_tokens_per_joule", "decode", "tokens/J", "higher"),),
    (Figure("best_prefill_tokens_per_joule", "prefill", "tokens/J", "higher"),),
    (Figure("best_decode_tokens_per_s", "decode", "tokens/s", "higher"),),
    (Figure("fp8_over_bf16_decode_tokens_per_joule", "FP8/BF16 tokens/J", "×", "higher"),),
    (Figure("fp8_over_bf16_prefill_tokens_per_joule", "FP8/BF16 prefill", "×", "higher"),),
    (Figure("speed_up", "speed-up", "×", "higher"),),
    (Figure("compile_s", "compile", "s", "lower"),),
    (Figure("compiled_peak_memory_gib", "peak memory", "GiB", "lower"),),
    (Figure("peak_memory_bytes_N", "peak", "GiB", "lower", factor=1 / _GIB),),
    (Figure("prefill_tokens_per_s_N", "prefill", "tokens/s", "higher"),),
    (Figure("decode_step_ms_N", "step", "ms", "lower"),),
    (Figure("all_reduce_busbw_gb_per_s", "all-reduce", "GB/s", "higher"),),
    (Figure("pair_min_gb_per_s", "slowest pair", "GB/s", "higher"),),
    (Figure("busbw_avg_gb_per_s", "bus bandwidth", "GB/s", "higher"),),
    (Figure("busbw_max_gb_per_s", "highest bus bandwidth", "GB/s", "higher"),),
    (Figure("gpu_busy_percent", "GPU busy", "%", ""),),
)
_UNITS = (
    ("_tokens_per_joule", "tokens/J"), ("_tokens_per_s", "tokens/s"), ("_gb_per_s", "GB/s"), ("_per_s", "/s"),
    ("_qps", "QPS"), ("_percent", "%"), ("_ms", "ms"), ("_gib", "GiB"), ("_w", "W"), ("_s", "s"),
)  # fmt: skip
_LENGTH = re.compile(r"(?P<stem>.+)_(?P<tokens>\d{3,})")


def headline(metrics: Mapping[str, float | None]) -> tuple[Figure, ...]:
    """The figures of a verdict. If it has none that is known, its first ones, named as they are.

    A run of several commands has a figure of each: their labels are the first words of the metrics' names.
    """
    found: list[Figure] = []
    for alternatives in _KNOWN:
        for one in alternatives:
            if mine := _values(one, metrics):
                found += mine
                break
    return tuple((found or [_plain(name, value) for name, value in metrics.items()])[:MOST])


def _values(figure: Figure, metrics: Mapping[str, float | None]) -> list[Figure]:
    if figure.name.endswith("_N"):
        return _longest(figure, metrics)
    if figure.name in metrics:
        return [_with(figure, figure.name, figure.label, metrics[figure.name])]
    ends = f"_{figure.name}"
    # `with_completed_qps`, `main2_completed_qps`; never `warmup_seconds_s`, whose first word is not a label.
    return [
        _with(figure, name, f"{label} {figure.label}", value)
        for name, value in metrics.items()
        if name.endswith(ends) and re.fullmatch(r"with|without|main\d*", label := name.removesuffix(ends))
    ]


def _longest(figure: Figure, metrics: Mapping[str, float | None]) -> list[Figure]:
    """The figure of the longest context; metrics of a length end in its tokens."""
    stem = figure.name.removesuffix("_N")
    lengths = [int(found["tokens"]) for name in metrics if (found := _LENGTH.fullmatch(name)) and found["stem"] == stem]
    if not lengths:
        return []
    tokens = max(lengths)
    shown = f"{tokens // 1024}K" if tokens % 1024 == 0 else f"{tokens:,}"
    name = f"{stem}_{tokens}"
    return [_with(figure, name, f"{shown} {figure.label}", metrics[name])]


def _with(figure: Figure, name: str, label: str, value: float | None) -> Figure:
    return replace(figure, name=name, label=label, value=None if value is None else value * figure.factor)


def _plain(name: str, value: float | None) -> Figure:
    for end, unit in _UNITS:
        if name.endswith(end):
            return Figure(name, name.removesuffix(end).replace("_", " "), unit, "", value)
    return Figure(name, name.replace("_", " "), "", "", value)


def ordinary_range(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The lowest and highest of the values within 5 % of their median; the two middle ones if none is.

    None without a value.
    """
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    middle = median(known)
    inside = [value for value in known if abs(value - middle) <= ORDINARY * abs(middle)]
    half = len(known) // 2  # an even number of values: only then is the median none of them
    return (inside[0], inside[-1]) if inside else (known[half - 1], known[half])
