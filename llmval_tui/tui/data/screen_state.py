"""What the screen shows now: the newest picture, the charts' series and the operator's choices. UI thread only."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.actions.step_state import StepState
from llmval_tui.checklist.model import Step, StepKey
from llmval_tui.terminal.glyphs import QUEUED, STEP_SIGNS, Sign
from llmval_tui.tui.data.history import TelemetryHistory
from llmval_tui.tui.data.workspace_view import Selection, Snapshot, StepDetail
from llmval_tui.tui.settings import LaunchSettings

if TYPE_CHECKING:
    from llmval_tui.tui.data.replay_timeline import Timeline
    from llmval_tui.tui.data.run_follower import RunSnapshot


@dataclass
class ScreenState:
    """Shared by the panes of one screen; the screen changes it and asks them to repaint."""

    settings: LaunchSettings
    now: Callable[[], float] = time.time  # wall clock, seconds; tests give their own
    snapshot: Snapshot = field(default_factory=Snapshot)
    key: StepKey | None = None  # the chosen step
    back: int = 0
    document: int = 0
    preset: str | None = None
    adapt: bool = False
    marks: set[StepKey] = field(default_factory=set)
    filter: str = ""
    live: TelemetryHistory = field(default_factory=TelemetryHistory)
    recorded: TelemetryHistory = field(default_factory=TelemetryHistory)
    recorded_of: str | None = None  # id of the run whose recording is shown instead of the live hardware
    recorder_problem: str | None = None
    files_problem: str | None = None  # the disk does not answer
    jump: dict[str, str] | None = None  # in jump mode: the target of each letter
    timeline: "Timeline | None" = None  # the clock of the recording that is played

    def take(self, snapshot: Snapshot) -> None:
        """Show a newer picture; where the chosen step is not in it, as on the first, choose the first that is open."""
        self.snapshot = snapshot
        keys = [status.step.key for status in snapshot.steps]
        if self.key not in keys:
            self.key = next((s.step.key for s in snapshot.steps if not s.step.checked), keys[0] if keys else None)
        self.marks &= set(keys)

    @property
    def selection(self) -> Selection:
        return Selection(self.key, self.back, self.document, self.preset, self.adapt, self.gpu_count)

    @property
    def gpu_count(self) -> int | None:
        """How many GPUs the host has, as far as the samples tell; None where there is none, or no sample yet.

        With `--gpus` the samples hold only those, under their own numbers, and one that is not there without a value.
        """
        gpus = self.live.last.gpus if self.live.last else []
        if self.settings.gpus is None:
            return len(gpus) or None
        there = [gpu.index for gpu in gpus if gpu.uuid is not None or gpu.memory_total_bytes is not None]
        return max(there) + 1 if there else None

    @property
    def detail(self) -> StepDetail | None:
        """What is known of the chosen step; None until the newest picture has it."""
        detail = self.snapshot.detail
        return detail if detail is not None and detail.key == self.key else None

    @property
    def run(self) -> "RunSnapshot | None":
        return self.detail.run if self.detail else None

    @property
    def step(self) -> Step | None:
        status = self.snapshot.status(self.key)
        return status.step if status else None

    def sign(self, step: Step, state: StepState) -> Sign:
        """The sign of a step as it stands in the plan at work and by itself."""
        return QUEUED if step.number in self.snapshot.queued and state is not StepState.RUNNING else STEP_SIGNS[state]

    @property
    def telemetry(self) -> TelemetryHistory:
        """What the telemetry pane draws."""
        return self.recorded if self.recorded_of else self.live

    def recorded_file(self) -> Path | None:
        """The recording that the pane shows, where it shows one."""
        if self.recorded_of is None:
            return None
        return self.settings.workspace / "artifacts" / "runs" / self.recorded_of / "telemetry.jsonl"

    @property
    def sample_age(self) -> float | None:
        """Seconds since the newest live sample; None where none ever came."""
        now = self.timeline.now_s if self.timeline else self.now()
        return None if self.live.last is None else max(0.0, now - self.live.last.t_ns / 1e9)

    @property
    def stale(self) -> bool:
        """Whether live values are too old to be taken for the present."""
        age = self.sample_age
        speed = self.timeline.speed if self.timeline else 1
        return age is not None and age > (3 * self.settings.interval + 2) * speed
