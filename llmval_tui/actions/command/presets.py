"""Presets: a command made small enough to try the chain in seconds. Always a deviation, never evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from llmval_tui.actions.command.argv import ParsedArgv, value_of, values_of, with_value, with_values, without
from llmval_tui.actions.command.gpu_count import (
    NPROC,
    TENSOR_PARALLEL,
    demand_of,
    implied_gpus,
    largest_power_of_two,
    with_gpu_count,
)
from llmval_tui.foundation.errors import Refused

SMOKE = "smoke"
TINY = "tiny"
TINY_RANKS = 4  # the tiny model has 4 KV heads, and no rank may be without one
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
        always={"--model": TINY, "--duration": "8", "--target-qps": "14"},  # a busy pair of cores keeps up with it
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
        always={"--model": TINY, "--sequence-length": "64", "--batch-size": "1", "--steps": "3"},
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
        always={"--model": TINY, "--length-divisor": "128"},  # 32768 becomes 256: the list's lengths stay as written
        where_given={"--fp8-mode": "none", "--kv-dtype": "auto"},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
        dropped=frozenset({"--checkpoint"}),
    ),
    "power_efficiency_analyzer.py": Preset(always={}, where_given={}, without_gpu={}),
    "capture_fp8_flexattention_traces.sh": Preset(
        always={
            "--model": TINY,
            "--duration": "6",
            "--target-qps": "10",
            "--trace-seconds": "2",
            "--fp8-mode": "none",
        },
        where_given={"--prompt-len": "uniform:16:64", "--output-len": "8"},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
    ),
}


def apply(preset: str, runner: str | None, argv: ParsedArgv, gpus: int) -> tuple[ParsedArgv, list[str]]:
    """The command under a preset, and one deviation that names all that changed.

    Raises:
        Refused: no such preset, or none for this command.
    """
    if preset != SMOKE:
        raise Refused(f"there is no preset {preset!r}: the one there is is called smoke.")
    found = _SMOKE.get(runner or "")
    if found is None:
        what = runner or argv.script or argv.program
        raise Refused(f"the smoke preset does not know {what}: run the item without --preset smoke.")
    changed: list[str] = []
    argv = _ranks(argv, runner, gpus, found.always.get("--model") == TINY, changed.append)
    arguments = argv.arguments
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
    return replace(argv, arguments=arguments), [f"smoke preset: {', '.join(changed) or 'nothing had to change'}"]


def _plain(flag: str) -> str:
    """A flag's name without its dashes: a deviation is written into an HTML comment, which may not hold `--`."""
    return flag.lstrip("-")


def most_ranks(gpus: int) -> int:
    """The most ranks of a smoke run of the tiny model: two on a CPU, else what the GPUs and its heads allow."""
    return min(largest_power_of_two(gpus), TINY_RANKS) if gpus else CPU_RANKS


def _ranks(argv: ParsedArgv, runner: str | None, gpus: int, tiny: bool, changed: Callable[[str], None]) -> ParsedArgv:
    """The same launch on what is there: two ranks on a CPU, else no more than GPUs, nor than tiny can be split into."""
    places = demand_of(argv).places
    most = most_ranks(gpus) if tiny or not gpus else largest_power_of_two(gpus)
    if value_of(argv.options, NPROC) == "gpu" and gpus > most:
        argv = replace(argv, options=with_value(argv.options, NPROC, str(most)))
        changed(f"{_plain(NPROC)} {most} instead of gpu")
    asked = demand_of(argv).gpus
    count = min(asked, most)
    if tiny and count:
        count = largest_power_of_two(count)
    if count < asked:
        argv = with_gpu_count(argv, count)
        changed(f"{_plain(NPROC if NPROC in places else next(iter(places)))} {count} instead of {asked}")
    if tiny and gpus and implied_gpus(runner, argv) > most:
        argv = replace(argv, arguments=with_value(argv.arguments, TENSOR_PARALLEL[0], str(most)))
        changed(f"{_plain(TENSOR_PARALLEL[0])} {most}")
    return argv
