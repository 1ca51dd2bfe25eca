"""One run of the self-test, with an injected hang or clean, and whether the watchdog judged it right."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.compile_study.bundle.layout import SCRIPT, Layout
from llmval_runners.process.files import read_json

STALL_AFTER_S = 12.0
ANSWER_S = 10.0  # limit for the verdict, from the moment when the stall is detected
EXPECTED = {
    "dynamo_sleep": "dynamo_tracing",
    "codegen_loop": "inductor_codegen",
    "stopped_worker": "compile_worker",
    "endless_autotune": "autotune",
    "skipped_collective": "collective_desync",
    "blocked_read": "io",
}
MODES = ("smart", "default")


@dataclass(frozen=True, slots=True)
class Trial:
    """One planned run: a kind of hang on a rank, or clean."""

    name: str
    injected: str | None
    rank: int | None
    mode: str = "smart"


@dataclass(frozen=True, slots=True)
class Judged:
    """One finished run: the injected hang, and the watchdog's verdict."""

    name: str
    injected: str | None
    expected_kind: str | None
    expected_rank: int | None
    outcome: str
    kind: str | None
    ranks: list[int]
    verdict_after_s: float | None  # from the last progress to the verdict
    limit_s: float | None
    source: str
    stalls: int
    took_s: float
    right: bool

    def row(self) -> str:
        after = "–" if self.verdict_after_s is None else f"{self.verdict_after_s:.1f} of {self.limit_s or 0:g}"
        expected = "no alarm" if self.injected is None else f"{self.expected_kind}, rank {self.expected_rank}"
        got = f"{self.kind}, rank {', '.join(map(str, self.ranks)) or '–'}" if self.kind else self.outcome
        mark = "right" if self.right else "WRONG"
        cells = (self.name, expected, got, after, self.source, self.stalls, f"{self.took_s:.0f}", mark)
        return f"| {' | '.join(map(str, cells))} |"


HEADER = (
    "| run | expected | got | verdict after, s | stacks by | stalls | run, s | |\n|---|---|---|---|---|---|---|---|"
)


def planned(clean_runs: int) -> list[Trial]:
    """A run for every kind of hang, alternating the rank; and the clean runs, alternating the compile mode."""
    hangs = [Trial(kind, kind, 1 - index % 2) for index, kind in enumerate(EXPECTED)]
    return hangs + [Trial(f"clean{index:02}", None, None, MODES[index % 2]) for index in range(clean_runs)]


def inject(kind: str, folder: Path, *, rank: int = 1, extra: tuple[str, ...] = ()) -> Judged:
    """One run with the hang `kind` on `rank`, from a cold cache. Right if kind and rank are named in time."""
    trial = Trial(folder.name, kind, rank)
    steps = ["--skip-eager"] if kind not in ("skipped_collective", "blocked_read") else []
    flags = ["--compile-mode", trial.mode, *steps, "--inject-hang", kind, "--inject-rank", str(rank), *extra]
    return judge(run(flags, folder), folder, trial)


def clean(trial: Trial, folder: Path, cache: Path, extra: tuple[str, ...] = ()) -> Judged:
    """One run that does not hang. Right if it ends without a single stall."""
    return judge(run(["--compile-mode", trial.mode, "--cache-dir", str(cache), *extra], folder), folder, trial)


def run(flags: list[str], folder: Path) -> float:
    """Run a small study on two CPU ranks. Returns its seconds. Its output goes into a log beside the folder."""
    small = "--model tiny --sequence-length 64 --batch-size 1 --tensor-parallel-gpus 2 --device cpu --steps 3"
    watched = f"--stall-after {STALL_AFTER_S} --timeout 300 --after-stall end --no-collect-env --no-native-stacks"
    command = [sys.executable, str(SCRIPT), *small.split(), *watched.split(), "--output-dir", str(folder), *flags]
    folder.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("LLMVAL_EVENTS", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    }
    # On a node with many cores, Inductor would start as many workers for each rank of each run.
    environment.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    began = time.monotonic()
    with folder.with_suffix(".log").open("wb") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, check=False)
    return time.monotonic() - began


def judge(took_s: float, folder: Path, trial: Trial) -> Judged:
    result = read_json(Layout(folder).result) or {"outcome": "no result", "verdict": None, "stalls": []}
    verdict = result["verdict"] or {"kind": None, "ranks": [], "verdict_after_s": None, "stack_sources": {}}
    after, expected = verdict["verdict_after_s"], EXPECTED.get(trial.injected or "")
    limit = STALL_AFTER_S + ANSWER_S
    if trial.injected is None:
        right = result["outcome"] == "did_not_reproduce" and not result["stalls"]
    else:
        named = verdict["kind"] == expected and verdict["ranks"] == [trial.rank]
        right = result["outcome"] == "hang" and named and after is not None and after <= limit
    return Judged(
        trial.name,
        trial.injected,
        expected,
        trial.rank,
        result["outcome"],
        verdict["kind"],
        verdict["ranks"],
        after,
        limit if trial.injected else None,
        ", ".join(sorted(set(verdict["stack_sources"].values()))) or "–",
        len(result["stalls"]),
        round(took_s, 1),
        right,
    )
