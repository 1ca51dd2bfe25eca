"""The watchdog proved on this host: every kind of hang made and judged, and clean runs that must raise no alarm.

python torch_compile_repro.py --self-test [--output-dir DIR] [--clean-runs 20]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.compile_study.layout import Layout, read_json, write_json

STALL_AFTER_S = 12.0
ANSWER_S = 10.0  # the verdict comes this long after the stall is one, at the latest
EXPECTED = {
    "dynamo_sleep": "dynamo_tracing",
    "codegen_loop": "inductor_codegen",
    "stopped_worker": "compile_worker",
    "endless_autotune": "autotune",
    "skipped_collective": "collective_desync",
    "blocked_read": "io",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One run: what was made, what was seen."""

    injected: str | None
    outcome: str
    kind: str | None
    ranks: list[int]
    verdict_after_s: float | None
    source: str
    stalls: int
    took_s: float
    right: bool

    def row(self) -> str:
        after = "–" if self.verdict_after_s is None else f"{self.verdict_after_s:.1f}"
        ranks = ", ".join(map(str, self.ranks)) or "–"
        word = "right" if self.right else "WRONG"
        cells = (
            self.injected or "clean",
            self.outcome,
            self.kind or "–",
            ranks,
            after,
            self.source,
            self.stalls,
            f"{self.took_s:.0f}",
            word,
        )
        return f"| {' | '.join(map(str, cells))} |"


HEADER = (
    "| injected | outcome | classified | rank | verdict after, s | stacks by | stalls | run, s | |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def inject(kind: str, folder: Path, *, rank: int = 1, cache: Path | None = None, extra: tuple[str, ...] = ()) -> Judged:
    """One run with the hang `kind` on `rank`; right where kind and rank are named in time."""
    steps = ["--skip-eager"] if kind not in ("skipped_collective", "blocked_read") else []
    mode = ["--compile-mode", "smart"]
    return judge(
        run([*mode, *steps, "--inject-hang", kind, "--inject-rank", str(rank), *extra], folder, cache),
        folder,
        kind,
        rank,
    )


def clean(folder: Path, mode: str, cache: Path) -> Judged:
    """One run that does not hang; right where it ends without a single stall."""
    return judge(run(["--compile-mode", mode], folder, cache), folder, None, None)


def run(flags: list[str], folder: Path, cache: Path | None) -> float:
    """Seconds that the runner took, small and on two CPU ranks. Its own output goes beside the folder."""
    entry = Path(__file__).resolve().parents[2] / "torch_compile_repro.py"
    command = [
        sys.executable,
        str(entry),
        "--model",
        "tiny",
        "--sequence-length",
        "64",
        "--batch-size",
        "1",
        "--tensor-parallel-gpus",
        "2",
        "--device",
        "cpu",
        "--steps",
        "3",
        "--stall-after",
        str(STALL_AFTER_S),
        "--timeout",
        "300",
        "--after-stall",
        "end",
        "--no-collect-env",
        "--no-native-stacks",
        "--output-dir",
        str(folder),
        *flags,
    ]
    if cache is not None:
        command += ["--cache-dir", str(cache)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("LLMVAL_EVENTS", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    began = time.monotonic()
    with folder.with_suffix(".log").open("wb") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, check=False)
    return time.monotonic() - began


def judge(took_s: float, folder: Path, kind: str | None, rank: int | None) -> Judged:
    result = read_json(Layout(folder).result) or {"outcome": "no result", "verdict": None, "stalls": []}
    verdict = result["verdict"] or {"kind": None, "ranks": [], "verdict_after_s": None, "stack_sources": {}}
    if kind is None:
        right = result["outcome"] == "did_not_reproduce" and not result["stalls"]
    else:
        in_time = verdict["verdict_after_s"] is not None and verdict["verdict_after_s"] <= STALL_AFTER_S + ANSWER_S
        right = (
            result["outcome"] == "hang" and verdict["kind"] == EXPECTED[kind] and verdict["ranks"] == [rank] and in_time
        )
    sources = ", ".join(sorted(set(verdict["stack_sources"].values()))) or "–"
    return Judged(
        kind,
        result["outcome"],
        verdict["kind"],
        verdict["ranks"],
        verdict["verdict_after_s"],
        sources,
        len(result["stalls"]),
        took_s,
        right,
    )


def self_test(options: argparse.Namespace) -> int:
    """Every kind, then the clean runs; prints the table, and gives 0 where all is right, else 1."""
    keep = options.output_dir is not None
    root = options.output_dir.absolute() if keep else Path(tempfile.mkdtemp(prefix="llmval-self-test-"))
    rows: list[Judged] = []
    print(HEADER, flush=True)
    try:
        for kind in EXPECTED:
            rows.append(inject(kind, root / kind))
            print(rows[-1].row(), flush=True)
        warm = root / "cache"
        for index in range(options.clean_runs):
            if (
                index == 0
            ):  # compile once, unwatched by the count: a cold C++ compile is slower than this test's short patience
                run(["--compile-mode", "smart", "--stall-after", "100"], root / "warm-smart", warm)
                run(["--compile-mode", "default", "--stall-after", "100"], root / "warm-default", warm)
            rows.append(clean(root / f"clean{index:02}", ("smart", "default")[index % 2], warm))
            print(rows[-1].row(), flush=True)
        alarms = sum(row.stalls > 0 for row in rows if row.injected is None)
        wrong = [row for row in rows if not row.right]
        hangs = [row for row in rows if row.injected]
        print(
            f"\n{sum(row.right for row in hangs)} of {len(hangs)} hangs classified right; {alarms} false alarms "
            f"in {options.clean_runs} clean runs"
        )
        if keep:
            write_json(
                root / "self_test.json",
                {"v": 1, "rows": [row_dict(row) for row in rows], "false_alarms": alarms, "wrong": len(wrong)},
            )
        return 1 if wrong else 0
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def row_dict(row: Judged) -> dict[str, object]:
    return {name: getattr(row, name) for name in Judged.__slots__}
