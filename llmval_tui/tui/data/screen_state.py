"""The state behind the main screen: the newest snapshot, the telemetry and the operator's choices. UI thread only."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.actions.step_state import StepState
from llmval_tui.checklist.model import Step
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.terminal.glyphs import QUEUED, STEP_SIGNS, Sign
from llmval_tui.tui.data.history import TelemetryHistory
from llmval_tui.tui.data.messages import Messages
from llmval_tui.tui.data.snapshot import Selection, Snapshot, StepDetail
from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.settings import LaunchSettings

if TYPE_CHECKING:
    from llmval_tui.telemetry.sample import Sample
    from llmval_tui.tui.data.replay_timeline import Timeline
    from llmval_tui.tui.data.run_follower import RunSnapshot

NEEDS_YOU = "needs you"
ORDERS = ("list", "age", "took", "state")


@dataclass
class ScreenState:
    """Shared by the panes of one screen; the screen changes it and asks them to repaint."""

    settings: LaunchSettings
    now: Callable[[], float] = time.time  # wall clock in seconds; tests replace it
    snapshot: Snapshot = field(default_factory=Snapshot)
    key: StepKey | None = None  # the chosen step
    back: int = 0  # the shown run of the step: 0 is the newest, 1 the one before, …
    document: int = 0
    node: str | None = None  # the panes show this node's part of the run; None: the whole run
    fleet_back: int = 0  # the run in the pane Fleet: 0 is the newest run on several nodes
    preset: str | None = None
    adapt: bool = False
    marks: set[StepKey] = field(default_factory=set)
    filter: str = ""
    shown_state: str | None = None  # only steps with this word for their state, or `NEEDS_YOU`; None: all
    order: str = "list"  # of the list: one of `ORDERS`
    folded: set[str] = field(default_factory=set)  # titles of the folded sections
    section: str | None = None  # the title of the chosen section; then no step is chosen
    live: TelemetryHistory = field(default_factory=TelemetryHistory)
    recorded: TelemetryHistory = field(default_factory=TelemetryHistory)
    recorded_of: str | None = None  # id of the run whose recording is shown instead of the live hardware
    recorder_problem: str | None = None
    files_problem: str | None = None  # the disk does not answer
    jump: dict[str, str] | None = None  # in jump mode: the target of each letter
    messages: Messages = field(default_factory=Messages)
    timeline: "Timeline | None" = None  # the clock of the recording that is played
    keymap: Keymap = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.keymap = Keymap(settings.keys, settings.replay is not None, hide_changes=settings.readonly)

    def update(self, snapshot: Snapshot) -> None:
        """Show a newer snapshot. If the chosen step is not in it, choose the one in its place, at the start the first
        open one."""
        gone = self.snapshot.status(self.key)
        self.snapshot = snapshot
        keys = [status.step.key for status in snapshot.steps]
        if self.section is not None and self._has_section(self.section):
            self.key = None
        elif self.key not in keys:
            self.section = None
            steps = [status.step for status in snapshot.steps]
            # Its text was edited: the cursor must not jump to a step that a key would then start.
            same = [step.key for step in steps if gone is not None and step.number == gone.step.number]
            self.key = next(iter([*same, *(step.key for step in steps if not step.checked), *keys]), None)
        self.marks &= set(keys)

    def _has_section(self, title: str) -> bool:
        checklist = self.snapshot.checklist
        return checklist is not None and any(section.title == title for section in checklist.sections)

    def add_samples(self, source: str, samples: "Sequence[Sample]", *, restart: bool) -> None:
        """Append samples of a source, "live" or a run's id; `restart` drops the ones before."""
        if source == "live":
            self.live = TelemetryHistory() if restart else self.live
            self.live.extend(samples)
        elif source == self.recorded_of:
            self.recorded = TelemetryHistory() if restart else self.recorded
            self.recorded.extend(samples)

    def toggle_recorded(self) -> bool:
        """Change between live telemetry and the shown run's recording; False if the run has none."""
        run = self.run
        recorded = run is not None and run.telemetry_bytes > 0
        self.recorded_of = run.id if recorded and run is not None and self.recorded_of is None else None
        self.recorded = TelemetryHistory()
        return recorded

    @property
    def selection(self) -> Selection:
        choice = (self.key, self.back, self.document, self.preset, self.adapt, self.gpu_count)
        return Selection(*choice, self.node, self.fleet_back)

    @property
    def gpu_count(self) -> int | None:
        """The number of GPUs of the host according to the samples; None without a GPU or a sample.

        With `--gpus`, the samples hold only those GPUs under their own numbers; a missing one has no values.
        """
        gpus = self.live.last.gpus if self.live.last else []
        if self.settings.gpus is None:
            return len(gpus) or None
        present = [gpu.index for gpu in gpus if gpu.uuid is not None or gpu.memory_total_bytes is not None]
        return max(present) + 1 if present else None

    @property
    def detail(self) -> StepDetail | None:
        """The details of the chosen step; None until the newest snapshot has them."""
        detail = self.snapshot.detail
        return detail if detail is not None and detail.key == self.key else None

    @property
    def run(self) -> "RunSnapshot | None":
        return self.detail.run if self.detail else None

    def run_now(self) -> float:
        """The moment at which a run is shown: the clock, or that of the replay."""
        return self.timeline.now_s if self.timeline is not None else self.now()

    @property
    def step(self) -> Step | None:
        status = self.snapshot.status(self.key)
        return status.step if status else None

    def sign(self, step: Step, state: StepState) -> Sign:
        """The sign of a step: "queued" if the active plan still has to run it, else the sign of its state."""
        queued = step.number in self.snapshot.queued and state is not StepState.RUNNING
        return QUEUED if queued else STEP_SIGNS[state]

    @property
    def telemetry(self) -> TelemetryHistory:
        """The history that the telemetry pane draws."""
        return self.recorded if self.recorded_of else self.live

    def recorded_file(self) -> Path | None:
        """The recording that the telemetry pane shows; None if it shows live telemetry."""
        if self.recorded_of is None:
            return None
        runs, run = self.settings.workspace / "artifacts" / "runs", self.recorded_of
        if self.node is not None and run.endswith(f".{self.node}"):
            from llmval_tui.telemetry.process_ownership import NODES_FOLDER

            return runs / run.removesuffix(f".{self.node}") / NODES_FOLDER / self.node / "telemetry.jsonl"
        return runs / run / "telemetry.jsonl"

    def show_node(self, run_id: str, node: str) -> None:
        """Show a node's part of a run in all panes, with its recording."""
        self.node, self.recorded_of, self.recorded = node, f"{run_id}.{node}", TelemetryHistory()

    def leave_node(self) -> None:
        """Show the whole run again."""
        if self.node is not None:
            self.node, self.recorded_of, self.recorded = None, None, TelemetryHistory()

    @property
    def sample_age(self) -> float | None:
        """Seconds since the newest live sample; None if there has been none."""
        now = self.timeline.now_s if self.timeline else self.now()
        return None if self.live.last is None else max(0.0, now - self.live.last.t_ns / 1e9)

    @property
    def stale(self) -> bool:
        """Whether the newest live sample is too old to be shown as current."""
        age = self.sample_age
        speed = self.timeline.speed if self.timeline else 1
        return age is not None and age > (3 * self.settings.interval + 2) * speed
