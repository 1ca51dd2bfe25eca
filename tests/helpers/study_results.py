"""Results of the compile study and of the power sweep, made small, as their runners write them."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def steps(seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "step_s": [seconds],
        "median_step_s": seconds,
        "first_call_s": seconds,
        "peak_memory_bytes": 2**31,
        "peak_memory_source": "allocator",
        **more,
    }


def study(**changes: Any) -> dict[str, Any]:
    """A result.json that did not hang; `changes` replace its keys."""
    compiled = steps(
        0.05, compiled="whole model", fallback=None, compile_s=60.0, import_s=5.0, graphs=1, graph_breaks=0,
        graph_break_reasons=[], recompilations=0, recompilation_reasons=[], cache_hits=0, cache_misses=1,
        difference_to_eager=None,
    )  # fmt: skip
    return {
        "v": 1, "kind": "compile_repro", "outcome": "did_not_reproduce",
        "summary": "did not reproduce here: compiled in 60.0 s, 50.0 ms a step", "started_utc": "2026-01-02T03:04:05Z",
        "duration_s": 90.0,
        "workload": {
            "model": "tiny", "parameters": 1000, "weights": "random, seed 0", "dtype": "float32", "device": "cpu",
            "device_name": "CPU", "sequence_length": 64, "batch_size": 1, "tensor_parallel_gpus": 2, "steps": 3,
        },
        "compile": {
            "compile_mode": "default", "backend": "inductor", "skip_compile": False, "skip_eager": False,
            "compiled": "whole model", "fallback": None, "cache": "cold",
        },
        "eager": steps(0.06), "compiled": compiled, "speed_up": 1.2, "worth_it": True, "verdict": None, "stalls": [],
        "ended_by": None, "signal": None, "last_phase": {"0": "done", "1": "done"}, "errors": [],
        "rank_exit_codes": {"0": 0, "1": 0}, "first_failure": None, "injected": None, "ablation": [], "notes": [],
        "versions": {"torch": "2.13.0", "python": "3.11", "platform": "Linux"}, "files": [],
        **changes,
    }  # fmt: skip


def hang(**changes: Any) -> dict[str, Any]:
    """A result.json of a rank that skipped a collective while compiling."""
    verdict = {
        "kind": "collective_desync", "ranks": [1], "operation": "all_reduce", "reasons": ["rank 1 entered 3, others 4"],
        "findings": [], "started_after_s": 9.0, "verdict_after_s": 11.0, "stack_sources": {}, "recovered": False,
    }  # fmt: skip
    return study(
        **{
            "outcome": "hang",
            "summary": "hang: collective_desync, rank 1, all_reduce",
            "verdict": verdict,
            "compiled": None,
            "speed_up": None,
            "worth_it": None,
            "last_phase": {"0": "compile", "1": "compile"},
            "ended_by": "stalled",
            **changes,
        }
    )


def write_bundle(folder: Path, result: dict[str, Any], *, stacks: bool = True) -> None:
    """A bundle folder, packed."""
    folder.mkdir(parents=True, exist_ok=True)
    report = "# R\n\n### 🐛 Describe the bug\n\nIt hangs.\n\n### Versions\n\ntorch\n"
    files = {
        "result.json": json.dumps(result),
        "bug_report.md": report,
        "repro.py": "x = 1\n",
        "commands.txt": "python\n",
    }
    files |= {"run.json": json.dumps({"cache_dir": "", "options": {}})}
    files |= {"stacks/rank0.txt": "main\n"} if stacks else {}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            archive.add(path, f"{folder.name}/{name}")
    (folder / "bundle.tar.gz").write_bytes(buffer.getvalue())
    listed = [{"path": name, "sha256": hashlib.sha256(text.encode()).hexdigest()} for name, text in files.items()]
    (folder / "manifest.json").write_text(json.dumps({"v": 1, "files": listed, "redacted": {}}))


def power_phase(
    rate: float = 1000.0, joules: float = 0.5, seconds: float = 60.0, tokens_per_step: int = 64
) -> dict[str, Any]:
    """A valid phase of one GPU with `rate` tokens/s and `joules` per token."""
    spread = {"min": 1.0, "mean": 1.0, "max": 1.0}
    energy = rate * seconds * joules
    gpu = {
        "window_s": seconds, "energy_j": energy, "integrated_j": energy * 1.01, "mean_power_w": rate * joules,
        "max_power_w": rate * joules, "samples": 600, "utilisation_percent": 99.0, "sm_clock_mhz": spread,
        "memory_clock_mhz": spread, "temperature_c": spread, "throttle_share": {"sw_power_cap": 0.5},
    }  # fmt: skip
    trial = {
        "window_s": seconds, "steps": rate * seconds / tokens_per_step, "tokens": rate * seconds,
        "tokens_per_s": rate, "energy_j": energy,
        "integrated_j": energy * 1.01, "disagreement_percent": 1.0, "tokens_per_joule": 1 / joules,
        "power_w": rate * joules, "energy_missing": None, "gpus": [gpu],
    }  # fmt: skip
    return {
        "valid": True, "reasons": [],
        "rules": [{"name": "cv_percent", "measured": 0.0, "bound": "≤ 2", "ok": True, "reason": ""}],
        "tokens_per_step": tokens_per_step, "step_ms": 1000 * tokens_per_step / rate, "tokens_per_s": rate,
        "energy": "available", "energy_missing": None,
        "power_w": rate * joules, "tokens_per_joule": 1 / joules, "joules_per_token": joules,
        "tokens_per_joule_net": None, "joules_per_token_net": None, "idle_power_w": 70.0, "warmup_s": 5.1,
        "baseline_grade": seconds >= 60,
        "utilisation_of_peak": {
            "flops_per_token": 1.0, "achieved_tflops_per_s": 1.0, "mfu": [], "achieved_tb_per_s": None, "mbu": [],
            "missing": None,
        },
        "peak_memory_bytes": None,
        "how": {"precision": "p", "attention_kernel": "k", "launch": "eager", "compiled": False, "padded_rows": 0},
        "trials": [json.loads(json.dumps(trial)) for _ in range(3)],
    }  # fmt: skip


MODEL = "2L-d64-h4-ff256"


def power_cell(mode: str, batch: int = 1, *, status: str = "valid", reasons: tuple[str, ...] = (), **changes: Any):
    """A cell's record; only `valid` and `invalid` ones have a phase."""
    gpu = {"index": 0, "uuid": "GPU-a", "name": "NVIDIA H200", "driver": "580.1", "power_limit_w": 700.0}
    return {
        "schema": 1, "kind": "power_cell", "cell": f"{MODEL}-s64-b{batch}-{mode}",
        "model": {"name": MODEL, "layers": 2, "d_model": 64, "heads": 4, "d_ff": 256, "parameters": 100},
        "mode": mode, "batch_size": batch, "sequence_length": 64, "settings": SETTINGS,
        "identity": {
            "host": "node1", "gpus": [gpu], "driver": "580.1", "cpu": None, "torch": "2.11.0", "cuda": "13.0",
            "transformer_engine": None, "python": "3.12", "power_source": "NVML", "energy_scope": "GPU only",
        },
        "attempt": 1, "status": status, "reasons": list(reasons), "idle_power_w": 70.0,
        "phases": {"prefill": power_phase(tokens_per_step=64 * batch)} if status in ("valid", "invalid") else {},
        "started_utc": "2026-01-02T03:00:00Z", "ended_utc": "2026-01-02T03:05:00Z",
        **changes,
    }  # fmt: skip


SETTINGS: dict[str, Any] = {
    "window_s": 60.0, "warmup_s": 5.0, "trials": 3, "phases": ["prefill"], "attention_backend": "sdpa",
    "compile": False, "device": "cuda", "devices": [0], "seed": 0,
}  # fmt: skip


def write_sweep(folder: Path, *cells: dict[str, Any], order: list[str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for cell in cells:
        (folder / f"{cell['cell']}.json").write_text(json.dumps(cell))
    names = order or [cell["cell"] for cell in cells]
    manifest = {
        "schema": 1, "kind": "power_sweep", "cells": names, "order": names, "settings": SETTINGS,
        "identity": cells[0]["identity"],
    }  # fmt: skip
    (folder / "sweep.json").write_text(json.dumps(manifest))
