"""The flags of `capture_fp8_flexattention_traces.sh`; each default can be set by a variable of the environment."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from llmval_runners.load_test.options import Parser, count, positive

PREFIX = "TRACE_"  # TRACE_DURATION=10 is --duration 10


def parser() -> argparse.ArgumentParser:
    """Defaults: 28 requests a second of 512 to 1,024 prompt and 512 new tokens, as the list's load test, for 60 s."""
    root = Parser(
        prog="capture_fp8_flexattention_traces.sh",
        description="Trace the engine under load: with Nsight Systems where nsys is installed, else with PyTorch's "
        "profiler. Flags that it does not know go to inference_server_load_test.py as they are.",
        epilog=f"Every default can be set in the environment: {PREFIX}DURATION=10 is --duration 10.",
        allow_abbrev=False,
    )

    load = root.add_argument_group("load")
    load.add_argument("--duration", default=60.0, type=positive, metavar="S", help="seconds of arrivals (default 60)")
    load.add_argument(
        "--target-qps", default=28.0, type=positive, metavar="RATE", help="requests a second (default 28)"
    )
    load.add_argument("--prompt-len", metavar="DIST", help="tokens (default uniform:512:1024; tiny uniform:16:64)")
    load.add_argument("--output-len", metavar="DIST", help="tokens (default 512; tiny 8)")
    engine = root.add_argument_group("engine")
    engine.add_argument("--model", metavar="NAME", help="as of the load test (default llama-3.1-8b)")
    engine.add_argument(
        "--tensor-parallel-gpus", type=count, metavar="N",
        help="ranks (default: all GPUs of the node, as many as are a power of two)",
    )  # fmt: skip
    engine.add_argument("--attention-backend", default="flex", metavar="NAME", help="flex (default), sdpa or auto")
    engine.add_argument(
        "--fp8-mode", default="auto", choices=("auto", "none", "transformer-engine", "native"),
        help="auto (default): transformer-engine where it imports, else native; none on a CPU",
    )  # fmt: skip
    engine.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    trace = root.add_argument_group("trace")
    trace.add_argument(
        "--profiler", default="auto", choices=("auto", "nsys", "torch"),
        help="auto (default): nsys where it is on the PATH, else PyTorch's profiler on rank 0",
    )  # fmt: skip
    trace.add_argument(
        "--trace-seconds", type=positive, metavar="S",
        help="trace the last S of the load (default: nsys all of it, PyTorch's profiler 3)",
    )  # fmt: skip
    trace.add_argument("--ncu", action="store_true", help="then a short pass of Nsight Compute on one GPU")
    folder = f"artifacts/traces/{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    trace.add_argument(
        "--output-dir", default=Path(folder), type=Path, metavar="DIR", help="default artifacts/traces/<UTC>"
    )
    return root


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the words that are for the load test; raises Refused for what is no value of a flag."""
    root = parser()
    # As flags before the others, so that they are checked alike and a flag wins.
    return root.parse_known_args([*_from_environment(root), *argv])


def _from_environment(root: argparse.ArgumentParser) -> list[str]:
    found = []
    for name, default in vars(root.parse_args([])).items():
        if not isinstance(default, bool) and (value := os.environ.get(PREFIX + name.upper())) is not None:
            found += [f"--{name.replace('_', '-')}", value]
    return found
