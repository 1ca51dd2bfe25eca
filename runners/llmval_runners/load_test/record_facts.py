"""What the record says besides the requests: the workload that was asked for, the KV cache, and the GPUs' work."""

from typing import Any

import torch
from llmval_runners.engine.config import EngineConfig
from llmval_runners.engine.loader import Loaded
from llmval_runners.load_test.config import LoadConfig
from llmval_runners.load_test.energy import WindowEnergy
from llmval_runners.load_test.generator import Load
from llmval_runners.load_test.identity import name_of
from llmval_runners.load_test.load_flags import recorded_burstiness
from llmval_runners.load_test.result import Measured
from llmval_runners.load_test.utilisation import utilisation
from llmval_runners.process.placement import Placement


def workload_of(load: Load, asked: LoadConfig, config: EngineConfig) -> dict[str, Any]:
    """The record's `workload`: rates in requests/s, times in s, lengths in tokens."""
    return {
        "target_qps": load.target_qps,
        "duration_s": load.duration_s,
        "burstiness": recorded_burstiness(asked.burstiness),
        "prompt_len": str(asked.prompt),
        "output_len": str(asked.output),
        "warmup_requests": len(load.warmup),
        "max_in_flight": asked.max_in_flight,
        "temperature": config.temperature,
        "seed": load.seed,
        "max_batch": config.max_batch,
        "prefill_chunk": config.prefill_chunk,
    }


def kv_cache_of(executor: Loaded, config: EngineConfig, place: Placement) -> dict[str, Any]:
    """The record's `kv_cache`, of one replica."""
    cache = executor.cache
    return {
        "bytes_per_rank": cache.bytes_per_rank,
        "bytes_total": cache.bytes_per_rank * place.tensor_parallel,
        "tokens": cache.pages * config.page_size,
        "page_size": config.page_size,
        "dtype": name_of(config.kv_dtype),
    }


def add_machine(
    measured: Measured,
    steps: int,
    config: EngineConfig,
    place: Placement,
    *,
    energy: WindowEnergy,
    fp8_mode: str,
    ceilings: dict[str, float] | None,
) -> None:
    """Add the memory, energy and utilisation of the window's GPUs to the record.

    Args:
        steps: the engine's steps in the window.
        fp8_mode: the mode that ran.
        ceilings: those of rank 0's GPU, if they were measured.
    """
    on_cuda = config.device.type == "cuda"
    if on_cuda:
        peak = torch.cuda.max_memory_allocated(config.device)
        measured.extras["memory"] = measured.extras.get("memory", {}) | {"peak_allocated_bytes": peak}
    tokens = sum(len(request.token_times) for request in measured.sent)
    if (used := energy.record(tokens)) is not None:
        measured.extras["energy"] = used
    table = config.shape.vocab * config.shape.hidden * config.dtype.itemsize  # a step reads only some of its rows
    measured.extras["utilisation"] = utilisation(
        measured.sent, steps, measured.duration_s, shape=config.shape, ranks=place.tensor_parallel,
        weight_bytes=config.weight_bytes_per_rank - table, kv_element_bytes=config.kv_dtype.itemsize,
        fp8_mode=fp8_mode, gpu=torch.cuda.get_device_name(config.device) if on_cuda else None, measured=ceilings,
    )  # fmt: skip
