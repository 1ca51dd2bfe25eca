"""Out of memory, told so that it can be acted on: which allocation, where, and how wrong the prediction was.

A rank that runs out of memory leaves its word beside the result, since its peers hang in a collective until torchrun
ends them; rank 0 gathers what it finds.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from llmval_runners.process.files import write_json

GIB = 1024**3
_UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_WORDS = re.compile(
    r"out of memory|(CUBLAS|CUDNN)_STATUS_(\w+_)?ALLOC(ATION)?_FAILED|can't allocate memory", re.IGNORECASE
)
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")


def is_out_of_memory(error: BaseException) -> bool:
    return _of_memory(error) is not None


def _of_memory(error: BaseException) -> BaseException | None:
    """The error itself, or the one within it: a collective's is wrapped as the loss of another rank (`parallel.py`).

    Only torch's CUDA allocator has a type for it; the CPU's, cuBLAS, cuDNN, NCCL, Triton and the driver have words.
    """
    for one in (error, error.__cause__):
        if isinstance(one, torch.OutOfMemoryError | MemoryError):
            return one
        if isinstance(one, RuntimeError) and _WORDS.search(str(one)):
            return one
    return None


def describe(error: BaseException, rank: int, where: str, predicted: int, allocated: int | None) -> dict[str, Any]:
    """`allocated`: bytes that the allocator held then; with the failed allocation, the least that was needed."""
    error = _of_memory(error) or error
    text = (str(error).splitlines() or [""])[0]
    match = _TRIED.search(str(error))
    tried = round(float(match[1]) * _UNITS[match[2]]) if match else None
    least = None if tried is None or allocated is None else tried + allocated
    return {
        "rank": rank,
        "where": where,
        "message": text or type(error).__name__,
        "tried_bytes": tried,
        "allocated_bytes": allocated,
        "predicted_bytes": predicted,
        # Negative: the device had less to give than was predicted to be needed; positive: the prediction was too low.
        "prediction_error_bytes": None if least is None else least - predicted,
    }


def sentence(failure: dict[str, Any], length: int) -> str:
    tried = failure["tried_bytes"]
    what = f"an allocation of {tried / GIB:.2f} GiB" if tried else "an allocation"
    error, predicted = failure["prediction_error_bytes"], failure["predicted_bytes"]
    told = ""
    if error is not None:
        told = (
            f"; with what was held, at least {(predicted + error) / GIB:.2f} GiB were needed, and "
            f"{predicted / GIB:.2f} were predicted ({error / GIB:+.2f})"
        )
    return f"out of memory at {length:,} tokens on rank {failure['rank']}: {what} failed in {failure['where']}{told}"


def _place(output: Path, rank: int) -> Path:
    return output.with_name(f".{output.stem}.rank{rank}.failure.json")


def leave(output: Path, failure: dict[str, Any]) -> None:
    write_json(_place(output, failure["rank"]), failure)


def gather(output: Path, ranks: int) -> list[dict[str, Any]]:
    """What the ranks left; it is removed once it is in the result."""
    found = []
    for rank in range(ranks):
        place = _place(output, rank)
        if place.is_file():
            found.append(json.loads(place.read_text()))
    return found


def forget(output: Path, ranks: int) -> None:
    for rank in range(ranks):
        _place(output, rank).unlink(missing_ok=True)
