"""Run folders and load-test results as llmval writes them, with fixed times, for the workspaces of the tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmval_tui.foundation.files import write_json
from llmval_tui.runs.evidence import evidence_of
from llmval_tui.runs.records import (
    Command,
    CommandStatus,
    Gate,
    Intent,
    Outcome,
    State,
    Status,
    StepRef,
    Verdict,
)
from llmval_tui.runs.store import Run, RunStore

CREATED_UTC = "2026-01-02T03:04:05Z"


def run_id_of(count: int, number: str) -> str:
    """The id of the `count`-th run of a workspace, for the step with this number."""
    return f"20260102T0304{count:02d}Z-{number}-abc{count:03d}"


def write_run(
    workspace: Path,
    run_id: str,
    step: StepRef,
    commands: Sequence[Command],
    *,
    state: State = State.FINISHED,
    exit_code: int | None = 0,
    status: Mapping[str, Any] | None = None,
    **intent: Any,
) -> Run:
    """Write a run whose commands ended with `exit_code`; `status` and `intent` are further fields of its records."""
    folder = RunStore(workspace).root / run_id
    (folder / "logs").mkdir(parents=True)
    fields = {"action": "command", "created_utc": CREATED_UTC, **intent}
    record = Intent(v=1, run_id=run_id, step=step, commands=list(commands), cwd=str(workspace), **fields)
    write_json(folder / "run.json", record)
    now = Status(state=state, started_utc=CREATED_UTC)
    if state is State.FINISHED:
        now.commands = [CommandStatus(command.label, exit_code=exit_code) for command in commands]
    for name, value in (status or {}).items():
        setattr(now, name, value)
    write_json(folder / "status.json", now)
    return Run(folder)


def write_verdict(run: Run, outcome: Outcome, gates: Sequence[Gate] | None = None, **fields: Any) -> None:
    """Write a verdict on a run, with its existing artifacts as evidence."""
    evidence = []
    for artifact in run.intent.artifacts:
        path = run.workspace / artifact.path
        if path.is_file():
            evidence.append(evidence_of(path.resolve(), run.workspace))
    values = {"judged_utc": "2026-01-02T04:00:00Z", "summary": "sum", "evidence": evidence, **fields}
    found = list(gates) if gates else [Gate("gate", outcome, "1", "2")]
    write_json(run.folder / "verdict.json", Verdict(v=1, run_id=run.id, outcome=outcome, gates=found, **values))


def request_json(index: int, arrival_s: float, first_s: float, last_s: float) -> dict[str, Any]:
    """The record of one request, sent 1 ms after its intended arrival, with 8 output tokens."""
    return {
        "index": index,
        "intended_s": arrival_s,
        "dispatch_s": arrival_s + 0.001,
        "first_token_s": first_s,
        "last_token_s": last_s,
        "input_tokens": 32,
        "output_tokens": 8,
        "error": None,
    }


def load_test_json(
    requests: Sequence[Mapping[str, Any]], workload: Mapping[str, Any], **changes: Any
) -> dict[str, Any]:
    """A load test of the tiny model on two CPU ranks; `changes` replace parts of its `llmval` object."""
    return {
        "num_prompts": len(requests),
        "completed": len(requests),
        "failed": 0,
        "total_output_tokens": 8 * len(requests),
        "llmval": {
            "schema": 1,
            "kind": "load_test",
            "valid": True,
            "invalid_reasons": [],
            "partial": False,
            "identity": {
                "model": "tiny", "dtype": "float32", "kv_dtype": "float32", "weights": "random", "fp8_mode": "none",
                "compile_mode": "off", "attention_backend": "flex", "tensor_parallel": 2, "device": "cpu",
                "device_name": "Test CPU",
            },
            "workload": {"burstiness": 1.0, "max_in_flight": None, "prompt_len": "uniform:16:64", **workload},
            "rates": {"offered_qps": workload["target_qps"], "achieved_qps": workload["target_qps"]},
            "slo": {"ttft_ms": None, "tpot_ms": None, "e2e_ms": None},
            "requests": list(requests),
            **changes,
        },
    }  # fmt: skip
