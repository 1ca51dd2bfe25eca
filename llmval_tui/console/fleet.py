"""`fleet`: all nodes of a run on one screen."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from llmval_tui.console.options import checklist_path, print_json, workspace_of
from llmval_tui.fleet.follower import FleetFollower
from llmval_tui.fleet.overview import Overview, newest_fleet_run, watched
from llmval_tui.fleet.record import node_names
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.terminal import fleet_grid, fleet_rows
from llmval_tui.terminal.format import wrap
from llmval_tui.terminal.glyphs import NODE_SIGNS, Glyphs, glyphs

PIPE_COLUMNS = 120  # of output that is not a terminal
LEAST_COLUMNS = 60


def fleet(options: argparse.Namespace) -> int:
    """Print the grid of nodes, the six worst, the silent ones and what differs.

    Exit code 0 whatever the nodes' state: `llmval status` and the verdict judge.

    Raises:
        Refused: there is no run on several nodes, or an option is not understood.
    """
    overview = overview_of(options)
    metrics = fleet_rows.metric_names(overview)
    if options.figure is not None and options.figure not in metrics:
        known = f"the nodes have {', '.join(metrics)}" if metrics else "no node has a figure yet"
        raise Refused(f"--figure {options.figure}: {known}.")
    metric = options.figure or (metrics[0] if metrics else None)
    if options.json:
        print_json(as_json(overview))
    else:
        for line in screen_of(overview, metric, glyphs(options.ascii), columns()):
            print(line)
    return ExitCode.PASSED


def overview_of(options: argparse.Namespace) -> Overview:
    """The nodes of the run that is asked for, or those of `--nodes` with `--exporter`.

    Raises:
        Refused: there is no such run.
    """
    store = RunStore(workspace_of(options))
    run = _run(options, store)
    names = _names(options) or (node_names(run) if run is not None else [])
    telemetry = None
    address = options.exporter or (_exporter_of(options) if run is not None and run.verdict() is None else None)
    if address is not None:
        if not names:
            raise Refused("--exporter needs the nodes: name them with --nodes, such as --nodes n[1-64].")
        from llmval_tui.telemetry.dcgm.exporters import Exporters

        try:
            exporters = Exporters(names, address)
        except ValueError as error:
            raise Refused(f"--exporter {error}.") from error
        exporters.ask_all()
        telemetry = exporters.newest()
    if run is not None:
        return FleetFollower(run).look(telemetry)
    if telemetry is not None:
        return watched(telemetry, time.monotonic())
    raise Refused(
        "no run of this workspace was on several nodes: start one with llmval run --nodes n[1-64] STEP, or watch the "
        "exporters of nodes with llmval fleet --nodes n[1-64] --exporter http://{node}:9400/metrics."
    )


def _run(options: argparse.Namespace, store: RunStore) -> Run | None:
    if options.run is None:
        return None if options.nodes is not None else newest_fleet_run(store.runs())
    run = store.get(options.run)
    if run.intent.launcher is None:
        raise Refused(f"{run.id} ran on this machine alone: llmval status shows it.")
    return run


def _exporter_of(options: argparse.Namespace) -> str | None:
    """The address in the file beside the list, if there is a list here."""
    from llmval_tui.actions.review.settings import settings_of

    try:
        return settings_of(checklist_path(options), workspace_of(options)).fleet.exporter
    except Refused:
        return None


def _names(options: argparse.Namespace) -> list[str]:
    if options.nodes is None:
        return []
    from llmval_tui.fleet.node_list import parse_nodes

    return parse_nodes(options.nodes)


def columns() -> int:
    """The width of the screen, or of a pipe."""
    if not sys.stdout.isatty():
        return PIPE_COLUMNS
    try:
        return max(LEAST_COLUMNS, os.get_terminal_size(sys.stdout.fileno()).columns)
    except OSError:
        return PIPE_COLUMNS


def screen_of(overview: Overview, metric: str | None, signs: Glyphs, width: int, height: int = 48) -> list[str]:
    """The screen as lines without colour."""
    names = fleet_grid.short_names([node.name for node in overview.nodes])
    grid = fleet_grid.lay_out(names, width, max(8, height - 24))
    rows = [
        fleet_rows.title_spans(overview, metric, width),
        fleet_rows.count_spans(overview, signs, width),
    ]
    if overview.refused:
        rows += [[(f" {line}", "bad")] for line in wrap(clean_line(overview.refused), width - 2)]
    rows += [[], *fleet_grid.grid_rows(overview, metric, grid, signs)]
    rows.append([])
    if said := fleet_rows.statistics_text(overview, metric):
        rows += [[(f" {line}", "muted")] for line in wrap(said, width - 2)]
    if silent := fleet_rows.silent_text(overview, width - 1):
        rows += [[(f" {silent}", "warn")]]
    if shown := fleet_rows.worst_rows(overview, metric, signs, width, whole=True):
        rows += [[], fleet_rows.heading_spans("Worst", "", width, signs), *shown]
    if shown := fleet_rows.difference_rows(overview, signs, width, 12):
        note = f"{len(overview.differences)} differ from the majority"
        rows += [[], fleet_rows.heading_spans("Configuration", note, width, signs), *shown]
    return ["".join(text for text, _ in row).rstrip() for row in rows]


def as_json(overview: Overview) -> dict[str, Any]:
    """Everything that the screen shows, and every figure. Ages are in seconds; null: there was no sample."""
    return {
        "run": overview.run_id,
        "step": overview.step or None,
        "how": overview.how or None,
        "job": overview.job or None,
        "refused": overview.refused or None,
        "outcome": overview.outcome,
        "compared": overview.compared,
        "nodes": {
            node.name: {
                "state": node.state.value,
                "reason": fleet_rows.reason_of(node) or None,
                "metrics": dict(node.metrics),
                "deviation": {name: overview.deviation(name, node) for name in overview.statistics},
                "group": node.group or None,
                "fraction": node.fraction,
                "phase": node.phase,
                "age_s": node.age_s,
                "gpus": node.gpus,
                "different": list(node.different),
                "notes": list(node.notes),
            }
            for node in overview.nodes
        },
        "silent": {node.name: node.age_s for node in overview.silent},
        "statistics": overview.statistics,
        "differences": overview.differences,
    }


def node_lines(runs: Sequence[Run], signs: Glyphs, width: int) -> list[str]:
    """For `status --nodes`: the nodes of each of these runs, one line a node."""
    lines: list[str] = []
    for run in runs:
        try:
            overview = FleetFollower(run).look()
        except Refused as refusal:  # one damaged record hides no other run
            lines += ["", *(f" {line}" for line in wrap(clean_line(str(refusal)), width - 2))]
            continue
        metrics = fleet_rows.metric_names(overview)
        metric = metrics[0] if metrics else None
        title = "".join(text for text, _ in fleet_rows.title_spans(overview, metric, width))
        lines += ["", title.rstrip()]
        lines += [f" {line}" for line in wrap(clean_line(overview.refused), width - 2)] if overview.refused else []
        shown = fleet_rows.worst_rows(
            overview, metric, signs, width, "name", frozenset(NODE_SIGNS), len(overview.nodes), whole=True
        )
        lines += ["".join(text for text, _ in row).rstrip() for row in shown]
    return lines


def runs_on_nodes(runs: Sequence[Run | None]) -> list[Run]:
    """Those of these runs that are on several nodes."""
    return [run for run in runs if run is not None and run.intent.launcher is not None]
