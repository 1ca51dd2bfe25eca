"""`report` and `compare`: write runs, or the difference of two runs, into a file."""

import argparse
import sys
from pathlib import Path

from llmval_tui.actions.settle import settle
from llmval_tui.checklist.model import Checklist, load
from llmval_tui.console.options import checklist_of, checklist_path, print_result, workspace_of
from llmval_tui.export.sources import Source, Sources
from llmval_tui.foundation.errors import ExitCode, Refused
from llmval_tui.runs.store import Run


def report(options: argparse.Namespace) -> int:
    """Write the named runs, or the newest run of each step, into one file."""
    from llmval_tui.report.build import render
    from llmval_tui.report.facts import gather
    from llmval_tui.report.output import deliver, format_for

    form = format_for(options.output, options.format, "html")
    # HTML in a terminal is unreadable; the other formats are made for pipes.
    target = options.output or ("report.html" if form == "html" else None)
    if options.readonly and target is not None and options.output is None:
        raise Refused("--readonly was given, but the report is a file: name it with -o, or print it with -o -.")
    with Sources(workspace_of(options)) as sources:
        runs, places = _runs(sources, options)
        store, own = sources.own.store, all(place.own for place in places)
        for run in runs:
            if options.readonly or run.workspace != store.workspace:
                continue  # runs of another place are not ours to judge
            try:
                settle(run, store)
            except Refused as refusal:  # the report says what is known of this run, and everything of the others
                print(f"llmval: {run.id}: {refusal}", file=sys.stderr)
        checklist = _checklist(options) if own else None  # after settling, which may have ticked an item
        if not own and len(places) == 1 and (path := places[0].checklist) is not None:
            store, checklist = places[0].store, load(path)
        facts = gather(store, runs, checklist, origins=[place.title for place in places])
        path = deliver(render(facts, form), target)
    if path is not None:
        message = f"{path}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {path.stat().st_size:,} bytes."
        print_result(options, message, path=path, runs=[run.id for run in runs])
    return ExitCode.PASSED


def _runs(sources: Sources, options: argparse.Namespace) -> tuple[list[Run], list[Source]]:
    """The runs of the report, and the places that they are in. Of a folder or an archive: the newest of each step."""
    from llmval_tui.report.facts import runs_for

    own = sources.own
    if not options.runs:
        return runs_for(own.store, (), _checklist(options)), [own]
    found: dict[tuple[str, str], Run] = {}
    places: dict[str, Source] = {}
    for name in options.runs:
        source, rest = sources.split(name)
        if source.own:
            runs = runs_for(own.store, [rest] if rest else [], _checklist(options))
        else:
            every = sources.runs(name)[1]  # refuses a place without runs
            listed = load(source.checklist) if source.checklist is not None else None
            runs = every if rest else runs_for(source.store, [], listed)
        found |= {(source.title, run.id): run for run in runs}
        places[source.title] = source
    return list(found.values()), list(places.values())


def _checklist(options: argparse.Namespace) -> Checklist | None:
    """The checklist; None if none is named and the workspace has none."""
    try:
        checklist_path(options)
    except Refused:
        return None
    return checklist_of(options)


def compare(options: argparse.Namespace) -> int:
    """Compare run B with run A, metric by metric; exit code 1 if a gate metric is more than 5 % worse."""
    from llmval_tui.report.comparison.compare import compare_sides, exit_code
    from llmval_tui.report.comparison.page import render
    from llmval_tui.report.comparison.sides import side
    from llmval_tui.report.output import deliver, format_for

    requested = options.format or ("json" if options.json else None)
    form = format_for(options.output, requested, "text" if options.output in (None, "-") else "md")
    with Sources(workspace_of(options)) as sources:
        first, second = (side(*sources.half(name), label) for name, label in ((options.a, "A"), (options.b, "B")))
        count = len(first.result.records) + len(second.result.records)
        if count > 20_000 and sys.stderr.isatty():
            print(f"resampling {count:,} requests, about {count // 1000} s …", file=sys.stderr)
        comparison = compare_sides(first, second, anyway=options.anyway)
        path = deliver(render(comparison, form), options.output)
    if path is not None:
        print(Path(path))
    return exit_code(comparison)
