"""The growing result: predictions, then each length, then the comparison. The file is rewritten after each step."""

import importlib.metadata
import platform
import socket
from datetime import UTC, datetime
from typing import Any

import torch
from llmval_runners.long_context import record
from llmval_runners.long_context.engine_adapter import DTYPES, Context, Weights
from llmval_runners.long_context.last_screen import verdict_of
from llmval_runners.long_context.predict.peak_memory import Parts
from llmval_runners.long_context.settings import Settings


class Result:
    """`value` is the JSON. It is `partial` until `finish`, so the file of a killed run shows that it is incomplete."""

    def __init__(self, settings: Settings, ranks: int, replicas: int = 1) -> None:
        """`ranks`: that share the model; `replicas`: of it."""
        self.settings = settings
        self.nvml_before: int | None = None
        options, setup = settings.options, settings.setup
        self.value: dict[str, Any] = {
            "schema": record.SCHEMA,
            "kind": "long_context",
            "partial": True,
            "reasons": ["the run did not come to its end"],
            "asked": {
                "sequence_lengths": list(options.sequence_lengths),
                "length_divisor": options.length_divisor,
                "tensor_parallel": ranks,
                "fp8_mode": options.fp8_mode,
                "kv_dtype": options.kv_dtype,
                "attention_backend": options.attention_backend,
                "prefill_attention": options.prefill_attention,
                "warm_up": options.warm_up,
                "model": options.model,
                "memory_limit_gib": options.memory_limit_gib,
                "predict_only": options.predict_only,
                "seed": options.seed,
            },
            "identity": {
                "model": setup.shape.name,
                "weights": str(options.checkpoint) if options.checkpoint else "random",
                "tensor_parallel": ranks,
                "data_parallel": replicas,
                "matrix_dtype": None,
                "fp8_kernel": None,
                "kv_dtype": None,
                "attention_backend": None,
                "attention_kernel": None,
                "prefill_attention": None,
                "decode_steps": "CUDA graphs" if settings.device.type == "cuda" else "eager",
                "device": settings.device.type,
                "device_name": _device_name(settings.device),
                "host": socket.gethostname(),
                "torch_version": torch.__version__,
                "cuda_version": torch.version.cuda,
                "python_version": platform.python_version(),
                "transformers_version": _version("transformers") if options.checkpoint else None,
            },
            "shape": record.shape_json(setup),
            "setup": record.setup_json(setup),
            "memory": None,
            "lengths": [],
            "find_max": None,
            "started_utc": _now(),
            "ended_utc": None,
        }
        self.value["verdict"] = verdict_of(self.value, early=True).as_json()

    def add_predictions(self, found: list[tuple[int, Parts]], free_bytes: int) -> None:
        device = self.settings.device
        total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
        self.value["memory"] = {
            "free_bytes": free_bytes,
            "total_bytes": total,
            "nvml_used_before_bytes": self.nvml_before,
            "peak_source": "torch.cuda.max_memory_allocated a rank; NVML is the whole device, all processes",
        }
        positions = self.settings.setup.shape.max_positions
        for length, parts in found:
            fidelity = {"status": "not_run", "prompt": None, "decode": None, "reason": "the run ended before it"}
            if self.settings.no_reference is not None:
                fidelity |= {"status": "not_compared", "reason": self.settings.no_reference}
            self.value["lengths"].append(
                {
                    "sequence_length": length,
                    "status": "not_run",
                    "prediction": record.prediction_json(parts, free_bytes),
                    "memory": [],
                    "prefill_attention": None,
                    "prefill": None,
                    "decode": None,
                    "fidelity": fidelity,
                    "needle": None,
                    "failure": None,
                    # Random weights run at any position. Memory and time hold there; a model's answers would not.
                    "beyond_positions": length + self.settings.setup.decode_tokens > positions,
                }
            )

    def set_identity(self, weights: Weights, context: Context) -> None:
        """Record the dtypes and kernels of the weights under test, read from the tensors. Ignores the reference."""
        if weights.setup != self.settings.setup:
            return
        self.value["identity"] |= {
            "matrix_dtype": weights.matrix_dtype(),
            "fp8_kernel": weights.fp8_kernel(),
            "kv_dtype": context.kv_dtype(),
            "attention_backend": context.attention.name,
            "attention_kernel": context.attention.kernel,
        }

    def set_prefill_attention(self, length: int, context: Context) -> None:
        """Record the attention precision that the prompts of a length really used; the identity joins all of them."""
        self._entry(length)["prefill_attention"] = context.prefill_attention() or "bf16"
        ran = {entry["prefill_attention"] for entry in self.value["lengths"]} - {None}
        self.value["identity"]["prefill_attention"] = "+".join(sorted(ran))

    def add_measurement(self, length: int, entry: dict[str, Any]) -> None:
        self._entry(length).update(entry)

    def add_needle(self, length: int, found: dict[str, Any]) -> None:
        self._entry(length)["needle"] = found

    def add_fidelity(self, length: int, found: dict[str, Any]) -> None:
        reference = self.settings.reference
        assert reference is not None
        self._entry(length)["fidelity"] = {
            "status": "compared",
            "reason": None,
            "reference": {"dtype": reference.dtype, "kv_dtype": reference.kv_dtype},
            **found,
        }

    def skip_fidelity(self, length: int, reason: str) -> None:
        self._entry(length)["fidelity"] = {"status": "not_run", "prompt": None, "decode": None, "reason": reason}

    def end_early(self, failures: list[dict[str, Any]], why: str) -> None:
        """The run ended early. `failures`: the ranks that ran out of memory, as they recorded it."""
        current = next((entry for entry in self.value["lengths"] if entry["status"] == "not_run"), None)
        if failures and current is not None:
            current["status"] = "out_of_memory"
            current["failure"] = failures
        self.value["reasons"] = [why]
        self.value["verdict"] = verdict_of(self.value, early=not failures).as_json()
        self.value["ended_utc"] = _now()

    def finish(self) -> None:
        """The run is complete. `reasons` lists everything that did not pass."""
        reasons = [
            f"{entry['sequence_length']:,} tokens: {entry['status'].replace('_', ' ')}"
            for entry in self.value["lengths"]
            if entry["status"] != "passed"
        ]
        reasons += self._precision_reasons()
        maximum = self.value["find_max"] or {}
        if maximum.get("failure"):
            reasons.append(f"{maximum['length']:,} tokens were predicted to fit and ran out of memory (--find-max)")
        self.value |= {"partial": False, "reasons": reasons, "ended_utc": _now()}
        self.value["verdict"] = verdict_of(self.value).as_json()

    def _precision_reasons(self) -> list[str]:
        """A run does not pass if another precision ran than the one requested."""
        setup, identity, found = self.settings.setup, self.value["identity"], []
        for what, wanted in (("matrix_dtype", setup.weight_dtype), ("kv_dtype", setup.kv_dtype)):
            name = str(DTYPES[wanted]).removeprefix("torch.")
            if identity[what] is not None and identity[what] != name:
                found.append(f"{what} is {identity[what]} instead of {name}")
        for entry in self.value["lengths"]:
            fidelity, length = entry["fidelity"], entry["sequence_length"]
            ran = entry["prefill_attention"]
            if ran is not None and ran != setup.prefill_attention:
                found.append(f"{length:,} tokens: prompts ran in {ran} attention instead of {setup.prefill_attention}")
            if fidelity["status"] != "compared":
                continue
            errors = [fidelity[kind]["relative_error"] for kind in ("prompt", "decode")]
            if None in errors:
                found.append(f"{length:,} tokens: some logits are NaN or infinite")
            elif 0.0 in errors:
                found.append(
                    f"{length:,} tokens: logits equal the reference's bit for bit, so the precision did not run"
                )
        return found

    def _entry(self, length: int) -> dict[str, Any]:
        return next(entry for entry in self.value["lengths"] if entry["sequence_length"] == length)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine() or "CPU"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
