"""The tool inside a command line, whatever starts it, and the values of its flags."""

from collections.abc import Sequence
from pathlib import PurePosixPath

# Programs that start another program on this machine.
_STARTERS = frozenset(
    {
        "chrt", "conda", "env", "ionice", "micromamba", "mpiexec", "mpiexec.hydra", "mpirun", "nice", "nohup", "nsys",
        "numactl", "orterun", "pdm", "pipx", "pixi", "poetry", "prterun", "prun", "python", "setarch", "setsid", "srun",
        "stdbuf", "sudo", "taskset", "time", "timeout", "unbuffer", "uv", "uvx",
    }
)  # fmt: skip
# Programs whose arguments are files and words: a tool's name after them is not a command.
_OTHERS = frozenset({"bash", "cat", "cp", "echo", "file", "ldd", "ls", "make", "sh", "stat", "test", "which"})
# Programs that start it in a container or on another host.
_REMOTE = frozenset(
    {"apptainer", "clush", "docker", "enroot", "kubectl", "nerdctl", "pdsh", "podman", "singularity", "ssh"}
)


def is_python(word: str) -> bool:
    """Whether a word names a Python interpreter: python, python3, python3.12, also with a path."""
    name = PurePosixPath(word).name
    return name == "python" or (name.startswith("python") and name[6:].replace(".", "").isdecimal())


def starts(words: Sequence[str]) -> list[tuple[list[str], bool]]:
    """Every rest of the command that may be a program with its arguments, and whether it runs elsewhere.

    The first is the command itself. `mpirun -np 8 ./all_reduce_perf -b 8` gives the rest at each word, because the
    flags of the starters differ from version to version; a caller takes the first rest that is a known tool.
    """
    found: list[tuple[list[str], bool]] = []
    elsewhere = False
    for position, word in enumerate(words):
        name = PurePosixPath(word).name
        rest = list(words[position:])
        if name in _OTHERS or (position == 0 and name not in _STARTERS | _REMOTE and not is_python(name)):
            return [*found, (rest, elsewhere)]
        found.append((rest, elsewhere))
        if is_python(name):
            script = next((index for index, one in enumerate(rest[1:], 1) if not one.startswith("-")), None)
            is_module = "-m" in rest[: script or 0]
            return found if script is None or is_module else [*found, (rest[script:], elsewhere)]
        elsewhere |= name in _REMOTE
    return found


def options(arguments: Sequence[str], *names: str) -> list[str]:
    """The values of a flag under any of its names, in order; a flag without a value gives "".

    `--a-b` and `--a_b` are one flag; `-b8` and `-b=8` give `8`.
    """
    wanted = {_plain(name) for name in names}
    found = []
    for index, word in enumerate(arguments):
        flag, sign, value = word.partition("=")
        if flag.startswith("-") and _plain(flag) in wanted:
            following = arguments[index + 1] if index + 1 < len(arguments) else ""
            found.append(value if sign else "" if _is_flag(following) else following)
        elif word.startswith("-") and not word.startswith("--") and len(word) > 2 and word[:2] in wanted:
            found.append(word[2:])
    return found


def option(arguments: Sequence[str], *names: str) -> str | None:
    """The value of a flag, the last one if it is given twice; None without the flag. See `options`."""
    found = options(arguments, *names)
    return found[-1] if found else None


def values_after(arguments: Sequence[str], *names: str) -> list[str]:
    """All values of a flag that takes several words: those up to the next flag."""
    found: list[str] = []
    taking = False
    for word in arguments:
        if _is_flag(word):
            flag, sign, value = word.partition("=")
            taking = _plain(flag) in names
            found += [value] if taking and sign else []
        elif taking:
            found.append(word)
    return found


def has(arguments: Sequence[str], *names: str) -> bool:
    """Whether a flag is given under any of its names."""
    return option(arguments, *names) is not None


def _plain(flag: str) -> str:
    return flag.replace("_", "-") if flag.startswith("--") else flag


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not word.lstrip("-").replace(".", "").isdecimal()
