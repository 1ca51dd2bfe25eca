"""`runs` and `history`: what has been measured here, or in folders and archives of other machines."""

import argparse
import shutil
import sys
from collections.abc import Sequence

from llmval_tui.console.options import print_json, print_object, workspace_of
from llmval_tui.export.sources import Sources
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.foundation.text import clean_line
from llmval_tui.report.history import MEASURED, Series, as_json, metric_named, metrics_of, series_of
from llmval_tui.report.run_list import Filter, RunLine, date_of, line_of
from llmval_tui.runs.definitions import define
from llmval_tui.runs.store import Run
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import cut, duration, fit, number, parse_utc

PIPE_COLUMNS = 160  # of output that is not a terminal
LEAST_BAR = 10
LEAST_FIGURES = 40  # columns of the figures; with fewer, the ids are shown by their ends
_EIGHTHS = " ▏▎▍▌▋▊▉"


def runs(options: argparse.Namespace) -> int:
    """List runs, newest first."""
    chosen = Filter(
        item=options.item,
        outcome=options.outcome,
        host=options.host,
        since=date_of(options.since) if options.since else None,
        last=options.last,
    )
    with Sources(workspace_of(options)) as sources:
        found, unreadable = _all(sources, options.sources)
        lines = chosen.of(line_of(run, source) for run, source in found)
        if options.json:
            print_object("runs", runs=[line.as_json() for line in lines], unreadable=unreadable)
            return ExitCode.PASSED
        for text in _table(lines, several=len({line.host for line in lines}) > 1):
            print(text)
        for problem in [*(line.problem for line in lines if line.problem), *unreadable]:
            print(clean_line(problem), file=sys.stderr)
        shown = f"{len(lines)} of {len(found)}" if len(lines) != len(found) else str(len(lines))
        print(f"{shown} {'run' if len(found) == 1 else 'runs'}.")
    return ExitCode.PASSED


def _all(sources: Sources, names: Sequence[str]) -> tuple[list[tuple[Run, str]], list[str]]:
    """The runs of the named places, or of the workspace, newest first; and a sentence for each damaged record."""
    found: dict[tuple[str, str], tuple[Run, str]] = {}
    unreadable: list[str] = []
    if not names:
        found = {(sources.own.title, run.id): (run, sources.own.title) for run in sources.own.store.runs()}
        unreadable += sources.own.store.unreadable
    for name in names:
        source, more = sources.runs(name)
        found |= {(source.title, run.id): (run, source.title) for run in more}
        unreadable += source.store.unreadable
    return sorted(found.values(), key=lambda pair: pair[0].order, reverse=True), list(dict.fromkeys(unreadable))


def _table(shown: Sequence[RunLine], *, several: bool) -> list[str]:
    """The lines of the table, each at most as wide as the terminal."""
    columns = ["when", "item", "outcome", "took", *(["host"] if several else []), "figures", "run"]
    rows = [columns] + [_cells(line, several=several) for line in shown]
    if len(rows) == 1:
        return []
    widths = _widths(rows)
    if _room(widths) < min(widths[-2], LEAST_FIGURES):  # the random part of an id is a name that every command takes
        rows = [columns] + [[*row[:-1], row[-1].rpartition("-")[2]] for row in rows[1:]]
        widths = _widths(rows)
    widths[-2] = max(min(widths[-2], _room(widths)), 0)
    ellipsis = "…" if (sys.stdout.encoding or "").lower().startswith("utf") else "."
    return [
        "  ".join(fit(cell, width, ellipsis) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def _room(widths: Sequence[int]) -> int:
    """Columns that are left for the figures, which stand before the run."""
    return _columns() - sum(widths) + widths[-2] - 2 * (len(widths) - 1)


def _cells(line: RunLine, *, several: bool) -> list[str]:
    moment = parse_utc(line.started_utc or line.created_utc)
    when = moment.strftime("%Y-%m-%d %H:%M") if moment else "not recorded"
    outcome = line.outcome or (line.state if line.problem or line.state != "finished" else "not judged")
    outcome += " (smoke)" if line.preset == "smoke" else ""
    took = duration(line.duration_s)
    figures = " · ".join(clean_line(f"{one.label} {number(one.value)} {one.unit}".strip()) for one in line.figures)
    host = [clean_line(line.host or "not recorded")] if several else []
    return [when, clean_line(line.item), outcome, took, *host, figures or "–", clean_line(line.run_id)]


def history(options: argparse.Namespace) -> int:
    """Plot a metric over runs and hosts; without a metric, list the metrics."""
    with Sources(workspace_of(options)) as sources:
        found, unreadable = _all(sources, options.sources)
        every = [run for run, _ in found]
        if options.metric is None:
            counts = metrics_of(every)
            if not counts:
                raise Refused("no run here was judged with a figure: start one with llmval run.")
            if options.json:
                print_object("metrics", metrics=counts)
            if not options.json:
                print("runs  metric")
            for name, count in () if options.json else counts.items():
                print(f"{count:>4}  {clean_line(name)}")
            return ExitCode.PASSED
        metric = metric_named(options.metric, every)
        series = series_of(found, metric)
        if options.item is not None:
            series = [one for one in series if options.item in (one.item, one.text)]
            if not series:
                raise Refused(
                    f"no run of item {options.item} has the metric {metric}: llmval history {metric} shows all."
                )
        if options.json:
            print_json(as_json(metric, series))
            return ExitCode.PASSED
        for text in plot(metric, series, _columns(), ascii_only=bool(options.ascii)):
            print(text)
        for problem in unreadable:
            print(clean_line(problem), file=sys.stderr)
    return ExitCode.PASSED


def plot(metric: str, series: Sequence[Series], columns: int, *, ascii_only: bool) -> list[str]:
    """One bar a run, from 0 to the greatest value or bound; all series have the same scale."""
    meaning = define(metric)
    better = f", {meaning.better} is better" if meaning.better else ""
    lines = [clean_line(f"{metric}{f', {meaning.unit}' if meaning.unit else ''}{better}: {meaning.text}")]
    points = [point for one in series for point in one.points]
    values = [point.value for point in points if point.value is not None and point.value > 0]
    scale = max([*values, *(point.bound.value for point in points if point.bound is not None)], default=0.0)
    shown = [number(point.value, 4) for point in points]
    words = [point.line.outcome or "not judged" for point in points]
    width, word_width = max(map(len, shown), default=0), max(map(len, words), default=0)
    room = max(LEAST_BAR, columns - 18 - word_width - width - 6 - 12)
    for one in series:
        preset = f", preset {one.preset}" if one.preset else ""
        lines += [
            "",
            cut(clean_line(f"{one.host or 'host not recorded'}, item {one.item}{preset}: {one.text}"), columns),
        ]
        for point in one.points:
            moment = parse_utc(point.line.started_utc or point.line.created_utc)
            when = moment.strftime("%Y-%m-%d %H:%M") if moment else "not recorded    "
            bar = _bar(point.value, scale, room, ascii_only=ascii_only)
            note = ""
            if point.bound is not None and point.value is not None:
                held = point.bound.holds(point.value)
                note = f"{'within' if held else 'not'} {point.bound.comparison} {number(point.bound.value)}"
            text = (
                f"  {when}  {fit(point.line.outcome or 'not judged', word_width)}  {number(point.value, 4):>{width}}  "
            )
            lines.append(f"{text}{bar}{' ' if bar and note else ''}{note}".rstrip())
        lines.append("  " + _sum(one))
    return lines


def _sum(one: Series) -> str:
    counted = [point for point in one.points if point.counts]
    others = len(one.points) - len(counted)
    text = f"median {number(one.median, 4)} of {len(counted)} {'run' if len(counted) == 1 else 'runs'}"
    return text + (f"; {others} not counted (no value, or not {' or '.join(MEASURED)})" if others else "")


def _bar(value: float | None, scale: float, width: int, *, ascii_only: bool) -> str:
    if value is None or scale <= 0 or value <= 0:
        return ""
    eighths = max(1, round(8 * width * min(value / scale, 1.0)))
    if ascii_only:
        return "#" * max(1, round(eighths / 8))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS
