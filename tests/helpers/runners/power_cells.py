"""Cell records for the analyzer's tests, as the sweep writes them."""

import json
from pathlib import Path
from typing import Any


def phase(
    rate: float, joules_per_token: float | None, *, valid: bool = True, idle_w: float = 100.0, peak: float = 0.5
) -> dict[str, Any]:
    efficiency = None if joules_per_token is None else 1 / joules_per_token
    net = None if joules_per_token is None else joules_per_token - idle_w / rate
    reasons = [] if valid else ["GPU utilisation was 40 %, not above 70 %: the host did not keep it busy"]
    return {
        "valid": valid,
        "reasons": reasons,
        "tokens_per_step": 8,
        "step_ms": 1.0,
        "tokens_per_s": rate,
        "rules": [
            {"name": "cv_percent", "measured": 0.7, "bound": "≤ 2", "ok": True, "reason": ""},
            {"name": "disagreement_percent", "measured": 1.1, "bound": "≤ 5", "ok": True, "reason": ""},
            {
                "name": "utilisation_percent",
                "measured": 99.0 if valid else 40.0,
                "bound": "> 70",
                "ok": valid,
                "reason": "".join(reasons),
            },
        ],
        "energy": "available" if efficiency else "not available",
        "energy_missing": None if efficiency else "no NVML",
        "power_w": None if joules_per_token is None else joules_per_token * rate,
        "tokens_per_joule": efficiency,
        "joules_per_token": joules_per_token,
        "tokens_per_joule_net": 1 / net if net and net > 0 else None,
        "joules_per_token_net": net if net and net > 0 else None,
        "idle_power_w": idle_w,
        "warmup_s": 5.1,
        "baseline_grade": valid,
        "utilisation_of_peak": {
            "flops_per_token": 2e10,
            "achieved_tflops_per_s": 400.0,
            "achieved_tb_per_s": None,
            "missing": None,
            "mfu": [{"value": peak, "peak_tflops_per_s": 989.0, "source": "NVIDIA H200 datasheet, dense"}],
            "mbu": [],
        },
        "peak_memory_bytes": 10**10,
        "how": {
            "precision": "torch.bfloat16",
            "attention_kernel": "SDPA",
            "launch": "eager",
            "compiled": False,
            "padded_rows": 0,
        },
        "trials": [
            {
                "window_s": 60.0,
                "steps": 10.0,
                "tokens": 80.0,
                "tokens_per_s": rate,
                "energy_j": None,
                "integrated_j": None,
                "disagreement_percent": 1.1,
                "tokens_per_joule": efficiency,
                "power_w": None,
                "energy_missing": None,
                "gpus": [],
            }
        ],
    }


def cell(
    mode: str, batch: int, phases: dict[str, Any], *, layers: int = 32, status: str | None = None, **changes: Any
) -> dict[str, Any]:
    shape = {"layers": layers, "d_model": 5120, "heads": 40, "d_ff": 20480}
    model = f"{layers}L-d5120-h40-ff20480"
    valid = bool(phases) and all(item.get("valid") for item in phases.values())
    gpu = {
        "index": 0,
        "uuid": "GPU-a",
        "name": "NVIDIA H200",
        "driver": "580.159.04",
        "power_limit_w": changes.pop("limit_w", 700.0),
    }
    return {
        "schema": 1,
        "kind": "power_cell",
        "cell": f"{model}-s4096-b{batch}-{mode}",
        "model": {"name": model, "parameters": 10**10, **shape},
        "mode": mode,
        "batch_size": batch,
        "sequence_length": 4096,
        "settings": {
            "window_s": 60.0,
            "warmup_s": 5.0,
            "trials": 3,
            "phases": ["prefill", "decode"],
            "attention_backend": "sdpa",
            "compile": False,
            "device": "cuda",
            "devices": [0],
            "seed": 0,
        },
        "identity": {
            "host": "node1",
            "gpus": [gpu],
            "driver": "580.159.04",
            "cpu": None,
            "torch": "2.11.0+cu130",
            "cuda": "13.0",
            "transformer_engine": "2.20.2",
            "python": "3.12.3",
            "power_source": "NVML field 186, instant",
            "energy_scope": "GPU only",
        },
        "attempt": 1,
        "status": status or ("valid" if valid else "invalid"),
        "reasons": [],
        "idle_power_w": 100.0,
        "phases": phases,
        "started_utc": "2026-01-02T03:00:00Z",
        "ended_utc": "2026-01-02T03:05:00Z",
    } | changes


def write(folder: Path, *records: dict[str, Any]) -> list[Path]:
    paths = []
    for number, record in enumerate(records):
        path = folder / f"{number:02}-{record['cell']}.json"
        path.write_text(json.dumps(record))
        paths.append(path)
    return paths
