"""Renders a comparison as text, Markdown, HTML or JSON."""

from typing import Any

from llmval_tui.actions.yardstick.parts import Attribution
from llmval_tui.foundation.files import to_json
from llmval_tui.report.blocks import Badge, Block, Cell, Code, Heading, Paragraph, Table
from llmval_tui.report.comparison.bootstrap import (
    CONFIDENCE,
    METHOD,
    MIN_BLOCKS,
    MIN_TAIL_VALUES,
    MIN_VALUES,
    RESAMPLES,
    SEED,
)
from llmval_tui.report.comparison.compare import (
    BETTER,
    SAME,
    SEARCH_METHOD,
    UNKNOWN,
    WORSE,
    WORSE_PERCENT,
    Change,
    Comparison,
    exit_code,
)
from llmval_tui.report.figure import figure
from llmval_tui.report.pages.html_page import html_page
from llmval_tui.report.pages.markdown_page import markdown_page
from llmval_tui.report.pages.text_page import text_page
from llmval_tui.runs.definitions import define

_KINDS = {BETTER: "pass", WORSE: "fail"}


def render(comparison: Comparison, form: str) -> str:
    """The comparison as `text`, `md`, `html` or `json`."""
    if form == "json":
        return to_json(as_json(comparison), indent=True).decode()
    blocks = comparison_blocks(comparison)
    if form == "html":
        return html_page(f"Comparison of {comparison.first.run_id} and {comparison.second.run_id}", blocks)
    return markdown_page(blocks) if form == "md" else text_page(blocks)


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """Both sides, the metrics, other differences, and the method."""
    first, second = comparison.first, comparison.second
    blocks: list[Block] = [Heading(1, "Comparison of two load tests")]
    rows: list[list[Cell]] = [
        [
            item.label,
            Code(item.run_id),
            item.intent.created_utc,
            Badge(item.verdict.outcome.value, item.verdict.outcome.value),
            f"{len(item.result.done)} of {len(item.result.records)}",
            Code(f"{item.artifact.path} {(item.artifact.sha256 or '')[:12]}"),
        ]
        for item in (first, second)
    ]
    blocks.append(Table("Sides", ("side", "run", "made", "verdict", "completed requests", "result and SHA-256"), rows))
    if comparison.refused:
        blocks.append(
            Paragraph(f"Not comparable, so no verdict is given: {'; '.join(comparison.refused)}.", caution=True)
        )
    if comparison.machine_unknown is not None:
        blocks.append(Paragraph(f"No verdict is given: {comparison.machine_unknown}.", caution=True))
    if others := [name for name in comparison.unknown if name not in (comparison.machine_unknown or "")]:
        blocks.append(Paragraph(f"Not known in either run, so not compared: {', '.join(others)}."))
    blocks.append(Heading(2, "Metrics", "metrics"))
    interval = "interval of B − A" if comparison.of_searches else f"{CONFIDENCE:.0%} interval of B − A"
    columns = ["metric", "unit", "better is", "A", "B", "B − A", interval, "B − A, % of A"]
    judged = comparison.judged
    table = [_row(change, judged) for change in comparison.changes]
    caption = "B against A" + (f"; significantly worse by over {WORSE_PERCENT:g} % fails" if judged else "")
    blocks.append(Table(caption, [*columns, "B is"] if judged else columns, table, numbers=range(3, 8)))
    blocks.append(Paragraph(_conclusion(comparison)))
    if comparison.attribution is not None:
        blocks += attribution_blocks(comparison.attribution)
    if comparison.other_differences:
        blocks.append(Heading(2, "What else differs", "varied"))
        blocks.append(
            Table(
                "Settings that are not the same",
                ("what", "A", "B"),
                [list(row) for row in comparison.other_differences],
            )
        )
    blocks.append(Heading(2, "How to read it", "method"))
    meanings: list[list[Cell]] = [[Code(change.name), define(change.name).text] for change in comparison.changes]
    blocks.append(Table("Definitions", ("metric", "definition"), meanings))
    blocks.append(Paragraph(_method(comparison)))
    return blocks


def attribution_blocks(found: Attribution) -> list[Block]:
    """Where the time of a request goes on the server, beside our engine."""
    rows: list[list[Cell]] = [
        [
            part.name,
            figure(part.server_ms),
            figure(part.ours_ms),
            "n/a" if part.gap_ms is None else _signed(part.gap_ms),
            "–" if (share := found.share_percent(part)) is None else f"{share:.0f}",
            part.evidence,
        ]
        for part in found.parts
    ]
    rows.append(
        ["all", figure(found.server_ms), figure(found.ours_ms), _signed(found.gap_ms), "–", "the clients' records"]
    )
    columns = ("part", "server, ms", "our engine, ms", "difference, ms", "% of the difference", "measured as")
    caption = "Mean time of a completed request from its intended arrival to its last token; the parts add up"
    blocks: list[Block] = [
        Heading(2, "Where the time goes", "parts"),
        Table(caption, columns, rows, numbers=range(1, 5)),
    ]
    blocks.append(Paragraph(f"Pace: {found.pace}."))
    blocks.append(Paragraph(f"Host CPU of the server, which overlaps with the parts: {'; '.join(found.cpu)}."))
    blocks += [Paragraph(f"{note}.", caution=True) for note in found.notes]
    return blocks


def attribution_json(found: Attribution | None) -> dict[str, Any] | None:
    """The same as an object; `share_percent` is null where it is not known."""
    if found is None:
        return None
    return {
        "server_ms": found.server_ms,
        "engine_ms": found.ours_ms,
        "parts": [
            {
                "name": part.name,
                "server_ms": part.server_ms,
                "engine_ms": part.ours_ms,
                "gap_ms": part.gap_ms,
                "share_percent": found.share_percent(part),
                "evidence": part.evidence,
            }
            for part in found.parts
        ],
        "pace": found.pace,
        "cpu": list(found.cpu),
        "notes": list(found.notes),
    }


def _method(comparison: Comparison) -> str:
    """How the intervals were made, and what they do not include."""
    between = "differences from run to run (temperature, placement, neighbours): for that, repeat each side."
    if comparison.of_searches:
        return f"Interval: {SEARCH_METHOD}. It does not include {between}"
    draws = (
        "both runs had the same requests at the same times, so the same positions were drawn from both"
        if comparison.paired
        else "each run was resampled on its own"
    )
    return (
        f"Intervals: {METHOD}; {draws}. Rates are resampled over spans of about a second, each run on its own; "
        f"fewer than {MIN_VALUES} values ({MIN_TAIL_VALUES} of a p99), or than {MIN_BLOCKS} blocks, give no interval. "
        f"An interval covers the chance within these two runs. It does not include {between} "
        f"If two runs are equal, an interval excludes 0 by chance in about one of {1 / (1 - CONFIDENCE):.0f} cases, or "
        f"in up to one of seven if requests queue. There are {len(comparison.changes)} intervals here."
    )


def _row(change: Change, judged: bool) -> list[Cell]:
    interval = change.interval
    percent = "–" if change.percent is None else f"{change.percent:+.1f}".replace("-", "−")
    row: list[Cell] = [
        Code(change.name),
        change.unit,
        change.better,
        figure(change.first),
        figure(change.second),
        _signed(change.delta),
        "too few values" if interval is None else f"{_signed(interval.low)} to {_signed(interval.high)}",
        percent,
    ]
    if judged:
        text = f"{change.verdict}, fails" if change.fails else change.verdict
        row.append(Badge(text, _KINDS.get(change.verdict, "open")))
    return row


def _signed(value: float) -> str:
    return ("+" if value > 0 else "−" if value < 0 else "") + figure(abs(value))


def _conclusion(comparison: Comparison) -> str:
    if comparison.refused:
        return "The figures are shown side by side; they do not prove a difference."
    if not comparison.judged:
        return "The intervals are of these two results. What made the difference, server or machine, is not known."
    groups = {
        verdict: [change.name for change in comparison.changes if change.verdict == verdict]
        for verdict in (WORSE, BETTER, SAME, UNKNOWN)
    }
    groups_text = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in groups.items() if names)
    if comparison.is_yardstick:
        return f"{groups_text}. A yardstick measures: no difference fails."
    failed = [change.name for change in comparison.changes if change.fails]
    end = (
        f"More than {WORSE_PERCENT:g} % worse: {', '.join(failed)}."
        if failed
        else f"Nothing is significantly more than {WORSE_PERCENT:g} % worse."
    )
    return f"{groups_text}. {end}"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as the object that --format json prints."""
    return {
        "kind": "llmval_compare",
        "v": 1,
        "exit_code": int(exit_code(comparison)),
        "comparable": comparison.judged,
        "reasons": [*comparison.refused, *([comparison.machine_unknown] if comparison.machine_unknown else [])],
        "unknown": comparison.unknown,
        "sides": {
            item.label: {
                "run_id": item.run_id,
                "verdict": item.verdict.outcome.value,
                "artifact": item.artifact.path,
                "sha256": item.artifact.sha256,
                "requests": len(item.result.records),
                "completed": len(item.result.done),
            }
            for item in (comparison.first, comparison.second)
        },
        "metrics": [
            {
                "name": change.name,
                "unit": change.unit,
                "better": change.better,
                "a": change.first,
                "b": change.second,
                "delta": change.delta,
                "percent": change.percent,
                "interval": None if change.interval is None else [change.interval.low, change.interval.high],
                "word": change.verdict or None,
                "fails": change.fails,
            }
            for change in comparison.changes
        ],
        "yardstick": attribution_json(comparison.attribution),
        "varied": [{"what": name, "a": a, "b": b} for name, a, b in comparison.other_differences],
        "method": {"text": SEARCH_METHOD}
        if comparison.of_searches
        else {
            "text": METHOD,
            "paired": comparison.paired,
            "resamples": RESAMPLES,
            "seed": SEED,
            "confidence": CONFIDENCE,
        },
    }
