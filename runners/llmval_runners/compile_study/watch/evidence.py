"""Collects evidence of a stalled run: stacks, processes, collectives and GPUs. The run is not disturbed."""

import json
import time
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch import gpus, stacks
from llmval_runners.compile_study.watch.processes import Process, children_of_all, descendants, describe
from llmval_runners.process.files import read_json, replace_bytes, write_json

SAMPLES, SAMPLE_S = 3, 0.5
DUMP_WAIT_S = 1.5


def collect(layout: Layout, idle: dict[int, float], number: int, py_spy: str | None) -> dict[str, Any]:
    """Collect the evidence of stall `number` for the ranks in `idle` (seconds since each moved).

    Takes a few seconds: short enough for a verdict within ten, long enough to see which process uses CPU time or grows.
    """
    layout.dump_request.touch()
    devices = gpus.Reading()
    beats = {rank: beat for rank in idle if (beat := read_json(layout.beat(rank))) is not None}
    everybody = children_of_all()
    workers = {
        rank: [p for p in descendants(beat["pid"], everybody) if p.compile_worker] for rank, beat in beats.items()
    }
    pids = [beat["pid"] for beat in beats.values()] + [p.pid for own in workers.values() for p in own]
    samples = sample(pids)
    found = stacks.of_ranks(layout, beats, py_spy, number)
    workers_seen = [worker_reading(rank, p, samples) for rank, own in workers.items() for p in own]
    deadline = time.monotonic() + DUMP_WAIT_S
    while time.monotonic() < deadline and not all(layout.flight_json(rank).exists() for rank in beats):
        time.sleep(0.1)
    ranks = []
    for rank, beat in sorted(beats.items()):
        ranks.append(
            {
                "rank": rank,
                "idle_s": round(idle[rank], 3),
                "beat": beat,
                "beat_age_s": round((time.monotonic_ns() - beat["mono_ns"]) / 1e9, 3),
                "process": with_growth(samples.get(beat["pid"], [])),
                "stack": found[rank],
                "workers": [worker for worker in workers_seen if worker["rank"] == rank],
                "collectives": flight_entries(layout, rank),
            }
        )
    evidence = {
        "v": 1,
        "stall": number,
        "t_ns": time.time_ns(),
        "ranks": ranks,
        "gpus": devices.result(),
        "trace": _trace_bytes(layout),
    }
    layout.dump_request.unlink(missing_ok=True)
    write_json(layout.evidence(number), evidence, indent=1)
    return evidence


def deepen(layout: Layout, evidence: dict[str, Any], py_spy: str | None, deadline: float, *, native: bool) -> list[str]:
    """After the verdict: collect the workers' stacks and the native frames. Returns a note on each process."""
    number = evidence["stall"]
    notes = []
    for item in evidence["ranks"]:
        for pid, outcome in stacks.of_workers(layout, item["workers"], py_spy, number).items():
            notes.append(f"compile worker {pid} of rank {item['rank']}: {outcome}")
        if native and py_spy is not None and item["process"] is not None and item["stack"]["source"] == "py-spy":
            notes.append(
                stacks.native(layout, item["beat"]["pid"], f"rank{item['rank']}.stall{number}", py_spy, deadline)
            )
    if native and py_spy is not None:
        notes += _workers_native(layout, evidence, py_spy, deadline)
    replace_bytes(layout.stacks / f"stall{number}.notes.txt", ("\n".join(notes) + "\n").encode())
    return notes


def _workers_native(layout: Layout, evidence: dict[str, Any], py_spy: str, deadline: float) -> list[str]:
    """Collect native frames of the compile workers until the deadline, the busiest first.

    Stopped workers and C++ compilers are left out: py-spy cannot read their native frames.
    """
    readable = [
        worker
        for item in evidence["ranks"]
        for worker in item["workers"]
        if not worker["compiler"] and worker["state"] in "RSD"
    ]
    readable.sort(key=lambda worker: -worker["cpu_fraction"])
    names = {
        worker["pid"]: f"rank{worker['rank']}.worker{worker['pid']}.stall{evidence['stall']}" for worker in readable
    }
    return [stacks.native(layout, pid, name, py_spy, deadline) for pid, name in names.items()]


def flight_entries(layout: Layout, rank: int, last: int = 64) -> list[dict[str, Any]]:
    """The newest collectives in a rank's flight recorder, oldest first; [] if there is no recorder."""
    try:
        entries = json.loads(layout.flight_json(rank).read_bytes()).get("entries", [])
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    collectives = [entry for entry in entries if not entry.get("is_p2p")]
    return [
        {
            "sequence": entry.get("collective_seq_id"),
            "operation": str(entry.get("profiling_name", "")).rpartition(":")[2],
            "sizes": entry.get("input_sizes"),
            "state": entry.get("state"),
            "done": bool(entry.get("retired")) or entry.get("state") == "completed",
        }
        for entry in collectives[-last:]
    ]


def sample(pids: list[int]) -> dict[int, list[tuple[float, dict[str, Any]]]]:
    samples: dict[int, list[tuple[float, dict[str, Any]]]] = {}
    for index in range(SAMPLES):
        if index:
            time.sleep(SAMPLE_S)
        for pid in pids:
            if (reading := describe(pid)) is not None:
                samples.setdefault(pid, []).append((time.monotonic(), reading))
    return samples


def with_growth(samples: list[tuple[float, dict[str, Any]]]) -> dict[str, Any] | None:
    """The newest reading, with the CPU use and memory growth since the oldest."""
    if not samples:
        return None
    (began, first), (ended, last) = samples[0], samples[-1]
    span = max(ended - began, 1e-9)
    both = first["rss_bytes"] is not None and last["rss_bytes"] is not None
    growth = (last["rss_bytes"] - first["rss_bytes"]) / span if both else None
    fraction = (last["cpu_s"] - first["cpu_s"]) / span if len(samples) > 1 else 0.0
    return last | {"cpu_fraction": round(fraction, 3), "rss_growth_bytes_per_s": growth, "watched_s": round(span, 3)}


def worker_reading(
    rank: int, process: Process, samples: dict[int, list[tuple[float, dict[str, Any]]]]
) -> dict[str, Any]:
    seen = with_growth(samples.get(process.pid, [])) or {}
    return {
        "rank": rank,
        "pid": process.pid,
        "start": process.start,
        "compiler": process.compiler,
        "command": process.command[:200],
        "state": seen.get("state", "gone"),
        "cpu_fraction": seen.get("cpu_fraction", 0.0),
        "wchan": seen.get("wchan"),
        "rss_bytes": seen.get("rss_bytes"),
    }


def _trace_bytes(layout: Layout) -> dict[str, int]:
    """Bytes of compile trace so far, by the folder of each rank."""
    root = layout.private / "trace"
    return (
        {folder.name: sum(file.stat().st_size for file in folder.iterdir()) for folder in root.iterdir()}
        if root.is_dir()
        else {}
    )
