"""Which GPU processes belong to the run: those with the run's mark in their environment."""

from pathlib import Path

_PROC = Path("/proc")
# The inode of the first pid namespace is fixed in the kernel (PROC_PID_INIT_INO, include/linux/proc_ns.h).
_FIRST_PID_NAMESPACE = "pid:[4026531836]"


class Ownership:
    """Recognises processes of a run by `VARIABLE=value` in their start environment, which every child inherits.

    A process with an unreadable environment belongs to another user and is foreign. A process that has ended is not
    foreign, except in a container with its own pids: there it may be running unseen on the host.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()
        self._unseen_is_foreign = in_own_pid_namespace()

    def is_foreign(self, pid: int) -> bool:
        """Whether `pid` is running without the mark."""
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except PermissionError:
            return True
        except OSError:
            return self._unseen_is_foreign
        if not environment:  # a zombie, or a process that overwrote its environment
            return not _gone(pid)
        return self._mark not in environment.split(b"\0")


def in_own_pid_namespace() -> bool:
    """Whether this process has other pids than the host, as in most containers."""
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
