"""Presets: a command made small enough to try the chain in seconds. Always a deviation, never evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from llmval_tui.actions.adapt import NPROC, demand_of, largest_power_of_two, rewritten
from llmval_tui.actions.argv import Shape, value_of, values_of, with_values, without
from llmval_tui.foundation.errors import Refused

SMOKE = "smoke"
CPU_RANKS = 2  # enough for a real all-reduce, on the smallest machine that shows one


@dataclass(frozen=True, slots=True)
class Preset:
    """What a runner's flags become; several values of one flag are set apart by blanks."""

    always: Mapping[str, str]
    where_given: Mapping[str, str]  # replaced only where the item has the flag: the runner's default fits
    without_gpu: Mapping[str, str]
    dropped: frozenset[str] = frozenset()  # flags with values that cannot go with the rest


_SMOKE: dict[str, Preset] = {
    # The tiny model (1 M parameters) has no shape that FP8 or a compiler gains from; its lengths are short.
    "inference_server_load_test.py": Preset(
        always={"--model": "tiny", "--duration": "8", "--target-qps": "14"},  # a busy pair of cores keeps up with it
        where_given={
            "--fp8-mode": "none",
            "--kv-dtype": "auto",
            "--compile-mode": "off",
            "--prompt-len": "uniform:16:64",
            "--output-len": "8",
        },
        without_gpu={"--device": "cpu"},
        dropped=frozenset({"--checkpoint"}),
    ),
    "torch_compile_repro.py": Preset(
        always={"--model": "tiny", "--sequence-length": "64", "--batch-size": "1", "--steps": "3"},
        where_given={},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
        dropped=frozenset({"--checkpoint"}),
    ),
    # One window of a second is long enough to see every part at work, and never enough to be valid. The modes stay:
    # what a machine cannot do is refused by the runner with its reason, which is a part worth seeing.
    "precision_power_sweep.py": Preset(
        always={
            "--sequence-length": "64",
            "--model-layers": "2",
            "--model-d-model": "64",
            "--model-heads": "4",
            "--model-d-ff": "256",
            "--batch-size": "1 2",
            "--window-s": "1",
            "--warmup-s": "0.2",
            "--trials": "1",
            "--cooldown-s": "0",
        },
        where_given={},
        without_gpu={"--device": "cpu"},
        dropped=frozenset({"--devices"}),
    ),
    "long_context_validation.py": Preset(
        always={"--model": "tiny", "--length-divisor": "128"},  # 32768 becomes 256: the list's lengths stay as written
        where_given={"--fp8-mode": "none", "--kv-dtype": "auto"},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
        dropped=frozenset({"--checkpoint"}),
    ),
    "power_efficiency_analyzer.py": Preset(always={}, where_given={}, without_gpu={}),
    "capture_fp8_flexattention_traces.sh": Preset(
        always={
            "--model": "tiny",
            "--duration": "6",
            "--target-qps": "10",
            "--trace-seconds": "2",
            "--fp8-mode": "none",
        },
        where_given={"--prompt-len": "uniform:16:64", "--output-len": "8"},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
    ),
}


def apply(preset: str, runner: str | None, shape: Shape, gpus: int) -> tuple[Shape, list[str]]:
    """The command under a preset, and one deviation that names all that changed.

    Raises:
        Refused: no such preset, or none for this command.
    """
    if preset != SMOKE:
        raise Refused(f"there is no preset {preset!r}: the one there is is called smoke.")
    found = _SMOKE.get(runner or "")
    if found is None:
        what = runner or shape.script or shape.program
        raise Refused(f"the smoke preset does not know {what}: run the item without --preset smoke.")
    changed: list[str] = []
    shape = _ranks(shape, gpus, changed.append)
    arguments = shape.arguments
    for flag in found.dropped:
        if values_of(arguments, flag):
            arguments = without(arguments, flag)
            changed.append(f"no {_plain(flag)}")
    given = {flag: value for flag, value in found.where_given.items() if value_of(arguments, flag) is not None}
    for flag, value in {**found.always, **given, **({} if gpus else found.without_gpu)}.items():
        old = " ".join(values_of(arguments, flag)) or None
        if old == value:
            continue
        arguments = with_values(arguments, flag, value.split())
        changed.append(f"{_plain(flag)} {value}" + (f" instead of {old}" if old is not None else ""))
    return replace(shape, arguments=arguments), [f"smoke preset: {', '.join(changed) or 'nothing had to change'}"]


def _plain(flag: str) -> str:
    """A flag's name without its dashes: a deviation is written into an HTML comment, which may not hold `--`."""
    return flag.lstrip("-")


def _ranks(shape: Shape, gpus: int, changed: Callable[[str], None]) -> Shape:
    """The same launch on what is there: two ranks on a CPU, else no more ranks than GPUs."""
    asked = demand_of(shape).gpus
    count = min(asked, largest_power_of_two(gpus)) if gpus else min(asked, CPU_RANKS)
    if count < asked:
        shape = rewritten(shape, count)
        places = demand_of(shape).places
        changed(f"{_plain(NPROC if NPROC in places else next(iter(places)))} {count} instead of {asked}")
    return shape
