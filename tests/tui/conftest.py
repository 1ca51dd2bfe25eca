"""Fixtures of the dashboard's tests: fake commands, a fixed clock, an application on a generated workspace."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.runs.records import Artifact, Command
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.cli_client import CommandResult
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.workspace_view import Workspace as Looker
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers.tui_builder import T0, Workspace


class FakeCommands:
    """Records the calls and returns a fixed result."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.answer = CommandResult(True, "plan p1 is at work on 1.2.")

    def run(
        self,
        steps: list[str],
        *,
        everything: bool,
        tick: bool,
        preset: str | None,
        adapt: bool,
        confirmed: Sequence[str] = (),
        skip_unreviewed: bool = False,
    ) -> CommandResult:
        extra = ([list(confirmed)] if confirmed else []) + (["skip"] if skip_unreviewed else [])
        return self._note("run", steps, everything, tick, preset, adapt, *extra)

    def answer_question(self, code: str, decision: str) -> CommandResult:
        return self._note("answer", code, decision)

    def give_value(self, name: str, value: str) -> CommandResult:
        return self._note("value", name, value)

    def cancel(self, run_id: str | None) -> CommandResult:
        return self._note("cancel", run_id)

    def tick(self, step: str, note: str) -> CommandResult:
        return self._note("tick", step, note)

    def accept(self, run_id: str, link: str | None) -> CommandResult:
        return self._note("accept", run_id, link)

    def settle(self) -> CommandResult:
        return self._note("settle")

    def _note(self, *call: object) -> CommandResult:
        self.calls.append(call)
        return self.answer


def propose(context: Context) -> Proposal:
    """A proposal that depends only on the step and the options."""
    step = context.step
    if step.number == "2.2":
        return Proposal("table_update", "Updates the tables.", refusal="there is no summary yet: complete 2.1 first.")
    display = step.spans[0] if step.spans else "true"
    return Proposal(
        "command",
        f"Does {step.number} with preset {context.options.preset}.",
        details=("judges exit status and artifact",),
        commands=(Command("main", display.split(), display, nproc=8),),
        artifacts=(Artifact("artifacts/out.json"),),
        deviations=("4 GPUs instead of 8",) if context.options.adapt else (),
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def commands() -> FakeCommands:
    return FakeCommands()


@pytest.fixture
def dashboard(
    workspace: Workspace, commands: FakeCommands, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Dashboard]:
    """Makes dashboards with a fixed time, without live hardware, and with fake commands."""
    monkeypatch.setattr("platform.node", lambda: "node-7")
    monkeypatch.setattr("llmval_tui.tui.widgets.bars.driver_version", lambda: "580.159.04")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm-256color")  # the theme without a name depends on the terminal

    def make(second: float = 200.5, **changes: object) -> Dashboard:
        given = {"workspace": workspace.root, "checklist": workspace.checklist, "interval": 0.1, **changes}
        settings = LaunchSettings(**given)  # type: ignore[arg-type]  # any field
        state = ScreenState(settings, now=lambda: T0 + second, preset=settings.preset, adapt=settings.adapt)
        looker = Looker(settings, propose, clock=lambda: datetime.fromtimestamp(T0 + second, UTC))
        return Dashboard(settings, commands, state=state, workspace=looker, live=False)

    return make
