"""Running out of memory: which allocation failed, during which work, and how wrong the prediction was.

The other ranks hang in a collective until torchrun ends them, so a rank without memory writes a file beside the result.
Rank 0 reads these files into the result.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from llmval_runners.long_context.setup import GIB
from llmval_runners.process.files import write_json

_UNITS = {"bytes": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_MESSAGES = re.compile(
    r"out of memory|(CUBLAS|CUDNN)_STATUS_(\w+_)?ALLOC(ATION)?_FAILED|can't allocate memory", re.IGNORECASE
)
_TRIED = re.compile(r"[Tt]ried to allocate ([\d.]+) (bytes|KiB|MiB|GiB)")


def is_out_of_memory(error: BaseException) -> bool:
    return _out_of_memory(error) is not None


def _out_of_memory(error: BaseException) -> BaseException | None:
    """The error itself, or its cause: `parallel.py` reports a failed collective as the loss of another rank.

    Only torch's CUDA allocator raises an own type. The CPU's allocator, cuBLAS, cuDNN, NCCL, Triton and the driver are
    recognised by their messages.
    """
    for candidate in (error, error.__cause__):
        if isinstance(candidate, torch.OutOfMemoryError | MemoryError):
            return candidate
        if isinstance(candidate, RuntimeError) and _MESSAGES.search(str(candidate)):
            return candidate
    return None


def describe(error: BaseException, rank: int, where: str, predicted: int, allocated: int | None) -> dict[str, Any]:
    """The failure as the result records it.

    Args:
        error: the failure that `is_out_of_memory` recognised.
        rank: this rank.
        where: the work during which memory ran out.
        predicted: predicted peak, bytes.
        allocated: bytes that the allocator held; with the failed allocation, a lower bound of the need.
    """
    error = _out_of_memory(error) or error
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
        # Negative: the device had less memory than was predicted to be needed. Positive: the prediction was too low.
        "prediction_error_bytes": None if least is None else least - predicted,
    }


def sentence(failure: dict[str, Any], length: int) -> str:
    tried = failure["tried_bytes"]
    what = f"an allocation of {tried / GIB:.2f} GiB" if tried else "an allocation"
    error, predicted = failure["prediction_error_bytes"], failure["predicted_bytes"]
    need = ""
    if error is not None:
        need = (
            f"; together with the memory in use, at least {(predicted + error) / GIB:.2f} GiB were needed, and "
            f"{predicted / GIB:.2f} were predicted ({error / GIB:+.2f})"
        )
    return f"out of memory at {length:,} tokens on rank {failure['rank']}: {what} failed in {failure['where']}{need}"


def _path(output: Path, rank: int) -> Path:
    return output.with_name(f".{output.stem}.rank{rank}.failure.json")


def write_rank_failure(output: Path, failure: dict[str, Any]) -> None:
    write_json(_path(output, failure["rank"]), failure)


def read_rank_failures(output: Path, ranks: range) -> list[dict[str, Any]]:
    """The failures that ranks wrote, by rank."""
    paths = [_path(output, rank) for rank in ranks]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def delete_rank_failures(output: Path, ranks: range) -> None:
    for rank in ranks:
        _path(output, rank).unlink(missing_ok=True)
