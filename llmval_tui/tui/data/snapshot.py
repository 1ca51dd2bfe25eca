"""What the screen shows at one moment: plain data that the watcher's thread makes and the panes draw."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmval_tui.actions.step_state import StepStatus
from llmval_tui.checklist.model import Checklist
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.runs.hindrances import Hindrance
from llmval_tui.tui.data.run_history import RunRow, StepFacts
from llmval_tui.tui.data.services import ServiceLine

if TYPE_CHECKING:
    from llmval_tui.actions.api import Proposal
    from llmval_tui.fleet.overview import Overview
    from llmval_tui.tui.data.artifacts import ArtifactLine
    from llmval_tui.tui.data.run_follower import RunSnapshot


@dataclass(frozen=True, slots=True)
class Selection:
    """The operator's choices that decide the contents of a snapshot."""

    key: StepKey | None = None
    back: int = 0  # 0: the step's newest run, 1: the one before, …
    document: int = 0  # 0: the checklist, then docs/TODO.md, then the documents that the step names
    preset: str | None = None
    adapt: bool = False
    gpu_count: int | None = None
    node: str | None = None  # of a run on several nodes: show this node's part
    fleet_back: int = 0  # 0: the newest run on several nodes, 1: the one before, …


@dataclass(frozen=True, slots=True)
class Document:
    """A text file of the workspace as cleaned lines."""

    name: str
    lines: tuple[str, ...]
    mark: int | None  # the line of the chosen step, from 1
    names: tuple[str, ...]  # of all documents that can be chosen
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class StepDetail:
    """The chosen step, with its proposal and its shown run."""

    key: StepKey
    proposal: "Proposal | None"
    runs: int  # number of runs of the step
    back: int
    run: "RunSnapshot | None"
    artifacts: "tuple[ArtifactLine, ...]"
    history: tuple[RunRow, ...] = ()  # the runs of the step, newest first


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole workspace at one moment."""

    checklist: Checklist | None = None
    problem: str | None = None  # why the snapshot is not current
    unreadable: tuple[str, ...] = ()  # one sentence for each damaged record
    steps: tuple[StepStatus, ...] = ()
    facts: Mapping[StepKey, StepFacts] = field(default_factory=dict)
    services: tuple[ServiceLine, ...] = ()
    queued: frozenset[str] = frozenset()  # numbers of the steps that the active plan still has to run
    plan: str | None = None  # id of the active plan
    active: tuple[str, ...] = ()  # ids of runs with live processes
    hindrances: tuple[Hindrance, ...] = ()  # what holds up the running runs, or keeps results from being recorded
    judging: bool = False  # a run has ended, and no plan is there to judge it
    detail: StepDetail | None = None
    document: Document | None = None
    fleet: "Overview | None" = None  # None: no run was on several nodes
    fleet_place: tuple[StepKey, int] | None = None  # the step of that run, and how many of its runs are newer
    fleets: int = 0  # runs on several nodes

    def status(self, key: StepKey | None) -> StepStatus | None:
        return next((status for status in self.steps if status.step.key == key), None)
