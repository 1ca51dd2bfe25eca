"""The time of a step's all-reduces alone, and the decode step's time modelled from memory reads and all-reduces."""

import statistics
import time
from typing import Any

import torch
from llmval_runners.engine.kernels import all_reduce
from llmval_runners.engine.parallel import Parallel

CALLS = 32  # per graph. It is replayed twice: the first replay aligns the ranks and hides the second's launch
SIZES = tuple(2**power * 1024 for power in range(4, 11))  # bytes: 16 KiB … 1 MiB
BOUNDS = {2: 0.75, 4: 0.70}  # by GPUs: the least share of the measured step that the model must explain
_FIRST = 2.0**-100  # scale of the values: NCCL sums in place, so 64 calls on 8 ranks multiply them by 2^192


def choices(parallel: Parallel) -> list[str]:
    """The all-reduces that can be compared here; only NCCL if the GPUs cannot share memory."""
    if parallel.device.type != "cuda":
        return ["gloo"]
    shared = [] if parallel.symmetric_memory_error() else [all_reduce.ONE_SHOT, all_reduce.TWO_SHOT]
    return [all_reduce.NCCL, *shared]


def all_reduce_seconds(parallel: Parallel, nbytes: int, choice: str, dtype: torch.dtype, repeats: int) -> float:
    """Median seconds of one call for `nbytes`, made as in the engine, with the copy into the shared buffer.

    Every rank must call it. On GPUs it times a CUDA graph of `CALLS` calls. `choice` is one of `choices`; the previous
    choice is restored at the end.
    """
    device, count = parallel.device, nbytes // dtype.itemsize
    tensor = torch.empty(count, dtype=dtype, device=device)
    if device.type == "cpu":
        taken = []
        for _ in range(repeats + 1):
            tensor.normal_()
            begun = time.perf_counter()
            for _ in range(4):
                parallel.all_reduce(tensor)
            taken.append((time.perf_counter() - begun) / 4)
        return statistics.median(taken[1:])
    with parallel.using_all_reduce(choice):
        if (served := parallel.all_reduce_for(tensor)) != choice:
            raise ValueError(f"{nbytes} bytes are summed by {served}, not by {choice}")
        return statistics.median(_replays(parallel, tensor, repeats))


def _replays(parallel: Parallel, tensor: torch.Tensor, repeats: int) -> list[float]:
    with torch.inference_mode():
        parallel.all_reduce(tensor.fill_(0))  # before the capture: creates buffers and connections
        torch.cuda.synchronize(parallel.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for _ in range(CALLS):
                parallel.all_reduce(tensor)
        taken = []
        for _ in range(repeats + 1):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch leaves it untyped
            tensor.normal_().mul_(_FIRST)
            graph.replay()
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end) / 1e3 / CALLS)
    return taken[1:]


def table(parallel: Parallel, dtype: torch.dtype, repeats: int) -> list[dict[str, Any]]:
    """One row per size and all-reduce.

    `bytes_per_s` is nccl-tests' algbw (bytes / time). `busbw_gb_per_s` is its busbw: algbw · 2(n − 1)/n, the rate on a
    rank's links, which does not depend on the number of ranks.
    """
    bus = 2 * (parallel.size - 1) / parallel.size / 1e9
    return [
        {
            "row": "all_reduce", "all_reduce": choice, "value": 1e6 * taken, "unit": "us a call", "bytes": size,
            "bytes_per_s": size / taken, "busbw_gb_per_s": size / taken * bus,
        }
        for size in SIZES
        for choice in choices(parallel)
        if (taken := all_reduce_seconds(parallel, size, choice, dtype, repeats))
    ]  # fmt: skip


def roofline(
    parallel: Parallel, *, ran: str, weight_bytes: int, kv_bytes: int, bytes_per_s: float, all_reduces: int,
    all_reduce_bytes: int, dtype: torch.dtype, repeats: int,
) -> dict[str, Any]:  # fmt: skip
    """The modelled time of a decode step and its terms: one rank's reads at the copy's rate, plus the all-reduces.

    This call measures an all-reduce of `all_reduce_bytes` and counts it `all_reduces` times. The sum has the time of
    `ran`, which the step uses; the times of the other all-reduces are for comparison. The model has no overlap, because
    each sum is needed before the next product.
    """
    times = {
        choice: all_reduce_seconds(parallel, all_reduce_bytes, choice, dtype, repeats)
        for choice in choices(parallel)
        if choice in (ran, all_reduce.NCCL, "gloo") or all_reduce_bytes <= all_reduce.MAX_BYTES
    }
    memory, sums = (weight_bytes + kv_bytes) / bytes_per_s, all_reduces * times[ran]
    return {
        "weight_bytes": weight_bytes,
        "kv_bytes": kv_bytes,
        "copy_bytes_per_s": bytes_per_s,
        "memory_ms": memory * 1e3,
        "all_reduces": all_reduces,
        "all_reduce_bytes": all_reduce_bytes,
        "all_reduce_us": {choice: taken * 1e6 for choice, taken in times.items()},
        "all_reduce_ms": sums * 1e3,
        "step_ms": (memory + sums) * 1e3,
        "step_ms_fastest_all_reduce": (memory + all_reduces * min(times.values())) * 1e3,
    }
