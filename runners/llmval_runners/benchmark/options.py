"""The engine benchmark's flags; parsing needs no torch."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.shapes import DEFAULT_MODEL, SHAPES
from llmval_runners.process.arguments import Parser, count, natural
from llmval_runners.process.errors import Refused, exit_codes
from llmval_runners.process.output import Report, add_output_flags, take_output

ROWS = ("decode", "prefill", "long", "attention", "saturated", "all_reduce")
PRECISIONS = ("bf16", "fp8", "fp8-weights", "transformer-engine")
BACKENDS = ("sdpa", "flex")
ALL_REDUCES = ("nccl", "one-shot", "two-shot", "auto")  # equal to all_reduce.CHOICES, but that module imports torch

EXIT_CODES = exit_codes("every row was measured", "a row is below its bound, or the benchmark itself failed", None)
EXAMPLES = """\
examples:
  python engine_benchmark.py --rows decode,prefill,long,saturated \\
      --backends sdpa --output-json artifacts/engine.json
  python engine_benchmark.py --tensor-parallel-gpus 2 --rows decode,all_reduce
  python engine_benchmark.py --model tiny --device cpu --json -
"""


def parser() -> argparse.ArgumentParser:
    """The flags of `engine_benchmark.py`."""
    root = Parser(
        prog="engine_benchmark.py",
        description="Measure the load test's engine and the best rates of the device in one process, on random weights "
        "and tokens. Plain Python starts torchrun itself if --tensor-parallel-gpus is above 1.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    rows = f"some of {','.join(ROWS)} (default decode,prefill)"
    root.add_argument("--rows", default="decode,prefill", metavar="LIST", help=rows)
    root.add_argument("--backends", default="sdpa,flex", metavar="LIST", help="sdpa, flex or both (default both)")
    root.add_argument(
        "--precisions", default="bf16,fp8", metavar="LIST",
        help="some of bf16, fp8 (weights and KV cache), fp8-weights and transformer-engine (weights by Transformer "
        "Engine, KV cache as fp8) (default bf16,fp8); a CPU always computes in float32",
    )  # fmt: skip
    gpus = "GPUs that share the model (default 1; under torchrun, its ranks)"
    root.add_argument("--tensor-parallel-gpus", type=count, metavar="N", help=gpus)
    sums = f"some of {','.join(ALL_REDUCES)}, each with its own engine (default LLMVAL_ALL_REDUCE, else nccl)"
    root.add_argument("--all-reduce", metavar="LIST", help=sums)
    models = f"{', '.join(SHAPES)} (default {DEFAULT_MODEL})"
    root.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help=models)
    compiled = "for bf16 and float32 only: pass --precisions bf16 too (default off)"
    root.add_argument("--compile-mode", choices=("default", "smart", "off"), default="off", help=compiled)
    root.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    root.add_argument("--batches", metavar="LIST", help="batch sizes of the decode rows (default 1,32,256; tiny 1,4)")
    context = "tokens per sequence in the decode rows (default 1088; tiny 32)"
    root.add_argument("--context", type=count, metavar="N", help=context)
    root.add_argument("--prompts", type=count, metavar="N", help="prompts in the prefill row (default 16; tiny 2)")
    root.add_argument("--prompt", type=count, metavar="N", help="tokens of each prompt (default 4096; tiny 64)")
    root.add_argument("--chunk", type=count, metavar="N", help="prompt tokens per step (default 8192; tiny 64)")
    root.add_argument("--long", type=count, metavar="N", help="tokens of the long prompt (default 65536; tiny 128)")
    repeats = "runs of each figure; the median counts (default 3)"
    root.add_argument("--repeats", type=count, default=3, metavar="N", help=repeats)
    root.add_argument("--seed", type=natural, default=0)
    add_output_flags(root)
    return root


@dataclass(frozen=True, slots=True)
class BenchmarkOptions:
    """The parsed flags, with the model's default sizes filled in; lengths in tokens."""

    rows: list[str]
    backends: list[str]
    precisions: list[str]
    all_reduce: list[str] | None
    tensor_parallel_gpus: int | None
    model: str
    compile_mode: str
    device: str
    batches: list[int]
    context: int
    prompts: int
    prompt: int
    chunk: int
    long: int
    repeats: int
    seed: int
    output_json: Path | None
    report: Report


def parse(argv: list[str]) -> BenchmarkOptions:
    """Parse; raises Refused."""
    found = parser().parse_args(argv)
    path, report = take_output(found)
    small = found.model == "tiny"

    def size(value: int | None, large: int, tiny: int) -> int:
        return value if value is not None else tiny if small else large

    options = BenchmarkOptions(
        rows=_choices("--rows", found.rows, ROWS),
        backends=_choices("--backends", found.backends, BACKENDS),
        precisions=_choices("--precisions", found.precisions, PRECISIONS),
        all_reduce=None if found.all_reduce is None else _choices("--all-reduce", found.all_reduce, ALL_REDUCES),
        tensor_parallel_gpus=found.tensor_parallel_gpus,
        model=found.model,
        compile_mode=found.compile_mode,
        device=found.device,
        batches=_batches(found.batches or ("1,4" if small else "1,32,256")),
        context=size(found.context, 1088, 32),
        prompts=size(found.prompts, 16, 2),
        prompt=size(found.prompt, 4096, 64),
        chunk=size(found.chunk, 8192, 64),
        long=size(found.long, 65536, 128),
        repeats=found.repeats,
        seed=found.seed,
        output_json=path,
        report=report,
    )
    if options.context <= 16 or options.long <= 16:
        raise Refused("a context moves by 32 tokens while it is measured: pass --context and --long above 16.")
    return options


def _choices(flag: str, text: str, allowed: Sequence[str]) -> list[str]:
    values = text.split(",")
    if wrong := [value for value in values if value not in allowed]:
        raise Refused(f"{flag} {wrong[0]!r} is not one of {', '.join(allowed)}: pass some of these, with commas.")
    return values


def _batches(text: str) -> list[int]:
    try:
        batches = [int(part) for part in text.split(",")]
    except ValueError:
        raise Refused(f"--batches {text} is not a list of numbers: pass one such as 1,32,256.") from None
    if min(batches) < 1:
        raise Refused(f"a batch of {min(batches)} is empty: pass --batches of 1 or more.")
    return batches
