"""Workspaces, steps and finished run folders, made small."""

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
from llmval_tui.foundation.files import sha256_of, write_json
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.records import (
    Artifact,
    Command,
    CommandStatus,
    Evidence,
    Gate,
    Intent,
    Outcome,
    State,
    Status,
    StepRef,
    Verdict,
)
from llmval_tui.runs.store import Run, RunStore, recorded_path, resolve_artifact
from tests.helpers.drift_lists import LIST as DRIFT_LIST

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Workspace:
    """A folder with a checklist, and runs made by hand."""

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
        """The context of a step in a checklist; a text without a heading becomes the one item of a section."""
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
        """A finished run of the context's step, as its proposal (or `intent`) has it."""
        proposal = proposal or Proposal("command", "", commands=(Command("main", ["true"], "true"),), telemetry=False)
        self.count += 1
        run_id = f"20260102T0304{self.count:02d}Z-{context.step.number}-abc{self.count:03d}"
        folder = self.store.root / run_id
        (folder / "logs").mkdir(parents=True)
        step = context.step
        values: dict[str, Any] = {
            "commands": list(proposal.commands),
            "artifacts": proposal.artifacts,
            "deviations": list(proposal.deviations),
            "telemetry": proposal.telemetry,
            "params": json.loads(json.dumps(dict(proposal.params))),
            "host": {"name": "node1", "driver_version": "580.1", "gpus": []},
            **intent,
        }
        values["artifacts"] = [resolve_artifact(artifact, run_id) for artifact in values["artifacts"]]
        record = Intent(
            v=1,
            run_id=run_id,
            action=proposal.action,
            step=StepRef(
                step.number,
                step.section,
                step.text,
                step.occurrence,
                recorded_path(context.checklist.path, self.folder),
            ),
            cwd=str(self.folder),
            created_utc="2026-01-02T03:04:05Z",
            preset=context.options.preset,
            **values,
        )
        write_json(folder / "run.json", record)
        commands = [CommandStatus(command.label, exit_code=exit_code) for command in record.commands]
        state = Status(state=State.FINISHED, started_utc="2026-01-02T03:04:05Z", commands=commands)
        for name, value in (status or {}).items():
            setattr(state, name, value)
        write_json(folder / "status.json", state)
        run = Run(folder)
        if outcome is not None:
            self.judge(run, outcome)
        return run

    def judge(self, run: Run, outcome: Outcome, question: dict[str, Any] | None = None) -> None:
        """A verdict with the run's artifacts as evidence."""
        evidence = []
        for artifact in run.intent.artifacts:
            path = self.folder / artifact.path
            if path.is_file():
                evidence.append(Evidence(artifact.path, sha256_of(path), path.stat().st_size))
        gates = [Gate("gate", outcome, "1", "2")]
        verdict = Verdict(1, run.id, outcome, gates, "2026-01-02T04:00:00Z", "sum", evidence, question=question)
        write_json(run.folder / "verdict.json", verdict)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def load_result_json(count: int = 60, qps: float = 28.0, **changes: Any) -> dict[str, Any]:
    """A load test's result of `count` evenly spaced requests: 100 ms to the first token, 20 ms a token."""
    requests = [
        {
            "index": index,
            "intended_s": index / qps,
            "dispatch_s": index / qps + 0.001,
            "first_token_s": index / qps + 0.101,
            "last_token_s": index / qps + 0.101 + 0.020 * 7,
            "input_tokens": 32,
            "output_tokens": 8,
            "error": None,
        }
        for index in range(count)
    ]
    return {
        "num_prompts": count,
        "completed": count,
        "failed": 0,
        "total_output_tokens": 8 * count,
        "llmval": {
            "schema": 1,
            "kind": "load_test",
            "valid": True,
            "invalid_reasons": [],
            "partial": False,
            "identity": {
                "model": "tiny",
                "dtype": "float32",
                "kv_dtype": "float32",
                "weights": "random",
                "fp8_mode": "none",
                "compile_mode": "off",
                "attention_backend": "flex",
                "tensor_parallel": 2,
                "device": "cpu",
                "device_name": "Test CPU",
            },
            "workload": {
                "target_qps": qps, "duration_s": 8.0, "burstiness": 1.0, "max_in_flight": None,
                "prompt_len": "uniform:16:64", "output_len": "8",
            },
            "rates": {"offered_qps": qps, "achieved_qps": qps},
            "slo": {"ttft_ms": None, "tpot_ms": None, "e2e_ms": None},
            "requests": requests,
            **changes,
        },
    }  # fmt: skip


LOAD_COMMAND = (
    "Run `torchrun --nproc_per_node=2 x/inference_server_load_test.py --fp8-mode none --attention-backend flex "
    "--device cpu --model tiny --output-json artifacts/r.json`"
)


@pytest.fixture
def load_run(workspace: Workspace) -> Callable[..., Run]:
    """Makes a finished load-test run whose result is given."""

    def make(result: dict[str, Any] | None = None, text: str = LOAD_COMMAND, **changes: Any) -> Run:
        context = workspace.context(text, demo=changes.pop("demo", False))
        workspace.write("artifacts/r.json", json.dumps(load_result_json() if result is None else result))
        proposal = propose(context)
        assert proposal.runnable, proposal.refusal
        proposal = replace(proposal, artifacts=(Artifact("artifacts/r.json", "load_test"),))
        return workspace.run(context, proposal, telemetry=False, **changes)

    return make


@pytest.fixture
def result_json() -> Callable[..., dict[str, Any]]:
    return load_result_json


@pytest.fixture
def no_runners(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An llmval that knows its runners' names and brings none of them."""
    empty = tmp_path_factory.mktemp("no-runners")
    monkeypatch.setattr(
        "llmval_tui.actions.command.resolve.bundled", lambda name: empty if name == "runners" else bundled(name)
    )


@pytest.fixture
def compare(workspace: Workspace, load_run: Callable[..., Run]) -> Callable[..., Run]:
    """Judges a load test with this result, then runs the drift item, whose repeats measure the same; its run."""

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
