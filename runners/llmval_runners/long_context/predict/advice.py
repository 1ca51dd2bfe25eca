"""Advice if a length does not fit: fewer bytes an element, more GPUs, fewer sequences, or a shorter context."""

from dataclasses import replace

from llmval_runners.long_context.predict.peak_memory import longest_fit, predict
from llmval_runners.long_context.setup import GIB, Setup
from llmval_runners.process.errors import Refused

MOST_GPUS = 64


def fits(setup: Setup, length: int, free_bytes: int) -> bool:
    return predict(setup, length).needed_bytes <= free_bytes


def refusal(setup: Setup, length: int, free_bytes: int) -> str:
    """One sentence: what does not fit, by how much, and what would fit (with the same free memory on each GPU)."""
    parts = predict(setup, length)
    ranks = "GPU" if setup.on_gpu else "rank"
    ways = remedies(setup, length, free_bytes)
    return (
        f"{length:,} tokens × {setup.batch} of {setup.shape.name} need {_gib(parts.needed_bytes)} on each {ranks} "
        f"(weights {_gib(parts.weights_bytes)}, KV cache {_gib(parts.kv_bytes)}, the rest for a step and a margin) and "
        f"{_gib(free_bytes)} are free: {', or '.join(ways)}."
    )


def remedies(setup: Setup, length: int, free_bytes: int) -> list[str]:
    """Flags to pass instead, the smallest change first; at least one."""
    found = []
    kv, fp8 = replace(setup, kv_dtype="fp8"), replace(setup, weight_dtype="fp8")
    both = replace(kv, weight_dtype="fp8")
    for flags, other in (
        ("--kv-dtype fp8", kv),
        ("--fp8-mode native", fp8),
        ("--kv-dtype fp8 --fp8-mode native", both),
    ):
        if setup.on_gpu and other != setup and fits(other, length, free_bytes):
            found.append(f"pass {flags} ({_gib(predict(other, length).needed_bytes)})")
            break
    ranks = enough_ranks(setup, length, free_bytes)
    if ranks is not None:
        need = predict(replace(setup, tensor_parallel=ranks), length).needed_bytes
        found.append(f"pass --tensor-parallel-gpus {ranks} ({_gib(need)} on each)")
    batch = largest_batch(setup, length, free_bytes)
    if batch:
        found.append(f"pass --batch-size {batch}")
    longest = longest_fit(setup, free_bytes)
    if longest:
        found.append(f"pass --sequence-lengths {longest} or shorter")
    return found or [
        "no shorter context fits either: pass a smaller --model or --prefill-chunk, or use GPUs with more memory"
    ]


def largest_batch(setup: Setup, length: int, free_bytes: int) -> int:
    """The largest batch below the setup's that fits; 0 if none does. A larger batch never needs less memory."""
    low, high = 0, setup.batch - 1
    while low < high:
        middle = (low + high + 1) // 2
        if fits(replace(setup, batch=middle), length, free_bytes):
            low = middle
        else:
            high = middle - 1
    return low


def enough_ranks(setup: Setup, length: int, free_bytes: int) -> int | None:
    """The smallest larger number of GPUs that divides the model evenly and holds it; None if there is none."""
    for ranks in range(setup.tensor_parallel + 1, MOST_GPUS + 1):
        try:
            setup.shape.check_tensor_parallel(ranks)
        except Refused:
            continue
        if fits(replace(setup, tensor_parallel=ranks), length, free_bytes):
            return ranks
    return None


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count:,} bytes"
