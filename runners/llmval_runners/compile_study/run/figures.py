"""Figures of a compile, from Dynamo's counters; and peak memory with its source."""

from pathlib import Path
from typing import Any

import torch


def compile_figures() -> dict[str, Any]:
    """Graphs, graph breaks and recompilations since the last reset.

    A recompilation is a frame that was compiled again: compile id `frame/n` with n > 0 in `get_compilation_metrics()`,
    which also has the reason. Its other fields have different names in other torch releases, so they are not read.
    """
    from torch._dynamo.utils import counters, get_compilation_metrics

    breaks = dict(counters["graph_break"])
    ids = [
        (str(metric.compile_id), metric.recompile_reason) for metric in get_compilation_metrics() if metric.compile_id
    ]
    again = [(name, reason) for name, reason in ids if not name.endswith("/0")]
    return {
        "graphs": int(counters["stats"].get("unique_graphs", 0)),
        "graph_breaks": sum(breaks.values()),
        "graph_break_reasons": [
            f"{count} × {reason.splitlines()[0][:300]}" for reason, count in breaks.items() if reason
        ],
        "recompilations": len(again),
        "recompilation_reasons": [
            f"{name}: {(reason or 'no reason recorded').strip()[:300]}" for name, reason in again
        ],
        "cache_hits": int(counters["inductor"].get("fxgraph_cache_hit", 0)),
        "cache_misses": int(counters["inductor"].get("fxgraph_cache_miss", 0)),
    }


def reset_figures() -> None:
    import torch._dynamo
    from torch._dynamo.utils import clear_compilation_metrics, counters

    torch._dynamo.reset()
    counters.clear()
    clear_compilation_metrics()


def reset_peak(device: torch.device) -> None:
    """Start a new peak. On a CPU, the peak is the kernel's high-water mark; `clear_refs` resets it (man 5 proc)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # some containers forbid it; `peak_memory` then names the whole process as the source
        global _peak_since
        _peak_since = "since the process started"


_peak_since = "since the phase began"


def peak_memory(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        return {
            "bytes": torch.cuda.max_memory_allocated(device),
            "source": "CUDA caching allocator, since the phase began",
        }
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return {"bytes": int(line.split()[1]) * 1024, "source": f"VmHWM of the process, {_peak_since}"}
    return {"bytes": None, "source": "/proc/self/status has no VmHWM"}
