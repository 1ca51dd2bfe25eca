"""The load test's flags. Parsing does not import torch, so a mistyped flag is refused at once."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.settings import EngineSettings
from llmval_runners.engine.shapes import DEFAULT_MODEL, OVERRIDES, SHAPES
from llmval_runners.load_test.load_flags import (
    SearchOptions,
    add_load_flags,
    add_search_flags,
    add_slo_flags,
    duration_of,
    search_of,
    slo_of,
)
from llmval_runners.load_test.metrics import Slo
from llmval_runners.process.arguments import DTYPES, Parser, count, dtype, positive
from llmval_runners.process.errors import Refused, exit_codes
from llmval_runners.process.output import Report, add_output_flags, take_output
from llmval_runners.process.placement import add_placement_flag

EXIT_CODES = (
    exit_codes(
        "ok",
        "overloaded, a request failed, a service level was missed, no rate held it, or the test itself failed",
        "invalid or inconclusive",
    )
    + " Plain torchrun makes 1 of every code but 0. Under llmval, which judges the record itself, and with --profile: "
    "0 if the record was written."
)
EXAMPLES = """\
examples:
  torchrun --nproc_per_node=8 inference_server_load_test.py --duration 300 \\
      --target-qps 28 --slo-ttft-ms 500 --output-json artifacts/load.json
  torchrun --nproc_per_node=8 inference_server_load_test.py --find-max-qps \\
      --slo-ttft-ms 500 --trial-duration 60 --output-json artifacts/max_qps.json
  torchrun --nnodes=2 --node-rank=0 --rdzv-endpoint=n1:29500 \\
      --nproc_per_node=8 inference_server_load_test.py --target-qps 56 \\
      --output-json load.json
  python inference_server_load_test.py --model tiny --device cpu --json -
"""


def parser() -> argparse.ArgumentParser:
    """The flags of `inference_server_load_test.py`."""
    root = Parser(
        prog="inference_server_load_test.py",
        description="Open-loop load test of an LLM engine on this node's GPUs, or with a small model on its CPU. Run "
        "it under torchrun for tensor parallelism; plain Python runs one rank. Over several nodes each node holds a "
        "replica, --target-qps is the rate of all together, and each gets its share of it as arrivals of its own.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    add_load_flags(root, "uniform:512:1024; tiny uniform:16:64", "512; tiny 8")
    add_search_flags(root)
    add_slo_flags(root)

    model = root.add_argument_group("model")
    model.add_argument(
        "--model", metavar="NAME", help=f"{', '.join(SHAPES)} (default {DEFAULT_MODEL}); random seeded weights"
    )
    model.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="Hugging Face folder with safetensors, in place of --model"
    )
    model.add_argument(
        "--load-format",
        choices=("auto", "dummy"),
        default="auto",
        help="dummy: take only the shape from --checkpoint and make random weights, as vLLM does (default auto)",
    )
    for name in OVERRIDES:
        model.add_argument(f"--{name.replace('_', '-')}", type=count, metavar="N", help=argparse.SUPPRESS)
    model.add_argument(
        "--dtype",
        type=dtype,
        choices=DTYPES,
        default="auto",
        help="auto: bfloat16 on CUDA, float32 on a CPU; bf16, fp16 and fp32 are other names",
    )

    engine = root.add_argument_group("engine")
    add_placement_flag(engine)
    engine.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    engine.add_argument(
        "--attention-backend", choices=("auto", "flex", "sdpa"), default="auto", help="auto: sdpa (default auto)"
    )
    engine.add_argument(
        "--fp8-mode",
        choices=("auto", "none", "transformer-engine", "native"),
        default="auto",
        help="FP8 weights and products in the layers, by te.Linear with current scaling, or by torch._scaled_mm and "
        "Triton; auto: native for a checkpoint in FP8 on a GPU that has FP8, else none (default auto)",
    )
    engine.add_argument(
        "--compile-mode",
        choices=("default", "smart", "off"),
        default="off",
        help="default: compile the pass over all layers as one graph; smart: compile two regions that all layers "
        "share; off: use the engine's own kernels (default off)",
    )
    engine.add_argument("--kv-dtype", type=dtype, choices=(*DTYPES, "fp8"), default="auto", help="auto: as --dtype")
    engine.add_argument(
        "--max-batch", type=count, metavar="N", help="sequences running at once (default 256; on CPU 64)"
    )
    engine.add_argument(
        "--prefill-chunk", type=count, metavar="N", help="prompt tokens per step (default 2048; on CPU 256)"
    )
    engine.add_argument("--page-size", type=count, metavar="N", help="tokens per KV page (default 128; on CPU 16)")
    size = engine.add_mutually_exclusive_group()
    size.add_argument(
        "--kv-cache-gib",
        type=positive,
        metavar="GIB",
        help="KV cache of each rank (default: the free memory minus a reserve)",
    )
    size.add_argument("--kv-tokens", type=count, metavar="N", help="KV cache in tokens, in place of --kv-cache-gib")

    trace = root.add_argument_group("trace (capture_fp8_flexattention_traces.sh sets these)")
    trace.add_argument(
        "--profile",
        choices=("none", "nsys", "torch"),
        default="none",
        help="mark the end of the window for `nsys profile`, or record it with PyTorch's profiler",
    )
    trace.add_argument(
        "--profile-seconds", type=positive, metavar="S", help="the last S of the window (default nsys: all; torch: 3)"
    )
    trace.add_argument("--profile-output", type=Path, metavar="FILE", help="Chrome trace of --profile torch, .json.gz")

    add_output_flags(root)
    return root


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """The profiled part of a window; `kind` is none, nsys or torch."""

    kind: str = "none"
    seconds: float | None = None
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class LoadTestOptions:
    """The parsed flags. Lengths are still text, because their defaults depend on the model."""

    engine: EngineSettings
    prompt_len: str | None
    output_len: str | None
    target_qps: float
    duration_s: float
    burstiness: float
    warmup: int
    drain_timeout_s: float
    max_in_flight: int | None
    slo: Slo
    search: SearchOptions | None
    profile: ProfileOptions
    output_json: Path | None
    report: Report
    tensor_parallel_size: int | None = None


def parse(argv: list[str]) -> LoadTestOptions:
    """Parse. Raises Refused for an unknown flag, a wrong value, or flags that exclude each other."""
    found = parser().parse_args(argv)
    overrides = {name: getattr(found, name) for name in OVERRIDES}
    if found.checkpoint is not None and (found.model or any(overrides.values())):
        raise Refused("--checkpoint brings its own shape: leave --model and the shape flags out.")
    if found.load_format == "dummy" and found.checkpoint is None:
        raise Refused("--load-format dummy takes the shape from a folder: pass --checkpoint DIR, or leave it out.")
    slo = slo_of(found)
    search = search_of(found, slo)
    path, report = take_output(found)
    if search is not None and found.profile != "none":
        raise Refused("--profile traces one window, and --find-max-qps runs many: leave one of the two out.")
    return LoadTestOptions(
        engine=EngineSettings(
            model=found.model,
            checkpoint=found.checkpoint,
            dummy_weights=found.load_format == "dummy",
            shape_overrides=overrides,
            device=found.device,
            dtype=found.dtype,
            kv_dtype=found.kv_dtype,
            fp8_mode=found.fp8_mode,
            compile_mode=found.compile_mode,
            attention_backend=found.attention_backend,
            max_batch=found.max_batch,
            prefill_chunk=found.prefill_chunk,
            page_size=found.page_size,
            kv_tokens=found.kv_tokens,
            kv_cache_gib=found.kv_cache_gib,
            temperature=found.temperature,
            seed=found.seed,
        ),
        prompt_len=found.prompt_len,
        output_len=found.output_len,
        target_qps=found.target_qps,
        duration_s=duration_of(found),
        burstiness=found.burstiness,
        warmup=found.warmup,
        drain_timeout_s=found.drain_timeout,
        max_in_flight=found.max_in_flight,
        slo=slo,
        search=search,
        profile=ProfileOptions(found.profile, found.profile_seconds, found.profile_output),
        output_json=path,
        report=report,
        tensor_parallel_size=found.tensor_parallel_size,
    )
