"""The load test's flags. Parsing does not import torch, so a mistyped flag is refused at once."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.settings import EngineSettings
from llmval_runners.engine.shapes import DEFAULT_MODEL, OVERRIDES, SHAPES
from llmval_runners.load_test.metrics import LEAST_REQUESTS, Slo
from llmval_runners.process.arguments import Parser, count, natural, positive, share
from llmval_runners.process.errors import Refused

EXIT_CODES = (
    "Exit code: 0 ok; 1 overloaded, a request failed, a service level was missed, or the test itself failed; "
    "2 refused; 3 invalid or inconclusive; 130, 143, 129 ended by SIGINT, SIGTERM, SIGHUP. Plain torchrun makes 1 of "
    "every code but 0. Under llmval, which judges the record itself, and with --profile: 0 if the record was written."
)


def parser() -> argparse.ArgumentParser:
    """The flags of `inference_server_load_test.py`."""
    root = Parser(
        prog="inference_server_load_test.py",
        description="Open-loop load test of an LLM engine on this node's GPUs, or with a small model on its CPU. Run "
        "it under torchrun for tensor parallelism; plain Python runs one rank.",
        epilog=EXIT_CODES,
        allow_abbrev=False,
    )
    load = root.add_argument_group("load")
    load.add_argument("--duration", type=positive, default=60.0, metavar="S", help="seconds of arrivals (default 60)")
    load.add_argument("--target-qps", type=positive, default=4.0, metavar="RATE", help="requests/s (default 4)")
    load.add_argument(
        "--burstiness", type=positive, default=1.0, help="shape of the gamma-distributed gaps; 1 is Poisson (default)"
    )
    lengths = "512, uniform:512:1024 or lognormal:MEDIAN:SIGMA:MAX"
    load.add_argument(
        "--prompt-len", metavar="DIST", help=f"tokens: {lengths} (default uniform:512:1024; tiny uniform:16:64)"
    )
    load.add_argument("--output-len", metavar="DIST", help="tokens, likewise (default 512; tiny 8)")
    load.add_argument(
        "--warmup", type=natural, default=4, metavar="N", help="requests run before the window opens (default 4)"
    )
    load.add_argument(
        "--drain-timeout",
        type=positive,
        default=60.0,
        metavar="S",
        help="longest wait for the last answers (default 60)",
    )
    load.add_argument(
        "--max-in-flight", type=count, metavar="N", help="cap on requests in flight (default none: open loop)"
    )
    load.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    load.add_argument("--seed", type=natural, default=0)

    search = root.add_argument_group("search for the highest rate that holds the service level (needs a --slo-…)")
    search.add_argument(
        "--find-max-qps",
        action="store_true",
        help="instead of one window: trials from --target-qps up, doubled, then bisected; confirmed with another seed",
    )
    search.add_argument(
        "--trial-duration", type=positive, metavar="S", help="seconds of arrivals of each trial (default: --duration)"
    )
    search.add_argument(
        "--max-qps", type=positive, metavar="RATE", help="highest rate to try (default: until a rate does not hold)"
    )
    search.add_argument(
        "--precision",
        type=share,
        metavar="SHARE",
        help="stop if the lowest rate that fails is at most this much above the found one (default 0.05)",
    )
    search.add_argument(
        "--min-goodput", type=share, metavar="SHARE", help="share of requests that must keep every limit (default 0.99)"
    )

    slo = root.add_argument_group("service level (a request that keeps all counts as goodput)")
    slo.add_argument("--slo-ttft-ms", type=positive, metavar="MS", help="first token, from the intended arrival")
    slo.add_argument(
        "--slo-tpot-ms", type=positive, metavar="MS", help="a request's mean time per token after the first"
    )
    slo.add_argument("--slo-e2e-ms", type=positive, metavar="MS", help="last token, from the intended arrival")

    model = root.add_argument_group("model")
    model.add_argument(
        "--model", metavar="NAME", help=f"{', '.join(SHAPES)} (default {DEFAULT_MODEL}); random seeded weights"
    )
    model.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="Hugging Face folder with safetensors, in place of --model"
    )
    for name in OVERRIDES:
        model.add_argument(f"--{name.replace('_', '-')}", type=count, metavar="N", help=argparse.SUPPRESS)
    model.add_argument(
        "--dtype",
        choices=("auto", "bfloat16", "float16", "float32"),
        default="auto",
        help="auto: bfloat16 on CUDA, float32 on CPU",
    )

    engine = root.add_argument_group("engine")
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
    engine.add_argument(
        "--kv-dtype", choices=("auto", "bfloat16", "float16", "float32", "fp8"), default="auto", help="auto: as --dtype"
    )
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

    root.add_argument("--output-json", type=Path, metavar="FILE", help="the result; missing folders are created")
    return root


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The search for the highest rate. Rates in requests/s; `precision` is relative; `min_goodput` is from 0 to 1."""

    max_qps: float | None
    precision: float
    min_goodput: float


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


def parse(argv: list[str]) -> LoadTestOptions:
    """Parse. Raises Refused for an unknown flag, a wrong value, or flags that exclude each other."""
    found = parser().parse_args(argv)
    if not 0 <= found.temperature < math.inf:
        raise Refused(f"a temperature of {found.temperature:g} is not possible: pass 0 for greedy, or more.")
    overrides = {name: getattr(found, name) for name in OVERRIDES}
    if found.checkpoint is not None and (found.model or any(overrides.values())):
        raise Refused("--checkpoint brings its own shape: leave --model and the shape flags out.")
    slo = Slo(found.slo_ttft_ms, found.slo_tpot_ms, found.slo_e2e_ms)
    search = _search(found, slo)
    return LoadTestOptions(
        engine=EngineSettings(
            model=found.model,
            checkpoint=found.checkpoint,
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
        duration_s=_duration(found),
        burstiness=found.burstiness,
        warmup=found.warmup,
        drain_timeout_s=found.drain_timeout,
        max_in_flight=found.max_in_flight,
        slo=slo,
        search=search,
        profile=ProfileOptions(found.profile, found.profile_seconds, found.profile_output),
        output_json=found.output_json,
    )


def _duration(found: argparse.Namespace) -> float:
    seconds: float = (found.find_max_qps and found.trial_duration) or found.duration
    return seconds


def _search(found: argparse.Namespace, slo: Slo) -> SearchOptions | None:
    if not found.find_max_qps:
        flags = {"--trial-duration": found.trial_duration, "--max-qps": found.max_qps}
        flags |= {"--precision": found.precision, "--min-goodput": found.min_goodput}
        if given := [flag for flag, value in flags.items() if value is not None]:
            raise Refused(
                f"{given[0]} is for the search for the highest rate: pass --find-max-qps too, or leave it out."
            )
        return None
    if found.profile != "none":
        raise Refused("--profile traces one window, and --find-max-qps runs many: leave one of the two out.")
    if not slo.stated:
        raise Refused(
            "--find-max-qps looks for the highest rate that holds a service level: pass --slo-ttft-ms, --slo-tpot-ms "
            "or --slo-e2e-ms."
        )
    if found.max_qps is not None and found.max_qps < found.target_qps:
        raise Refused(
            f"--max-qps {found.max_qps:g} is below --target-qps {found.target_qps:g}, where the search begins: "
            "pass a lower --target-qps."
        )
    duration = _duration(found)
    if found.target_qps * duration < LEAST_REQUESTS:
        raise Refused(
            f"{found.target_qps:g} requests a second for {duration:g} s are fewer than {LEAST_REQUESTS} "
            "requests, too few to see whether a queue grows: pass a longer --trial-duration or a higher --target-qps."
        )
    return SearchOptions(
        found.max_qps,
        0.05 if found.precision is None else found.precision,
        0.99 if found.min_goodput is None else found.min_goodput,
    )
