"""The last screen of the analyzer, from its summary."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmval_runners.process.errors import GOOD_EXIT, UNDECIDED_EXIT
from llmval_runners.process.screen import Screen, figure, plural
from llmval_runners.process.verdict import Verdict

MOST = 12  # rows of the table; the Markdown file has all of them


def verdict_of(summary: Mapping[str, Any]) -> Verdict:
    """Inconclusive without any valid figure."""
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary["counts"].items() if count)
    others = len(summary["external"])
    found = "; ".join(
        [
            part
            for part in (counts, f"{plural(others, 'result')} of other tools{_failing(summary)}" if others else "")
            if part
        ]
    )
    if not summary["cells"] and not others:
        reasons = [reason for row in summary["invalid"] for reason in row["reasons"]]
        return Verdict("inconclusive", "; ".join(["no cell is valid", found, *reasons[:1]]), UNDECIDED_EXIT)
    return Verdict("ok", found, GOOD_EXIT)


def _failing(summary: Mapping[str, Any]) -> str:
    count = sum(bool(row["failed_requests"]) for row in summary["external"])
    return f", {count} with failed requests" if count else ""


def last_screen(summary: Mapping[str, Any], where: str) -> str:
    """The screen, at most 80 columns wide. `where` the record lies."""
    verdict = summary["verdict"]
    screen = Screen(f"{verdict['word']}: {verdict['reason']}")
    rows = _best_of_each(summary["cells"])
    names = _short({row["model"] for row in rows})
    shown = [_row(row, names[row["model"]]) for row in rows]
    screen.table("valid, best first", ("tokens/s", "W", "tokens/J", "USD/M"), shown)
    if len(rows) < len(summary["cells"]):
        screen.row("", f"and {len(summary['cells']) - len(rows)} more in the tables")
    external = [_row(row) for row in summary["external"][:MOST]]
    screen.table("of other tools", ("tokens/s", "W", "tokens/J", "USD/M"), external)
    for row in summary["external"]:
        if row["failed_requests"]:
            screen.row("failed requests", f"{Path(row['source']).name}: {row['reasons'][-1]}")
    invalid = [
        (f"{row['phase']} {row['cell']}"[:56], [figure(row["tokens_per_s"], 0)]) for row in summary["invalid"][:MOST]
    ]
    screen.table("not valid", ("tokens/s",), invalid)
    screen.row("price", f"{summary['price_per_kwh']:g} {summary['currency']}/kWh, PUE {summary['pue']:g}")
    screen.row("energy", summary["energy_scope"])
    screen.row("ran", *[machine["id"] for machine in summary["machines"]])
    for item in summary["refused_files"]:
        screen.row("not read", f"{item['path']}: {item['reason']}")
    screen.row("record", where, "tables .md and plot .svg beside it")
    return screen.text()


def _best_of_each(cells: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """About MOST rows: the most efficient of each phase and model. A prefill's tokens/J say nothing of a decode's."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(cells, key=lambda row: -(row["tokens_per_joule"] or 0)):
        groups.setdefault((row["phase"], row["model"]), []).append(row)
    return [row for group in groups.values() for row in group[: max(1, MOST // len(groups))]]


def _short(models: set[str]) -> dict[str, str]:
    """The first parts of each model's name, as many as tell the models apart; nothing for a single model."""
    if len(models) < 2:
        return dict.fromkeys(models, "")
    parts = 1 + max(name.count("-") for name in models)
    for count in range(1, parts):
        short = {name: "-".join(name.split("-")[:count]) for name in models}
        if len(set(short.values())) == len(models):
            return short
    return {name: name for name in models}


def _row(row: Mapping[str, Any], model: str = "") -> tuple[str, list[str]]:
    batch = row["batch_size"] and f"b{row['batch_size']}"
    title = " ".join(str(part) for part in (row["phase"], model, row["mode"], batch) if part)
    cost = row["cost_per_million_tokens"]
    return (title or Path(row["source"]).name)[:30], [
        figure(row["tokens_per_s"], 0), figure(row["power_w"], 0), figure(row["tokens_per_joule"]), figure(cost, 4),
    ]  # fmt: skip
