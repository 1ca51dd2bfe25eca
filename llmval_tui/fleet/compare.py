"""What all nodes of a run showed, side by side: the content of `fleet.json`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmval_tui.fleet.configuration import configuration
from llmval_tui.fleet.differences import differences
from llmval_tui.fleet.launch import FleetLaunch
from llmval_tui.fleet.manifest import read_manifest
from llmval_tui.fleet.outliers import decide_all, group_of, repeat_wanted, statistics
from llmval_tui.fleet.part import node_folder
from llmval_tui.fleet.probe import NodeProbe, read_probe
from llmval_tui.fleet.record import Fleet, NodeOutcome, NodeResult, node_names, read_fleet
from llmval_tui.foundation.files import read_json, sha256_of, write_json
from llmval_tui.runs.records import JobStatus, Outcome, Verdict
from llmval_tui.runs.store import Run

# Written by the head if nodes are suspected: {"nodes": those to measure again, "run": id of that run or null}.
REPEAT_FILE = "repeat.json"


def compare(run: Run, launch: FleetLaunch, job: JobStatus) -> tuple[Fleet, dict[str, Verdict]]:
    """What all nodes showed, and the verdicts of those that have one.

    Raises:
        Refused: a record is damaged.
    """
    names = node_names(run)
    results: dict[str, NodeResult] = {}
    verdicts: dict[str, Verdict] = {}
    for name in names:
        part = Run(node_folder(run, name))
        verdict = part.verdict() if job.refused is None else None
        if verdict is not None:
            verdicts[name] = verdict
        results[name] = _result(part, verdict, read_probe(run.folder, name), job, name)
    if launch.collective:
        lost = [name for name, one in results.items() if one.outcome is NodeOutcome.LOST]
        cancelled = run.status().cancelled or run.cancelled_by()
        for name, one in results.items():
            if one.outcome is NodeOutcome.FAIL and (why := excuse(name, job, lost, cancelled)) is not None:
                results[name] = replace(one, outcome=NodeOutcome.INCONCLUSIVE, reason=f"{why}; {one.reason}")
    # A collective measures all nodes at once: its figures single out no node.
    found = {} if launch.collective else statistics(results)
    if repeated := repeated_run(run):
        again = read_fleet(repeated)
        figures = {name: one.metrics for name, one in again.nodes.items()} if again is not None else {}
        found = decide_all(found, figures)
    return (
        Fleet(
            schema=1,
            run=run.id,
            launcher=launch.launcher,
            how=launch.how,
            nodes=results,
            silent=[name for name in names if results[name].outcome is NodeOutcome.LOST],
            statistics=found,
            differences=differences({name: one.configuration for name, one in results.items()}),
        ),
        verdicts,
    )


def excuse(name: str, job: JobStatus, lost: Sequence[str], cancelled: str | None) -> str | None:
    """Why the failure of a node in one launch says nothing against it: its ranks fail if others end. None: it counts.

    Args:
        lost: the nodes that left no verdict.
    """
    if lost:
        return f"{lost[0]} was lost in the same launch"
    if name in job.lost:
        return job.lost[name]
    if cancelled is not None and name not in job.failed:
        return f"the launch was cancelled by {cancelled}"
    return None


def ask_for_repeat(run: Run, launch: FleetLaunch, job: JobStatus) -> list[str]:
    """The nodes to measure again, written to `repeat.json`; [] if none is suspected, or this is a repeat itself.

    Raises:
        Refused: a record is damaged, or the file cannot be written.
    """
    if launch.collective or launch.repeats is not None or (run.folder / REPEAT_FILE).exists():
        return []
    suspects, references = repeat_wanted(compare(run, launch, job)[0].statistics)
    if not suspects:
        return []
    order = node_names(run)
    nodes = sorted({*suspects, *references}, key=order.index)
    write_json(run.folder / REPEAT_FILE, {"v": 1, "nodes": nodes, "run": None})
    return nodes


def nodes_to_repeat(run: Run) -> list[str]:
    """The nodes that wait for a second measurement; [] if there are none, or the run of it is known."""
    value = read_json(run.folder / REPEAT_FILE)
    if not isinstance(value, dict) or value.get("run") is not None:
        return []
    return [str(name) for name in value.get("nodes", [])]


def record_repeat(run: Run, repeat: Run) -> None:
    """Write which run measured the suspects again.

    Raises:
        Refused: it cannot be written.
    """
    value = read_json(run.folder / REPEAT_FILE) or {}
    write_json(run.folder / REPEAT_FILE, {**value, "run": repeat.id})


def repeated_run(run: Run) -> Path | None:
    """The folder of the run that measured the suspects again; None if there is none."""
    value = read_json(run.folder / REPEAT_FILE)
    name = value.get("run") if isinstance(value, dict) else None
    return run.folder.parent / Path(str(name)).name if name else None


def _result(part: Run, verdict: Verdict | None, node: NodeProbe | None, job: JobStatus, name: str) -> NodeResult:
    known: dict[str, Any] = {}
    if node is not None:
        table = configuration(node.host, node.versions, node.environment)
        known = {
            "machine_id": node.machine_id,
            "boot_id": node.boot_id,
            "configuration": table,
            "group": group_of(table),
        }
    if verdict is None:
        return NodeResult(NodeOutcome.LOST, _why_lost(part, job, name), **known)
    return NodeResult(
        NodeOutcome(verdict.outcome.value),
        None if verdict.outcome is Outcome.PASS else verdict.summary,
        dict(verdict.metrics),
        verdict_sha256=sha256_of(part.folder / "verdict.json"),
        artifacts=read_manifest(part.folder),
        **known,
    )


def _why_lost(part: Run, job: JobStatus, name: str) -> str:
    if name in job.lost:
        return job.lost[name]
    if job.refused is not None:
        return "nothing was started"
    if not (part.folder / "run.json").exists():
        return f"it never began{f' (the job is {job.state})' if job.state else ''}"
    return f"it ended before its part was judged{f' (the job is {job.state})' if job.state else ''}"
