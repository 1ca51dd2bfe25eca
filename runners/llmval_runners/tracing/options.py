"""The flags of `capture_fp8_flexattention_traces.sh`. Environment variables can set every default."""

import argparse
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llmval_runners.process.arguments import Parser, count, positive
from llmval_runners.process.errors import exit_codes
from llmval_runners.process.output import Report, add_report_flags

EXIT_CODES = exit_codes(
    "the trace and its summary are written", "the load test or a tool failed; its files are kept", None
)
EXAMPLES = """\
examples:
  ./capture_fp8_flexattention_traces.sh --duration 60 --output-dir artifacts/traces/today
  ./capture_fp8_flexattention_traces.sh --device cpu --model tiny --duration 5
"""
PREFIX = "TRACE_"  # TRACE_DURATION=10 is --duration 10


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """The parsed flags."""

    duration: float  # s
    target_qps: float
    prompt_len: str | None
    output_len: str | None
    model: str | None
    tensor_parallel_gpus: int | None
    attention_backend: str
    fp8_mode: str  # auto, none, transformer-engine or native
    device: str  # auto, cpu or cuda
    profiler: str  # auto, nsys or torch
    trace_seconds: float | None
    ncu: bool
    output_dir: Path
    load_test_flags: tuple[str, ...]  # unknown flags, passed on to the load test
    quiet: bool = False

    @property
    def report(self) -> Report:
        return Report(self.quiet)


def parser() -> argparse.ArgumentParser:
    """The defaults are those of the checklist's load test: 28 requests/s of 512 to 1,024 prompt and 512 new tokens."""
    root = Parser(
        prog="capture_fp8_flexattention_traces.sh",
        description="Trace the engine under load with Nsight Systems, or with PyTorch's profiler if nsys is not "
        "installed. Other flags are passed on to inference_server_load_test.py.",
        more=f"Environment variables can set every default: {PREFIX}DURATION=10 is --duration 10.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )

    load = root.add_argument_group("load")
    load.add_argument("--duration", default=60.0, type=positive, metavar="S", help="seconds of arrivals (default 60)")
    load.add_argument(
        "--target-qps", default=28.0, type=positive, metavar="RATE", help="requests a second (default 28)"
    )
    load.add_argument("--prompt-len", metavar="DIST", help="tokens (default uniform:512:1024; tiny uniform:16:64)")
    load.add_argument("--output-len", metavar="DIST", help="tokens (default 512; tiny 8)")
    engine = root.add_argument_group("engine")
    engine.add_argument("--model", metavar="NAME", help="as in the load test (default llama-3.1-8b)")
    engine.add_argument(
        "--tensor-parallel-gpus", type=count, metavar="N",
        help="ranks (default: the largest power of two that the node has GPUs for)",
    )  # fmt: skip
    engine.add_argument("--attention-backend", default="flex", metavar="NAME", help="flex (default), sdpa or auto")
    engine.add_argument(
        "--fp8-mode", default="auto", choices=("auto", "none", "transformer-engine", "native"),
        help="auto (default): transformer-engine if it can be imported, else native; none on a CPU",
    )  # fmt: skip
    engine.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    trace = root.add_argument_group("trace")
    trace.add_argument(
        "--profiler", default="auto", choices=("auto", "nsys", "torch"),
        help="auto (default): nsys if it is on the PATH, else PyTorch's profiler on rank 0",
    )  # fmt: skip
    trace.add_argument(
        "--trace-seconds", type=positive, metavar="S",
        help="trace the last S seconds of the load (default: all with nsys, 3 with PyTorch's profiler)",
    )  # fmt: skip
    trace.add_argument("--ncu", action="store_true", help="also run a short pass of Nsight Compute on one GPU")
    folder = f"artifacts/traces/{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    trace.add_argument(
        "--output-dir", default=Path(folder), type=Path, metavar="DIR", help="default artifacts/traces/<UTC>"
    )
    add_report_flags(root)
    return root


def parse(argv: list[str]) -> TraceOptions:
    """Parse the flags; raises Refused for a bad value."""
    root = parser()
    # Variables become flags before the given ones, so that they are checked alike and a given flag wins.
    flags, unknown = root.parse_known_args([*_from_environment(root), *argv])
    return TraceOptions(**vars(flags), load_test_flags=tuple(unknown))


def _from_environment(root: argparse.ArgumentParser) -> list[str]:
    found = []
    for name, default in vars(root.parse_args([])).items():
        if not isinstance(default, bool) and (value := os.environ.get(PREFIX + name.upper())) is not None:
            found += [f"--{name.replace('_', '-')}", value]
    return found
