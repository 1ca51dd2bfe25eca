"""The gates of a run's criteria: each has the measured value, the bound, its place, and the lines that offend.

A value that is missing, that has another unit, or that cannot be told from others makes its gate inconclusive. So does
a log that is longer than what is read, unless what was read decides.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmval_tui.actions.criteria.by_words import absence_gate, number_gate
from llmval_tui.actions.criteria.expect import COUNTS, compiled
from llmval_tui.actions.criteria.measured import Measured, Unfound, gate_name, gate_of, remedy, shown_bound
from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.results import Results
from llmval_tui.actions.criteria.sources import NotThere, Sources, Text, parsed_json, read_document
from llmval_tui.actions.criteria.text_gates import text_gate, too_long
from llmval_tui.actions.criteria.units import number_of, suffix_named, unit_named
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Gate, Outcome

if TYPE_CHECKING:
    from llmval_tui.runs.store import Run

_ORDER = ("<", "<=", ">", ">=")
_NUMERIC = (*_ORDER, "==", "!=")
_VALUE = re.compile(r"\s*(?P<number>[-−+]?(?:[\d.,]*\d)(?:[eE][-+]?\d+)?)\s*(?P<unit>\S.*)?")
_MOST_SHOWN = 3


def criteria_gates(
    run: "Run", criteria: Sequence[Criterion], own_metrics: Mapping[str, float | None] | None = None
) -> list[Gate]:
    """One gate for each criterion. `own_metrics` are those of llmval's own judges, with the unit in the name."""
    sources = Sources(run)
    results = Results(run, own_metrics or {})
    return [_gate(run, sources, results, one) for one in criteria]


def _gate(run: "Run", sources: Sources, results: Results, one: Criterion) -> Gate:
    if one.unreadable:
        return Gate(gate_name(one), Outcome.INCONCLUSIVE, "not judged", clean_line(one.text), one.unreadable)
    try:
        if one.source == "exit":
            return _exit_gate(run, one)
        if one.source == "duration":
            return _duration_gate(run, one)
        if one.source == "result":
            return gate_of(one, [results.stated(one)])
        if one.stated_by is StatedBy.WORDS and one.source == "output":
            if one.comparison in _NUMERIC:
                return number_gate(sources, one, results)
            if one.comparison == "not contains" and one.metric:
                return absence_gate(sources, one, results)
        if one.selector is not None:
            return _selected_gate(sources, one)
        return text_gate(_texts(sources, one), one)
    except (Unfound, NotThere) as problem:
        reason = str(problem)
        if one.stated_by is StatedBy.WORDS and "expect=" not in reason:
            reason = f"{reason}: {remedy(one)}"
        return Gate(gate_name(one), Outcome.INCONCLUSIVE, "unknown", shown_bound(one), reason)


def _exit_gate(run: "Run", one: Criterion) -> Gate:
    codes = [(command.label, command.exit_code) for command in run.status().commands]
    if not codes or any(code is None for _, code in codes):
        raise Unfound("the exit code is unknown")
    found = [Measured(float(code), None, f"exit code of {label}", "") for label, code in codes if code is not None]
    return gate_of(one, found)


def _duration_gate(run: "Run", one: Criterion) -> Gate:
    """The run's own length. Its times are whole seconds, so a value within a second of the bound is inconclusive."""
    status = run.status().commands
    if one.command is not None and one.command < len(run.intent.commands):
        label = run.intent.commands[one.command].label
        status = [command for command in status if command.label == label]
    times = [(command.started_utc, command.ended_utc) for command in status]
    if not times or any(started is None or ended is None for started, ended in times):
        raise Unfound("the times of the command are unknown")
    seconds = sum(
        (datetime.fromisoformat(str(ended)) - datetime.fromisoformat(str(started))).total_seconds()
        for started, ended in times
    )
    ends = [Measured(value, unit_named("s"), "start and end of the run", "") for value in (seconds - 1, seconds + 1)]
    outcomes = {gate_of(one, [end]).outcome for end in ends}
    if len(outcomes) > 1:
        raise Unfound(f"it took {seconds:.0f} s, and the times of a run are exact to a second only")
    return gate_of(one, [Measured(seconds, unit_named("s"), "start and end of the run", "")])


def _texts(sources: Sources, one: Criterion) -> list[Text]:
    """The texts of a criterion's source.

    Raises:
        NotThere: the file is missing, or not from this run.
    """
    streams = {"stdout": ("stdout",), "stderr": ("stderr",), "output": ("stdout", "stderr")}.get(one.source)
    if streams is None:
        return [sources.text_of(one.source)]
    found = sources.logs(streams, one.command)
    if not found:
        raise NotThere(f"the run has no log of {one.source}")
    return found


def _selected_gate(sources: Sources, one: Criterion) -> Gate:
    pattern = compiled(one)
    if pattern is None:
        return _path_gate(sources, one)
    texts = _texts(sources, one)
    numeric = one.comparison in _ORDER or isinstance(one.bound, float)
    found: list[Measured] = []
    for text in texts:
        for index, line in enumerate(text.lines):
            for match in pattern.finditer(line):
                content = match[1] if pattern.groups else match[0]
                if one.which in COUNTS or not numeric:
                    found.append(Measured(content or "", None, text.where(index), line.strip()))
                elif content is not None:
                    found.append(_number(content, one, text.where(index), line.strip()))
    whole = all(text.whole for text in texts)
    if one.which in COUNTS:
        if not whole:
            raise Unfound(too_long(texts))
        if one.which == "distinct":
            found = list({item.value: item for item in found}.values())
        lines = [item.line for item in found]
        count = Measured(
            float(len(found)), None, ", ".join(text.name for text in texts), "; ".join(lines[:_MOST_SHOWN])
        )
        return gate_of(one, [count])
    if not found:
        raise Unfound(f"{one.selector} matches nothing in {', '.join(text.name for text in texts)}")
    gate = gate_of(one, found)
    if not whole and gate.outcome is Outcome.PASS and one.which != "last":
        raise Unfound(too_long(texts))
    return gate


def _number(content: str, one: Criterion, where: str, line: str) -> Measured:
    """The number of a group, with the unit in it; without one it has the bound's unit."""
    match = _VALUE.fullmatch(content)
    number = number_of(match["number"].rstrip(".,")) if match else None
    if match is None or number is None:
        raise Unfound(f"“{clean_line(content)[:80]}” at {where} is not a number")
    written = match["unit"]
    if written is None:
        return Measured(number, unit_named(one.unit) if one.unit else None, where, line)
    if (factor := suffix_named(written)) and unit_named(written) is None:
        return Measured(number * factor, unit_named(one.unit) if one.unit else None, where, line)
    unit = unit_named(written)
    if unit is None:
        raise Unfound(f"“{clean_line(content)[:80]}” at {where} is not a number with a unit that llmval knows")
    return Measured(number, unit, where, line)


def _path_gate(sources: Sources, one: Criterion) -> Gate:
    """A JSON path in a file, or in the output of the command."""
    import jmespath
    from jmespath.exceptions import JMESPathError

    if one.source in ("stdout", "stderr", "output"):
        texts = [text for text in _texts(sources, one) if text.lines]
        if len(texts) != 1 or not texts[0].whole:
            raise Unfound(f"{one.source} is not one JSON value: {len(texts)} logs have text, or it is too long")
        document = parsed_json("\n".join(texts[0].lines).encode(), texts[0].name)
        name = texts[0].name
    else:
        document, name = read_document(sources.file(one.source), one.source), one.source
    where = f"{name} {one.selector}"
    try:
        value = jmespath.search(one.selector or "", document)
    except JMESPathError as error:
        raise Unfound(f"{where} cannot be evaluated ({clean_line(str(error).splitlines()[0])})") from error
    if value is None:
        raise Unfound(f"{name} has nothing at {one.selector}")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise Unfound(f"{where} is an empty list")
    return gate_of(one, [_json_value(item, one, where) for item in values])


def _json_value(item: Any, one: Criterion, where: str) -> Measured:
    numeric = one.comparison in _ORDER or isinstance(one.bound, float)
    if isinstance(item, bool):
        item = str(item).lower()
    if numeric and isinstance(item, str):
        return _number(item, one, where, "")
    if isinstance(item, int | float):
        if numeric:
            return Measured(float(item), unit_named(one.unit) if one.unit else None, where, "")
        return Measured(f"{item}", None, where, "")
    if numeric or not isinstance(item, str):
        raise Unfound(f"{where} is {type(item).__name__}, not {'a number' if numeric else 'text'}")
    return Measured(item, None, where, "")
