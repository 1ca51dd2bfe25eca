"""The watchdog proved on this host: every kind of hang made and judged, and clean runs that must raise no alarm.

    python torch_compile_repro.py --self-test [--output-dir DIR] [--clean-runs 20] [--jobs N]

Small, on two CPU ranks with gloo, so it says nothing of this host's GPUs. With --output-dir it can be ended and started
again: what was judged stays judged, right or wrong.
"""

import argparse
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.run.prepare import compiler
from llmval_runners.compile_study.selftest import trials
from llmval_runners.compile_study.selftest.trials import Judged, Trial
from llmval_runners.compile_study.watch import stacks
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import read_json, write_json

PATIENCE_S = 150.0  # of the runs that fill the cache: a cold C++ compile takes longer than a stall does here
CORES_A_JOB = 8
RECORD = "self_test.json"


def self_test(options: argparse.Namespace) -> int:
    """Every kind and the clean runs; prints the table, and gives 0 where all is right, else 1.

    Raises:
        Refused: no C++ compiler, or a folder that holds something else.
    """
    if compiler() is None:
        raise Refused(
            "the self-test compiles with Inductor on the CPU, and there is no C++ compiler here (g++, clang++, or what "
            "$CXX names): install one."
        )
    keep = options.output_dir is not None
    root = options.output_dir.absolute() if keep else Path(tempfile.mkdtemp(prefix="llmval-self-test-"))
    if keep and root.exists() and any(root.iterdir()) and not (root / RECORD).is_file():
        raise Refused(f"{root} is not empty and holds no earlier self-test: name another --output-dir.")
    try:
        return _self_test(options, root)
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def _self_test(options: argparse.Namespace, root: Path) -> int:
    began, jobs = time.monotonic(), options.jobs or max(1, min(4, (os.cpu_count() or 1) // CORES_A_JOB))
    wanted, about = trials.planned(options.clean_runs), _about(options, jobs)
    before = read_json(root / RECORD) or {}
    if before and any(before["about"][name] != about[name] for name in about if name != "jobs"):
        raise Refused(f"{root} holds a self-test under other conditions: name another --output-dir.")
    rows = [Judged(**row) for row in before.get("rows", []) if row["name"] in {trial.name for trial in wanted}]
    judged = {row.name for row in rows}
    write_json(root / RECORD, _record(about, rows, len(wanted), before.get("took_s", 0.0)), indent=1)
    print(f"{len(wanted) - len(rows)} of {len(wanted)} runs to make, {jobs} at a time", flush=True)
    left = [trial for trial in wanted if trial.name not in judged]
    if any(trial.injected is None for trial in left):
        estimate = _warm(root, options, jobs, left)
        print(f"about {estimate / 60:.0f} min from here", flush=True)
    print("\n".join([trials.HEADER, *(row.row() for row in rows)]), flush=True)
    for row in _all(left, root, options, jobs):
        rows.append(row)
        took = before.get("took_s", 0.0) + time.monotonic() - began
        write_json(root / RECORD, _record(about, rows, len(wanted), took), indent=1)
        print(row.row(), flush=True)
    record = _record(about, rows, len(wanted), before.get("took_s", 0.0) + time.monotonic() - began)
    limit = trials.STALL_AFTER_S + trials.ANSWER_S
    print(
        f"\n{record['hangs_right']} of {record['hangs']} hangs classified right within {limit:g} s; "
        f"{record['false_alarms']} false alarms in {record['clean_runs']} clean runs; {record['wrong']} wrong in all"
    )
    return 1 if record["wrong"] else 0


def _all(left: list[Trial], root: Path, options: argparse.Namespace, jobs: int) -> Iterator[Judged]:
    """Judge the trials, `jobs` at a time, as they end."""
    extra = ("--stacks", options.stacks)

    def one(trial: Trial) -> Judged:
        folder = root / trial.name
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was not judged
        if trial.injected is None:
            return trials.clean(trial, folder, root / f"cache-{trial.mode}", extra)
        return trials.inject(trial.injected, folder, rank=trial.rank or 0, extra=extra)

    pool = ThreadPoolExecutor(jobs)
    try:
        for done in as_completed([pool.submit(one, trial) for trial in left]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _warm(root: Path, options: argparse.Namespace, jobs: int, left: list[Trial]) -> float:
    """Fill the cache of each mode; the seconds that what is left will take, by what these took.

    Raises:
        Refused: such a run did not end well, so that no clean run would.
    """
    took = []
    for mode in trials.MODES:
        folder = root / f"warm-{mode}"
        shutil.rmtree(folder, ignore_errors=True)
        extra = ("--stall-after", str(PATIENCE_S), "--stacks", options.stacks)
        judged = trials.clean(Trial(folder.name, None, None, mode), folder, root / f"cache-{mode}", extra)
        if not judged.right:
            raise Refused(f"a run without a hang ended as {judged.outcome}: {folder.with_suffix('.log')} says why.")
        took.append(judged.took_s)
    hangs = sum(trial.injected is not None for trial in left)
    # A clean run from a warm cache takes about half as long; a hang as long, and the stall, the answer and its end.
    return (hangs * (took[0] + trials.STALL_AFTER_S + trials.ANSWER_S) + (len(left) - hangs) * sum(took) / 4) / jobs


def _about(options: argparse.Namespace, jobs: int) -> dict[str, Any]:
    """What must be the same for rows to stand in one table."""
    import torch

    py_spy = stacks.find_py_spy() if options.stacks == "auto" else None
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "host": platform.node(),
        "cores": os.cpu_count(),
        "compiler": compiler(),
        "py_spy": py_spy is not None,
        "stall_after_s": trials.STALL_AFTER_S,
        "answer_s": trials.ANSWER_S,
        "jobs": jobs,
    }


def _record(about: dict[str, Any], rows: list[Judged], wanted: int, took_s: float) -> dict[str, Any]:
    hangs, cleans = ([row for row in rows if (row.injected is None) is is_clean] for is_clean in (False, True))
    return {
        "v": 1,
        "kind": "compile_self_test",
        "complete": len(rows) == wanted,
        "about": about,
        "took_s": round(took_s, 1),
        "hangs": len(hangs),
        "hangs_right": sum(row.right for row in hangs),
        "clean_runs": len(cleans),
        "false_alarms": sum(row.stalls > 0 for row in cleans),
        "wrong": sum(not row.right for row in rows),
        "rows": [asdict(row) for row in sorted(rows, key=lambda row: row.name)],
    }
