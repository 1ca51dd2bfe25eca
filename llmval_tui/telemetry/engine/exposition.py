"""What inference servers publish of their engine, in Prometheus' text format, under one set of names.

The names come from the servers' own sources; docs/telemetry.md lists them. Only the lines with known names are parsed:
a server publishes hundreds of histogram buckets that nobody reads here.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from llmval_tui.telemetry.sample import EngineSample, TimeTotal

# A server under tensor parallelism may publish the same figure once for each rank; these labels name the rank.
_RANK_LABELS = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid"})


@dataclass(frozen=True, slots=True)
class Series:
    """One published series, by the first of these names that the server has; versions name it differently.

    `label` restricts it to the lines that have this label and value. `zero_with`: the server publishes the series only
    after its first event, so it is 0 as long as this other series is there.
    """

    names: tuple[str, ...]
    label: tuple[str, str] | None = None
    zero_with: str | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names of one engine."""

    engine: str
    prefix: str
    counts: Mapping[str, Series]  # field of `EngineSample` → series
    times: Mapping[str, Series]  # key of `EngineSample.times` → histogram in seconds, without `_sum` and `_count`
    missing: Mapping[str, str] = field(default_factory=dict)  # why a field is never there


def _one(*names: str) -> Series:
    return Series(names)


VLLM = Dialect(
    "vLLM",
    "vllm_",
    {
        "running": _one("vllm:num_requests_running"),
        "waiting": _one("vllm:num_requests_waiting"),
        "kv_cache_used_percent": _one("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        "preemptions": _one("vllm:num_preemptions_total"),
        "prefix_cache_queries": _one("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        "prefix_cache_hits": _one("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        "prompt_tokens": _one("vllm:prompt_tokens_total"),
        "generation_tokens": _one("vllm:generation_tokens_total"),
    },
    {
        "queue": _one("vllm:request_queue_time_seconds"),
        "prefill": _one("vllm:request_prefill_time_seconds"),
        "decode": _one("vllm:request_decode_time_seconds"),
        "ttft": _one("vllm:time_to_first_token_seconds"),
        "inter_token": _one("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        "e2e": _one("vllm:e2e_request_latency_seconds"),
    },
)
SGLANG = Dialect(
    "SGLang",
    "sglang_",
    {
        "running": _one("sglang:num_running_reqs"),
        "waiting": _one("sglang:num_queue_reqs"),
        "kv_cache_used_percent": _one("sglang:token_usage"),
        "preemptions": _one("sglang:num_retracted_requests_total"),
        "prefix_cache_queries": _one("sglang:prompt_tokens_total"),
        "prefix_cache_hits": Series(("sglang:cached_tokens_total",), zero_with="sglang:prompt_tokens_total"),
        "prompt_tokens": _one("sglang:prompt_tokens_total"),
        "generation_tokens": _one("sglang:generation_tokens_total"),
    },
    {
        "queue": _one("sglang:queue_time_seconds"),
        "prefill": Series(("sglang:per_stage_req_latency_seconds",), ("stage", "prefill_forward")),
        "ttft": _one("sglang:time_to_first_token_seconds"),
        "inter_token": _one("sglang:inter_token_latency_seconds"),
        "e2e": _one("sglang:e2e_request_latency_seconds"),
    },
    {"preemptions": "SGLang publishes its count of retracted requests only after the first one"},
)
TENSORRT_LLM = Dialect(
    "TensorRT-LLM",
    "trtllm_",
    {
        "running": _one("trtllm_num_requests_running"),
        "waiting": _one("trtllm_num_requests_waiting"),
        "kv_cache_used_percent": _one("trtllm_kv_cache_utilization"),
        "prefix_cache_queries": _one("trtllm_prompt_tokens_total"),
        "prefix_cache_hits": _one("trtllm_prompt_cached_tokens_total"),
        "prompt_tokens": _one("trtllm_prompt_tokens_total"),
        "generation_tokens": _one("trtllm_generation_tokens_total"),
    },
    {
        "queue": _one("trtllm_request_queue_time_seconds"),
        "prefill": _one("trtllm_request_prefill_time_seconds"),
        "decode": _one("trtllm_request_decode_time_seconds"),
        "ttft": _one("trtllm_time_to_first_token_seconds"),
        "inter_token": _one("trtllm_time_per_output_token_seconds"),
        "e2e": _one("trtllm_e2e_request_latency_seconds"),
    },
    {"preemptions": "TensorRT-LLM publishes no count of preemptions"},
)
# The frontend of Dynamo knows no batch: a request is waiting until its first token.
DYNAMO = Dialect(
    "Dynamo",
    "dynamo_frontend_",
    {
        "waiting": _one("dynamo_frontend_queued_requests"),
        "generation_tokens": _one("dynamo_frontend_output_tokens_total"),
    },
    {
        "ttft": _one("dynamo_frontend_time_to_first_token_seconds"),
        "inter_token": _one("dynamo_frontend_inter_token_latency_seconds"),
        "e2e": _one("dynamo_frontend_request_duration_seconds"),
    },
    {"running": "the frontend of Dynamo does not know it; a worker publishes it at DYN_SYSTEM_PORT"},
)
DIALECTS = (VLLM, SGLANG, TENSORRT_LLM, DYNAMO)  # a worker of Dynamo has its engine's names beside its own
TIMES = ("queue", "prefill", "decode", "ttft", "inter_token", "e2e")
_FULLEST = 1.01  # of the KV cache; a greater share is none
COUNTS = (
    "running",
    "waiting",
    "kv_cache_used_percent",
    "preemptions",
    "prefix_cache_queries",
    "prefix_cache_hits",
    "prompt_tokens",
    "generation_tokens",
)


@dataclass(frozen=True, slots=True)
class _Line:
    labels: Mapping[str, str]
    value: float


def read_exposition(text: str, url: str, mono_ns: int) -> tuple[EngineSample, list[str]] | None:
    """The engine's figures in a server's answer, and a reason for each that is missing; None if it names no engine.

    Counts and times of several engines (data parallelism) are added up; of several ranks of one engine the largest
    counts. The use of the KV cache is that of the fullest engine.

    Raises:
        ValueError: a line is not in Prometheus' text format.
    """
    lines = _lines(text)
    dialect = next((one for one in DIALECTS if any(name.startswith(one.prefix) for name in lines)), None)
    if dialect is None:
        return None
    values: dict[str, float | None] = {}
    for name in COUNTS:
        series = dialect.counts.get(name)
        found = None if series is None else _value(lines, series, highest=name == "kv_cache_used_percent")
        if name == "kv_cache_used_percent" and found is not None:
            found = 100 * found if found <= _FULLEST else None
        values[name] = found
    times = {name: _time(lines, dialect.times.get(name)) for name in TIMES}
    missing = [name for name, value in values.items() if value is None]
    missing += [f"times.{name}" for name, total in times.items() if total is None]
    reasons = [f"{name}: {dialect.missing[name]}" for name in missing if name in dialect.missing]
    if others := [name for name in missing if name not in dialect.missing]:
        reasons.append(f"{', '.join(others)}: not published by this version of {dialect.engine}, or not yet")
    sample = EngineSample(url, mono_ns, dialect.engine, times=times)
    return replace(sample, **values), reasons  # type: ignore[arg-type]


def _known_names() -> frozenset[str]:
    names = {name for one in DIALECTS for series in one.counts.values() for name in series.names}
    times = {name for one in DIALECTS for series in one.times.values() for name in series.names}
    return frozenset(map(_plain, names | {f"{name}{end}" for name in times for end in ("_sum", "_count")}))


def _plain(name: str) -> str:
    """A name as gateways that do not allow colons write it: `vllm:x` and `vllm_x` are the same."""
    return name.replace(":", "_")


_KNOWN = _known_names()


def _lines(text: str) -> dict[str, list[_Line]]:
    # Imported only if a server is scraped: 30 ms.
    from prometheus_client.parser import text_string_to_metric_families

    known = [line for line in text.splitlines() if _plain(line.split("{", 1)[0].split(" ", 1)[0]) in _KNOWN]
    found: dict[str, list[_Line]] = {}
    # Without the `# TYPE` lines the parser keeps each name as the server writes it.
    for family in text_string_to_metric_families("\n".join(known) + "\n"):
        for sample in family.samples:
            # NaN: the server does not know it. Each count, share and time is finite and not negative.
            if math.isfinite(sample.value) and sample.value >= 0:
                found.setdefault(_plain(sample.name), []).append(_Line(sample.labels, sample.value))
    return found


def _value(lines: Mapping[str, list[_Line]], series: Series, *, highest: bool = False) -> float | None:
    for name in series.names:
        if own := _with_label(lines.get(_plain(name), []), series.label):
            return max(line.value for line in own) if highest else _added_up(own)
    return 0.0 if series.zero_with is not None and _plain(series.zero_with) in lines else None


def _time(lines: Mapping[str, list[_Line]], series: Series | None) -> TimeTotal | None:
    if series is None:
        return None
    for name in series.names:
        total, count = (_value(lines, Series((f"{name}{end}",), series.label)) for end in ("_sum", "_count"))
        if total is not None and count is not None:
            return TimeTotal(total, count)
    return None


def _with_label(lines: Iterable[_Line], label: tuple[str, str] | None) -> list[_Line]:
    return [line for line in lines if label is None or line.labels.get(label[0]) == label[1]]


def _added_up(lines: Iterable[_Line]) -> float:
    engines: dict[frozenset[tuple[str, str]], float] = {}
    for line in lines:
        key = frozenset((name, value) for name, value in line.labels.items() if name not in _RANK_LABELS)
        engines[key] = max(engines.get(key, line.value), line.value)
    return sum(engines.values())
