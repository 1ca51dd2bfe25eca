"""Builds workspaces with run folders as the rest of llmval would have left them, with fixed times."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.checklist.model import load
from llmval_tui.foundation.files import try_lock, write_json
from llmval_tui.runs.records import Artifact, Command, Evidence, Gate, Outcome, State, StepRef, Verdict
from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Sample
from tests.helpers.workspace import write_run

T0 = 1_767_323_045  # 2026-01-02T03:04:05Z
SECOND = 1_000_000_000

LOAD_TEST = (
    "torchrun --nproc_per_node=8 runners/inference_server_load_test.py --duration 300 --target-qps 28 "
    "--output-json artifacts/inference/full_mesh.json"
)
CHECKLIST = f"""# Node validation

## 1. Serving
- [ ] Export NCCL env (`docs/nvlink_pcie_playbook.md`).
- [ ] Run: `{LOAD_TEST}`
- [x] Note the driver's version.

## 2. Power
- [ ] Run: `python runners/precision_power_sweep.py --output-dir power_results/x`.
- [ ] Update `docs/power_efficiency_baselines.md` with new tables.
"""


class Workspace:
    """A workspace in a folder; runs are added to it."""

    def __init__(self, root: Path, text: str = CHECKLIST) -> None:
        self.root = root
        self.checklist = root / "checklist.md"
        root.mkdir(parents=True, exist_ok=True)
        self.checklist.write_text(text, encoding="utf-8")
        self.locks: list[int] = []

    def run(
        self,
        number: str,
        *,
        run_id: str = "20260102T030405Z-1.2-abcdef",
        state: State = State.RUNNING,
        verdict: Verdict | None = None,
        alive: bool | None = None,
        artifacts: Sequence[str] = (),
    ) -> Path:
        """Add a run of a step; `alive` holds its lock, as a supervisor would."""
        step = load(self.checklist).step(number)
        ref = StepRef(step.number, step.section, step.text, step.occurrence, self.checklist.name)
        display = step.spans[0] if step.spans else "true"
        run = write_run(
            self.root,
            run_id,
            ref,
            [Command("main", display.split(), display, {"NCCL_P2P_LEVEL": "NVL"}, nproc=8)],
            state=state,
            status={"ended_utc": "2026-01-02T03:09:11Z"} if state is State.FINISHED else None,
            artifacts=[Artifact(path) for path in artifacts],
        )
        folder = run.folder
        if verdict is not None:
            write_json(folder / "verdict.json", replace(verdict, run_id=run_id))
        if alive if alive is not None else state is not State.FINISHED:
            lock = try_lock(folder / "supervisor.lock")
            assert lock is not None
            self.locks.append(lock)
        return folder


def verdict(outcome: Outcome = Outcome.PASS, evidence: Sequence[Evidence] = (), question: Any = None) -> Verdict:
    gates = [
        Gate("exit status", Outcome.PASS, "0", "0"),
        Gate("achieved rate", Outcome.PASS, "27.9 QPS", "at least 95 % of 28 QPS offered"),
        Gate("TTFT p99", outcome, "1,240 ms", "at most 1,000 ms", "one request in a hundred waited longer than asked"),
    ]
    return Verdict(
        1, "", outcome, gates, "2026-01-02T03:09:12Z", "27.9 QPS, 14,960 tokens/s, TTFT p99 1,240 ms.",
        list(evidence), metrics={"output_tokens_per_s": 14960.0, "ttft_p99_ms": 1240.0}, question=question,
    )  # fmt: skip


def event(kind: str, data: dict[str, Any], second: float, rank: int = 0) -> bytes:
    moment = int((T0 + second) * SECOND)
    value = {"v": 1, "t_ns": moment, "mono_ns": moment, "rank": rank, "kind": kind, "data": data}
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def load_events(seconds: int, total: int = 300) -> bytes:
    """The events of a load test: phase, progress and metrics, once per second."""
    lines = [event("phase", {"name": "measure", "index": 3, "total": 5}, 0)]
    for second in range(seconds + 1):
        wave = math.sin(second / 7)
        lines.append(event("progress", {"done": second, "total": total, "unit": "s"}, second))
        metrics = {
            "offered_qps": 28.0,
            "achieved_qps": 27.9 + wave / 4,
            "completed_qps": 27.5 + wave,
            "output_tokens_per_s": 14960 + 900 * wave,
            "ttft_p50_ms": 210 + 30 * wave,
            "ttft_p99_ms": 640 + 200 * math.cos(second / 5),
            "tpot_p50_ms": 9.4 + wave / 3,
            "tpot_p99_ms": 14 + wave,
            "running": 180 + 20 * wave,
            "queued": max(0.0, 12 * wave),
        }
        lines.append(event("metrics", metrics, second))
    return b"".join(lines)


def sample(second: float, gpus: int = 8, notes: Sequence[Note] = ()) -> Sample:
    """One sample of a node with that many busy GPUs, always the same."""
    moment = int((T0 + second) * SECOND)
    found = []
    for index in range(gpus):
        wave = math.sin(second / (3 + index) + index)
        found.append(
            GpuSample(
                index=index,
                name="NVIDIA H200",
                sm_util_percent=min(100.0, 78 + 22 * wave),
                memory_used_bytes=int((90 + 8 * wave) * 2**30),
                memory_total_bytes=int(139.8 * 2**30),
                power_w=520 + 170 * wave,
                power_limit_w=700.0,
                temperature_c=58 + 9 * wave,
                sm_clock_mhz=1980.0,
                throttle_reasons=["sw_power_cap"] if index == 5 else [],
                nvlink_tx_gb_per_s=140 + 90 * wave,
                nvlink_rx_gb_per_s=140 - 90 * wave,
            )
        )
    host = HostSample(
        cpu_percent=31 + 9 * math.sin(second / 4), cpu_count=192, load_1m=42.5, memory_used_bytes=312 * 2**30,
        memory_total_bytes=2015 * 2**30, network_tx_mb_per_s=1.2, network_rx_mb_per_s=0.4, disk_free_bytes=812 * 2**30,
    )  # fmt: skip
    return Sample(moment, moment, host, found, list(notes))


MODEL = "32L-d5120-h40-ff20480-s4096"


def cell(mode: str, batch: int, status: str, prefill: float | None = None, model: str = MODEL) -> dict[str, Any]:
    """The record of one cell of a power sweep, with only the keys that the dashboard reads."""
    phase = {"valid": prefill is not None, "tokens_per_s": 9000.0, "tokens_per_joule": prefill, "power_w": 640.0}
    decode = phase | {"tokens_per_joule": None if prefill is None else prefill / 8}
    return {
        "kind": "power_cell",
        "cell": f"{model}-b{batch}-{mode}",
        "status": status,
        "phases": {} if status in ("refused", "failed") else {"prefill": phase, "decode": decode},
        "reasons": [] if status == "valid" else [f"prefill: why {mode} {batch} is {status}"],
        "ended_utc": "2026-01-02T03:04:15Z",
    }


CELLS = (
    cell("fp16", 2, "valid", 11.0),
    cell("bf16", 2, "valid", 12.5),
    cell("fp16", 3, "invalid"),
    cell("bf16", 3, "no_energy"),
    cell("fp8_te", 2, "refused"),
    cell("fp8_te", 3, "failed"),
)
AT_WORK = f"{MODEL}-b4-fp16"
TO_DO = (AT_WORK, f"{MODEL}-b4-bf16", f"{MODEL}-b4-fp8_te")


def write_sweep(folder: Path, cells: Sequence[dict[str, Any]] = CELLS, more: Sequence[str] = TO_DO) -> None:
    """Write a sweep's folder: `cells` have ended, `more` have not begun."""
    folder.mkdir(parents=True)
    names = [*(str(record["cell"]) for record in cells), *more]
    (folder / "sweep.json").write_bytes(orjson.dumps({"kind": "power_sweep", "cells": names, "order": names}))
    for record in cells:
        (folder / f"{record['cell']}.json").write_bytes(orjson.dumps(record))


def sweep_events() -> bytes:
    """The events of the sweep until 20 s after it began to measure `AT_WORK`."""
    last = f"{MODEL}-b3-bf16"
    lines = [
        event("phase", {"name": "measure", "message": f"{last}, decode, trial 3 of 3"}, 1),
        event("metrics", {"power_w": 111.0}, 2),
        event("progress", {"done": 6, "total": 9, "unit": "cells", "label": last}, 3),
        event("metrics", {"tokens_per_s": 9000.0, "time_left_s": 90.0}, 3),
        event("phase", {"name": "cooldown", "message": "10 s"}, 3),
        event("phase", {"name": "load", "message": AT_WORK}, 13),
        event("phase", {"name": "measure", "message": f"{AT_WORK}, prefill, trial 1 of 3"}, 14),
        *(event("metrics", {"power_w": 600.0 + second}, 14 + second) for second in range(20)),
    ]
    return b"".join(lines)


def memory_events(ranks: int = 4, seconds: int = 60) -> bytes:
    """The events of a long-context run while it fills its cache."""
    gib = 2**30
    lines = [event("phase", {"name": "prefill", "message": "32,768 tokens"}, 0)]
    for second in range(seconds):
        lines.append(event("progress", {"done": second * 512, "total": 32768, "unit": "tokens"}, second))
        for rank in range(ranks):
            filled = second * 24 * gib // 64
            parts = {
                "memory_weights_bytes": int(37.5 * gib),
                "memory_kv_bytes": filled,
                "memory_kv_unfilled_bytes": 24 * gib - filled,
                "memory_activation_bytes": int((3.2 + rank / 10) * gib),
                "memory_other_bytes": int(2.1 * gib),
                "memory_free_bytes": int((73 - rank / 10) * gib),
                "memory_total_bytes": int(139.8 * gib),
                "prefill_tokens_per_s": 31000.0 + 300 * (second % 7),
            }
            lines.append(event("metrics", parts, second, rank=rank))
    return b"".join(lines)
