"""The engine benchmark's flags; parsing needs no torch."""

import argparse
from pathlib import Path

from llmval_runners.engine.shapes import SHAPES
from llmval_runners.load_test.options import DEFAULT_MODEL
from llmval_runners.process.arguments import Parser, count, natural
from llmval_runners.process.errors import Refused

ROWS = ("decode", "prefill", "long", "attention", "saturated", "all_reduce")
PRECISIONS = ("bf16", "fp8", "fp8-weights", "transformer-engine")
BACKENDS = ("sdpa", "flex")
ALL_REDUCES = ("nccl", "one-shot", "two-shot", "auto")  # as all_reduce.CHOICES, whose module imports torch


def parser() -> argparse.ArgumentParser:
    """The flags of `engine_benchmark.py`."""
    root = Parser(
        prog="engine_benchmark.py",
        description="Times of the load test's engine, beside what the device does at best: both taken in one start, on "
        "random weights and tokens. Plain Python starts torchrun itself where --tensor-parallel-gpus is above 1.",
        allow_abbrev=False,
    )
    rows = f"of {','.join(ROWS)} (default decode,prefill)"
    root.add_argument("--rows", default="decode,prefill", metavar="LIST", help=rows)
    root.add_argument("--backends", default="sdpa,flex", metavar="LIST", help="of sdpa,flex (default both)")
    root.add_argument(
        "--precisions", default="bf16,fp8", metavar="LIST",
        help="of bf16, fp8 (weights and KV cache), fp8-weights and transformer-engine (weights by Transformer Engine, "
        "KV cache as fp8) (default bf16,fp8); a CPU always computes in float32",
    )  # fmt: skip
    gpus = "that share the model (default 1, under torchrun its ranks)"
    root.add_argument("--tensor-parallel-gpus", type=count, metavar="N", help=gpus)
    sums = f"of {','.join(ALL_REDUCES)}: an engine for each (default what LLMVAL_ALL_REDUCE says, else nccl)"
    root.add_argument("--all-reduce", metavar="LIST", help=sums)
    models = f"{', '.join(SHAPES)} (default {DEFAULT_MODEL})"
    root.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME", help=models)
    compiled = "bf16 and float32 only: pass --precisions bf16 with it (default off)"
    root.add_argument("--compile-mode", choices=("default", "smart", "off"), default="off", help=compiled)
    root.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    root.add_argument("--batches", metavar="LIST", help="of the decode rows (default 1,32,256; tiny 1,4)")
    context = "tokens a sequence in the decode rows (default 1088; tiny 32)"
    root.add_argument("--context", type=count, metavar="N", help=context)
    root.add_argument("--prompts", type=count, metavar="N", help="of the prefill row (default 16; tiny 2)")
    root.add_argument("--prompt", type=count, metavar="N", help="tokens each (default 4096; tiny 64)")
    root.add_argument("--chunk", type=count, metavar="N", help="prompt tokens a step (default 8192; tiny 64)")
    root.add_argument("--long", type=count, metavar="N", help="tokens of the long prompt (default 65536; tiny 128)")
    repeats = "runs of each figure; the median counts (default 3)"
    root.add_argument("--repeats", type=count, default=3, metavar="N", help=repeats)
    root.add_argument("--seed", type=natural, default=0)
    root.add_argument("--json", type=Path, metavar="FILE", help="the result; its folders are made")
    return root


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse; lists become lists, and what is not given gets the model's default. Raises Refused."""
    options = parser().parse_args(argv)
    lists = (("rows", ROWS), ("backends", BACKENDS), ("precisions", PRECISIONS), ("all_reduce", ALL_REDUCES))
    for name, allowed in lists:
        if getattr(options, name) is None:
            continue
        values = getattr(options, name).split(",")
        if wrong := [value for value in values if value not in allowed]:
            flag = f"--{name.replace('_', '-')}"
            raise Refused(f"{flag} {wrong[0]!r} is none of {', '.join(allowed)}: pass some of these, between commas.")
        setattr(options, name, values)
    small = options.model == "tiny"
    defaults = {
        "context": (1088, 32), "prompts": (16, 2), "prompt": (4096, 64), "chunk": (8192, 64), "long": (65536, 128),
    }  # fmt: skip
    for name, (large, tiny) in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, tiny if small else large)
    try:
        options.batches = [int(part) for part in (options.batches or ("1,4" if small else "1,32,256")).split(",")]
    except ValueError:
        raise Refused(f"--batches {options.batches} is no list of numbers: pass one such as 1,32,256.") from None
    if min(options.batches) < 1:
        raise Refused(f"a batch of {min(options.batches)} is no batch: pass --batches of 1 or more.")
    if options.context <= 16 or options.long <= 16:
        raise Refused("a context moves by 32 tokens while it is measured: pass --context and --long above 16.")
    return options
