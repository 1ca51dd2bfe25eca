"""Replacing a file that other programs may save at any moment, without losing what they save."""

import ctypes
import errno
import fcntl
import os
import signal
import time
from pathlib import Path

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_POLL_S = 0.005


def exchange(one: Path, other: Path) -> bool:
    """Swap two files atomically; False if the kernel or the file system cannot (NFS), and nothing was changed.

    Raises:
        OSError: another reason.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_SUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(other))


def wait_for_writers(descriptor: int, patience_s: float) -> bool:
    """Wait until no process has this file open for writing; False if one still has after `patience_s`.

    The kernel grants a read lease only on a file without writers. A file of another user or on a network has no
    leases: then the answer is True after a moment, and only the bytes can show an edit.
    """
    deadline = time.monotonic() + patience_s
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # the usual signal, SIGIO, would end this process
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        except OSError:
            time.sleep(_POLL_S)
            return True
        else:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return True
        time.sleep(_POLL_S)
