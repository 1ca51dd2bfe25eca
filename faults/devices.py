"""Drivers that crash, hang or lose a GPU, a recorder that is killed again and again, stopped ranks, bad disks."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults.report import Finding, Row
from faults.terminals import Dashboard
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import client
from llmval_tui.runs.create import create_run, new_run_id
from llmval_tui.runs.hindrances import HindranceWatch
from llmval_tui.runs.records import Command, Intent, StepRef
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.telemetry.sample import Sample

ROOT = Path(__file__).parents[1]
NAMED_WITHIN_S = 10.0
DISKS = 5
_DRIVER = """
import os, sys, time
sys.path.insert(0, {root!r})
from tests.helpers.fake_pynvml import FakeGpu, FakeNvml
class Bad(FakeNvml):
    def _enter(self, function, gpu=None):
        super()._enter(function, gpu)
        if len(self.calls) > {after}:
            {does}
sys.modules[__name__] = Bad(FakeGpu(0), FakeGpu(1))
"""
_BAD = {
    "crashes": "os.abort()",
    "hangs": "time.sleep(3600)",
    "is slow": "time.sleep(0.05)",
    "loses a GPU": "self.fail[('*', 1)] = 15",
    "loses both GPUs": "self.fail.update({('*', 0): 15, ('*', 1): 15})",
    "answers nothing": "self.fail[('*', 0)] = 999; self.fail[('*', 1)] = 999",
}


def bad_drivers(row: Row, every: int = 1) -> None:
    """A driver that goes bad at a call: the run of the same time passes, its recording has whole lines only."""
    cases = [(name, after) for after in (0, 3, 40) for name in _BAD]
    for name, after in cases[::every]:
        with _folder() as folder:
            (folder / "driver").mkdir()
            text = _DRIVER.format(root=str(ROOT), after=after, does=_BAD[name])
            (folder / "driver/pynvml.py").write_text(text)
            environment = {**os.environ, "PYTHONPATH": f"{folder / 'driver'}:{ROOT}"}
            run = _run(folder, "sleep 2", telemetry=True)
            client.start(run, environment)
            row.add(Finding(f"{name} after {after} calls", _ended(run)))


def killed_recorders(row: Row, every: int = 1) -> None:
    """The recorder of a run is killed as often as it comes back."""
    for number in range(max(1, 5 // every)):
        with _folder() as folder:
            run = _run(folder, "sleep 5", telemetry=True)
            client.start(run)
            kills = 0
            while run.alive():
                for pid in _recorders(run):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
                time.sleep(0.1)
            row.add(Finding(f"{number}: {kills} kills", _ended(run)))


def stopped_ranks(row: Row, every: int = 1) -> None:
    """SIGSTOP of a rank, of two, of the supervisor, of the recorder: named within 10 s."""
    slowest = 0.0
    for kind in ("one rank", "two ranks", "supervisor", "recorder")[:: max(1, every // 8)]:
        with _folder() as folder:
            script = "for n in 0 1; do RANK=$n bash -c 'echo $$ > pid$RANK; sleep 600' & done; wait"
            run = _run(folder, script, telemetry=True)
            client.start(run)
            _until(lambda folder=folder: all((folder / f"pid{n}").exists() for n in (0, 1)))  # type: ignore[misc]
            time.sleep(0.2)
            ranks = [int((folder / f"pid{n}").read_text()) for n in (0, 1)]
            supervisor = run.status().supervisor
            assert supervisor is not None
            pids = {"one rank": ranks[1:], "two ranks": ranks, "supervisor": [supervisor.pid]}.get(kind) or _recorders(
                run
            )
            watch = HindranceWatch(folder)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            while len(watch.look([run])) < len(pids) and time.monotonic() - began < 60:
                time.sleep(0.1)
            took = time.monotonic() - began
            slowest = max(slowest, took)
            row.add(Finding(kind, [] if pids and took <= NAMED_WITHIN_S else [f"{pids} named after {took:.0f} s"]))
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            client.request_cancel(run, "end of case")
            client.wait(run, 60)
    row.note = f"named after {slowest:.1f} s at most"


def disks(row: Row, every: int = 1) -> None:
    """A disk of its own fills up or hangs in mid-run: the dashboard names it within 10 s, then all is recorded."""
    slowest: dict[str, float] = {}
    for number in range(max(1, DISKS // every)):
        for kind in ("full", "hangs", "hangs with the settings")[: 1 if every > 1 else 3]:
            if row.tried(case := f"{kind}, {number}"):
                continue
            try:
                with _disk() as disk:
                    wrong, took = _on_disk(disk, kind)
            except (OSError, subprocess.CalledProcessError) as error:
                row.note = f"not tried: no file system can be mounted here ({error})"
                return
            slowest[kind] = max(slowest.get(kind, 0.0), took)
            row.add(Finding(case, wrong, seen=kind))
    if slowest:
        row.note = "named on the screen after at most " + ", ".join(f"{s:.1f} s ({k})" for k, s in slowest.items())


def _on_disk(disk: Path, kind: str) -> tuple[list[str], float]:
    """What is wrong, and after how many seconds the dashboard named the disk.

    `hangs with the settings`: the folders of the user's settings and caches lie on the same disk, as in many homes.
    """
    workspace = disk / "ws"
    workspace.mkdir()
    (workspace / "list.md").write_text("# List\n\n## 1. Part\n- [ ] text\n")
    elsewhere = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    go, home = elsewhere / "go", disk if kind == "hangs with the settings" else elsewhere
    run = _run(workspace, f"while [ ! -e {go} ]; do echo line; sleep 0.2; done", telemetry=True)
    client.start(run)
    environment = {**os.environ, **{f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "CACHE", "CONFIG")}}
    dashboard = Dashboard(["--workspace", str(workspace), "list.md"], elsewhere, environment)
    undo: Callable[[], object] = lambda: None  # noqa: E731  (nothing is to be undone yet)
    wrong = []
    try:
        if not dashboard.shows("running"):
            wrong.append("the dashboard does not show the run")
        dashboard.read(1)
        undo = _fill(disk / "filler") if kind == "full" else _freeze(disk)
        began = time.monotonic()
        # "files: no answer" is what it says if its own reading waits.
        named = dashboard.shows("disk full", "disk hangs", "files: no answer", seconds=60)
        took = time.monotonic() - began
        if not named or took > NAMED_WITHIN_S:
            wrong.append(f"named after {took:.0f} s: {named}; the screen: {' / '.join(dashboard.screen.display[:3])}")
    finally:
        undo()
        if dashboard.end() is None:
            wrong.append("SIGTERM does not end the dashboard afterwards")
        dashboard.close()
    go.touch()
    wrong += _ended(run)
    shutil.rmtree(elsewhere, ignore_errors=True)
    return wrong, took


def _fill(filler: Path) -> Callable[[], object]:
    """Fill the disk; returns what makes room again."""
    with suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()
    return filler.unlink


def _freeze(disk: Path) -> Callable[[], object]:
    """Let every write to the disk wait; returns what lets them go on."""
    subprocess.run(["fsfreeze", "-f", str(disk)], check=True, capture_output=True)
    return lambda: subprocess.run(["fsfreeze", "-u", str(disk)], check=True, capture_output=True)


@contextmanager
def _disk() -> Iterator[Path]:
    """A small ext4 in a file of memory, mounted."""
    with _folder() as folder:
        image, mount = folder / "image", folder / "disk"
        mount.mkdir()
        with image.open("wb") as file:
            file.truncate(48 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True, capture_output=True)
        try:
            yield mount
        finally:
            subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(workspace: Path, script: str, *, telemetry: bool) -> Run:
    step = StepRef("1.1", "1. Part", "text", 1, "list.md")
    command = Command("main", ["bash", "-c", script], script)
    now = utc_iso()
    intent = Intent(1, new_run_id("1.1"), "command", step, [command], str(workspace), now, telemetry=telemetry)
    return create_run(RunStore(workspace), intent)


def _ended(run: Run) -> list[str]:
    """Wait for the end of a run; what is wrong with its record."""
    if not client.wait(run, 180):
        return ["it has not ended after 180 s"]
    found = []
    if (code := run.status().commands[0].exit_code) != 0:
        found.append(f"exit code {code}")
    lines = run.telemetry.read_bytes().split(b"\n") if run.telemetry.exists() else [b""]
    broken = [line for line in lines[:-1] if line and Sample.from_line(line) is None]
    # A killed recorder may leave one unfinished line, which the next one ends.
    if len(broken) > sum("started again" in note for note in run.status().notes):
        found.append(f"{len(broken)} broken lines in the recording")
    return found


def _recorders(run: Run) -> list[int]:
    supervisor = run.status().supervisor
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and supervisor is not None:
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if b"llmval_tui.telemetry.recorder" in line and str(run.telemetry).encode() in line:
                    found.append(int(entry.name))
    return found


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
