"""How long `llmval status` takes in a workspace with thousands of old runs: `python -m benchmarks.many_runs [RUNS]`."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llmval_tui.foundation.files import to_json
from llmval_tui.runs.evidence import evidence_of
from llmval_tui.runs.records import (
    Artifact,
    Command,
    CommandStatus,
    Evidence,
    Gate,
    Intent,
    Outcome,
    RestsOn,
    State,
    Status,
    StepRef,
    Verdict,
)

ITEMS = 500
REPEATS = 5
HOST = {"name": "node1", "gpu": {"gpus": [{"index": i, "name": "NVIDIA H200", "uuid": f"GPU-{i}"} for i in range(8)]}}


def make_workspace(folder: Path, runs: int) -> None:
    """A list of 500 items, each with `runs / 500` runs; every third run passed and ticked its item."""
    marks = ["x" if runs > number else " " for number in range(ITEMS)]
    items = "".join(f"- [{mark}] item {i}: run `python check.py --part {i}`\n" for i, mark in enumerate(marks))
    (folder / "docs").mkdir(parents=True)
    (folder / "docs/llm_validation_checklist.md").write_text(f"# List\n\n## 1. Part\n\n{items}")
    (folder / "artifacts/runs").mkdir(parents=True)
    lines = []
    for number in range(runs):
        line = _make_run(folder, number)
        if line is not None:
            lines.append(to_json(line))
    (folder / "artifacts/runs/ledger.jsonl").write_bytes(b"".join(lines))


def _make_run(folder: Path, number: int) -> dict[str, object] | None:
    item = number % ITEMS
    run_id = f"20260101T{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}Z-1.{item + 1}-{number:06x}"
    run = folder / "artifacts/runs" / run_id
    (run / "logs").mkdir(parents=True)
    passed = number % 3 == 0
    text = f"item {item}: run `python check.py --part {item}`"
    command = Command("main", ["python", "check.py", "--part", str(item)], f"python check.py --part {item}")
    ref = StepRef(f"1.{item + 1}", "1. Part", text, 1, "docs/llm_validation_checklist.md")
    intent = Intent(
        v=1,
        run_id=run_id,
        action="command",
        step=ref,
        commands=[command],
        cwd=str(folder),
        created_utc="2026-01-01T00:00:00Z",
        artifacts=[Artifact(f"artifacts/out/{number}.json")],
        order_ns=1_767_225_600_000_000_000 + number,
        host=HOST,
        environment={f"NCCL_{name}": "1" for name in range(20)},
    )
    (run / "run.json").write_bytes(to_json(intent, indent=True))
    status = Status(state=State.FINISHED, commands=[CommandStatus("main", exit_code=0 if passed else 1)])
    (run / "status.json").write_bytes(to_json(status, indent=True))
    output = folder / "artifacts/out" / f"{number}.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text("{}")
    evidence: list[Evidence] = [evidence_of(output.resolve(), folder)]
    outcome = Outcome.PASS if passed else Outcome.INCONCLUSIVE
    gates = [Gate(f"gate {at}", outcome, "1", "2", "a reason in one sentence") for at in range(12)]
    utc = f"2026-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:{number % 60:02d}Z"
    verdict = Verdict(1, run_id, outcome, gates, utc, "a summary", evidence, rests_on=RestsOn.MEASURED)
    (run / "verdict.json").write_bytes(to_json(verdict, indent=True))
    if not passed:
        return None
    key = {"section": ref.section, "text": ref.text, "occurrence": 1, "checklist": ref.checklist}
    return {
        "v": 1, "kind": "tick", **key, "number": ref.number, "utc": utc, "host": "node1", "run_id": run_id,
        "evidence": evidence, "rests_on": "measured",
    }  # fmt: skip


def seconds(folder: Path, *words: str) -> tuple[float, float]:
    """The least elapsed and processor time of several starts of `llmval WORDS`, in seconds."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    elapsed, processor = [], []
    for _ in range(REPEATS):
        began, before = time.perf_counter(), os.times()
        argv = [sys.executable, "-m", "llmval_tui", *words]
        subprocess.run(argv, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        elapsed.append(time.perf_counter() - began)
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(elapsed), min(processor)


def main() -> None:
    """Print the times for no run and for the given number of runs."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    for runs in (0, count):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch).resolve()
            make_workspace(folder, runs)
            for words in (("status",), ("status", "--json")):
                elapsed, processor = seconds(folder, *words)
                print(
                    f"{runs} runs, llmval {' '.join(words)}: {elapsed:.2f} s, {processor:.2f} s of a core", flush=True
                )


if __name__ == "__main__":
    main()
