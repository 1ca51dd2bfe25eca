"""A command line that starts one torchrun launch over several nodes."""

from collections.abc import Mapping
from typing import Any

from llmval_tui.actions.command.argv import ParsedArgv, parse_argv, same_flag, value_of
from llmval_tui.actions.command.gpu_count import NPROC, TENSOR_PARALLEL
from llmval_tui.fleet.srun import command_of
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

SRUN = "srun"
NNODES = "--nnodes"
# Where the agents meet: decided when the nodes are known.
_MEETING = ("--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--node-rank", "--master-addr", "--master-port")


def without_srun(words: list[str]) -> list[str]:
    """The command behind `srun OPTIONS`, if that is a torchrun launch over several nodes; else the words.

    Raises:
        Refused: see `fleet.srun.take_apart`.
    """
    if (
        not words
        or words[0] != SRUN
        or not any(word.endswith("torchrun") or "torch.distributed" in word for word in words)
    ):
        return words
    inner = list(command_of(words))
    return inner if inner and nnodes_of(parse_argv(inner)) > 1 else words


def nnodes_of(argv: ParsedArgv) -> int:
    """The nodes that a torchrun command asks for; 1 for any other command.

    Raises:
        Refused: it is a range, or no number.
    """
    value = value_of(argv.options, NNODES) if argv.launcher == "torchrun" else None
    if value is None:
        return 1
    low, _, high = value.partition(":")
    if not low.isdecimal() or int(low) < 1 or high not in ("", low):
        raise Refused(
            f"--nnodes {clean_line(value)} is not one number: a validation needs to know how many nodes it ran on."
        )
    return int(low)


def ranks_asked(words: tuple[str, ...]) -> str | None:
    """The ranks of a whole launch, over all nodes; None or a word such as `gpu` if the command states no number."""
    per_node, nodes = value_of(words, NPROC), value_of(words, NNODES)
    if per_node is None or not per_node.isdecimal() or nodes is None:
        return per_node
    return str(int(per_node) * int(nodes.partition(":")[0]))


def tensor_parallel_asked(words: tuple[str, ...], identity: Mapping[str, Any]) -> str | None:
    """The ranks that should share one replica of the model; None if the command does not say.

    Without a flag that is the ranks of a node; in results of before 2026-11-29, which know no replicas, all ranks.
    """
    stated = next((value for flag in TENSOR_PARALLEL if (value := value_of(words, flag)) is not None), None)
    if stated is not None:
        return stated
    return value_of(words, NPROC) if "data_parallel" in identity else ranks_asked(words)


def without_meeting(options: tuple[str, ...]) -> tuple[str, ...]:
    """torchrun's options without those that say where its agents meet."""
    kept: list[str] = []
    skip = False
    for word in options:
        if skip:
            skip = False
            continue
        if any(same_flag(word, name) for name in _MEETING):
            skip = "=" not in word
            continue
        kept.append(word)
    return tuple(kept)
