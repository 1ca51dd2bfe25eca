"""What ran in a load test, read from the executor; part of its record."""

from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine import loader
from llmval_runners.engine.config import EngineConfig


def identity_of(config: EngineConfig, executor: loader.Loaded | None) -> dict[str, Any]:
    """The settings that really ran; without an executor the configured ones, or null."""
    compiled = executor.compiled if executor else None
    on_cuda = config.device.type == "cuda"
    return {
        "model": config.shape.name,
        "parameters": config.shape.parameters,
        "weights": str(config.checkpoint.folder) if config.checkpoint else "random",
        "tokenizer": "none: random token ids",
        "dtype": name_of(executor.model.embedding.dtype if executor else config.dtype),
        "kv_dtype": name_of(executor.cache.dtype if executor else config.kv_dtype),
        "attention_backend": executor.attention.name if executor else None,
        "attention_kernel": executor.attention.kernel if executor else None,
        "fp8_mode": loader.fp8_mode(executor.model) if executor else config.fp8_mode,
        "fp8_kernel": loader.fp8_kernel(executor.model) if executor else None,
        "compile_mode": compiled.mode if compiled else "off" if executor else config.compile_mode,
        "compile": compiled.as_json() if compiled else None,
        "tensor_parallel": executor.model.parallel.size if executor else config.tensor_parallel,
        "all_reduce": executor.model.parallel.all_reduce_name if executor else None,
        "device": config.device.type,
        "device_name": torch.cuda.get_device_name(config.device) if on_cuda else _cpu_name(),
        "torch_version": torch.__version__,
        "seed": config.seed,
        "shape": {
            name: getattr(config.shape, name)
            for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")
        },
    }


def _cpu_name() -> str:
    with Path("/proc/cpuinfo").open() as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "CPU")


def name_of(dtype: torch.dtype) -> str:
    """The name of a dtype without torch's."""
    return str(dtype).removeprefix("torch.")
