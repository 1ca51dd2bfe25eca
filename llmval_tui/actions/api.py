"""The interface of an action: it proposes, it may perform its own work, and it judges the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from llmval_tui.foundation.errors import Refused

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import Reading
    from llmval_tui.actions.review.model import ListSettings, Question
    from llmval_tui.checklist.model import Checklist, Step
    from llmval_tui.runs.records import Artifact, Command, Gate, ServerSpec
    from llmval_tui.runs.store import Run, RunStore


class Skip(Refused):
    """The item is left out here, and neither the list nor the command line is wrong: a tool is missing, for example."""


class NotYet(Refused):
    """A refusal that ends when an earlier step of the section has run."""


class Condition(StrEnum):
    """What must happen to the earlier steps that a step rests on."""

    PASSES = "passes"  # otherwise the step does not run
    ENDS = "ends"
    NOT_FAILED = "has not failed"  # otherwise the step runs without it
    SERVES = "serves"  # a server that must be ready when the step starts, and alive until it ends


@dataclass(frozen=True, slots=True)
class Need:
    """What an action takes from the earlier steps of its section."""

    actions: frozenset[str]  # the earlier steps have one of these actions
    condition: Condition
    schema: str | None = None  # only steps with a result of this schema
    every: bool = False  # all of them; else one is enough
    full_run: bool = False  # outside a demo workspace, a run with a preset does not count


# Gates, metrics by name, and a summary in one sentence; `Judgement` adds a question for the operator, or None.
Judged: TypeAlias = "tuple[list[Gate], dict[str, float | None], str]"
Judgement: TypeAlias = "tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]"


@dataclass(frozen=True, slots=True)
class Options:
    """The operator's choices for a plan; the same for every step in it."""

    preset: str | None = None  # "smoke"
    adapt: bool = False  # if there are fewer GPUs than the item asks for: rewrite every count and record it
    gpus: tuple[int, ...] | None = None  # use only these (`--gpus 0,1`)
    runner_python: str | None = None  # interpreter of the runners; None: the dashboard's own
    tick: bool = True
    fail_fast: bool = False  # the first failure ends the plan
    yardstick: bool = False  # afterwards, our engine gets the load of each load test against a server of the list
    values: Mapping[str, str] = field(default_factory=dict)  # placeholder → value (`--set name=value`)
    nodes: str | None = None  # the list of nodes as given (`--nodes`); None: that of the settings, or this machine
    launcher: str | None = None  # "slurm" or "ssh"; None: that of the settings, else see docs/fleet.md
    slurm_options: tuple[str, ...] = ()  # options of sbatch, besides those of the settings
    same_machine: bool = False  # several names of nodes may be one machine
    confirmed: tuple[str, ...] = ()  # codes of the questions that were answered for this plan alone (`--confirm`)


@dataclass(frozen=True, slots=True)
class Context:
    """The input of a proposal."""

    workspace: Path
    checklist: "Checklist"
    step: "Step"
    options: Options
    store: "RunStore"
    now: datetime  # local time: `$(date +%Y%m%d)` is the operator's day
    environment: Mapping[str, str]
    gpu_count: int | None  # None: unknown (no driver)
    demo: bool = False  # a scratch workspace, where a `smoke` run may tick
    elsewhere: bool = False  # the commands run on other nodes, whose GPUs are not known here
    reading: "Reading | None" = None  # what the item asks for; `registry.propose` fills it in
    values: Mapping[str, str] = field(default_factory=dict)  # the item's placeholders by name
    settings: "ListSettings | None" = None  # settings of the file beside the list; None: there is none


@dataclass(frozen=True, slots=True)
class Proposal:
    """The description of a step's work before it starts."""

    action: str
    summary: str  # one sentence: "Runs the load test on 8 GPUs for 300 s and judges its JSON."
    details: tuple[str, ...] = ()  # one line each: reads, writes, changes, gates
    commands: "tuple[Command, ...]" = ()
    artifacts: "tuple[Artifact, ...]" = ()
    deviations: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    telemetry: bool = True
    nodes: tuple[str, ...] = ()  # nodes that it runs on; () with a launch in `params`: Slurm chooses them
    server: "ServerSpec | None" = None  # the command starts a server, which lives for the following items
    refusal: str | None = None  # why it cannot run now, and the remedy; None: it can run
    reading: "Reading | None" = None  # what the item asks for
    # The open question of a first use, or why it needs the operator's confirmation each time; None: it may start.
    unreviewed: str | None = None
    open_question: "Question | None" = None  # the same with what an answer needs
    is_skip: bool = False  # `refusal` is the reason of a `Skip`
    not_yet: bool = False  # `refusal` ends when an earlier step of the section has run


class Action(Protocol):
    """One kind of step."""

    name: str
    title: str  # for people: "run a command"
    about: str  # one sentence, shown if a step cannot be proposed in full
    # Optional: `directives: frozenset[str]`, the keys that it reads in an item's llmval comment besides `action`
    # (other keys are refused), `matches(step)` with `refines` (see `registry`), and `needs: tuple[Need, ...]`, what it
    # takes from earlier steps.

    def propose(self, context: Context) -> Proposal:
        """The work that the step would do now. May raise `Refused`; `registry.propose` turns it into a `refusal`."""

    def perform(self, run: "Run") -> int:
        """Do the work, inside `python -m llmval_tui.actions.perform RUN`; returns the exit code.

        Only called if the proposal contains that command; otherwise the proposal's commands do the work.
        """

    def judge(self, run: "Run") -> Judgement:
        """The action's own gates, metrics, a summary in one sentence, and a question for the operator or None.

        The caller judges exit codes, artifacts and telemetry for every action.
        """
