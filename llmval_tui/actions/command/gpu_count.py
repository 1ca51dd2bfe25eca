"""The GPUs that a command asks for, the GPUs of the machine, and fitting the one to the other."""

from dataclasses import dataclass, replace

from llmval_tui.actions.api import Context
from llmval_tui.actions.command.argv import ParsedArgv, value_of, values_of, with_value
from llmval_tui.actions.command.runner_catalog import COMPILE_REPRO, POWER_SWEEP
from llmval_tui.foundation.errors import Refused

NPROC = "--nproc-per-node"
TENSOR_PARALLEL = ("--tensor-parallel-gpus", "--tensor-parallel-size", "--tensor-parallel", "--tp")


@dataclass(frozen=True, slots=True)
class GpuDemand:
    """The GPU counts in a command, by flag; `gpus` is the largest."""

    flags: dict[str, int]

    @property
    def gpus(self) -> int:
        return max(self.flags.values(), default=0)


def demand_of(argv: ParsedArgv) -> GpuDemand:
    """The GPU counts in a command.

    Raises:
        Refused: a count is not a positive number.
    """
    flags = {}
    for flag in (NPROC, *TENSOR_PARALLEL):
        value = value_of(argv.options if flag == NPROC else argv.arguments, flag)
        if value is None or (flag == NPROC and value in ("gpu", "auto", "cpu")):
            continue
        if not value.isdecimal() or int(value) < 1:
            raise Refused(f"{flag} {value} is not a number of GPUs: write a whole number of at least 1.")
        flags[flag] = int(value)
    return GpuDemand(flags)


def implied_gpus(runner: str | None, argv: ParsedArgv) -> int:
    """The GPUs that one of llmval's runners uses if the command has no count; 0 if it has one, or runs on a CPU."""
    if value_of(argv.arguments, "--device") == "cpu" or demand_of(argv).flags:
        return 0
    if runner == COMPILE_REPRO:
        return 8  # its default of --tensor-parallel-gpus
    if runner == POWER_SWEEP:
        devices = values_of(argv.arguments, "--devices")
        return 1 + max((int(one) for one in devices if one.isdecimal()), default=0)
    return 0


def available_gpus(context: Context) -> int:
    """The number of GPUs that the command may use: by `--gpus`, else by CUDA_VISIBLE_DEVICES, else all.

    Raises:
        Refused: `--gpus` names a GPU that does not exist.
    """
    count = context.gpu_count or 0
    chosen = context.options.gpus
    if chosen is not None:
        missing = [index for index in chosen if index not in range(count)]
        if missing or not chosen:
            there = f"has {count} (0–{count - 1})" if count else "has none"
            names = ", ".join(map(str, dict.fromkeys(missing))) or "(none)"
            raise Refused(f"--gpus names GPU {names}, but this machine {there}: name GPUs that exist.")
        return len(set(chosen))
    visible = context.environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not count:
        return count
    return min(count, len([part for part in visible.split(",") if part.strip() not in ("", "-1")]))


def with_gpu_count(argv: ParsedArgv, count: int) -> ParsedArgv:
    """The command with every GPU count above `count` set to it."""
    demand = demand_of(argv)
    options, arguments = argv.options, argv.arguments
    for flag, value in demand.flags.items():
        if value > count:
            options = with_value(options, flag, str(count), add=False)
            arguments = with_value(arguments, flag, str(count), add=False)
    return replace(argv, options=options, arguments=arguments)


def adapt_to_gpus(
    argv: ParsedArgv, context: Context, *, needs_gpu: bool, implied: int = 0
) -> tuple[ParsedArgv, list[str]]:
    """The command with a GPU count that this machine has, and the deviations.

    `needs_gpu`: the script is known to need the GPUs; a script that llmval does not know may run without one.
    `implied`: the GPUs that it uses without a count in the command.

    Raises:
        Refused: the machine has too few GPUs, and `--adapt` was not given or does not help.
    """
    asked = max(demand_of(argv).gpus, implied)
    if context.elsewhere:  # the GPUs are those of other nodes: a node without them refuses, and is named
        return argv, []
    available = available_gpus(context)
    on_cpu = value_of(argv.arguments, "--device") == "cpu"
    if available == 0 and value_of(argv.options, NPROC) == "gpu":
        raise Refused(f"the item asks for a rank on every GPU ({NPROC} gpu); this machine has none: write a number.")
    if asked <= available or on_cpu or (available == 0 and not needs_gpu):
        return argv, []
    if available == 0:
        raise Refused(
            f"the item asks for {_gpus(asked)}, but this machine has none: run it on the GPU node, or try the list "
            "here with --preset smoke."
        )
    if implied:
        raise Refused(
            f"the item uses {_gpus(asked)} without a count; {_gpus(available)} can be used: set the count with the "
            "script's own flag (--tensor-parallel-gpus N, --devices 0)."
        )
    count = largest_power_of_two(available)
    if not context.options.adapt:
        raise Refused(
            f"the item asks for {_gpus(asked)}; {_gpus(available)} can be used: pass --adapt to run it on {count}, "
            "recorded as a deviation."
        )
    return with_gpu_count(argv, count), [f"{_gpus(count)} instead of {asked}"]


def largest_power_of_two(count: int) -> int:
    """The largest power of two up to `count` (≥ 1): tensor parallelism divides the heads by powers of two."""
    return 1 << (count.bit_length() - 1)


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
