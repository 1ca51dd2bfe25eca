"""A Chrome trace as PyTorch's profiler writes it: times in µs, one complete event ("X") a kernel, operator or range."""

import gzip
import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from llmval_runners.process.errors import Refused
from llmval_runners.tracing.timeline import KERNELS, OPERATORS, Timeline, Total, device_of

_GLOO = "gloo:"  # its transfers run on a thread of their own, recorded as ranges


def read_chrome(path: Path, names: Collection[str]) -> Timeline:
    """The kernels in a trace; of a trace without any, its operators. `names`: the ranges to count.

    Raises:
        Refused: the file is no such trace.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            events = json.load(file)["traceEvents"]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is no Chrome trace ({error}): capture it again.") from error
    complete = [event for event in events if event.get("ph") == "X" and "dur" in event]
    ranges: dict[str, Total] = defaultdict(Total)
    for event in complete:
        if event.get("cat") == "user_annotation" and event["name"] in names:
            ranges[event["name"]].add(event["dur"] * 1e3)
    kernels = [event for event in complete if event.get("cat") == "kernel"]
    if not kernels:
        return Timeline(OPERATORS, _operators(complete), ranges=dict(ranges))
    work: dict[str, Total] = defaultdict(Total)
    intervals: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for event in kernels:
        work[event["name"]].add(event["dur"] * 1e3)
        start = event["ts"] * 1e3
        intervals[str(event["args"]["device"])].append((start, start + event["dur"] * 1e3))
    devices = [device_of(name, sorted(found)) for name, found in sorted(intervals.items())]
    return Timeline(KERNELS, dict(work), devices, dict(ranges))


def _operators(complete: list[dict[str, Any]]) -> dict[str, Total]:
    """Each operator's own time, without that of the operators that it calls: shares then add up to the whole."""
    threads: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    work: dict[str, Total] = defaultdict(Total)
    for event in complete:
        if event.get("cat") == "cpu_op":
            threads[event["tid"]].append(event)
        elif event.get("cat") == "user_annotation" and event["name"].startswith(_GLOO):
            work[event["name"]].add(event["dur"] * 1e3)
    for events in threads.values():
        callers: list[dict[str, Any]] = []
        for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
            while callers and callers[-1]["ts"] + callers[-1]["dur"] <= event["ts"]:
                callers.pop()
            work[event["name"]].add(event["dur"] * 1e3)
            if callers:
                work[callers[-1]["name"]].ns -= event["dur"] * 1e3
            callers.append(event)
    return dict(work)
