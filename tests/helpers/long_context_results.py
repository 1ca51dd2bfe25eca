"""The result of a long-context validation, and a list with the items that use it."""

from typing import Any

COMMAND = (
    "`python tools/long_context_validation.py --sequence-lengths 32768 65536 --tensor-parallel-gpus 8 "
    "--output-json artifacts/long_context/r.json`"
)
LIST = f"""# L

## 4. Long
- [ ] Run: {COMMAND}.
- [ ] Note peak memory, add findings to `docs/f.md` (create if absent).
- [ ] Update `docs/TODO.md` once 32K/64K runs pass without OOM.
"""
GIB = 1024**3
PATH = "artifacts/long_context/r.json"


def entry(length: int) -> dict[str, Any]:
    kv = length * 8192
    total = GIB + kv + 3 * 2**20
    distance = {
        "positions": 384,
        "finite": True,
        "relative_error": 0.05,
        "top1_agreement": 0.8,
        "kl_mean_nats": 0.002,
        "kl_max_nats": 0.01,
    }
    energy = {"energy_j": 10.0, "power_w": 5.0, "tokens_per_joule": 2.0, "missing": None}
    return {
        "sequence_length": length,
        "status": "passed",
        "prediction": {
            "weights_bytes": GIB,
            "kv_bytes": kv,
            "activation_bytes": 2**20,
            "workspace_bytes": 2**20,
            "graph_bytes": 2**20,
            "reserve_bytes": 2**20,
            "load_bytes": GIB,
            "load_reserve_bytes": 2**20,
            "total_bytes": total,
            "needed_bytes": total + 2**25,
            "free_bytes": 100 * GIB,
            "fits": True,
        },
        "memory": [
            {
                "rank": rank,
                "weights_bytes": GIB,
                "kv_bytes": kv,
                "allocated_peak_bytes": total + 2**20,
                "reserved_peak_bytes": total + 2**22,
                "nvml_peak_bytes": total + GIB,
                "residual_bytes": 2**20,
                "residual_percent": 0.1,
                "missing": None,
            }
            for rank in range(8)
        ],
        "prefill": {
            "seconds": 2.0,
            "tokens_per_s": length / 2.0,
            "ttft_ms": 2001.0,
            "model_flops": 1e15,
            "mfu": [{"percent": 40.0, "peak_tflops": 1979.0, "peak_source": "NVIDIA H200 datasheet, dense"}],
            "energy": energy,
        },
        "decode": {
            "step_ms": 5.0,
            "step_min_ms": 4.9,
            "step_max_ms": 5.2,
            "wall_step_ms": 5.1,
            "steps": 128,
            "tokens_per_s": 200.0,
            "bytes_per_step": 10**9,
            "mbu": [{"percent": 60.0, "peak_tb_per_s": 4.8, "peak_source": "NVIDIA H200 datasheet"}],
            "energy": energy,
        },
        "fidelity": {
            "status": "compared",
            "reason": None,
            "reference": {"dtype": "bfloat16", "kv_dtype": "bfloat16"},
            "prompt": distance,
            "decode": dict(distance),
        },
        "needle": None,
        "failure": None,
        "beyond_positions": False,
    }


def result_of(*lengths: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": "long_context",
        "partial": False,
        "reasons": [],
        "asked": {
            "sequence_lengths": list(lengths),
            "length_divisor": 1,
            "tensor_parallel": 8,
            "fp8_mode": "auto",
            "kv_dtype": "auto",
            "attention_backend": "auto",
            "model": None,
            "memory_limit_gib": None,
            "predict_only": False,
            "seed": 0,
        },
        "identity": {
            "model": "llama-3.1-8b",
            "weights": "random",
            "tensor_parallel": 8,
            "matrix_dtype": "float8_e4m3fn",
            "kv_dtype": "float8_e4m3fn",
            "attention_backend": "sdpa",
            "attention_kernel": "paged",
            "decode_steps": "CUDA graphs",
            "device": "cuda",
            "device_name": "NVIDIA H200",
            "host": "node1",
            "torch_version": "2.11.0",
            "cuda_version": "13.0",
            "python_version": "3.12.3",
            "transformers_version": None,
        },
        "shape": {"name": "llama-3.1-8b", "parameters": 8},
        "setup": {
            "tensor_parallel": 8,
            "dtype": "bfloat16",
            "weight_dtype": "fp8",
            "kv_dtype": "fp8",
            "batch": 1,
            "chunk": 8192,
            "page_size": 128,
            "decode_tokens": 128,
            "on_gpu": True,
            "backend": "sdpa",
        },
        "memory": {"free_bytes": 100 * GIB, "total_bytes": 140 * GIB, "nvml_used_before_bytes": 0, "peak_source": "x"},
        "lengths": [entry(length) for length in lengths],
        "find_max": None,
        "started_utc": "2026-01-02T03:04:05Z",
        "ended_utc": "2026-01-02T03:05:05Z",
    }
