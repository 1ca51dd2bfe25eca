"""Workspaces, steps and finished runs for the tests of actions."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.api import Context, Options, Proposal
from llmval_tui.actions.registry import propose
from llmval_tui.checklist.model import parse
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.create import resolve_artifact
from llmval_tui.runs.records import Artifact, Command, Outcome, StepRef
from llmval_tui.runs.store import Run, RunStore, recorded_path
from tests.helpers.collective_records import LIST as COLLECTIVE_LIST
from tests.helpers.collective_records import PATH as COLLECTIVE_PATH
from tests.helpers.drift_lists import LIST as DRIFT_LIST
from tests.helpers.long_context_results import LIST as LONG_CONTEXT_LIST
from tests.helpers.long_context_results import PATH as LONG_CONTEXT_PATH
from tests.helpers.long_context_results import result_of
from tests.helpers.workspace import load_test_json, request_json, run_id_of, write_run, write_verdict

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Workspace:
    """A workspace folder that can create contexts, proposals and runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = RunStore(folder)
        self.count = 0

    def write(self, name: str, data: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def context(
        self, text: str, number: str = "1.1", gpus: int | None = 8, name: str = "list.md", **changes: Any
    ) -> Context:
        """The context of a step in a checklist; a text without a heading becomes the only item of a section."""
        if not text.lstrip().startswith("#"):
            text = f"# List\n\n## 1. Part\n- [ ] {text}\n"
        checklist = parse(text.encode(), self.folder / name)
        base = Context(
            self.folder, checklist, checklist.step(number), Options(), self.store, NOW, {"PATH": "/usr/bin:/bin"}, gpus
        )
        options = {key: changes.pop(key) for key in list(changes) if key in Options.__dataclass_fields__}
        return replace(base, options=Options(**options), **changes)

    def propose(self, text: str, number: str = "1.1", gpus: int | None = 8, **changes: Any) -> Proposal:
        return propose(self.context(text, number, gpus, **changes))

    def run(
        self,
        context: Context,
        proposal: Proposal | None = None,
        *,
        exit_code: int | None = 0,
        outcome: Outcome | None = None,
        status: dict[str, Any] | None = None,
        **intent: Any,
    ) -> Run:
        """A finished run of the context's step, from its proposal and `intent`."""
        proposal = proposal or Proposal("command", "", commands=(Command("main", ["true"], "true"),), telemetry=False)
        self.count += 1
        step, run_id = context.step, run_id_of(self.count, context.step.number)
        values: dict[str, Any] = {
            "commands": list(proposal.commands),
            "artifacts": proposal.artifacts,
            "deviations": list(proposal.deviations),
            "telemetry": proposal.telemetry,
            "params": json.loads(json.dumps(dict(proposal.params))),
            "host": {"name": "node1", "driver_version": "580.1", "gpus": []},
            "preset": context.options.preset,
            **intent,
        }
        values["artifacts"] = [resolve_artifact(artifact, run_id) for artifact in values["artifacts"]]
        checklist = recorded_path(context.checklist.path, self.folder)
        ref = StepRef(step.number, step.section, step.text, step.occurrence, checklist)
        run = write_run(self.folder, run_id, ref, exit_code=exit_code, status=status, action=proposal.action, **values)
        if outcome is not None:
            self.judge(run, outcome)
        return run

    def judge(self, run: Run, outcome: Outcome, question: dict[str, Any] | None = None) -> None:
        """Write a verdict with the run's artifacts as evidence."""
        write_verdict(run, outcome, question=question)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def load_result_json(count: int = 60, qps: float = 28.0, **changes: Any) -> dict[str, Any]:
    """A load test of `count` evenly spaced requests: 100 ms to the first token, then 20 ms per token."""
    requests = [
        request_json(index, index / qps, index / qps + 0.101, index / qps + 0.101 + 0.020 * 7) for index in range(count)
    ]
    workload = {"target_qps": qps, "duration_s": 8.0, "output_len": "8"}
    return load_test_json(requests, workload, **changes)


LOAD_COMMAND = (
    "Run `torchrun --nproc_per_node=2 x/inference_server_load_test.py --fp8-mode none --attention-backend flex "
    "--device cpu --model tiny --output-json artifacts/r.json`"
)


@pytest.fixture
def load_run(workspace: Workspace) -> Callable[..., Run]:
    """Creates a finished load test with a result."""

    def make(result: dict[str, Any] | None = None, text: str = LOAD_COMMAND, **changes: Any) -> Run:
        context = workspace.context(text, demo=changes.pop("demo", False))
        workspace.write("artifacts/r.json", json.dumps(load_result_json() if result is None else result))
        proposal = propose(context)
        assert proposal.refusal is None, proposal.refusal
        proposal = replace(proposal, artifacts=(Artifact("artifacts/r.json", "load_test"),))
        return workspace.run(context, proposal, telemetry=False, **changes)

    return make


@pytest.fixture
def result_json() -> Callable[..., dict[str, Any]]:
    return load_result_json


@pytest.fixture
def no_runners(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation of llmval without its runners."""
    empty = tmp_path_factory.mktemp("no-runners")
    monkeypatch.setattr(
        "llmval_tui.actions.command.resolve.bundled", lambda name: empty if name == "runners" else bundled(name)
    )


@pytest.fixture
def compare(workspace: Workspace, load_run: Callable[..., Run]) -> Callable[..., Run]:
    """Judges a load test with a result, then runs the drift item, whose repeats measure the same; returns its run."""

    def make(result: dict[str, Any] | None = None, **run_changes: Any) -> Run:
        source = load_run(result, DRIFT_LIST, **run_changes)
        workspace.judge(source, Outcome.PASS)
        proposal = workspace.propose(DRIFT_LIST, "1.2")
        assert proposal.refusal is None, proposal.refusal
        run = workspace.run(workspace.context(DRIFT_LIST, "1.2"), proposal)
        for command in proposal.commands[:-1]:
            (run.folder / f"{command.label}.json").write_bytes((workspace.folder / "artifacts/r.json").read_bytes())
        assert perform.main([str(run.folder)]) == 0
        return run

    return make


@pytest.fixture
def long_context_run(workspace: Workspace) -> Callable[..., Run]:
    """Creates a finished run of item 4.1 with a result."""

    def make(result: dict[str, Any] | None = None, text: str = LONG_CONTEXT_LIST, **changes: Any) -> Run:
        proposal = workspace.propose(text, "4.1")
        assert proposal.refusal is None, proposal.refusal
        workspace.write(LONG_CONTEXT_PATH, json.dumps(result or result_of(32768, 65536)))
        return workspace.run(workspace.context(text, "4.1"), proposal, telemetry=False, **changes)

    return make


@pytest.fixture
def collective_run(workspace: Workspace) -> Callable[..., Run]:
    """Creates a finished run of item 1.1 with a record of collective_bandwidth.py."""

    def make(result: dict[str, Any], text: str = COLLECTIVE_LIST, **changes: Any) -> Run:
        proposal = workspace.propose(text, "1.1")
        assert proposal.refusal is None, proposal.refusal
        workspace.write(COLLECTIVE_PATH, json.dumps(result))
        workspace.write(COLLECTIVE_PATH.replace(".json", ".nccl-tests/all_reduce_perf.json"), "{}")
        return workspace.run(workspace.context(text, "1.1"), proposal, telemetry=False, **changes)

    return make
