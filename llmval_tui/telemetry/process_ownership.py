"""Whose processes are on the GPUs: those that carry the run's mark in their environment, and strangers."""

from pathlib import Path

_PROC = Path("/proc")
# The inode of the first pid namespace is fixed in the kernel (PROC_PID_INIT_INO, include/linux/proc_ns.h).
_FIRST_PID_NAMESPACE = "pid:[4026531836]"


class Ownership:
    """Tells processes of a run by `VARIABLE=value` in their start environment, which every child inherits.

    A process whose environment may not be read belongs to another user and is a stranger. One that is gone is none,
    except where process numbers are not the host's: there it may well run, unseen.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._unseen_is_foreign = in_own_pid_namespace()

    def is_foreign(self, pid: int) -> bool:
        """Whether `pid` runs here and does not carry the mark."""
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except PermissionError:
            return True
        except OSError:
            return self._unseen_is_foreign
        if not environment:  # a zombie, or a process that wrote over its environment
            return not _gone(pid)
        return self._mark not in environment.split(b"\0")


def in_own_pid_namespace() -> bool:
    """Whether this process has other process numbers than the host, as in most containers."""
    try:
        return str((_PROC / "self" / "ns" / "pid").readlink()) != _FIRST_PID_NAMESPACE
    except OSError:
        return False


def _gone(pid: int) -> bool:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in ("Z", "X")
