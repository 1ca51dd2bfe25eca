"""Two runs of a step side by side: figures, gates, versions, commands. Used in a thread, because it reads records."""

from collections.abc import Iterator
from dataclasses import dataclass

from llmval_tui.actions.headline import headline
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Verdict
from llmval_tui.runs.store import Run
from llmval_tui.terminal.format import number
from llmval_tui.tui.data.run_history import RunRow

MOST_METRICS = 24


@dataclass(frozen=True, slots=True)
class Difference:
    """One row: what it is, both sides, and how they differ."""

    group: str  # "run", "figures", "gates", "versions"
    name: str
    first: str
    second: str
    change: str = ""
    equal: bool = False


def differences(first: Run, second: Run, rows: tuple[RunRow, RunRow]) -> list[Difference]:
    """All rows. Gates and versions only where they differ; their number says how many are equal.

    Raises:
        Refused: a record is damaged.
    """
    one, other = rows
    found = [
        _row("run", "outcome", str(one.outcome or one.state), str(other.outcome or other.state)),
        _row("run", "GPUs", number(one.gpus), number(other.gpus)),
        _row("run", "took, s", number(one.took_s), number(other.took_s)),
    ]
    left, right = ("; ".join(command.display for command in run.intent.commands) for run in (first, second))
    found.append(_row("run", "command", left, right) if left != right else _row("run", "command", "the same", ""))
    found += _figures(first.verdict(), second.verdict())
    found += _gates(first.verdict(), second.verdict())
    found += _versions(first, second)
    return found


def _row(group: str, name: str, first: str, second: str, change: str = "") -> Difference:
    one, other = clean_line(first), clean_line(second)
    return Difference(group, name, one, other, change, one == other)


def _figures(first: Verdict | None, second: Verdict | None) -> Iterator[Difference]:
    left, right = (verdict.metrics if verdict is not None else {} for verdict in (first, second))
    known = {figure.name: figure for figure in (*headline(left), *headline(right))}
    names = [*known, *(name for name in {**left, **right} if name not in known)]
    for name in names[:MOST_METRICS]:
        one, other = left.get(name), right.get(name)
        factor = known[name].factor if name in known else 1.0
        label = f"{known[name].label} {known[name].unit}".strip() if name in known else name
        change = ""
        if one and other is not None:
            change = f"{100 * (other - one) / abs(one):+.1f} %"
        first_text, second_text = (number(None if value is None else value * factor) for value in (one, other))
        yield _row("figures", label, first_text, second_text, change)


def _gates(first: Verdict | None, second: Verdict | None) -> Iterator[Difference]:
    left, right = (
        {gate.name: gate for gate in verdict.gates} if verdict is not None else {} for verdict in (first, second)
    )
    equal = 0
    for name in {**left, **right}:
        one, other = left.get(name), right.get(name)
        if one is not None and other is not None and one.outcome is other.outcome:
            equal += 1
            continue
        first_text, second_text = (f"{gate.outcome}: {gate.measured}" if gate else "n/a" for gate in (one, other))
        yield _row("gates", name, first_text, second_text)
    yield Difference("gates", f"{equal} with the same outcome", "", "", equal=True)


def _versions(first: Run, second: Run) -> Iterator[Difference]:
    sides = []
    for run in (first, second):
        intent = run.intent
        gpu = intent.host.get("gpu")
        driver = gpu.get("driver_version") if isinstance(gpu, dict) else None
        more = {"host": intent.host.get("name"), "driver": driver, "revision": intent.git.get("revision")}
        sides.append({**{name: str(value) for name, value in more.items() if value}, **intent.versions})
    left, right = sides
    equal = 0
    for name in {**left, **right}:
        one, other = left.get(name, "n/a"), right.get(name, "n/a")
        if one == other:
            equal += 1
        else:
            yield _row("versions", name, one, other)
    yield Difference("versions", f"{equal} the same", "", "", equal=True)
