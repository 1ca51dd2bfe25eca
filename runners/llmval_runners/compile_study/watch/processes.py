"""Processes as /proc shows them: state, kernel wait, CPU time, memory. This module never signals or traces them."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICK = os.sysconf("SC_CLK_TCK")
_COMPILERS = (
    "g++",
    "c++",
    "gcc",
    "cc1plus",
    "clang",
    "clang++",
    "as",
    "ld",
    "collect2",
    "nvcc",
    "cicc",
    "ptxas",
    "nvlink",
)
_FILE_CALLS = {
    0: "read",
    17: "pread64",
    19: "readv",
    2: "open",
    257: "openat",
    4: "stat",
    262: "newfstatat",
    74: "fsync",
    1: "write",
    18: "pwrite64",
}
_WITHOUT_DESCRIPTOR = ("open", "openat", "stat", "newfstatat")


@dataclass(frozen=True, slots=True)
class Process:
    """One reading. `pid` and `start` together identify a process, even if its pid is reused later."""

    pid: int
    parent: int
    start: int
    state: str  # R, S, D, T, t, Z (man 5 proc)
    cpu_s: float
    threads: int
    command: str

    @property
    def compile_worker(self) -> bool:
        """One of Inductor's worker processes, or a compiler that it started."""
        return (
            "torch/_inductor/compile_worker" in self.command
            or "torch._inductor.compile_worker" in self.command
            or self.compiler
        )

    @property
    def compiler(self) -> bool:
        return Path(self.command.split(" ")[0]).name.split("-")[-1] in _COMPILERS


def read_process(pid: int) -> Process | None:
    """Read a process. Returns None if it does not exist (any more), or if this user may not see it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # PermissionError: another user's, under hidepid
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    text = " ".join(part.decode("utf-8", "replace") for part in command.split(b"\0") if part)
    return Process(
        pid,
        int(fields[1]),
        int(fields[19]),
        fields[0],
        (int(fields[11]) + int(fields[12])) / _TICK,
        int(fields[17]),
        text,
    )


def children_of_all() -> dict[int, list[Process]]:
    """Every process by its parent's pid. One pass over /proc, which is the expensive part on a large node."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (process := read_process(int(entry.name))) is not None:
            children.setdefault(process.parent, []).append(process)
    return children


def descendants(pid: int, children: dict[int, list[Process]] | None = None) -> list[Process]:
    """Children, their children and so on. Pass the result of `children_of_all()` to use one pass for several pids."""
    children = children_of_all() if children is None else children
    found: list[Process] = []
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += [process.pid for process in below]
    return found


def is_alive(process: Process) -> bool:
    """Whether this very process still exists, and is not a zombie."""
    now = read_process(process.pid)
    return now is not None and now.start == process.start and now.state != "Z"


def describe(pid: int) -> dict[str, Any] | None:
    """The details of a process and its main thread. Unreadable values are null, with the reason in `notes`."""
    process = read_process(pid)
    if process is None:
        return None
    notes: dict[str, str] = {}

    def text(name: str) -> str | None:
        try:
            return Path(f"/proc/{pid}/{name}").read_text().strip()
        except OSError as error:
            notes[name] = error.strerror or type(error).__name__
            return None

    memory = {
        line.partition(":")[0]: line.split()[1]
        for line in (text("status") or "").splitlines()
        if line.startswith(("VmRSS", "VmHWM"))
    }
    return {
        "pid": pid,
        "state": process.state,
        "threads": process.threads,
        "cpu_s": process.cpu_s,
        "rss_bytes": int(memory["VmRSS"]) * 1024 if "VmRSS" in memory else None,
        "rss_peak_bytes": int(memory["VmHWM"]) * 1024 if "VmHWM" in memory else None,
        "wchan": text("wchan"),
        "syscall": text("syscall"),
        "waits_for_file": _waited_file(pid, text("syscall")),
        "command": process.command[:400],
        "notes": notes,
    }


def _waited_file(pid: int, syscall: str | None) -> str | None:
    """The file that the main thread's system call waits for, or None (x86-64 numbers of system calls).

    Unnamed pipes and sockets do not count as files: processes use them to wait for one another.
    """
    words = (syscall or "").split()
    if (
        len(words) < 2
        or not words[0].isdecimal()
        or (name := _FILE_CALLS.get(int(words[0]))) is None
        or os.uname().machine != "x86_64"
    ):
        return None
    if name in _WITHOUT_DESCRIPTOR:
        return name
    try:
        target = str(Path(f"/proc/{pid}/fd/{int(words[1], 16)}").readlink())
    except OSError:
        return None
    return f"{name} {target}" if target.startswith("/") and not target.startswith(("/dev/pts", "/dev/null")) else None
