"""A rank that the kernel kills because the run's cgroup has no memory left, as a job of Slurm or a pod has it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.report import Finding, Row
from faults.scenes import scratch
from llmval_tui.foundation.process import processes_with
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore

CASES = 5
LIMIT_BYTES = 3 << 29
_CGROUPS = Path("/sys/fs/cgroup")
_LIST = "# List\n\n## 1. Part\n- [ ] Run: `torchrun --nproc_per_node=2 work.py --output-json artifacts/ok.json`\n"
_WORK = """
import os, time
kept = []
while os.environ["RANK"] == "1":
    kept.append(b"x" * (16 << 20))
time.sleep(600)
"""


def out_of_memory(row: Row, every: int = 1) -> None:
    """One of two ranks takes memory without end in a cgroup with a limit: the verdict says what killed it."""
    for number in range(max(1, CASES // every)):
        if row.tried(case := f"{number}"):
            continue
        try:
            with _cgroup() as (folder, version):
                wrong = _case(folder)
        except OSError as error:
            row.note = f"not tried: no memory cgroup can be made here ({error})"
            return
        row.add(Finding(case, wrong, seen=f"cgroup {version}"))


@contextmanager
def _cgroup() -> Iterator[tuple[Path, str]]:
    """A new cgroup with a limit: of version 2 where it has the memory controller, else of version 1."""
    controllers = _CGROUPS / "cgroup.controllers"
    if controllers.exists() and "memory" in controllers.read_text().split():
        version, parent, limit = "v2", _CGROUPS, "memory.max"
    else:
        version, parent, limit = "v1", _own_v1(), "memory.limit_in_bytes"
    folder = parent / f"llmval-faults-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / limit).write_text(str(LIMIT_BYTES))
        if (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
        yield folder, version
    finally:
        deadline = time.monotonic() + 60
        while (folder / "cgroup.procs").read_text().split() and time.monotonic() < deadline:
            time.sleep(0.1)
        folder.rmdir()


def _own_v1() -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if "memory" in names.split(","):
            return _CGROUPS / "memory" / path.lstrip("/")
    raise OSError("the kernel has no memory controller")


def _case(cgroup: Path) -> list[str]:
    folder, workspace, environment = scratch(_LIST, _WORK)
    try:
        argv = [
            sys.executable,
            "-m",
            "llmval_tui",
            "run",
            "1.1",
            "--workspace",
            str(workspace),
            "--checklist",
            "list.md",
        ]
        ended = subprocess.run(
            ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(cgroup / "cgroup.procs"), *argv], cwd=workspace,
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        wrong = ["a traceback"] if "Traceback" in ended.stdout + ended.stderr else []
        runs = RunStore(workspace).runs()
        verdict = runs[0].verdict() if runs else None
        if verdict is None:
            return [*wrong, f"no verdict: {ended.stdout[-300:]}{ended.stderr[-300:]}"]
        gate = next(gate for gate in verdict.gates if gate.name.startswith("exit"))
        said = f"{gate.measured} ({gate.reason})"
        limit = f"out of memory (cgroup limit of {LIMIT_BYTES / (1 << 30):.1f} GiB)"
        if verdict.outcome is not Outcome.FAIL or "rank 1: killed by SIGKILL" not in said or limit not in said:
            wrong.append(f"{verdict.outcome}: {said}")
        if "- [x]" in (workspace / "list.md").read_text():
            wrong.append("it ticked")
        wrong += [f"orphans: {left}" for one in runs if (left := processes_with("LLMVAL_RUN_ID", one.id))]
        return wrong
    finally:
        shutil.rmtree(folder, ignore_errors=True)
