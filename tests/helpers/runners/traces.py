"""Small traces and results in the form that the profilers and the load test write."""

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import fastjsonschema
from llmval_runners.measure import profiler_ranges as ranges

ROOT = Path(__file__).parents[3]


def event(cat: str, name: str, ts: float, dur: float, **rest: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "tid": 1, **rest}


def chrome(folder: Path, events: list[dict[str, Any]]) -> Path:
    path = folder / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": events}).encode()))
    return path


GPU_EVENTS = [
    event("kernel", "nvjet_tst_64x8", 100.0, 50.0, args={"device": 0, "stream": 7}),
    event("kernel", "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 140.0, 20.0, args={"device": 0, "stream": 9}),
    event("kernel", "nvjet_tst_64x8", 180.0, 20.0, args={"device": 0, "stream": 7}),
    event("gpu_memcpy", "Memcpy DtoH", 170.0, 2.0, args={"device": 0}),
    event("user_annotation", "decode step", 90.0, 120.0),
    event("user_annotation", "ProfilerStep#1", 90.0, 120.0),
    event("cpu_op", "aten::linear", 90.0, 12.0),
    {"ph": "s", "cat": "ac2g", "name": "ac2g", "ts": 90.0},
]


def load_result(**window: Any) -> dict[str, Any]:
    return {
        "completed": 3,
        "failed": 0,
        "output_throughput": 100.0,
        "llmval": {
            "partial": False,
            "identity": {
                "model": "tiny", "attention_backend": "flex", "fp8_mode": "none", "tensor_parallel": 2,
                "device": "cuda", "device_name": "NVIDIA H200",
            },
            "workload": {"target_qps": 1.0, "duration_s": 4.0, "prompt_len": "512", "output_len": "8"},
            "trace": {
                "profiler": "torch", "begin_s": 1.0, "seconds": 200e-6, "steps": 1, "ended_by": "the end", "ranks": "0",
                "ranges": list(ranges.NAMES), **window,
            },
        },
    }  # fmt: skip


def schema() -> Any:
    return fastjsonschema.compile(json.loads((ROOT / "docs/schemas/trace_summary.schema.json").read_text()))


def nsys_export(folder: Path, kernels: list[tuple[int, int, int, str]]) -> Path:
    path = folder / "trace.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
        database.execute("CREATE TABLE NVTX_EVENTS (start INTEGER, end INTEGER, text TEXT, textId INTEGER)")
        database.execute("INSERT INTO StringIds VALUES (99, 'prefill')")
        events = [(0, 5, "decode step", None), (6, 9, None, 99), (9, None, "decode step", None), (1, 2, "other", None)]
        database.executemany("INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?)", events)
        if kernels:
            database.execute(
                "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL "
                "(start INTEGER, end INTEGER, deviceId INTEGER, demangledName INTEGER)"
            )
        for number, (start, end, device, name) in enumerate(kernels):
            database.execute("INSERT INTO StringIds VALUES (?, ?)", (number, name))
            row = (start, end, device, number)
            database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?)", row)
    database.close()
    return path
