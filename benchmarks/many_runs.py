"""What thousands of old runs cost each command and the dashboard: `python -m benchmarks.many_runs [RUNS [NAME…]]`."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks.report import Row
from benchmarks.terminal import Terminal
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


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one start: elapsed and processor time in seconds, and the largest resident memory in MB."""

    elapsed_s: float
    processor_s: float
    memory_mb: float


def cost(folder: Path, *words: str) -> Cost:
    """The least of several starts of `llmval WORDS`."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    costs = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        argv = [sys.executable, "-m", "llmval_tui", *words]
        process = subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        _, code, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode not in (0, 1):  # 1: not every item has passed
            raise RuntimeError(f"llmval {' '.join(words)} ended with {process.returncode}")
        elapsed = time.perf_counter() - began
        costs.append(Cost(elapsed, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000))
    return Cost(*(min(values) for values in zip(*map(astuple, costs), strict=True)))


def paint(folder: Path) -> Cost:
    """The first paint of the dashboard, and its memory after the list and the newest run were read."""
    environment = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    costs = []
    for _ in range(REPEATS):
        argv = [sys.executable, "-m", "llmval_tui", "--workspace", str(folder)]
        with Terminal(argv, 160, 50, environment) as terminal:
            terminal.wait_for("1.2", 60)
            elapsed = terminal.drawn_at - terminal.started
            processor = terminal.own_cpu_seconds()
            time.sleep(8)
            costs.append(Cost(elapsed, processor, terminal.rss_bytes() / 1e6))
    return Cost(*(min(values) for values in zip(*map(astuple, costs), strict=True)))


COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status",),
    "status --json": ("status", "--json"),
    "verify": ("verify",),
    "report": ("report",),
}


def rows(runs: int = 3000, names: Sequence[str] = ()) -> Iterator[Row]:
    """Each command, and the dashboard, in a workspace of 500 items with one run and with `runs` of them."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = []
        for count in (1, runs):
            folders.append(Path(scratch).resolve() / f"{count}")
            make_workspace(folders[-1], count)
        for name in names or (*COMMANDS, "dashboard"):
            empty, full = (paint(one) if name == "dashboard" else cost(one, *COMMANDS[name]) for one in folders)
            what = "first paint of the dashboard" if name == "dashboard" else f"llmval {name}"
            text = (
                f"{full.elapsed_s:.2f} s, {full.processor_s:.2f} s of a core, {full.memory_mb:.0f} MB "
                f"(one run: {empty.elapsed_s:.2f} s, {empty.processor_s:.2f} s, {empty.memory_mb:.0f} MB)"
            )
            if name == "report":  # it grows with what it shows
                bound = f"≤ 10 ms of a core for each of its {ITEMS} runs"
                reached = full.processor_s - empty.processor_s <= 0.010 * ITEMS
            else:
                bound = "≤ 2 × with one run, or ≤ 1 s of a core; ≤ 2 × the memory"
                reached = full.processor_s <= max(1.0, 2 * empty.processor_s) and full.memory_mb <= 2 * empty.memory_mb
            yield Row(f"{what}, {runs:,} runs of {ITEMS} items", text, bound, reached)


def main() -> None:
    """Print the rows for the given number of runs."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in `benchmarks.__main__`
    for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 3000, sys.argv[2:]):
        print(row, flush=True)


if __name__ == "__main__":
    main()
