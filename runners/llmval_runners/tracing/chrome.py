"""Reads a Chrome trace of PyTorch's profiler: times in µs, a complete event ("X") per kernel, operator or range."""

import gzip
import json
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from llmval_runners.process.errors import Refused
from llmval_runners.tracing.timeline import KERNELS, OPERATORS, CallTotal, Timeline, device_time

_GLOO = "gloo:"  # its transfers run on their own thread and are recorded as ranges


def read_chrome(path: Path, range_names: Collection[str]) -> Timeline:
    """The kernels in a trace, or the operators if there are none. `range_names`: the ranges to count.

    Raises:
        Refused: the file is not a Chrome trace.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            events = json.load(file)["traceEvents"]
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path} is not a Chrome trace ({error}): capture it again.") from error
    complete = [event for event in events if event.get("ph") == "X" and "dur" in event]
    ranges: dict[str, CallTotal] = defaultdict(CallTotal)
    for event in complete:
        if event.get("cat") == "user_annotation" and event["name"] in range_names:
            ranges[event["name"]].add(event["dur"] * 1e3)
    kernels = [event for event in complete if event.get("cat") == "kernel"]
    if not kernels:
        return Timeline(OPERATORS, _operators(complete), ranges=dict(ranges))
    totals: dict[str, CallTotal] = defaultdict(CallTotal)
    intervals: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for event in kernels:
        totals[event["name"]].add(event["dur"] * 1e3)
        start = event["ts"] * 1e3
        intervals[str(event["args"]["device"])].append((start, start + event["dur"] * 1e3))
    devices = [device_time(name, sorted(found)) for name, found in sorted(intervals.items())]
    return Timeline(KERNELS, dict(totals), devices, dict(ranges))


def _operators(complete: list[dict[str, Any]]) -> dict[str, CallTotal]:
    """The self time of each operator, without the operators that it calls, so that shares add up to 1."""
    threads: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    totals: dict[str, CallTotal] = defaultdict(CallTotal)
    for event in complete:
        if event.get("cat") == "cpu_op":
            threads[event["tid"]].append(event)
        elif event.get("cat") == "user_annotation" and event["name"].startswith(_GLOO):
            totals[event["name"]].add(event["dur"] * 1e3)
    for events in threads.values():
        callers: list[dict[str, Any]] = []
        for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
            while callers and callers[-1]["ts"] + callers[-1]["dur"] <= event["ts"]:
                callers.pop()
            totals[event["name"]].add(event["dur"] * 1e3)
            if callers:
                totals[callers[-1]["name"]].ns -= event["dur"] * 1e3
            callers.append(event)
    return dict(totals)
