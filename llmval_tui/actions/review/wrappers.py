"""Programs that start another program: `sudo`, `env`, `timeout`, `bash -c`, `xargs`, `ssh`, `docker run`, …

A wrapper changes nothing about what the inner program is. Where the exact place of the inner program depends on
options that llmval does not know, every word of the wrapper's command is looked at.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath


def names(text: str) -> frozenset[str]:
    """The entries of a table that is written as one text."""
    return frozenset(text.split())


@dataclass(frozen=True, slots=True)
class Wrapper:
    """How the command line of a wrapper is read."""

    values: str = ""  # letters of the short options that take a value
    long_values: frozenset[str] = frozenset()  # long options with a separate value
    words: int = 0  # its own words before the program: the duration of `timeout`
    assigns: bool = False  # NAME=value may stand before the program


# Wrappers on this machine that give the program no further rights: the inner program alone decides.
PLAIN = {
    "env": Wrapper("uC", frozenset({"--unset", "--chdir"}), assigns=True),
    "nohup": Wrapper(),
    "setsid": Wrapper(),
    "nice": Wrapper("n", frozenset({"--adjustment"})),
    "ionice": Wrapper("cnpP", frozenset({"--class", "--classdata"})),
    "timeout": Wrapper("sk", frozenset({"--signal", "--kill-after"}), words=1),
    "time": Wrapper(),
    "stdbuf": Wrapper("ioe", frozenset({"--input", "--output", "--error"})),
    "taskset": Wrapper(words=1),
    "numactl": Wrapper("NmCilpP", frozenset({"--cpunodebind", "--membind", "--physcpubind", "--interleave"})),
    "command": Wrapper(),
}
# Wrappers that run the program as another user, elsewhere, with arguments of their own, or in ways of their own: the
# program is asked for at least once.
OTHERS = frozenset(
    [
        "sudo", "doas", "su", "runuser", "pkexec", "ssh", "pdsh", "clush", "parallel-ssh", "xargs", "parallel", "watch",
        "srun", "salloc", "mpirun", "mpiexec", "orterun", "prun", "nsys", "ncu", "torchrun", "accelerate", "deepspeed",
        "horovodrun", "chroot", "nsenter", "unshare", "systemd-run", "flock", "strace", "ltrace", "gdb", "perf", "exec",
        "busybox", "toybox", "singularity", "apptainer", "enroot", "chrt", "script", "expect", "tmux", "screen", "at",
        "batch", "conda", "uv", "poetry", "pipx", "npx", "ansible", "eval",
    ]
)  # fmt: skip
CONTAINERS = {"docker": {"run", "exec"}, "podman": {"run", "exec"}, "nerdctl": {"run", "exec"}, "crictl": {"exec"},
              "kubectl": {"exec", "run", "debug"}, "oc": {"exec", "run", "debug", "rsh"}}  # fmt: skip
SHELLS = frozenset({"bash", "sh", "dash", "zsh", "ksh", "fish"})
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def name_of(word: str) -> str:
    """The name of a program without its path: a path changes nothing about what a program is."""
    return PurePosixPath(word).name


def plain_inner(argv: Sequence[str]) -> list[str] | None:
    """The command inside a `PLAIN` wrapper; None if there is none, or its place is unclear."""
    wrapper = PLAIN.get(name_of(argv[0]))
    if wrapper is None:
        return None
    index, words = 1, wrapper.words
    while index < len(argv):
        word = argv[index]
        if word == "--":
            index += 1
            break
        if word.startswith("--"):
            name = word.partition("=")[0]
            if name == "--split-string":
                return None
            index += 2 if name in wrapper.long_values and "=" not in word else 1
        elif word.startswith("-") and len(word) > 1:
            taken = _takes_next(word[1:], wrapper.values)
            if taken is None or (name_of(argv[0]) == "env" and "S" in word):
                return None
            index += 2 if taken else 1
        elif (wrapper.assigns and _ASSIGNMENT.match(word)) or words:
            words -= 0 if wrapper.assigns else 1
            index += 1
        else:
            break
    return list(argv[index:]) or None


def _takes_next(letters: str, values: str) -> bool | None:
    """Whether a cluster of short options takes the next word as its value."""
    for position, letter in enumerate(letters):
        if letter in values:
            return position == len(letters) - 1
    return False


def is_other_wrapper(argv: Sequence[str]) -> bool:
    """Whether the command starts another program in a way that only a scan of its words can find."""
    name = name_of(argv[0])
    if name in OTHERS:
        return True
    if name in CONTAINERS:
        return bool(CONTAINERS[name] & set(argv[1:]))
    return name == "find" and any(word in ("-exec", "-execdir", "-ok", "-okdir") for word in argv[1:])


def is_wrapper(program: str) -> bool:
    """Whether the program only starts another one, whatever that is."""
    return name_of(program) in PLAIN or name_of(program) in OTHERS


def shell_code(argv: Sequence[str]) -> str | None:
    """The code of `bash -c CODE`; None for any other command."""
    if name_of(argv[0]) not in SHELLS:
        return None
    for index, word in enumerate(argv[1:], 1):
        if not word.startswith(("-", "+")):
            return None
        if not word.startswith("--") and "c" in word[1:]:
            return next((other for other in argv[index + 1 :] if not other.startswith("-")), "")
    return None


def simple_commands(code: str) -> list[list[str]] | None:
    """The simple commands of shell code; None if it cannot be split into words.

    Substitutions are taken as commands of their own. Quoted code stays one word.
    """
    lines = code.replace("\\\n", " ").replace("`", " ; ").replace("$(", " ; ").splitlines()
    found: list[list[str]] = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&()<>{}")
        lexer.whitespace_split = True
        current: list[str] = []
        try:
            for word in lexer:
                if word and set(word) <= set(";|&(){}"):
                    found.append(current)
                    current = []
                else:
                    current.append(word)
        except ValueError:
            return None
        found.append(current)
    return [words for words in found if words]
