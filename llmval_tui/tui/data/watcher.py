"""The threads that watch files and the recorder, and post what they find to the screen as messages.

The UI thread never reads a large file and never waits for a process. A thread posts immutable snapshots; the UI writes
its selection into a slot that the thread reads.
"""

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual.message import Message

from llmval_tui.foundation.text import clean_line
from llmval_tui.telemetry import recorder_process
from llmval_tui.tui.data.snapshot import Selection, Snapshot
from llmval_tui.tui.data.workspace_view import InitialSnapshot, Workspace
from llmval_tui.tui.settings import LaunchSettings

if TYPE_CHECKING:
    from llmval_tui.telemetry.recording import SampleTail
    from llmval_tui.telemetry.sample import Sample

Post = Callable[[Message], object]
RECORDED_PART = 1 << 20  # bytes of a recorded telemetry.jsonl that are read together


class SnapshotTaken(Message):
    """A new snapshot of the workspace."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class SamplesTaken(Message):
    """New telemetry samples of a source: "live", or a run's id."""

    def __init__(self, source: str, samples: "list[Sample]", *, restart: bool = False) -> None:
        super().__init__()
        self.source = source
        self.samples = samples
        self.restart = restart  # drop the earlier samples: they belong to another recording


class RecorderStatus(Message):
    """The state of the live recorder: None if it works, else a sentence."""

    def __init__(self, problem: str | None) -> None:
        super().__init__()
        self.problem = problem


class Watcher(threading.Thread):
    """Takes a snapshot of the workspace every `interval` seconds, and at once when the selection changes."""

    def __init__(
        self, workspace: Workspace, post: Post, interval: float, initial: InitialSnapshot | None = None
    ) -> None:
        super().__init__(name="watcher", daemon=True)
        self._workspace = workspace
        self._post = post
        self._interval = interval
        self._initial = initial
        self.shown: Snapshot | None = None  # the snapshot that the screen shows before the watcher starts
        self._selection = Selection()
        self._wake = threading.Event()
        self._ended = False
        self._recorded: tuple[Path, SampleTail] | None = None
        self._recorded_file: Path | None = None
        self.last_snapshot_s = time.monotonic()  # the UI reads it to detect a disk that does not answer

    def select(self, selection: Selection, recorded_file: Path | None) -> None:
        """Set the contents of the next snapshots; `recorded_file` is the telemetry.jsonl that a pane shows."""
        if (selection, recorded_file) != (self._selection, self._recorded_file):
            self._selection, self._recorded_file = selection, recorded_file
            self._wake.set()

    def refresh_now(self) -> None:
        """Take a snapshot at once."""
        self._wake.set()

    def stop(self) -> None:
        self._ended = True
        self._wake.set()

    def run(self) -> None:
        if self._initial is not None:
            self._initial.join()  # only one thread at a time may use a workspace
        before = self.shown
        if before is not None:
            self._wake.wait(self._interval)
        while not self._ended:
            self._wake.clear()
            try:
                snapshot = self._workspace.snapshot(self._selection)
                if snapshot != before:
                    before = snapshot
                    self._post(SnapshotTaken(snapshot))
                self._follow_recorded()
            except Exception as error:  # noqa: BLE001  (an error in one snapshot must not end the thread; it is shown)
                problem = clean_line(f"the files could not be read: {type(error).__name__}: {error}")
                before = replace(before or Snapshot(), problem=problem)
                self._post(SnapshotTaken(before))
            self.last_snapshot_s = time.monotonic()
            self._wake.wait(self._interval)

    def _follow_recorded(self) -> None:
        path = self._recorded_file
        if path is None:
            self._recorded = None
            return
        restart = self._recorded is None or self._recorded[0] != path
        if restart:
            from llmval_tui.telemetry.recording import SampleTail

            self._recorded = (path, SampleTail(path))
        from llmval_tui.telemetry.process_ownership import run_id_of

        assert self._recorded is not None
        # All of it, because the charts show the whole run; in parts, because samples take more memory than charts.
        while (samples := self._recorded[1].poll(RECORDED_PART)) or restart:
            self._post(SamplesTaken(run_id_of(path.parent), samples, restart=restart))
            if not samples or self._ended or self._recorded_file != path:
                return
            restart = False


class Telemetry(Protocol):
    """A source that posts `SamplesTaken("live", …)` from a thread of its own."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def refresh_now(self) -> None: ...


class LiveTelemetry(threading.Thread):
    """Reads samples from a recorder process and restarts it with growing delays when it dies.

    The process is separate because a GPU driver may crash its caller.
    """

    def __init__(self, settings: LaunchSettings, post: Post, argv: list[str] | None = None) -> None:
        super().__init__(name="live-telemetry", daemon=True)
        self._post = post
        self._environment = dict(settings.environment)
        self.argv = argv or recorder_process.recorder_argv(
            None, interval_s=settings.interval, folder=settings.workspace, gpus=settings.gpus or ()
        )
        self._ended = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def refresh_now(self) -> None:
        """Nothing to do: the recorder decides when it takes samples."""

    def stop(self) -> None:
        """End the recorder; wait for it at most a second."""
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
        restarts = recorder_process.Restarts()
        while not self._ended.is_set():
            started = time.monotonic()
            reason = self._run_recorder()
            if self._ended.is_set():
                return
            delay = restarts.next_delay_s(time.monotonic() - started) or recorder_process.RESTART_DELAYS_S[-1]
            self._post(RecorderStatus(f"the telemetry recorder {reason}; it is started again in {delay:.0f} s."))
            self._ended.wait(delay)

    def _run_recorder(self) -> str:
        """Run one recorder until it ends; returns the reason."""
        from llmval_tui.telemetry.sample import Sample

        with self._lock:
            if self._ended.is_set():
                return "was stopped"
            try:
                self._child = child = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=self._environment,
                )
            except OSError as error:
                return f"could not be started ({error.strerror})"
        assert child.stdout is not None
        reported = False
        with child.stdout:
            for line in child.stdout:
                sample = Sample.from_line(line)
                if sample is None:
                    continue
                if not reported:
                    reported = True
                    self._post(RecorderStatus(None))
                self._post(SamplesTaken("live", [sample]))
        code = child.wait()
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
