"""Gates on whole texts: empty, contains, ends with, every line equal, a version."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.actions.criteria.measured import (
    Measured,
    Unfound,
    bound_text,
    gate_name,
    gate_of,
    shown_bound,
    version_of,
)
from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.sources import READ_BYTES, Text
from llmval_tui.actions.criteria.units import number_of
from llmval_tui.foundation.text import counted
from llmval_tui.runs.records import Gate, Outcome

_MOST_SHOWN = 3
_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+)(?:[-+.]?(?:a|b|rc|dev|post|cu)[\w.]*|\+[\w.]+)?(?![\w.]*\d)")
_PRERELEASE = re.compile(r"\d[-.]?(?:a|b|rc|dev)\d*")


@dataclass(frozen=True, slots=True)
class _Line:
    text: Text
    index: int
    content: str  # without white space at both ends

    @property
    def where(self) -> str:
        return self.text.where(self.index)


def too_long(texts: Sequence[Text]) -> str:
    """Why a log that was read in part cannot pass."""
    names = ", ".join(f"{text.name} ({text.size / 2**20:.0f} MiB)" for text in texts if not text.whole)
    return f"{names} is longer than the {READ_BYTES // 2**20} MiB at its end that llmval reads, so the rest is unknown"


def text_gate(texts: Sequence[Text], one: Criterion) -> Gate:
    """The gate of a criterion without a selector.

    Raises:
        Unfound: the text does not decide, or only a part of it was read and that part does not decide.
    """
    lines = [
        _Line(text, index, line.strip()) for text in texts for index, line in enumerate(text.lines) if line.strip()
    ]
    kind = one.comparison
    if kind in ("empty", "not empty"):
        measured = counted(len(lines), "line") if lines else "nothing"
        return _decided(texts, one, (kind == "empty") != bool(lines), measured, lines if kind == "empty" else ())
    if kind in ("contains", "matches"):
        return _contains(texts, one, lines)
    if kind in ("not contains", "not matches"):
        hits = _hits(lines, one)
        measured = f"in {counted(len(hits), 'line')}" if hits else "not in the output"
        return _decided(texts, one, not hits, measured, hits, read_enough=bool(hits))
    if not lines:
        raise Unfound(f"{', '.join(text.name for text in texts)} is empty")
    if kind == "each line contains":
        return _each_line(texts, one, lines)
    if kind in ("begins with", "ends with", "last line contains"):
        return _edge(texts, one)
    if kind == "version >=":
        return _version(texts, one, lines)
    if isinstance(one.bound, float):
        return _numbers(texts, one, lines)
    wanted = _folded(one, bound_text(one))
    wrong = [line for line in lines if (_folded(one, line.content.strip("\"'")) == wanted) != (kind == "==")]
    shown = wrong or lines[:1]
    return _decided(texts, one, not wrong, shown[0].content[:80], shown, read_enough=bool(wrong))


def _decided(
    texts: Sequence[Text],
    one: Criterion,
    holds: bool,
    measured: str,
    lines: Sequence[_Line] = (),
    *,
    read_enough: bool = True,
) -> Gate:
    """The gate; `read_enough` says whether the end of a long text decides."""
    if not read_enough and not all(text.whole for text in texts):
        raise Unfound(too_long(texts))
    shown = "; ".join(f"{line.where}: {line.content[:160]}" for line in lines[:_MOST_SHOWN])
    more = f"; and {counted(len(lines) - _MOST_SHOWN, 'more line')}" if len(lines) > _MOST_SHOWN else ""
    reason = shown + more or ", ".join(text.name for text in texts)
    return Gate(gate_name(one), Outcome.PASS if holds else Outcome.FAIL, measured, shown_bound(one), reason)


def _folded(one: Criterion, text: str) -> str:
    text = " ".join(text.split())
    return text.casefold() if one.ignore_case else text


def _hits(lines: Sequence[_Line], one: Criterion) -> list[_Line]:
    bound = bound_text(one)
    if one.comparison in ("matches", "not matches"):
        pattern = re.compile(bound, re.IGNORECASE if one.ignore_case else 0)
        return [line for line in lines if pattern.search(line.text.lines[line.index])]
    wanted = _folded(one, bound)
    if one.stated_by is StatedBy.WORDS or one.comparison == "each line contains":
        pattern = _as_word(wanted)
        return [line for line in lines if pattern.search(_folded(one, line.content))]
    return [line for line in lines if wanted in _folded(one, line.content)]


def _as_word(text: str) -> re.Pattern[str]:
    """The text where no letter or digit goes on and no "not" stands before it: "NotReady" and "not OK" are no hits."""
    before = r"(?<!\w)" if text[:1].isalnum() else ""
    after = r"(?!\w)" if text[-1:].isalnum() else ""
    return re.compile(rf"(?<!\b[nN]ot )(?<!\bNOT )(?<!\bnot-)(?<!\bnon-){before}{re.escape(text)}{after}")


def _each_line(texts: Sequence[Text], one: Criterion, lines: Sequence[_Line]) -> Gate:
    """Every line has the text; a line of headings in capitals above a table, and rules of dashes, do not count.

    Raises:
        Unfound: only some lines have it, and no heading says that the lines are those of one table.
    """
    rows = [line for line in lines if re.search(r"\w", line.content)]
    is_table = bool(rows) and len(rows) > 1 and not re.search(r"[a-z\d]", rows[0].content)
    rows = rows[1:] if is_table else rows
    hits = {id(line) for line in _hits(rows, one)}
    without = [line for line in rows if id(line) not in hits]
    if without and hits and not is_table:
        raise Unfound(
            f"{len(without)} of {len(rows)} lines do not have “{bound_text(one)}”, such as {without[0].where}: "
            f'“{without[0].content[:80]}”; say what the output must show, such as expect="stdout !~ /WORDS/"'
        )
    measured = f"in {len(rows) - len(without)} of {len(rows)} lines"
    return _decided(texts, one, bool(rows) and not without, measured, without or rows[:1], read_enough=bool(without))


def _contains(texts: Sequence[Text], one: Criterion, lines: Sequence[_Line]) -> Gate:
    hits = _hits(lines, one)
    if hits:
        return _decided(texts, one, True, f"in {counted(len(hits), 'line')}", hits[:1])
    bound = bound_text(one)
    if "\n" not in bound or one.stated_by is not StatedBy.WORDS:
        return _decided(texts, one, False, "not in the output", lines[-1:], read_enough=False)
    # Several lines below a prompt are a sample. If they are not all printed, it is unknown which of them must be.
    rest = iter(" ".join(line.content.split()) for line in lines)
    missing = next((line for line in bound.split("\n") if " ".join(line.split()) not in rest), None)
    if missing is None:
        return _decided(texts, one, True, "all lines, in order")
    raise Unfound(
        f"the block shows “{missing.strip()[:80]}” below the command, and the output does not have it: say which words "
        'must be printed, such as expect="stdout ~ /WORDS/"'
    )


def _edge(texts: Sequence[Text], one: Criterion) -> Gate:
    """The first or last line of a command's output; the ranks of torchrun have logs of their own, and one must hold."""
    at_end = one.comparison != "begins with"
    edges = []
    for text in texts:
        printed = [index for index, line in enumerate(text.lines) if line.strip()]
        if printed:
            index = printed[-1 if at_end else 0]
            edges.append(_Line(text, index, text.lines[index].strip()))
    wanted = _folded(one, bound_text(one))
    if one.comparison == "begins with":
        good = [line for line in edges if _folded(one, line.content).startswith(wanted)]
    elif one.comparison == "ends with":
        wanted = wanted.rstrip(" .")
        good = [line for line in edges if _folded(one, line.content).rstrip(" .").endswith(wanted)]
    else:
        as_word = _as_word(wanted) if one.stated_by is StatedBy.WORDS else re.compile(re.escape(wanted))
        good = [line for line in edges if as_word.search(_folded(one, line.content))]
    shown = good or edges
    return _decided(texts, one, bool(good), shown[0].content[:80], shown, read_enough=at_end)


def _version(texts: Sequence[Text], one: Criterion, lines: Sequence[_Line]) -> Gate:
    """The versions that stand alone on their lines, else every version in the text; several must agree."""
    alone = [(line, match) for line in lines if (match := _VERSION.fullmatch(line.content.strip("\"',")))]
    found = alone or [(line, match) for line in lines for match in _VERSION.finditer(line.content)]
    if not found:
        raise Unfound("no version is printed")
    wanted = version_of(bound_text(one))
    older = [line for line, match in found if _is_older(match, wanted)]
    if older and len(older) < len(found) and not alone:
        raise Unfound(f"several versions are printed, and one is older than {one.bound}: {older[0].content[:120]}")
    versions = ", ".join(dict.fromkeys(match[0] for _, match in found))
    return _decided(texts, one, not older, versions[:80], older or [found[0][0]], read_enough=bool(older))


def _is_older(match: "re.Match[str]", wanted: tuple[int, ...]) -> bool:
    """Whether a version is older; a pre-release (`0.11.0rc1`) is older than its release."""
    have = version_of(match[1])
    return have < wanted or (have == wanted and _PRERELEASE.search(match[0]) is not None)


def _numbers(texts: Sequence[Text], one: Criterion, lines: Sequence[_Line]) -> Gate:
    """ "Must print 0 for every GPU": each line is one number, or an index and a number."""
    found = []
    for line in lines:
        cells = [cell.strip() for cell in line.content.split(",")]
        numbers = re.findall(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.]*\.\d)", line.content)
        value = number_of(cells[-1].split()[0]) if cells[-1] else None
        if len(cells) > 2 or (len(cells) < 2 and len(numbers) != 1) or value is None:
            raise Unfound(
                f"{line.where} is not one number for certain (“{line.content[:80]}”): say which number is meant, as in "
                rf'expect="stdout /NAME\s+(\d+)/ {one.comparison} {bound_text(one)}"'
            )
        found.append(Measured(value, None, line.where, line.content))
    gate = gate_of(one, found)
    if gate.outcome is Outcome.PASS and not all(text.whole for text in texts):
        raise Unfound(too_long(texts))
    return gate
