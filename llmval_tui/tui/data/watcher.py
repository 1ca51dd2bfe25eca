"""The only place where threads meet the screen: each thread waits for files or for a child process and posts messages.

The UI's thread never reads a file that may be big and never waits for a process. What a thread finds is a picture that
does not change, posted as a message; what a pane wants to see next is put into a slot that the thread reads.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual.message import Message

from llmval_tui.foundation.text import clean_line
from llmval_tui.tui.data.workspace_view import InitialSnapshot, Selection, Snapshot, Workspace
from llmval_tui.tui.settings import LaunchSettings

if TYPE_CHECKING:
    from llmval_tui.telemetry.recording import SampleTail
    from llmval_tui.telemetry.sample import Sample

Post = Callable[[Message], object]
RESTART_S = (1.0, 2.0, 5.0, 10.0, 30.0)  # waiting times before the recorder is started again
RECORDED_TAIL = 4 << 20  # bytes at the end of a recorded telemetry.jsonl that the charts are filled from


class SnapshotTaken(Message):
    """A new picture of the workspace."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class SamplesTaken(Message):
    """New telemetry samples: `source` is "live", or a run's id."""

    def __init__(self, source: str, samples: "list[Sample]", *, restart: bool = False) -> None:
        super().__init__()
        self.source = source
        self.samples = samples
        self.restart = restart  # what came before belongs to something else


class RecorderStatus(Message):
    """How the live recorder is: None is well, else a sentence."""

    def __init__(self, problem: str | None) -> None:
        super().__init__()
        self.problem = problem


class Watcher(threading.Thread):
    """Looks at the workspace every interval, and at once when the selection changes."""

    def __init__(self, workspace: Workspace, post: Post, interval: float, first: InitialSnapshot | None = None) -> None:
        super().__init__(name="watcher", daemon=True)
        self._workspace = workspace
        self._post = post
        self._interval = interval
        self._first = first
        self.shown: Snapshot | None = None  # what the screen shows before the watcher starts
        self._wish = Selection()
        self._wake = threading.Event()
        self._ended = False
        self._recorded: tuple[Path, SampleTail] | None = None
        self._wanted_telemetry: Path | None = None
        self.last_snapshot_s = time.monotonic()  # read by the UI to tell a disk that does not answer

    def selection(self, selection: Selection, telemetry: Path | None) -> None:
        """What to look at from now on; `telemetry` is the recorded file that a pane shows."""
        if (selection, telemetry) != (self._wish, self._wanted_telemetry):
            self._wish, self._wanted_telemetry = selection, telemetry
            self._wake.set()

    def refresh_now(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        self._ended = True
        self._wake.set()

    def run(self) -> None:
        if self._first is not None:
            self._first.join()  # one thread at a time looks at a workspace
        before = self.shown
        if before is not None:
            self._wake.wait(self._interval)
        while not self._ended:
            self._wake.clear()
            try:
                snapshot = self._workspace.snapshot(self._wish)
                if snapshot != before:
                    before = snapshot
                    self._post(SnapshotTaken(snapshot))
                self._follow_recorded()
            except Exception as error:  # noqa: BLE001  (a defect in one look must not end all looking; it is shown)
                problem = clean_line(f"the files could not be read: {type(error).__name__}: {error}")
                before = replace(before or Snapshot(), problem=problem)
                self._post(SnapshotTaken(before))
            self.last_snapshot_s = time.monotonic()
            self._wake.wait(self._interval)

    def _follow_recorded(self) -> None:
        path = self._wanted_telemetry
        if path is None:
            self._recorded = None
            return
        restart = self._recorded is None or self._recorded[0] != path
        if restart:
            from llmval_tui.telemetry.recording import SampleTail

            self._recorded = (path, SampleTail(path, backlog_bytes=RECORDED_TAIL))
        assert self._recorded is not None
        samples = self._recorded[1].poll()
        if samples or restart:
            self._post(SamplesTaken(path.parent.name, samples, restart=restart))


class Telemetry(Protocol):
    """Something that posts `SamplesTaken("live", …)` in a thread of its own."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def refresh_now(self) -> None: ...


class LiveTelemetry(threading.Thread):
    """Reads the samples of a recorder process of its own and starts another one, later and later, when it dies.

    A driver that crashes its caller takes the recorder along and nothing else.
    """

    def __init__(self, settings: LaunchSettings, post: Post, argv: list[str] | None = None) -> None:
        super().__init__(name="live-telemetry", daemon=True)
        self._post = post
        self._environment = dict(settings.environment)
        self._argv = argv or recorder_argv(settings)
        self._ended = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def refresh_now(self) -> None:
        """Nothing to refresh_now: samples come when the recorder takes them."""

    def stop(self) -> None:
        """End the recorder; waits for it no longer than a second."""
        with self._lock:
            self._ended.set()
            child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(1)
            except subprocess.TimeoutExpired:
                child.kill()

    def run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            started = time.monotonic()
            reason = self._one_life()
            if self._ended.is_set():
                return
            failures = 0 if time.monotonic() - started > 60 else failures + 1
            pause = RESTART_S[min(failures, len(RESTART_S)) - 1] if failures else RESTART_S[0]
            self._post(RecorderStatus(f"the telemetry recorder {reason}; it is started again in {pause:.0f} s."))
            self._ended.wait(pause)

    def _one_life(self) -> str:
        from llmval_tui.telemetry.sample import Sample

        with self._lock:
            if self._ended.is_set():
                return "was stopped"
            try:
                self._child = child = subprocess.Popen(
                    self._argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=self._environment,
                )
            except OSError as error:
                return f"could not be started ({error.strerror})"
        assert child.stdout is not None
        well = False
        with child.stdout:
            for line in child.stdout:
                sample = Sample.from_line(line)
                if sample is None:
                    continue
                if not well:
                    well = True
                    self._post(RecorderStatus(None))
                self._post(SamplesTaken("live", [sample]))
        code = child.wait()
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def recorder_argv(settings: LaunchSettings) -> list[str]:
    """The command whose standard output is samples."""
    argv = [sys.executable, "-m", "llmval_tui.telemetry.recorder", "--out", "-", "--interval", str(settings.interval)]
    argv += ["--folder", str(settings.workspace)]
    if settings.gpus:
        argv += ["--gpus", ",".join(str(gpu) for gpu in settings.gpus)]
    return argv
