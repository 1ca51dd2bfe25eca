"""What the engine makes of a checkpoint, as JSON: the process of `checkpoint_check.py`, started by `llmval doctor`."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from llmval_runners.engine.checkpoint.gate import Checkpoint, read_checkpoint
from llmval_runners.engine.shapes import ModelShape, weight_bytes_on
from llmval_runners.process.errors import USAGE_EXIT, Refused

RANKS = (1, 2, 4, 8)
_SHAPE = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "max_positions")


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """The model, its limits, and its memory on each of several GPUs, in bytes (weights in 16 bits and in FP8)."""
    shape, quantization, limit = checkpoint.shape, checkpoint.quantization, checkpoint.shape.context_limit
    dtypes = Counter(weight.tensor.dtype for weight in checkpoint.weights.values())
    return {
        "architecture": checkpoint.architecture,
        "name": shape.name,
        "parameters": shape.parameters,
        "shape": {name: getattr(shape, name) for name in _SHAPE},
        "dtypes": dict(dtypes.most_common()),
        "quantization": quantization.method if quantization else None,
        "on_gpu": _on_gpu(checkpoint),
        "context_tokens": min(shape.max_positions, limit.tokens if limit else shape.max_positions),
        "context_reason": limit.reason if limit else None,
        "ranks": {str(ranks): memory for ranks in RANKS if (memory := _memory(shape, ranks)) is not None},
    }


def _on_gpu(checkpoint: Checkpoint) -> str:
    """The precision in which a GPU runs it if no flag says otherwise."""
    quantization = checkpoint.quantization
    if quantization is None:
        return "in bfloat16"
    if not checkpoint.in_fp8:
        return f"multiplied out to bfloat16 from {quantization.dtype}"
    if quantization.block is not None:
        return "in FP8 with one scale an output feature (requantised from blocks) if the GPU has FP8, else in bfloat16"
    return "in FP8 with its own scales if the GPU has FP8, else in bfloat16"


def _memory(shape: ModelShape, ranks: int) -> dict[str, int] | None:
    try:
        shape.check_tensor_parallel(ranks)
    except Refused:
        return None
    return {
        "weight_bytes_16_bit": weight_bytes_on(shape, ranks, 2, 2),
        "weight_bytes_fp8": weight_bytes_on(shape, ranks, 2, 1),
        "kv_bytes_per_token_16_bit": shape.kv_bytes_per_token_on(ranks, 2),
    }


def main(argv: list[str]) -> int:
    """Print the description of the checkpoint in the folder `argv[0]`; 2 with one sentence if it is refused."""
    if len(argv) != 1:
        print("usage: checkpoint_check.py DIR", file=sys.stderr)
        return USAGE_EXIT
    try:
        found = describe(read_checkpoint(Path(argv[0])))
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return USAGE_EXIT
    print(json.dumps(found, indent=1))
    return 0
