"""`srun OPTIONS COMMAND` of an item, taken apart: what llmval decides itself, what sbatch gets, and the command."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.foundation.errors import Refused

# Options of srun and sbatch that would take away what `slurm.py` decides.
OURS = re.compile(
    r"--(?:nodes|nodelist|nodefile|ntasks|ntasks-per-node|tasks-per-node|output|error|job-name|requeue|no-requeue|array"
    r"|wrap|parsable|test-only|hold|dependency|chdir|open-mode|wait|kill-on-bad-exit|no-kill|label|multi-prog|pty"
    r"|overlap|jobid|mpi|export|input|unbuffered|immediate|quiet|verbose)(?:=.*)?|-[NnwFoeJadDWKklOiuIQv].*"
)
# sbatch does not know these: how srun prints and binds, which this module's caller decides, or nothing here needs.
_SRUN_ONLY = frozenset(
    {
        "--cpu-bind", "--threads", "--compress", "--send-libs", "--slurmd-debug", "--exact", "--preserve-env",
        "--quit-on-interrupt", "--resv-ports", "--disable-status", "--overcommit",
    }
)  # fmt: skip
# These change what is run, or with what; to leave one out would run something else.
_CHANGES_THE_COMMAND = frozenset(
    {
        "--bcast", "--bcast-exclude", "--chdir", "--epilog", "--export", "--export-file", "--het-group", "--multi-prog",
        "--no-allocate", "--nodefile", "--prolog", "--relative", "--task-epilog", "--task-prolog",
    }
)  # fmt: skip
# Without `=`, every other long option takes the next word as its value.
_NO_VALUE = frozenset(
    {
        "--bcast", "--compress", "--contiguous", "--disable-status", "--exact", "--exclusive", "--get-user-env",
        "--hold", "--immediate", "--kill-on-bad-exit", "--label", "--multi-prog", "--nice", "--no-allocate",
        "--no-kill", "--no-requeue", "--overcommit", "--overlap", "--oversubscribe", "--parsable", "--preserve-env",
        "--propagate", "--pty", "--quiet", "--quit-on-interrupt", "--reboot", "--requeue", "--resv-ports",
        "--send-libs", "--share", "--spread-job", "--test-only", "--unbuffered", "--use-min-nodes", "--verbose",
        "--x11",
        # pyxis
        "--container-entrypoint", "--no-container-entrypoint", "--container-mount-home", "--no-container-mount-home",
        "--container-readonly", "--container-remap-root", "--no-container-remap-root", "--container-writable",
    }
)  # fmt: skip
_LONG = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "E": "preserve-env", "F": "nodefile",
    "G": "gpus", "H": "hold", "I": "immediate", "J": "job-name", "K": "kill-on-bad-exit", "L": "licenses",
    "M": "clusters", "N": "nodes", "O": "overcommit", "Q": "quiet", "S": "core-spec", "T": "threads", "W": "wait",
    "X": "disable-status", "Z": "no-allocate", "b": "begin", "c": "cpus-per-task", "d": "dependency", "e": "error",
    "i": "input", "k": "no-kill", "l": "label", "m": "distribution", "n": "ntasks", "o": "output",
    "p": "partition", "q": "qos", "r": "relative", "s": "oversubscribe", "t": "time", "u": "unbuffered",
    "v": "verbose", "w": "nodelist", "x": "exclude",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SrunCommand:
    """`srun OPTIONS COMMAND` of an item, taken apart."""

    nodes: int | None
    node_list: str | None
    options: tuple[str, ...]  # options for sbatch: partition, account, gres, time, …
    command: tuple[str, ...]


def take_apart(words: Sequence[str]) -> SrunCommand:
    """Split an srun command line. The number of tasks a node must be 1: torchrun starts the ranks.

    Raises:
        Refused: it starts more than one task on a node, or changes the command in a way that would be lost.
    """
    found, command = _options(words)
    given, options = dict[str, str](), list[str]()
    for name, value in found:
        if name in _CHANGES_THE_COMMAND and (name, value) != ("--export", "ALL"):
            raise Refused(
                f"srun {name} changes what runs, and llmval starts the nodes itself: leave it out, and put variables "
                "before the command (env NAME=value …)."
            )
        given[name] = value or ""
        if not OURS.fullmatch(name) and name not in _SRUN_ONLY:
            options.append(name if value is None else f"{name}={value}")
    nodes = _nodes(given.get("--nodes"))
    _one_task_a_node(nodes, given)
    return SrunCommand(nodes, given.get("--nodelist"), tuple(options), command)


def command_of(words: Sequence[str]) -> tuple[str, ...]:
    """The command behind srun and its options."""
    return _options(words)[1]


def _options(words: Sequence[str]) -> tuple[list[tuple[str, str | None]], tuple[str, ...]]:
    """The options in their long form with their values, and the words of the command."""
    found: list[tuple[str, str | None]] = []
    rest = list(words[1:])
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            name, sign, text = word.partition("=")
            value = text if sign else None
        else:
            name, text = f"--{_LONG.get(word[1:2], word[1:2])}", word[2:]
            value = (text.removeprefix("=") or None) if name not in _NO_VALUE else None
            if name in _NO_VALUE and text and not text.isdecimal():  # `-lN2`; `-K1` and `-I60` have their own numbers
                rest.insert(0, f"-{text}")
        if value is None and name not in _NO_VALUE and rest:
            value = rest.pop(0)
        found.append((name, value))
    return found, tuple(rest)


def _nodes(text: str | None) -> int | None:
    if text is None:
        return None
    low, _, high = text.partition("-")
    if not (low.isascii() and low.isdecimal()) or high not in ("", low) or len(low) > 6 or int(low) < 1:
        raise Refused(f"srun --nodes={text} is not a number of nodes: write -N 4.")
    return int(low)


def _one_task_a_node(nodes: int | None, given: dict[str, str]) -> None:
    for name in ("--ntasks-per-node", "--tasks-per-node"):
        if given.get(name, "1") != "1":
            raise Refused(
                f"srun {name}={given[name]}: llmval starts one torchrun on a node, which starts the ranks: write "
                "--ntasks-per-node=1."
            )
    tasks = given.get("--ntasks")
    if tasks is not None and tasks != str(nodes or 1):
        of_nodes = (
            f"{nodes} node{'s' if nodes != 1 else ''}" if nodes is not None else "a number of nodes that it omits"
        )
        raise Refused(
            f"srun --ntasks={tasks} on {of_nodes}: llmval starts one torchrun on a node, which starts the ranks: write "
            "-N with the number of nodes, and --ntasks-per-node=1."
        )
