"""The figures of each node in one launch over several: those of its own replicas, from the record of all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmval_tui.actions.command.runner_catalog import LOAD_TEST_SCHEMA, LONG_CONTEXT_SCHEMA
from llmval_tui.actions.judges.load_test_result import LoadResult, read_result
from llmval_tui.actions.judges.load_test_result import metrics_of as load_test_metrics
from llmval_tui.actions.judges.long_context import metrics_of as long_context_metrics
from llmval_tui.actions.judges.long_context import read_long_context
from llmval_tui.fleet.part import RESULTS_FOLDER, node_folder
from llmval_tui.runs.store import Run

Figures = dict[str, float | None]


def figures_of_nodes(run: Run, nodes: Sequence[str]) -> dict[str, Figures]:
    """The figures of each node; {} if they are unknown: the record is of another kind, or of one replica over all.

    Args:
        nodes: all nodes, in the order of their ranks; the first holds the record.
    """
    ranks = next((command.nproc for command in run.intent.commands if command.nproc is not None), None)
    if ranks is None or not nodes:
        return {}
    for artifact in run.intent.artifacts:
        path = node_folder(run, nodes[0]) / RESULTS_FOLDER / artifact.path
        if found := _of_record(path, artifact.schema, nodes, ranks):
            return found
    return {}


def _of_record(path: Path, schema: str | None, nodes: Sequence[str], ranks: int) -> dict[str, Figures]:
    if schema == LOAD_TEST_SCHEMA and (load := read_result(path)) is not None:
        own = _by_node(load.ours.get("replicas") or (), nodes, ranks)
        return {node: load_test_metrics(_only(load, parts)) for node, parts in own.items()}
    if schema == LONG_CONTEXT_SCHEMA and (long := read_long_context(path)) is not None:
        own = _by_node(long.value.get("replicas") or (), nodes, ranks)
        parts_of = {int(part.value["replica"]): part for part in long.replicas if "replica" in part.value}
        # Of several replicas on a node, times and rates do not make one figure.
        single = {node: int(parts[0]["replica"]) for node, parts in own.items() if len(parts) == 1}
        return {node: long_context_metrics(parts_of[number]) for node, number in single.items()}
    return {}


def _by_node(
    replicas: Sequence[Mapping[str, Any]], nodes: Sequence[str], ranks: int
) -> dict[str, list[Mapping[str, Any]]]:
    """The replicas on each node, by their first and last rank: each node has the next `ranks`."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in replicas:
        first, last = (int(rank) // ranks for rank in one["ranks"])
        if first != last or first >= len(nodes):
            return {}  # one replica over nodes, or the record of another launch
        found.setdefault(nodes[first], []).append(one)
    return found


def _only(result: LoadResult, replicas: Sequence[Mapping[str, Any]]) -> LoadResult:
    """The part of a result that is of some replicas."""
    numbers = {one["replica"] for one in replicas}
    records = [record for record in result.records if record.replica in numbers]
    return LoadResult(records, result.flat, {**result.ours, "replicas": list(replicas)})
