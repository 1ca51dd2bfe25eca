"""Whether the kernel killed a process for lack of memory, in this process's cgroup or on the whole host."""

from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.text import GIB

UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2^63 for "no limit"


@dataclass(frozen=True, slots=True)
class Kills:
    """The kernel's counters of such kills since boot, or since the cgroup was made."""

    cgroup: int | None  # in this process's cgroup and below; None: the kernel does not report it
    host: int | None
    limit_bytes: int | None  # limit of the cgroup; None: no limit

    def since(self, before: "Kills") -> str | None:
        """A sentence if there was a kill after `before`; None if not, or if unknown."""
        if self.cgroup is not None and before.cgroup is not None and self.cgroup > before.cgroup:
            limit = f" of {self.limit_bytes / GIB:.1f} GiB" if self.limit_bytes is not None else ""
            return f"out of memory (cgroup limit{limit})"
        if self.host is not None and before.host is not None and self.host > before.host:
            return "out of memory (the host had none left)"
        return None


def kills(root: Path = Path("/")) -> Kills:
    """The counters now. `root` is the root of the file system, for tests."""
    folder = _memory_cgroup(root)
    counted = limit = None
    if folder is not None:
        events = _number_after(folder / "memory.events", "oom_kill")  # cgroup v2
        counted = _number_after(folder / "memory.oom_control", "oom_kill") if events is None else events
        text = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
        limit = int(text) if text.isdecimal() and int(text) < UNLIMITED else None
    return Kills(counted, _number_after(root / "proc/vmstat", "oom_kill"), limit)


def _memory_cgroup(root: Path) -> Path | None:
    """The folder of this process's memory controller: of cgroup v1 if the kernel has it there, else of v2."""
    unified = None
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return root / "sys/fs/cgroup/memory" / path.lstrip("/")
        if number == "0":
            unified = root / "sys/fs/cgroup" / path.lstrip("/")
    return unified


def _number_after(file: Path, name: str) -> int | None:
    for line in _text(file).splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isdecimal():
            return int(words[1])
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
