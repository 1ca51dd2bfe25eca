"""A measured value, its comparison with a bound, and the gate of several of them."""

import operator
import re
from collections.abc import Sequence
from dataclasses import dataclass

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import Unit, short, unit_named
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Gate, Outcome

_OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_MOST_SHOWN = 3
_IN_WORDS = {"not contains": "does not contain", "not matches": "does not match"}


class Unfound(Exception):
    """A value that is missing, unclear or has no fitting unit; the message is the reason and what to write."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value with its place."""

    value: float | str
    unit: Unit | None
    where: str  # "logs/main.stdout.log:12", "out.json metrics.p99"
    line: str
    as_written: str = ""  # the number with its unit, if the place has another one than the bound


def compare(one: Criterion, item: Measured) -> bool:
    """Whether a value holds.

    Raises:
        Unfound: the units do not fit, or a number is compared with text.
    """
    bound = one.bound
    if isinstance(item.value, str):
        return _compare_text(one, item.value)
    if not isinstance(bound, float):
        raise Unfound(f"{item.where} is a number, and the bound is text")
    wanted = unit_named(one.unit) if one.unit else None
    value = item.value
    if wanted is None:
        # A bound without a unit is compared with the number as it stands.
        return bool(_OPERATORS[one.comparison](value, bound))
    if item.unit is None or item.unit.dimension != wanted.dimension:
        what = f"is in {item.unit.dimension}" if item.unit else "has no unit"
        raise Unfound(f"{item.where} {what}, and the bound is in {one.unit}, so they cannot be compared")
    scaled = value * item.unit.factor / wanted.factor
    if one.comparison in ("==", "!=", "<=", ">=") and abs(scaled - bound) <= 1e-9 * max(abs(scaled), abs(bound)):
        scaled = bound  # 0.2 s is exactly 200 ms
    return bool(_OPERATORS[one.comparison](scaled, bound))


def _compare_text(one: Criterion, value: str) -> bool:
    bound = bound_text(one)
    have, wanted = (value.casefold(), bound.casefold()) if one.ignore_case else (value, bound)
    have = have.strip()
    if one.comparison in ("matches", "not matches"):
        found = re.search(bound, value, re.IGNORECASE if one.ignore_case else 0) is not None
        return found == (one.comparison == "matches")
    tests = {
        "==": have == wanted,
        "!=": have != wanted,
        "contains": wanted in have,
        "not contains": wanted not in have,
        "begins with": have.startswith(wanted),
        "ends with": have.endswith(wanted),
        "last line contains": wanted in have,
        "empty": not have,
        "not empty": bool(have),
    }
    if one.comparison == "version >=":
        return version_of(have) >= version_of(wanted)
    if one.comparison not in tests:
        raise Unfound(f"“{clean_line(value)[:80]}” is text, and {one.comparison} needs a number")
    return tests[one.comparison]


def bound_text(one: Criterion) -> str:
    """The bound as text."""
    return short(one.bound) if isinstance(one.bound, float) else str(one.bound or "")


def version_of(text: str) -> tuple[int, ...]:
    """The numbers of a version, without zeros at its end."""
    parts = [int(part) for part in re.findall(r"\d+", text)]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def gate_of(one: Criterion, found: Sequence[Measured]) -> Gate:
    """The gate of all values that were found; there is at least one.

    Raises:
        Unfound: a unit does not fit, or the criterion speaks of one value and several disagree.
    """
    chosen = found[-1:] if one.which == "last" else found
    good = [item for item in chosen if compare(one, item)]
    bad = [item for item in chosen if item not in good]
    if one.which == "one" and good and bad:
        raise Unfound(
            f"several values could be meant, and they disagree: {listed(good[:1])} and {listed(bad[:1])}: {remedy(one)}"
        )
    holds = bool(good) if one.which == "any" else not bad
    decisive = good if one.which == "any" and holds else bad if not holds else good
    measured = ", ".join(dict.fromkeys(value_text(one, item) for item in decisive[:_MOST_SHOWN]))
    more = f" and {len(decisive) - _MOST_SHOWN} more" if len(decisive) > _MOST_SHOWN else ""
    return Gate(
        gate_name(one),
        Outcome.PASS if holds else Outcome.FAIL,
        f"{measured}{more}",
        shown_bound(one),
        "; ".join(place_of(item) for item in decisive[:_MOST_SHOWN]) + more,
    )


def gate_name(one: Criterion) -> str:
    """The name of a criterion's gate."""
    return f"{'words' if one.stated_by is StatedBy.WORDS else 'expect'}: {clean_line(one.text)}"[:160]


def place_of(item: Measured) -> str:
    """The place of a value, with its line."""
    return f"{item.where}: {clean_line(item.line)[:160]}" if item.line else item.where


def listed(found: Sequence[Measured]) -> str:
    return "; ".join(place_of(item) for item in found)


def value_text(one: Criterion, item: Measured) -> str:
    """A value in the unit of the bound."""
    if isinstance(item.value, str):
        return clean_line(item.value)[:80]
    if item.as_written:
        return item.as_written
    wanted = unit_named(one.unit) if one.unit else None
    if wanted is None or item.unit is None:
        return short(item.value)
    return f"{item.value * item.unit.factor / wanted.factor:.6g} {one.unit}"


def shown_bound(one: Criterion) -> str:
    """The bound for people: `< 200 ms`, `contains OK`, `does not contain Fail`."""
    comparison = _IN_WORDS.get(one.comparison, one.comparison)
    bound = short(one.bound) if isinstance(one.bound, float) else one.bound
    which = "" if one.which in ("all", "one") else f"{one.which} "
    return clean_line(which + " ".join(str(part) for part in (comparison, bound, one.unit) if part is not None))[:200]


def remedy(one: Criterion) -> str:
    """The sentence to write if the words of an item do not say where its value is."""
    if one.comparison == "version >=":
        return rf'write expect="stdout /NAME (\S+)/ version >= {one.bound}"'
    if one.comparison not in _OPERATORS or isinstance(one.bound, str):
        return f'write expect="FILE {one.comparison} {clean_line(bound_text(one))}"'
    sign = one.comparison if one.comparison in _OPERATORS else "=="
    bound = short(one.bound) if isinstance(one.bound, float) else "VALUE"
    unit = f" {one.unit}" if one.unit and unit_named(one.unit) else ""
    name = re.sub(r"([^\w\s%°-])", r"\\\1", clean_line(one.metric or "NAME"))
    rest = f"{sign} {bound}{unit}"
    return rf'write expect="stdout /{name}\W+([\d.]+)/ {rest}", or expect="FILE.json PATH {rest}"'
