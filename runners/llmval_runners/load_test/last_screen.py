"""The last screen of a load test, from its record: the verdict, the figures, what ran, and where the record lies."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WIDTH = 80
_LABEL = 20
_COLUMNS = ("p50", "p90", "p99")
# Title, and the place of the percentiles in ms: a stem of the flat keys, or an object of `llmval`.
_LATENCIES = (
    ("TTFT from schedule", None, "ttft_sched"),
    ("TTFT from dispatch", "ttft", None),
    ("TPOT", "tpot", None),
    ("ITL", "itl", None),
    ("E2E from schedule", None, "e2e_sched"),
    ("E2E from dispatch", "e2el", None),
)


def last_screen(record: Mapping[str, Any], path: Path | None, no_meter: str = "") -> str:
    """The screen, at most 80 columns wide. `path`: of the record, if any. `no_meter`: why there is no energy."""
    ours = record["llmval"]
    verdict = ours["verdict"]
    lines = _wrapped("", f"{verdict['word']}: {verdict['reason']}" if verdict["reason"] else verdict["word"])
    lines.append("")
    lines += _row("requests", _requests(record, ours))
    lines += _row("requests/s", _rates(ours["rates"]))
    lines += _row("tokens/s", _tokens(record))
    lines.append(f"{'latency, ms':{_LABEL}}" + "".join(f"{name:>12}" for name in _COLUMNS))
    lines += [_latency(record, ours, *latency) for latency in _LATENCIES]
    lines += _row("service level", _service_level(ours))
    lines += _row("queue", _queue(record, ours))
    lines += _row("memory", _memory(ours))
    lines += _row("power", _power(ours, no_meter))
    lines += _row("ran", _ran(ours))
    lines += _row("record", [str(path) if path is not None else "none: pass --output-json to keep one"])
    return "\n".join(lines)


def _number(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None else f"{value:,.{digits}f}"


def _requests(record: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    sent, duration = record["num_prompts"], record["duration"]
    what, ended = ("unfinished", " (ended early)") if ours["partial"] else ("failed", "")
    return [f"{record['completed']:,} of {sent:,} completed, {record['failed']:,} {what}, in {duration:,.1f} s{ended}"]


def _rates(rates: Mapping[str, float | None]) -> list[str]:
    return [f"{name} {_number(rates[f'{name}_qps'])}" for name in ("offered", "achieved", "completed")]


def _tokens(record: Mapping[str, Any]) -> list[str]:
    output, total = record["output_throughput"], record["total_token_throughput"]
    inputs = None if output is None or total is None else total - output
    return [f"in {_number(inputs, 1)}", f"out {_number(output, 1)}"]


def _latency(record: Mapping[str, Any], ours: Mapping[str, Any], title: str, flat: str | None, own: str | None) -> str:
    values = [ours[own][f"{column}_ms"] if own else record[f"{column}_{flat}_ms"] for column in _COLUMNS]
    return f"  {title:{_LABEL - 2}}" + "".join(f"{_number(value):>12}" for value in values)


def _service_level(ours: Mapping[str, Any]) -> list[str]:
    limits = [f"{name.removesuffix('_ms').upper()} {limit:g} ms" for name, limit in ours["slo"].items() if limit]
    if not limits:
        return ["none stated (--slo-ttft-ms, --slo-tpot-ms, --slo-e2e-ms)"]
    attained = ours["slo_attainment"]
    share = "n/a" if attained is None else f"{100 * attained:.1f} %"
    goodput = f"goodput {_number(ours['rates']['goodput_qps'])} requests/s"
    return [f"{share} of the requests kept {', '.join(limits)}", goodput]


def _queue(record: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    waiting = (ours.get("queue") or {}).get("most_waiting")
    slope = ours["ttft_slope"]
    return [
        f"at most {'n/a' if waiting is None else waiting} waiting",
        f"at most {record['max_concurrent_requests']:,} in flight",
        f"TTFT grew {_number(slope)} s per second of load",
    ]


def _memory(ours: Mapping[str, Any]) -> list[str]:
    memory, cache = ours.get("memory") or {}, ours["kv_cache"]
    found = []
    if cache and memory.get("kv_used_percent") is not None:
        size = cache["bytes_per_rank"] / 2**30
        found.append(f"at most {memory['kv_used_percent']:.1f} % of {size:.3g} GiB KV cache per rank")
    if (peak := memory.get("peak_allocated_bytes")) is not None:
        found.append(f"peak {peak / 2**30:.1f} GiB allocated on rank 0")
    return found or ["n/a"]


def _power(ours: Mapping[str, Any], no_meter: str) -> list[str]:
    energy = ours.get("energy")
    if not energy:
        return [f"n/a ({no_meter})" if no_meter else "n/a"]
    gpus = f"{energy['gpus']} GPU{'s' if energy['gpus'] > 1 else ''}"
    return [f"{energy['power_w']:,.0f} W mean of {gpus}", f"{_number(energy['tokens_per_joule'], 3)} output tokens/J"]


def _ran(ours: Mapping[str, Any]) -> list[str]:
    identity = ours["identity"]
    if (server := identity.get("server")) is not None:
        software = " ".join(text for text in (server["engine"] or server["software"], server["version"]) if text)
        return [f"{identity['model']} at {server['url']} ({identity['api']})", *([software] if software else [])]
    ranks = identity["tensor_parallel"]
    fp8 = [f"FP8 {identity['fp8_mode']}"] if identity["fp8_mode"] != "none" else []
    compiled = [f"compiled ({identity['compile_mode']})"] if identity["compile_mode"] != "off" else []
    return [
        f"{identity['model']}, {identity['dtype']}, KV {identity['kv_dtype']}",
        *fp8,
        f"attention {identity['attention_backend'] or 'not loaded'}",
        *compiled,
        f"{ranks} rank{'s' if ranks > 1 else ''} on {identity['device_name']}",
    ]


def _row(label: str, parts: Sequence[str]) -> list[str]:
    return _wrapped(f"{label:{_LABEL}}", "; ".join(parts))


def _wrapped(label: str, text: str) -> list[str]:
    indent = " " * len(label)
    wrapped = textwrap.wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return wrapped or [label.rstrip()]
