"""Processes known beyond their pid, and signals that cannot hit a stranger."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Identity:
    """A process for good: a pid alone is reused, pid with boot id and start time (clock ticks since boot) is not."""

    boot_id: str
    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> "Identity | None":
        """The identity of a running process; None where there is none (a zombie counts as none)."""
        fields = _stat_fields(pid)
        if fields is None or fields[0] in ("Z", "X"):
            return None
        return cls(BOOT_ID.read_text().strip(), pid, int(fields[19]))

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Identity.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process through a pidfd; False where it is gone, or another user's."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The pidfd pins the process, so a check made after opening it cannot go stale before the signal.
            if not self.alive():
                return False
            signal.pidfd_send_signal(descriptor, number)
        except (ProcessLookupError, PermissionError):  # what `sudo` started may be ours to see and not to end
            return False
        finally:
            os.close(descriptor)
        return True


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from `state` on (field 3); the name before them may hold spaces and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def processes_with(variable: str, value: str) -> list[Identity]:
    """Every process of this user whose start environment has `variable=value`, this process left out."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # gone meanwhile, or another user's
            continue
        if wanted in environment.split(b"\0") and (identity := Identity.of(int(entry.name))):
            found.append(identity)
    return found
