"""What an action is to the rest of llmval: it proposes, it may perform, and it knows its gates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from llmval_tui.checklist.model import Checklist, Step
    from llmval_tui.runs.records import Artifact, Command, Gate
    from llmval_tui.runs.store import Run, RunStore


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator chose for this plan; the same for every step in it."""

    preset: str | None = None  # "smoke"
    adapt: bool = False  # fewer GPUs than the item says: rewrite every place and record it
    gpus: tuple[int, ...] | None = None  # restrict to these (`--gpus 0,1`)
    runner_python: str | None = None  # interpreter of the runners; the dashboard's own if None
    tick: bool = True


@dataclass(frozen=True, slots=True)
class Context:
    """All that an action may look at when it proposes."""

    workspace: Path
    checklist: "Checklist"
    step: "Step"
    options: Options
    store: "RunStore"
    now: datetime  # local time: `$(date +%Y%m%d)` means the operator's day
    environment: Mapping[str, str]
    gpu_count: int | None  # None: not known (no driver)
    demo: bool = False  # a scratch workspace, in which `smoke` may tick


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a step will do, said before it does it."""

    action: str
    summary: str  # one sentence: "Runs the load test on 8 GPUs for 300 s and judges its JSON."
    details: tuple[str, ...] = ()  # a line each: reads, writes, changes, gates
    commands: "tuple[Command, ...]" = ()
    artifacts: "tuple[Artifact, ...]" = ()
    deviations: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    telemetry: bool = True
    refusal: str | None = None  # why it will not run as things stand, and what to do; None: it can run now

    @property
    def runnable(self) -> bool:
        return self.refusal is None


class Action(Protocol):
    """One kind of step."""

    name: str
    title: str  # for people: "run a command"
    about: str  # one sentence, shown where a step cannot be proposed in full
    # It may have `directives: frozenset[str]`, the keys of an item's llmval comment that it reads beside `action`; any
    # other key there is refused. And `matches(step)` with `refines`: see `registry`.

    def propose(self, context: Context) -> Proposal:
        """What the step would do now. Never raises for the operator's input: a `refusal` says what is wrong."""

    def perform(self, run: "Run") -> int:
        """The work itself, inside `python -m llmval_tui.actions.perform RUN`; the exit code. Only for actions whose
        proposal names that command; the others' work is done by their commands."""

    def judge(self, run: "Run") -> "tuple[list[Gate], dict[str, float | None], str, dict[str, Any] | None]":
        """The action's own gates, metrics, one sentence of summary, and a question for the operator or None.

        Exit status, presence and schema of artifacts, and telemetry are judged by the caller for every action.
        """
