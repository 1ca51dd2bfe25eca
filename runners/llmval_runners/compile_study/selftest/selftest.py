"""The self-test: proves on this host that the watchdog recognises every kind of hang, and raises no false alarm.

    python torch_compile_repro.py --self-test [--output-dir DIR] [--clean-runs 20] [--jobs N]

The runs are small and use two CPU ranks with gloo, so they do not test this host's GPUs. With --output-dir, the test
can be interrupted and started again: finished runs are kept, right or wrong.
"""

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

from llmval_runners.compile_study.options import StudyOptions
from llmval_runners.compile_study.run.prepare import cxx_compiler
from llmval_runners.compile_study.selftest import trials
from llmval_runners.compile_study.selftest.trials import Judged, Trial
from llmval_runners.compile_study.watch import stacks
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import read_json, write_json

WARM_UP_STALL_AFTER_S = 150.0  # in runs that fill the cache: a cold C++ compile takes longer than a stall here
CORES_A_JOB = 8
RECORD = "self_test.json"


def self_test(options: StudyOptions) -> int:
    """Run all kinds of hang and the clean runs, and print the table. Returns 0 if all are right, else 1.

    Raises:
        Refused: there is no C++ compiler, or the folder holds something else.
    """
    if cxx_compiler() is None:
        raise Refused(
            "the self-test compiles with Inductor on the CPU, and there is no C++ compiler here (g++, clang++, or what "
            "$CXX names): install one."
        )
    keep = options.output_dir is not None
    root = options.output_dir.absolute() if options.output_dir else Path(tempfile.mkdtemp(prefix="llmval-self-test-"))
    if keep and root.exists() and any(root.iterdir()) and not (root / RECORD).is_file():
        raise Refused(f"{root} is not empty and holds no earlier self-test: name another --output-dir.")
    try:
        return _self_test(options, root)
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)


def _self_test(options: StudyOptions, root: Path) -> int:
    began, jobs = time.monotonic(), options.jobs or max(1, min(4, (os.cpu_count() or 1) // CORES_A_JOB))
    planned, conditions = trials.planned(options.clean_runs), _conditions(options, jobs)
    before = read_json(root / RECORD) or {}
    if before and any(before["about"][name] != conditions[name] for name in conditions if name != "jobs"):
        raise Refused(f"{root} holds a self-test under other conditions: name another --output-dir.")
    rows = [Judged(**row) for row in before.get("rows", []) if row["name"] in {trial.name for trial in planned}]
    judged = {row.name for row in rows}
    write_json(root / RECORD, _record(conditions, rows, len(planned), before.get("took_s", 0.0)), indent=1)
    print(f"{len(planned) - len(rows)} of {len(planned)} runs to make, {jobs} at a time", flush=True)
    left = [trial for trial in planned if trial.name not in judged]
    if any(trial.injected is None for trial in left):
        estimate = _fill_caches(root, options, jobs, left)
        print(f"about {estimate / 60:.0f} min from here", flush=True)
    print("\n".join([trials.HEADER, *(row.row() for row in rows)]), flush=True)
    for row in _judge_all(left, root, options, jobs):
        rows.append(row)
        took = before.get("took_s", 0.0) + time.monotonic() - began
        write_json(root / RECORD, _record(conditions, rows, len(planned), took), indent=1)
        print(row.row(), flush=True)
    record = _record(conditions, rows, len(planned), before.get("took_s", 0.0) + time.monotonic() - began)
    limit = trials.STALL_AFTER_S + trials.ANSWER_S
    print(
        f"\n{record['hangs_right']} of {record['hangs']} hangs classified right within {limit:g} s; "
        f"{record['false_alarms']} false alarms in {record['clean_runs']} clean runs; {record['wrong']} wrong in all"
    )
    return 1 if record["wrong"] else 0


def _judge_all(left: list[Trial], root: Path, options: StudyOptions, jobs: int) -> Iterator[Judged]:
    """Run the trials, `jobs` at a time. Yields them as they end."""
    extra = ("--stacks", options.stacks)

    def one(trial: Trial) -> Judged:
        folder = root / trial.name
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier run that was not judged
        if trial.injected is None:
            return trials.clean(trial, folder, root / f"cache-{trial.mode}", extra)
        return trials.inject(trial.injected, folder, rank=trial.rank or 0, extra=extra)

    pool = ThreadPoolExecutor(jobs)
    try:
        for done in as_completed([pool.submit(one, trial) for trial in left]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _fill_caches(root: Path, options: StudyOptions, jobs: int, left: list[Trial]) -> float:
    """Fill the cache of each mode. Returns an estimate of the seconds that the remaining trials will take.

    Raises:
        Refused: one of these runs failed, so no clean run would succeed.
    """
    took = []
    for mode in trials.MODES:
        folder = root / f"warm-{mode}"
        shutil.rmtree(folder, ignore_errors=True)
        extra = ("--stall-after", str(WARM_UP_STALL_AFTER_S), "--stacks", options.stacks)
        judged = trials.clean(Trial(folder.name, None, None, mode), folder, root / f"cache-{mode}", extra)
        if not judged.right:
            raise Refused(f"a run without a hang ended as {judged.outcome}: {folder.with_suffix('.log')} says why.")
        took.append(judged.took_s)
    hangs = sum(trial.injected is not None for trial in left)
    # A clean run from a warm cache takes about half as long as these; a run that hangs takes as long, plus the stall.
    return (hangs * (took[0] + trials.STALL_AFTER_S + trials.ANSWER_S) + (len(left) - hangs) * sum(took) / 4) / jobs


def _conditions(options: StudyOptions, jobs: int) -> dict[str, Any]:
    """The conditions under which rows are comparable, and may stand in one table."""
    import torch

    py_spy = stacks.find_py_spy() if options.stacks == "auto" else None
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "host": platform.node(),
        "cores": os.cpu_count(),
        "compiler": cxx_compiler(),
        "py_spy": py_spy is not None,
        "stall_after_s": trials.STALL_AFTER_S,
        "answer_s": trials.ANSWER_S,
        "jobs": jobs,
    }


def _record(conditions: dict[str, Any], rows: list[Judged], planned: int, took_s: float) -> dict[str, Any]:
    hangs, cleans = ([row for row in rows if (row.injected is None) is is_clean] for is_clean in (False, True))
    return {
        "v": 1,
        "kind": "compile_self_test",
        "complete": len(rows) == planned,
        "about": conditions,
        "took_s": round(took_s, 1),
        "hangs": len(hangs),
        "hangs_right": sum(row.right for row in hangs),
        "clean_runs": len(cleans),
        "false_alarms": sum(row.stalls > 0 for row in cleans),
        "wrong": sum(not row.right for row in rows),
        "rows": [asdict(row) for row in sorted(rows, key=lambda row: row.name)],
    }
