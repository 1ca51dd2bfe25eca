"""The flags of `long_context_validation.py`. Parsing needs no torch, so a mistyped flag is answered at once."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.shapes import OVERRIDES, SHAPES
from llmval_runners.process.arguments import DTYPES, Parser, count, dtype, natural, positive
from llmval_runners.process.errors import Refused, exit_codes
from llmval_runners.process.output import Report, add_output_flags, take_output
from llmval_runners.process.placement import FLAG as PLACEMENT_FLAG

DEFAULT_MODEL = "llama-3.1-8b"
EXIT_CODES = (
    exit_codes(
        "every length passed, or was predicted to fit (--predict-only)",
        "a length failed or ran out of memory (those before it are kept), another precision ran, or the run failed",
        None,
    )
    + " Under llmval, which judges the record itself: 0 if the record is complete."
)
EXAMPLES = """\
examples:
  python long_context_validation.py --sequence-lengths 32768 65536 \\
      --tensor-parallel-gpus 8 --output-json artifacts/long_context.json
  python long_context_validation.py --predict-only --memory-limit-gib 141 \\
      --sequence-lengths 131072
  python long_context_validation.py --model tiny --device cpu \\
      --sequence-lengths 128 --json -
"""
_DEFAULT_LENGTHS = (32768, 65536)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongContextOptions:
    """The flags as given. "auto" and None are decided in `settings.py`, which knows the machine."""

    sequence_lengths: tuple[int, ...]
    length_divisor: int
    tensor_parallel_gpus: int | None
    batch_size: int
    decode_tokens: int | None
    output_json: Path | None
    report: Report
    find_max: bool
    predict_only: bool
    model: str | None
    checkpoint: Path | None
    shape_overrides: dict[str, int | None]  # field of the model's shape → value
    device: str
    dtype: str
    kv_dtype: str
    fp8_mode: str
    attention_backend: str
    prefill_chunk: int | None
    page_size: int | None
    prefill_attention: str
    warm_up: str
    seed: int
    memory_limit_gib: float | None
    ignore_prediction: bool
    reference: str

    @property
    def lengths(self) -> list[int]:
        """Prompt tokens of each length to run, shortest first: a longer one is more likely to run out of memory."""
        return sorted(length // self.length_divisor for length in self.sequence_lengths)


def parser() -> argparse.ArgumentParser:
    """The flags of `long_context_validation.py`."""
    root = Parser(
        prog="long_context_validation.py",
        description="Predicts and then measures memory and time of a context length on this node, and the loss of "
        "accuracy by FP8. Plain Python starts torchrun itself if --tensor-parallel-gpus is above 1.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    root.add_argument(
        "--sequence-lengths", type=count, nargs="+", default=[], metavar="N", help="prompt tokens (default 32768 65536)"
    )
    root.add_argument(
        "--length-divisor", type=count, default=1, metavar="N", help="divide every length by N, for a quick trial"
    )
    root.add_argument(
        "--tensor-parallel-gpus", PLACEMENT_FLAG, dest="tensor_parallel_gpus", type=count, metavar="N",
        help="GPUs that share the model. Default: 1; under torchrun the ranks of a node, so that each of several nodes "
        "holds a replica, and all must pass. N ranks over all nodes: one replica for all",
    )  # fmt: skip
    root.add_argument("--batch-size", type=count, default=1, metavar="N", help="sequences at once (default 1)")
    root.add_argument(
        "--decode-tokens", type=count, metavar="N", help="decode steps after each prefill (default 128; on a CPU 8)"
    )
    add_output_flags(root)
    root.add_argument(
        "--find-max", action="store_true", help="find the longest context that fits, and prove it by running a step"
    )
    root.add_argument("--predict-only", action="store_true", help="print the predictions and exit; allocates nothing")

    model = root.add_argument_group("model")
    model.add_argument("--model", metavar="NAME", help=f"{', '.join(SHAPES)} (default {DEFAULT_MODEL}); random weights")
    model.add_argument("--checkpoint", type=Path, metavar="DIR", help="Hugging Face folder, in place of --model")
    for name in OVERRIDES:
        model.add_argument(f"--{name.replace('_', '-')}", type=count, metavar="N", help=argparse.SUPPRESS)

    engine = root.add_argument_group("engine")
    engine.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    names = "auto: bfloat16 on CUDA, float32 on a CPU; bf16, fp16 and fp32 are other names"
    engine.add_argument("--dtype", type=dtype, choices=DTYPES, default="auto", help=names)
    cache = "auto: fp8 if the weights are FP8, else --dtype"
    engine.add_argument("--kv-dtype", type=dtype, choices=(*DTYPES, "fp8"), default="auto", help=cache)
    engine.add_argument(
        "--fp8-mode",
        choices=("auto", "none", "native", "transformer-engine"),
        default="auto",
        help="FP8 of the weights; auto: native if the GPU has FP8 (compute capability 8.9), else none",
    )
    engine.add_argument("--attention-backend", choices=("auto", "flex", "sdpa"), default="auto")
    engine.add_argument("--prefill-chunk", type=count, metavar="N", help="prompt tokens/step (default 8192; CPU 128)")
    engine.add_argument("--page-size", type=count, metavar="N", help="tokens per KV page (default 128; on a CPU 16)")
    engine.add_argument(
        "--prefill-attention",
        choices=("auto", "bf16", "fp8"),
        default="auto",
        help="of prompts; fp8: by cuDNN (package nvidia-cudnn-frontend), on Hopper or later, with an FP8 cache; auto: "
        "fp8 where all of these are there",
    )
    engine.add_argument(
        "--warm-up",
        choices=("whole", "one-layer"),
        default="whole",
        help="warm-up of each length; one-layer is much faster, for prefills of minutes (default whole)",
    )
    engine.add_argument("--seed", type=natural, default=0)

    memory = root.add_argument_group("memory and fidelity")
    memory.add_argument("--memory-limit-gib", type=positive, metavar="GIB", help="use at most this memory of each GPU")
    memory.add_argument(
        "--ignore-prediction",
        action="store_true",
        help="also run lengths that should not fit, to test the prediction",
    )
    memory.add_argument(
        "--reference",
        type=dtype,
        choices=("auto", "none", "bfloat16", "float32"),
        default="auto",
        help="compare logits with this precision; auto: bfloat16 on CUDA, float32 on a CPU; none: skip it",
    )
    return root


def parse(argv: list[str]) -> LongContextOptions:
    """Raises Refused if a flag is unknown, a value is wrong, or two flags contradict each other."""
    found = parser().parse_args(argv)
    found.output_json, found.report = take_output(found)
    del found.quiet
    values = vars(found)
    overrides = {name: values.pop(name) for name in OVERRIDES}
    lengths = tuple(values.pop("sequence_lengths"))
    if not lengths and not values["find_max"]:
        lengths = _DEFAULT_LENGTHS
    options = LongContextOptions(sequence_lengths=lengths, shape_overrides=overrides, **values)
    if options.checkpoint is not None and (options.model or any(overrides.values())):
        raise Refused("--checkpoint brings its own shape: leave --model and the shape flags out.")
    short = [length for length in lengths if length < options.length_divisor]
    if short:
        raise Refused(f"{short[0]} tokens divided by {options.length_divisor} leave none: pass longer ones.")
    if len(set(options.lengths)) != len(lengths):
        raise Refused("two of the --sequence-lengths are equal: name each once.")
    return options
