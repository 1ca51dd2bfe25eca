"""The figures of a trace: top kernels, shares of communication, attention and matrix products, busy share of GPUs."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmval_runners.process.screen import Screen, figure, plural, share
from llmval_runners.process.verdict import Verdict
from llmval_runners.tracing.classify import GROUPS, group_of
from llmval_runners.tracing.timeline import CallTotal, Timeline

SCHEMA_VERSION = 1
TOP = 25
NAME_LENGTH = 300  # CUTLASS names can have thousands of characters


def summary_of(
    timeline: Timeline, load: dict[str, Any], *, tool: dict[str, Any], commands: list[str], files: list[Path]
) -> dict[str, Any]:
    """The record beside a trace; schema in `docs/schemas/trace_summary.schema.json`.

    Shares are parts of the summed time of all kernels (overlapping kernels both count), or of the self time of all
    operators in a run on a CPU. The busy share of a GPU is the part of the traced window with at least one kernel.
    `load`: the result of the traced load test, with its `trace` record.
    """
    ours = load["llmval"]
    window = ours["trace"]
    total = sum(one.ns for one in timeline.totals.values())
    traced_ns = max([window["seconds"] * 1e9, *(device.span_ns for device in timeline.devices)])
    devices = [
        {
            "device": device.name,
            "kernels": device.kernels,
            "kernel_ms": device.kernel_ns / 1e6,
            "busy_share": device.busy_ns / traced_ns,
        }
        for device in timeline.devices
    ]
    return {
        "schema": SCHEMA_VERSION,
        "kind": "trace_summary",
        "created_utc": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool": tool,
        "window": window | {"seconds": traced_ns / 1e9},
        "identity": ours["identity"],
        "workload": ours["workload"],
        "load": {
            "partial": ours["partial"],
            "completed": load["completed"],
            "failed": load["failed"],
            "output_tokens_per_s": load["output_throughput"],
        },
        "unit": timeline.unit,
        "calls": sum(one.calls for one in timeline.totals.values()),
        "total_ms": total / 1e6,
        "shares": _shares(timeline.totals, total),
        "gpu_busy_share": sum(one["busy_share"] for one in devices) / len(devices) if devices else None,
        "devices": devices,
        "top": _top(timeline.totals, total),
        "ranges": [
            {"name": name, "calls": one.calls, "total_ms": one.ns / 1e6}
            for name, one in sorted(timeline.ranges.items())
        ],
        "commands": commands,
        "files": [{"name": file.name, "bytes": file.stat().st_size} for file in files],
    }


def _shares(totals: dict[str, CallTotal], total: float) -> dict[str, float | None]:
    sums = dict.fromkeys(GROUPS, 0.0)
    for name, one in totals.items():
        sums[group_of(name)] += one.ns
    return {group: ns / total if total else None for group, ns in sums.items()}


def _top(totals: dict[str, CallTotal], total: float) -> list[dict[str, Any]]:
    longest = sorted(totals.items(), key=lambda item: item[1].ns, reverse=True)[:TOP]
    return [
        {
            "name": name[:NAME_LENGTH],
            "group": group_of(name),
            "calls": one.calls,
            "total_ms": one.ns / 1e6,
            "mean_us": one.ns / one.calls / 1e3,
            "share": one.ns / total if total else None,
        }
        for name, one in longest
    ]


def last_screen(summary: dict[str, Any], verdict: Verdict, trace: Path, record: Path) -> str:
    """The screen of a capture, at most 80 columns wide."""
    screen, load, identity = Screen(str(verdict)), summary["load"], summary["identity"]
    top = [(f"{one['group']}: {one['name']}"[:40], _top_cells(one)) for one in summary["top"][:8]]
    screen.table(f"longest {summary['unit']}", ("calls", "ms", "share"), top)
    screen.row("load", f"{load['completed']:,} requests completed", f"{load['failed']:,} failed, under the profiler")
    screen.row(
        "tokens/s", f"out {figure(load['output_tokens_per_s'], 1)}", "slowed down by the profiler: not the node's"
    )
    screen.row("tool", f"{summary['tool']['name']} {summary['tool']['version']}", summary["tool"]["why"])
    for note in summary["notes"]:
        screen.row("note", note)
    screen.row(
        "ran",
        f"{identity.get('model')}, {identity.get('dtype')}, KV {identity.get('kv_dtype')}",
        f"FP8 {identity.get('fp8_mode')}, attention {identity.get('attention_backend')}",
        f"{plural(identity.get('tensor_parallel') or 1, 'rank')} on {identity.get('device_name')}",
    )
    screen.row("trace", str(trace))
    screen.row("record", str(record))
    return screen.text()


def _top_cells(one: dict[str, Any]) -> list[str]:
    return [f"{one['calls']:,}", figure(one["total_ms"]), share(one["share"])]


def one_line(summary: dict[str, Any]) -> str:
    """The summary in one line for a terminal."""
    shares = ", ".join(f"{group} {part:.1%}" for group, part in summary["shares"].items() if part is not None)
    busy = summary["gpu_busy_share"]
    return (
        f"{summary['calls']:,} {summary['unit']} in {summary['window']['seconds']:.2f} s ({summary['tool']['name']}): "
        f"{shares or 'nothing'}" + ("" if busy is None else f"; GPUs busy {busy:.1%}")
    )
