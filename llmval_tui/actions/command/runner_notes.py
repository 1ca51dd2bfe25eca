"""What the operator should know of a runner's command before it runs: lines of the proposal, and its deviations."""

import re

from llmval_tui.actions.command.argv import Shape, value_of, values_of
from llmval_tui.actions.command.runner_catalog import COMPILE_REPRO, POWER_SWEEP, TRACE
from llmval_tui.actions.rules import prose
from llmval_tui.checklist.model import Step

_CHECKPOINT = re.compile(r"\bcheckpoint\b", re.IGNORECASE)
_IDLE_S, _STEP_ASIDE_S = 3.0, 2.0  # before each cell: idle power, and weights


def runner_details(runner: str | None, shape: Shape) -> list[str]:
    """Lines for the proposal; [] for scripts that need none."""
    if runner == COMPILE_REPRO:
        mode = value_of(shape.arguments, "--compile-mode") or "default"
        limit = _number(value_of(shape.arguments, "--timeout"), 1800.0)
        return [
            f"eager first, then torch.compile in mode {mode}; ended after {limit / 60:.0f} min at the latest",
            "passes with a hang in the bundle (kind and rank), or with “did not reproduce here” and the figures",
            "moves an earlier study in its folder aside",
        ]
    if runner == POWER_SWEEP:
        return _sweep(shape.arguments)
    if runner == TRACE:
        return _trace(shape.arguments)
    return []


def _trace(arguments: tuple[str, ...]) -> list[str]:
    by_nsys = value_of(arguments, "--profiler") == "nsys"
    seconds = value_of(arguments, "--trace-seconds") or ("" if by_nsys else "3")
    part = f"the last {seconds} s" if seconds else "all"
    tool = "Nsight Systems, every rank" if by_nsys else "PyTorch's profiler, rank 0"
    return [
        f"traces {part} of {value_of(arguments, '--duration') or '60'} s of load ({tool}); warm-up stays outside",
        "passes with a trace that holds kernels and, of several GPUs, their communication",
        "its requests a second are no measurement: a profiler costs time",
    ]


def _sweep(arguments: tuple[str, ...]) -> list[str]:
    models = len(values_of(arguments, "--model-layers"))
    batches, modes = values_of(arguments, "--batch-size") or ["1"], values_of(arguments, "--modes") or ["bf16"]
    phases = len(values_of(arguments, "--phases")) or 2
    window, trials = _number(value_of(arguments, "--window-s"), 60.0), _number(value_of(arguments, "--trials"), 3.0)
    warmup = _number(value_of(arguments, "--warmup-s"), 5.0)
    cooldown = _number(value_of(arguments, "--cooldown-s"), 10.0)
    cells = models * len(batches) * len(modes)
    seconds = cells * (phases * (warmup + trials * window) + cooldown + _IDLE_S + _STEP_ASIDE_S)
    minutes = "about a minute" if seconds < 90 else f"about {seconds / 60:.0f} min"
    size = (
        f"{cells} cells ({_count(models, 'model')} × {_count(len(batches), 'batch size')} × {', '.join(modes)}), "
        f"{_count(phases, 'phase')} each, windows of {window:g} s: {minutes}"
    )
    return [
        size,
        "goes on where a sweep in its folder stopped; cells that are valid, or were refused, are not run again",
        "passes with every cell valid, or refused with its reason; energy is that of the GPUs alone",
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _number(text: str | None, default: float) -> float:
    """A flag's number; one that is none is for the runner to refuse, in its own words."""
    try:
        return float(text) if text is not None else default
    except ValueError:
        return default


def runner_deviations(runner: str | None, shape: Shape, step: Step) -> list[str]:
    """Where the command does less than the item's words say."""
    if (
        runner == COMPILE_REPRO
        and _CHECKPOINT.search(prose(step))
        and value_of(shape.arguments, "--checkpoint") is None
    ):
        model = value_of(shape.arguments, "--model") or "llama40b"
        return [f"random weights in the shape of {model} instead of a checkpoint"]
    return []
