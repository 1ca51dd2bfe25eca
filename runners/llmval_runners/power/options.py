"""The flags of the sweep. Parsing needs no torch, so that a mistyped flag is answered at once."""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llmval_runners.power.grid import MODES, PHASES, Cell, cells_of, shapes_of
from llmval_runners.process.arguments import Parser, count, natural
from llmval_runners.process.errors import Refused, exit_codes
from llmval_runners.process.files import make_folder
from llmval_runners.process.output import Report, add_report_flags

EXIT_CODES = (
    exit_codes(
        "every cell is valid, or refused with a reason",
        "a cell failed, all were refused, or the sweep itself failed",
        "a cell is invalid (its rules say why), or has no energy because there is no meter",
    )
    + " Under llmval, which judges the cells itself: 0 instead of 3."
)
EXAMPLES = """\
examples:
  python precision_power_sweep.py --model-layers 32 --model-d-model 4096 \\
      --model-heads 32 --model-d-ff 14336 --batch-size 2 4 --modes bf16 fp8_te \\
      --output-dir power_results/today
  python precision_power_sweep.py --device cpu --model-layers 1 \\
      --model-d-model 64 --model-heads 2 --model-d-ff 128 --sequence-length 64 \\
      --window-s 1 --output-dir /tmp/sweep
"""


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """How every cell of a sweep is measured. Results with different settings do not belong to one sweep."""

    window_s: float
    warmup_s: float
    trials: int
    phases: list[str]
    attention_backend: str
    compile: bool
    device: str  # cpu or cuda
    devices: list[int]  # CUDA indices; [] on a CPU
    seed: int  # seed of the weights, the inputs and the order

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """The parsed flags."""

    cells: list[Cell]
    settings: SweepSettings  # its device may still be `auto`, and its devices are empty
    devices: list[str] | None  # CUDA indices, or ["all"]
    cooldown_s: float
    output_dir: Path
    retry_refused: bool
    report: Report


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def _window(text: str) -> float:
    value = _seconds(text)
    if value == 0:
        raise argparse.ArgumentTypeError("a window of 0 seconds measures nothing")
    return value


def parser() -> argparse.ArgumentParser:
    """The flags of `precision_power_sweep.py`."""
    root = Parser(
        prog="precision_power_sweep.py",
        description="Tokens per joule of decoder stacks by precision and batch. The four model lists go together by "
        "position; every model runs at every batch size in every mode. Writes one JSON file per cell; run again with "
        "the same flags to continue a sweep that stopped.",
        examples=EXAMPLES,
        exit_codes=EXIT_CODES,
    )
    grid = root.add_argument_group("grid")
    grid.add_argument(
        "--sequence-length",
        type=count,
        default=4096,
        metavar="N",
        help="tokens of a prompt and of the KV cache (default 4096)",
    )
    grid.add_argument("--model-layers", type=count, nargs="+", required=True, metavar="N")
    grid.add_argument("--model-d-model", type=count, nargs="+", required=True, metavar="N")
    grid.add_argument("--model-heads", type=count, nargs="+", required=True, metavar="N")
    grid.add_argument("--model-d-ff", type=count, nargs="+", required=True, metavar="N")
    grid.add_argument(
        "--batch-size", type=count, nargs="+", default=[1], metavar="N", help="sequences in a batch (default 1)"
    )
    grid.add_argument(
        "--modes", nargs="+", choices=MODES, default=["bf16"], help="precision of the linear layers (default bf16)"
    )
    grid.add_argument(
        "--phases", nargs="+", choices=PHASES, default=list(PHASES), help="phases to measure (default: both)"
    )

    how = root.add_argument_group("measurement")
    how.add_argument(
        "--window-s",
        type=_window,
        default=60.0,
        metavar="S",
        help="steady window of a trial (default 60; less than 10 is not valid)",
    )
    how.add_argument(
        "--warmup-s",
        type=_seconds,
        default=5.0,
        metavar="S",
        help="load before the first window (default 5; less than 5 is not valid)",
    )
    how.add_argument(
        "--trials", type=count, default=3, metavar="N", help="windows per phase (default 3; fewer is not valid)"
    )
    how.add_argument("--cooldown-s", type=_seconds, default=10.0, metavar="S", help="rest between cells (default 10)")
    how.add_argument("--seed", type=natural, default=0, help="seed of weights, inputs and order (default 0)")

    engine = root.add_argument_group("engine")
    engine.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    engine.add_argument(
        "--devices", nargs="+", metavar="GPU",
        help="CUDA indices, or `all`; each runs its own copy and energy is summed (default: the first GPU)",
    )  # fmt: skip
    engine.add_argument("--attention-backend", choices=("sdpa", "flex"), default="sdpa")
    engine.add_argument("--skip-compile", action="store_true", help="run the stack without torch.compile")
    root.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder of the result files; created if missing"
    )
    root.add_argument(
        "--retry-refused",
        action="store_true",
        help="when resuming, try refused cells again (for example after installing a missing package)",
    )
    add_report_flags(root)
    return root


def parse(argv: list[str]) -> SweepOptions:
    """Parse and check the flags.

    Raises:
        Refused: an unknown flag, a bad value, or lists that do not go together.
    """
    flags = parser().parse_args(argv)
    shapes = shapes_of(flags.model_layers, flags.model_d_model, flags.model_heads, flags.model_d_ff)
    if flags.devices and flags.devices != ["all"] and not all(text.isdecimal() for text in flags.devices):
        raise Refused(
            f"--devices takes CUDA indices or `all`, not {' '.join(flags.devices)}: see nvidia-smi -L for the GPUs."
        )
    make_folder(flags.output_dir, only_check=True)
    settings = SweepSettings(
        window_s=flags.window_s,
        warmup_s=flags.warmup_s,
        trials=flags.trials,
        phases=[phase for phase in PHASES if phase in flags.phases],
        attention_backend=flags.attention_backend,
        compile=not flags.skip_compile,
        device=flags.device,
        devices=[],
        seed=flags.seed,
    )
    cells = cells_of(shapes, flags.batch_size, flags.modes, flags.sequence_length)
    return SweepOptions(
        cells, settings, flags.devices, flags.cooldown_s, flags.output_dir, flags.retry_refused, Report(flags.quiet)
    )
