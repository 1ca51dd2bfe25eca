"""Builds workspaces with run folders as the rest of llmval would have left them, with fixed times."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.checklist.model import load
from llmval_tui.foundation.files import try_lock, write_json
from llmval_tui.runs.records import (
    Artifact,
    Command,
    CommandStatus,
    Evidence,
    Gate,
    Intent,
    Outcome,
    State,
    Status,
    StepRef,
    Verdict,
)
from llmval_tui.telemetry.sample import GpuSample, HostSample, Note, Sample

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
        folder = self.root / "artifacts" / "runs" / run_id
        (folder / "logs").mkdir(parents=True)
        ref = StepRef(step.number, step.section, step.text, step.occurrence, self.checklist.name)
        display = step.spans[0] if step.spans else "true"
        command = Command("main", display.split(), display, {"NCCL_P2P_LEVEL": "NVL"}, nproc=8)
        intent = Intent(
            1,
            run_id,
            "command",
            ref,
            [command],
            str(self.root),
            "2026-01-02T03:04:05Z",
            [Artifact(p) for p in artifacts],
        )
        write_json(folder / "run.json", intent)
        status = Status(state=state, started_utc="2026-01-02T03:04:05Z")
        if state is State.FINISHED:
            status.ended_utc = "2026-01-02T03:09:11Z"
            status.commands = [CommandStatus("main", exit_code=0)]
        write_json(folder / "status.json", status)
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
    """What a load test writes: phase, progress and metrics once a second."""
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
    """One sample of a node with that many busy GPUs; deterministic."""
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
