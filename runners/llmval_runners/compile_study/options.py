"""The flags of `torch_compile_repro.py`. Parsing needs no torch, so a mistyped flag is answered at once."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from llmval_runners.engine.shapes import SHAPES
from llmval_runners.process.arguments import Parser, count, positive
from llmval_runners.process.errors import Refused, exit_codes
from llmval_runners.process.output import Report, add_report_flags

EXIT_CODES = exit_codes(
    "it did not hang", "it failed, or computed logits that are not finite",
    "it hung or ran out of time: the bundle says where",
)  # fmt: skip
EXAMPLES = """\
examples:
  python torch_compile_repro.py --model llama40b --tensor-parallel-gpus 8 \\
      --output-dir artifacts/compile
  python torch_compile_repro.py --model tiny --device cpu \\
      --tensor-parallel-gpus 2 --sequence-length 64 --output-dir /tmp/compile
  python torch_compile_repro.py --self-test --output-dir /tmp/selftest
"""

COMPILE_MODES = ("default", "smart", "reduce-overhead", "max-autotune")
BACKENDS = ("inductor", "aot_eager_decomp_partition", "aot_eager", "eager")
INJECTIONS = (
    "dynamo_sleep",
    "codegen_loop",
    "stopped_worker",
    "endless_autotune",
    "skipped_collective",
    "blocked_read",
)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The flags as given; `prepare.resolve` decides the model and the device."""

    model: str | None
    checkpoint: Path | None
    sequence_length: int
    batch_size: int
    tensor_parallel_gpus: int
    device: str
    steps: int
    seed: int
    compile_mode: str
    backend: str
    skip_compile: bool
    skip_eager: bool
    cache_dir: Path | None
    stall_after: float
    timeout: float
    after_stall: str
    stacks: str
    no_native_stacks: bool
    ablate: bool
    output_dir: Path | None
    include_model_code: bool
    no_collect_env: bool
    repack: Path | None
    table: list[Path] | None
    self_test: bool
    clean_runs: int
    jobs: int | None
    inject_hang: str | None
    inject_rank: int
    watch: Path | None
    quiet: bool = False

    @property
    def report(self) -> Report:
        return Report(self.quiet)

    def as_json(self) -> dict[str, Any]:
        """For `run.json`; paths become text."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "StudyOptions":
        """The options in a study's `run.json`. Flags that its release did not have get today's defaults."""
        known = {field.name: value[field.name] for field in fields(cls) if field.name in value}
        for name in ("checkpoint", "cache_dir", "output_dir"):
            known[name] = Path(known[name]) if known.get(name) else None
        return cls(**{**vars(parser().parse_args([])), **known})


def parser() -> argparse.ArgumentParser:
    root = Parser(
        prog="torch_compile_repro.py",
        description="Runs a tensor-parallel prefill eagerly and compiled, watches it from outside, and writes a bundle "
        "that says what hung and where, or that nothing hung. Plain Python starts its own torchrun.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    work = root.add_argument_group("workload")
    work.add_argument("--model", metavar="NAME", help=f"{', '.join(SHAPES)} (default llama40b); random seeded weights")
    work.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="Hugging Face folder with safetensors, in place of --model"
    )
    work.add_argument(
        "--sequence-length", type=count, default=8192, metavar="N", help="tokens per sequence (default 8192)"
    )
    work.add_argument("--batch-size", type=count, default=4, metavar="N", help="sequences (default 4)")
    work.add_argument("--tensor-parallel-gpus", type=count, default=8, metavar="N", help="ranks (default 8)")
    work.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    work.add_argument(
        "--steps", type=count, default=5, metavar="N", help="timed forward passes of each kind (default 5)"
    )
    work.add_argument("--seed", type=int, default=0)

    compiling = root.add_argument_group("compiling")
    modes = "smart compiles the one repeated block, as one graph; the others compile the whole model"
    compiling.add_argument("--compile-mode", choices=COMPILE_MODES, default="default", help=modes)
    compiling.add_argument("--backend", choices=BACKENDS, default="inductor")
    compiling.add_argument("--skip-compile", action="store_true", help="eager only")
    compiling.add_argument(
        "--skip-eager", action="store_true", help="compiled only; without a speed-up and a numeric difference"
    )
    compiling.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="keep the compile caches there (default: a fresh folder, removed afterwards)",
    )

    watch = root.add_argument_group("watchdog")
    watch.add_argument(
        "--stall-after", type=positive, default=180.0, metavar="S", help="seconds without progress (default 180)"
    )
    watch.add_argument(
        "--timeout", type=positive, default=1800.0, metavar="S", help="seconds until the run is ended (default 1800)"
    )
    after = "wait: it may only be slow, wait until --timeout (default); end: end it after the evidence is collected"
    watch.add_argument("--after-stall", choices=("wait", "end"), default="wait", help=after)
    watch.add_argument(
        "--stacks",
        choices=("auto", "faulthandler"),
        default="auto",
        help="auto: py-spy, or faulthandler if py-spy fails",
    )
    watch.add_argument(
        "--no-native-stacks", action="store_true", help="leave out C frames, which take py-spy up to a minute a rank"
    )
    watch.add_argument(
        "--ablate",
        action="store_true",
        help="afterwards run it again with other backends, compile threads and caches, each under --timeout",
    )

    bundle = root.add_argument_group("bundle")
    bundle.add_argument("--output-dir", type=Path, metavar="DIR", help="folder of the bundle")
    bundle.add_argument(
        "--include-model-code", action="store_true", help="consent: pack the compile traces, which contain model code"
    )
    bundle.add_argument(
        "--no-collect-env", action="store_true", help="leave out torch.utils.collect_env, which takes seconds"
    )
    bundle.add_argument(
        "--repack",
        type=Path,
        metavar="DIR",
        help="redact and pack a bundle folder again, for example after you added logs",
    )

    bundle.add_argument(
        "--table", type=Path, nargs="+", metavar="DIR", help="print finished studies side by side, as Markdown"
    )

    test = root.add_argument_group("self-test (proves on this host that the watchdog recognises each kind of hang)")
    test.add_argument(
        "--self-test",
        action="store_true",
        help="inject every kind of hang, run without one, and print the table; small, on 2 CPU ranks",
    )
    test.add_argument("--clean-runs", type=int, default=20, metavar="N", help="clean runs of --self-test (default 20)")
    test.add_argument(
        "--jobs", type=count, metavar="N", help="runs of --self-test at a time (default: one for 8 cores, 4 at most)"
    )
    test.add_argument("--inject-hang", choices=INJECTIONS, help=argparse.SUPPRESS)
    test.add_argument("--inject-rank", type=int, default=1, help=argparse.SUPPRESS)
    add_report_flags(root)
    root.add_argument("--watch", type=Path, help=argparse.SUPPRESS)  # the watchdog's own process
    return root


def parse(argv: list[str]) -> StudyOptions:
    """Raises Refused if a flag is unknown, a value is wrong, or two flags contradict each other."""
    options = StudyOptions(**vars(parser().parse_args(argv)))
    if options.repack or options.watch or options.self_test or options.table:
        return options
    if options.output_dir is None:
        raise Refused("--output-dir is missing: name the folder for the bundle.")
    if options.checkpoint is not None and options.model is not None:
        raise Refused("--checkpoint brings its own shape: leave --model out.")
    if options.skip_compile and options.skip_eager:
        raise Refused("--skip-compile and --skip-eager together leave nothing to run: leave one out.")
    if options.stall_after >= options.timeout:
        raise Refused(
            f"--stall-after {options.stall_after:g} is not below --timeout {options.timeout:g}, so the run would end "
            f"before a stall is noticed: pass a shorter --stall-after."
        )
    if options.ablate and options.skip_compile:
        raise Refused("--ablate compares ways to compile, and --skip-compile compiles nothing: leave one out.")
    return options
