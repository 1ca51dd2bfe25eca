"""What the engine makes of a checkpoint, as JSON: the process of `checkpoint_check.py`, started by `llmval doctor`."""

from collections import Counter
from pathlib import Path
from typing import Any

from llmval_runners.engine.checkpoint.gate import Checkpoint, read_checkpoint
from llmval_runners.engine.shapes import ModelShape, weight_bytes_on
from llmval_runners.process.arguments import Parser
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, USAGE_EXIT, Refused, exit_codes
from llmval_runners.process.output import guard_streams, say, say_json
from llmval_runners.process.shutdown import end_on_signals

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
    """Print the description of a checkpoint; 2 with one sentence if it is refused."""
    guard_streams()
    end_on_signals()
    try:
        found = describe(read_checkpoint(_parser().parse_args(argv).folder))
    except Refused as refusal:
        say(f"refused: {refusal}", to_stderr=True)
        return USAGE_EXIT
    return GOOD_EXIT if say_json(found) else FAILED_EXIT


def _parser() -> Parser:
    root = Parser(
        prog="checkpoint_check.py",
        description="Say what the engine makes of a checkpoint: the model, its limits and its memory on each of "
        "several GPUs, as JSON. Reads no weights, and needs no torch.",
        examples="examples:\n  python checkpoint_check.py /models/llama-3.1-8b",
        exit_codes=exit_codes(good="the engine can run it", failed="the JSON could not be written", undecided=None),
    )
    root.add_argument("folder", type=Path, metavar="DIR", help="folder of a Hugging Face checkpoint")
    return root
