"""Criteria from the words of an item, whose value must first be found: numbers, counts, and "no errors"."""

import re
from collections.abc import Sequence
from dataclasses import replace

from llmval_tui.actions.criteria.measured import Measured, Unfound, gate_name, gate_of, place_of, remedy, shown_bound
from llmval_tui.actions.criteria.model import Criterion
from llmval_tui.actions.criteria.results import Results
from llmval_tui.actions.criteria.search import (
    TooMany,
    Value,
    certain,
    is_measured,
    names,
    tokens,
    values_in,
    values_in_document,
)
from llmval_tui.actions.criteria.sources import NotThere, Sources, Text, parsed_json, read_document, read_text
from llmval_tui.actions.criteria.units import Unit, number_of, suffix_named, unit_named
from llmval_tui.foundation.text import clean_line, counted
from llmval_tui.runs.records import Gate, Outcome

_DOCUMENTS = (".json", ".jsonl", ".ndjson")
_TEXTS = (".csv", ".tsv", ".txt", ".log", ".out", "")
_NONE = re.compile(
    r"(?:\b(?:0|no|none|zero|not|without|free of)\b|[:=]\s*(?:none|null|nil|ok|\[\]|\{\})\b)", re.IGNORECASE
)
_LOUD = re.compile(
    r"^\W*(?:\S+\s+){0,6}?\[?(?:error|fatal|critical|panic|exception|traceback|warn(?:ing)?)\]?\s*[:\]!]", re.IGNORECASE
)


def number_gate(sources: Sources, one: Criterion, results: Results) -> Gate:
    """The gate of a comparison in words.

    Raises:
        Unfound, NotThere: the value cannot be found for certain.
    """
    if one.which == "count":
        return _count_gate(sources, one)
    if (measured := results.named(one)) is not None:
        return gate_of(one, [measured])
    found, whole = _candidates(sources, one)
    wanted = tokens(one.metric or "")
    if only := _only_number(sources, one):
        return gate_of(one, [only])
    if wanted:
        matching = [value for value in found if names(wanted, value.name)]
        if not matching:
            raise Unfound(f"no number in the output is named “{one.metric}”: {remedy(replace(one, metric=None))}")
    else:
        unit = unit_named(one.unit) if one.unit else None
        if unit is None:
            raise Unfound(f"the words do not name the value: {remedy(one)}")
        matching = [value for value in found if _has_dimension(value, unit)]
        if not matching:
            raise Unfound(f"no number in the output has a unit like {one.unit}: {remedy(one)}")
    matching = certain(matching, wanted, sources.run.intent.step.text, each=one.which == "all")
    gate = gate_of(one, _fitting(one, matching))
    if gate.outcome is Outcome.PASS and not whole:
        raise Unfound("the output is longer than the 64 MiB at its end that llmval reads, so the rest is unknown")
    if gate.outcome is Outcome.PASS:
        measured_ones = [value for value in matching if is_measured(value, wanted)]
        if not measured_ones:
            place = f"{matching[0].where}: {clean_line(matching[0].line)[:160]}"
            raise Unfound(f"the output only states what is asked for, or what was earlier ({place}): {remedy(one)}")
        _fitting(one, measured_ones)
    return gate


def _only_number(sources: Sources, one: Criterion) -> Measured | None:
    """The number that is all that the command printed, for a bound without a unit: `nproc` prints `192`."""
    if one.unit is not None or one.which != "one" or sources.files:
        return None
    texts = sources.logs(("stdout",), one.command)
    lines = [(text, index) for text in texts for index, line in enumerate(text.lines) if line.strip()]
    if len(lines) != 1 or not all(text.whole for text in texts):
        return None
    text, index = lines[0]
    number = number_of(text.lines[index])
    return None if number is None else Measured(number, None, text.where(index), text.lines[index].strip())


def _has_dimension(value: Value, unit: Unit) -> bool:
    if value.unit is None:
        return value.suffix is not None and unit.dimension == "bytes"
    return value.unit.dimension == unit.dimension


def _candidates(sources: Sources, one: Criterion) -> tuple[list[Value], bool]:
    """All numbers in the files and the output of the command, and whether everything was read."""
    found: list[Value] = []
    whole = True
    try:
        for path, file in sources.files:
            if file.suffix in _DOCUMENTS:
                found += values_in_document(read_document(file, path), path)
            elif file.suffix in _TEXTS:
                text = read_text(file, path)
                whole &= text.whole
                found += values_in(text)
        argv = _argv(sources, one)
        for text in sources.logs(("stdout", "stderr"), one.command):
            whole &= text.whole
            if (document := _document_in(text)) is not None:
                found += values_in_document(document, text.name)
            else:
                found += values_in(text, argv)
    except TooMany as problem:
        raise Unfound(f"{problem}, so the value cannot be told from the others: {remedy(one)}") from problem
    return found, whole


def _argv(sources: Sources, one: Criterion) -> Sequence[str]:
    commands = sources.run.intent.commands
    if one.command is not None and one.command < len(commands):
        return commands[one.command].argv
    return commands[0].argv if len(commands) == 1 else ()


def _document_in(text: Text) -> object | None:
    first = next((line.strip() for line in text.lines if line.strip()), "")
    if not text.whole or first[:1] not in ("{", "["):
        return None
    try:
        document: object = parsed_json("\n".join(text.lines).encode(), text.name)
    except NotThere:
        return None
    return document if isinstance(document, dict | list) else None


def _fitting(one: Criterion, matching: Sequence[Value]) -> list[Measured]:
    """The values whose unit fits the bound's.

    Raises:
        Unfound: no unit fits, or the size of a suffix decides.
    """
    wanted = unit_named(one.unit) if one.unit else None
    found: list[Measured] = []
    for value in matching:
        if wanted is None:
            if value.unit is None or value.unit.dimension == "count":
                factor = suffix_named(value.suffix or "") or 1.0
                found.append(Measured(value.number * factor, None, value.where, value.line))
        elif value.unit is not None and value.unit.dimension == wanted.dimension:
            found.append(Measured(value.number, value.unit, value.where, value.line))
        elif value.suffix and wanted.dimension in ("bytes", "bytes per second"):
            found += _by_suffix(one, value)
    if found:
        return found
    value = matching[0]
    problem = f"is in {value.unit_text}" if value.unit else "has no unit"
    raise Unfound(
        f"the value of “{one.metric or one.text}” {problem} ({value.where}: {value.line[:120]}), and the bound "
        f"{'is in ' + one.unit if one.unit else 'has none'}: {remedy(one)}"
    )


def _by_suffix(one: Criterion, value: Value) -> list[Measured]:
    """A size such as `212T`, where T may mean 1000⁴ or 1024⁴: both must agree."""
    rate = "/s" if unit_named(one.unit or "") and "/" in (one.unit or "") else ""
    both = [
        Measured(value.number, unit_named(f"{value.suffix}{kind}B{rate}"), value.where, value.line)
        for kind in ("", "i")
        if unit_named(f"{value.suffix}{kind}B{rate}") is not None
    ]
    outcomes = {gate_of(one, [item]).outcome for item in both}
    if len(outcomes) > 1:
        raise Unfound(f"{value.where} says {value.number:g}{value.suffix}, in units of 1000 or of 1024: {remedy(one)}")
    return both[-1:]


def _count_gate(sources: Sources, one: Criterion) -> Gate:
    """ "All 8 GPUs listed": the lines that begin with the noun and a number, or the rows of a query of GPUs."""
    texts = sources.logs(("stdout",), one.command)
    if not all(text.whole for text in texts):
        raise Unfound("the output is longer than the 64 MiB at its end that llmval reads")
    noun = (
        re.sub(r"(?:es)?$|s$", "", one.metric or "", count=1)
        if (one.metric or "").endswith("ches")
        else (one.metric or "").rstrip("s")
    )
    pattern = re.compile(rf"^\W*(?:{re.escape(noun)})s?[\s_:#-]*(\d+)\b", re.IGNORECASE)
    found = {match[1] for text in texts for line in text.lines if (match := pattern.match(line))}
    lines = [line for text in texts for line in text.lines if line.strip()]
    if not found and noun.lower() == "gpu" and any(word.startswith("--query-gpu=") for word in _argv(sources, one)):
        header = bool(lines) and not any("noheader" in word for word in _argv(sources, one))
        found = {str(index) for index in range(len(lines) - header)}
    if not found:
        raise Unfound(
            f"no line of the output begins with “{noun} NUMBER”, so nothing can be counted: write "
            rf'expect="count /^{noun} \d/ {one.comparison} {float(one.bound or 0):g}"'
        )
    where = ", ".join(text.name for text in texts)
    return gate_of(one, [Measured(float(len(found)), None, where, "; ".join(lines[:3])[:160])])


def absence_gate(sources: Sources, one: Criterion, results: Results) -> Gate:
    """ "No errors", "no XID": a counter that is not zero fails, a line that reports one too; a mention decides nothing.

    Raises:
        Unfound, NotThere: a line mentions the word and may or may not report one.
    """
    if (measured := results.named(one)) is not None and isinstance(measured.value, float):
        outcome = Outcome.PASS if measured.value == 0 else Outcome.FAIL
        return Gate(gate_name(one), outcome, f"{measured.value:g}", shown_bound(one), measured.where)
    word = str(one.bound)
    texts = sources.logs(("stdout", "stderr"), one.command)
    if not texts:
        raise NotThere("the run has no logs")
    mention = re.compile(rf"(?<![A-Za-z]){re.escape(word)}", re.IGNORECASE)
    exact = word.isupper() or len(tokens(word)) > 1
    bad: list[Measured] = []
    unclear: list[Measured] = []
    for text in texts:
        by_place: dict[str, list[Value]] = {}
        for value in _numbers_near(text, one):
            by_place.setdefault(value.where, []).append(value)
        for index, line in enumerate(text.lines):
            where = text.where(index)
            item = Measured(line.strip(), None, where, line.strip())
            if where in by_place:
                (bad if any(value.number for value in by_place[where]) else []).append(item)
            elif mention.search(line) and not _NONE.search(line):
                (bad if exact or _LOUD.search(line) else unclear).append(item)
    if bad:
        shown = "; ".join(place_of(item) for item in bad[:3])
        more = f"; and {len(bad) - 3} more lines" if len(bad) > 3 else ""
        return Gate(gate_name(one), Outcome.FAIL, f"in {counted(len(bad), 'line')}", shown_bound(one), shown + more)
    if unclear:
        raise Unfound(
            f"{len(unclear)} lines mention “{word}” and may or may not report one ({place_of(unclear[0])}): "
            f'say what must not be printed, such as expect="stdout !~ /{word}/i"'
        )
    if not all(text.whole for text in texts):
        raise Unfound("the output is longer than the 64 MiB at its end that llmval reads, so the rest is unknown")
    return Gate(
        gate_name(one), Outcome.PASS, "not in the output", shown_bound(one), ", ".join(text.name for text in texts)
    )


def _numbers_near(text: Text, one: Criterion) -> list[Value]:
    """The counters that the words name: "ECC errors: 0", "37 requests failed"."""
    wanted = tokens(one.metric or "")
    try:
        return [
            value
            for value in values_in(text)
            if value.unit is None
            and value.suffix is None
            and float(value.number).is_integer()
            and names(wanted, value.name)
        ]
    except TooMany:
        return []
