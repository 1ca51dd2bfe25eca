"""Presets: make a command so small that a trial takes seconds. Always a deviation, never evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from llmval_tui.actions.api import Skip
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
TINY_RANKS = 4  # the tiny model has 4 KV heads, and every rank needs one
SEARCH = "--find-max-qps"
CPU_RANKS = 2  # the smallest number with a real all-reduce
ROUNDS_RANKS = 4  # the smallest number of nodes with more than one round of pairs


@dataclass(frozen=True, slots=True)
class Preset:
    """The flags of a runner under a preset; several values of one flag are separated by blanks."""

    always: Mapping[str, str]
    if_given: Mapping[str, str]  # replaced only if the command has the flag; otherwise the runner's default fits
    without_gpu: Mapping[str, str]
    dropped: frozenset[str] = frozenset()  # flags that do not work with the preset; removed with their values
    with_search: Mapping[str, str] = field(default_factory=dict)  # set if the command searches for the highest rate
    with_rounds: Mapping[str, str] = field(default_factory=dict)  # set if it measures pairs of nodes and there is one


_SMOKE: dict[str, Preset] = {
    # FP8 and a compiler gain nothing on the tiny model (1 M parameters), and its lengths are short.
    "inference_server_load_test.py": Preset(
        always={"--model": TINY, "--duration": "8", "--target-qps": "14"},  # two busy cores keep up with this rate
        if_given={
            "--fp8-mode": "none",
            "--kv-dtype": "auto",
            "--compile-mode": "off",
            "--prompt-len": "uniform:16:64",
            "--output-len": "8",
        },
        without_gpu={"--device": "cpu"},
        dropped=frozenset({"--checkpoint"}),
    ),
    # The model is the server's. What is left of the load is small enough for a server on a CPU.
    "openai_load_test.py": Preset(
        always={"--duration": "8", "--target-qps": "2", "--prompt-len": "uniform:16:64", "--output-len": "8"},
        if_given={},
        without_gpu={},
        dropped=frozenset({"--trace", "--prompts", "--burstiness"}),
        # A service level that a GPU keeps would otherwise be searched up to rates at which a CPU drains for minutes.
        with_search={"--trial-duration": "8", "--max-qps": "4", "--max-trials": "8"},
    ),
    "torch_compile_repro.py": Preset(
        always={"--model": TINY, "--sequence-length": "64", "--batch-size": "1", "--steps": "3"},
        if_given={},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
        dropped=frozenset({"--checkpoint"}),
    ),
    # One window of a second exercises every part, and is never long enough to be valid. The modes stay: the runner
    # refuses a mode that the machine cannot run, and the trial should show that too.
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
        if_given={},
        without_gpu={"--device": "cpu"},
        dropped=frozenset({"--devices"}),
    ),
    "long_context_validation.py": Preset(
        always={"--model": TINY, "--length-divisor": "128"},  # 32768 becomes 256: the list's lengths stay as written
        if_given={"--fp8-mode": "none", "--kv-dtype": "auto"},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
        dropped=frozenset({"--checkpoint"}),
    ),
    # Small sizes show every part; what a link carries needs large ones.
    "collective_bandwidth.py": Preset(
        always={"--max-bytes": "64K", "--repeats": "2", "--iterations": "5"},
        if_given={"--pair-bytes": "64K", "--modes": "eager", "--min-bytes": "64K"},
        without_gpu={"--device": "cpu"},
        dropped=frozenset({"--min-busbw", "--baseline"}),
        with_rounds={"--ranks-per-node": "1"},
    ),
    "power_efficiency_analyzer.py": Preset(always={}, if_given={}, without_gpu={}),
    "capture_fp8_flexattention_traces.sh": Preset(
        always={
            "--model": TINY,
            "--duration": "6",
            "--target-qps": "10",
            "--trace-seconds": "2",
            "--fp8-mode": "none",
        },
        if_given={"--prompt-len": "uniform:16:64", "--output-len": "8"},
        without_gpu={"--device": "cpu", "--tensor-parallel-gpus": str(CPU_RANKS)},
    ),
}


def apply(preset: str, runner: str | None, argv: ParsedArgv, gpus: int) -> tuple[ParsedArgv, list[str]]:
    """The command under a preset, and one deviation that names all changes.

    Raises:
        Refused: the preset does not exist.
        Skip: it has no values for this command.
    """
    if preset != SMOKE:
        raise Refused(f"there is no preset {preset!r}: the only one is smoke.")
    found = _SMOKE.get(runner or "")
    if found is None:
        what = runner or argv.script or argv.program
        raise Skip(f"the smoke preset has no short form of {what}: run the item without --preset smoke.")
    changed: list[str] = []
    argv = _ranks(argv, runner, gpus, found.always.get("--model") == TINY, changed.append)
    arguments = argv.arguments
    for flag in found.dropped:
        if values_of(arguments, flag):
            arguments = without(arguments, flag)
            changed.append(f"no {_plain(flag)}")
    given = {flag: value for flag, value in found.if_given.items() if value_of(arguments, flag) is not None}
    if SEARCH in arguments:
        given |= found.with_search
    if _rounds_on_one_node(argv):
        given |= found.with_rounds
    for flag, value in {**found.always, **given, **({} if gpus else found.without_gpu)}.items():
        old = " ".join(values_of(arguments, flag)) or None
        if old == value:
            continue
        arguments = with_values(arguments, flag, value.split())
        changed.append(f"{_plain(flag)} {value}" + (f" instead of {old}" if old is not None else ""))
    return replace(argv, arguments=arguments), [f"smoke preset: {', '.join(changed) or 'nothing had to change'}"]


def _rounds_on_one_node(argv: ParsedArgv) -> bool:
    """Whether the command measures pairs of nodes and would run on one, whose ranks then stand for nodes."""
    return value_of(argv.arguments, "--pairs") == "rounds" and value_of(argv.options, "--nnodes") in (None, "1", "1:1")


def _plain(flag: str) -> str:
    """A flag's name without its dashes: a deviation goes into an HTML comment, which must not contain `--`."""
    return flag.lstrip("-")


def most_ranks(gpus: int) -> int:
    """The maximum number of ranks for the tiny model: two on a CPU, otherwise as the GPUs and the KV heads allow."""
    return min(largest_power_of_two(gpus), TINY_RANKS) if gpus else CPU_RANKS


def _ranks(argv: ParsedArgv, runner: str | None, gpus: int, tiny: bool, changed: Callable[[str], None]) -> ParsedArgv:
    """The command with a number of ranks that this machine and the tiny model allow."""
    flags = demand_of(argv).flags
    most = most_ranks(gpus) if tiny or not gpus else largest_power_of_two(gpus)
    if not gpus and _rounds_on_one_node(argv):
        most = ROUNDS_RANKS
    if value_of(argv.options, NPROC) == "gpu" and gpus > most:
        argv = replace(argv, options=with_value(argv.options, NPROC, str(most)))
        changed(f"{_plain(NPROC)} {most} instead of gpu")
    asked = demand_of(argv).gpus
    count = min(asked, most)
    if tiny and count:
        count = largest_power_of_two(count)
    if count < asked:
        argv = with_gpu_count(argv, count)
        changed(f"{_plain(NPROC if NPROC in flags else next(iter(flags)))} {count} instead of {asked}")
    if tiny and gpus and implied_gpus(runner, argv) > most:
        argv = replace(argv, arguments=with_value(argv.arguments, TENSOR_PARALLEL[0], str(most)))
        changed(f"{_plain(TENSOR_PARALLEL[0])} {most}")
    return argv
