"""The grammar of `expect=`: `[WHICH] SOURCE SELECTOR OP BOUND [UNIT]`. docs/checklists.md has it with examples.

`parse_expect` checks everything that can be checked before a run: the regular expression and its group, the JSON path,
the bound and its unit.
"""

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import UNIT_TEXT, number_of, suffix_named, unit_named
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

if TYPE_CHECKING:
    from llmval_tui.checklist.model import Step

SOURCES = ("stdout", "stderr", "result", "exit", "duration")
COUNTS = ("count", "distinct")
_WHICH = ("all", "any", "last", *COUNTS)
_EXAMPLE = r"stdout /busbw\s+(\S+)/ >= 400 GB/s"
# Longer operators first: each one is tried in this order.
_OPERATORS: tuple[tuple[str, str], ...] = (
    ("last line contains", "last line contains"),
    ("each line contains", "each line contains"),
    ("not contains", "not contains"),
    ("contains", "contains"),
    ("begins with", "begins with"),
    ("ends with", "ends with"),
    ("not empty", "not empty"),
    ("empty", "empty"),
    ("version >=", "version >="),
    ("!~", "not matches"),
    ("~", "matches"),
    ("<=", "<="),
    (">=", ">="),
    ("==", "=="),
    ("!=", "!="),
    ("<", "<"),
    (">", ">"),
    ("=", "=="),
)
_ORDERED = ("<", "<=", ">", ">=")
_NUMBER_AND_UNIT = re.compile(rf"(?P<number>[-−+]?[\d.,]+(?:[eE][-+]?\d+)?)\s*(?P<unit>{UNIT_TEXT}|\S.*)?")
_OPENED = {"'": "'", '"': '"', "`": "`"}
_PAIRS = {"[": "]", "{": "}", "(": ")"}


def stated_criteria(step: "Step") -> tuple[Criterion, ...]:
    """The criteria of the `expect=` words in the item's llmval comment, in order.

    Raises:
        Refused: one cannot be parsed; the message says which word is wrong, and what to write.
    """
    stated = step.directives.get("expect")
    return tuple(parse_expect(text) for text in stated.split("\n")) if stated is not None else ()


def parse_expect(text: str, stated_by: StatedBy = StatedBy.COMMENT) -> Criterion:
    """One criterion of `expect=` in a comment or in the site settings.

    Raises:
        Refused: it is not in the grammar, or can never be judged; the message has the column (from 1) and the remedy.
    """
    which, source, at = _which_and_source(text)
    selector, comparison, at = _selector_and_operator(text, at)
    raw = text[at:].strip()
    flags = ""
    if selector is not None and selector.startswith("/"):
        selector, flags = _regex(text, selector)
    bound, unit, bound_flags = _bound(text, comparison, raw)
    criterion = Criterion(
        text=clean_line(" ".join(text.split())),
        stated_by=stated_by,
        source=source,
        comparison=comparison,
        bound=bound,
        unit=unit,
        selector=selector,
        which=which or "all",
        ignore_case="i" in flags + bound_flags,
    )
    _check(text, criterion)
    return criterion


def compiled(criterion: Criterion) -> re.Pattern[str] | None:
    """The regular expression of a criterion's selector; None if it has another selector or none."""
    if criterion.selector is None or not criterion.selector.startswith("/"):
        return None
    return re.compile(criterion.selector[1:-1], re.MULTILINE | (re.IGNORECASE if criterion.ignore_case else 0))


def _refused(text: str, problem: str) -> Refused:
    return Refused(f"expect=“{clean_line(text)}”: {problem}.")


def _which_and_source(text: str) -> tuple[str | None, str, int]:
    """Which of several matches, the source, and the position after both."""
    which: str | None = None
    source: str | None = None
    at = _skip(text, 0)
    while at < len(text):
        if text[at] == "/" and (source is not None or which is not None):
            break
        match = re.compile(r"\S+").match(text, at)
        assert match is not None
        word = match[0]
        if word in _WHICH and which is None and not text.startswith("last line contains", at):
            which = word
        elif source is None and _is_source(word):
            source = word
        else:
            break
        at = _skip(text, match.end())
    if source is None and which in COUNTS:
        source = "stdout"
    if source is None:
        found = re.compile(r"\S+").match(text, at)
        what = f"“{clean_line(found[0])}” at column {at + 1}" if found else "an empty text"
        raise _refused(
            text,
            f"{what} is not a source: begin with {', '.join(SOURCES)} or the path of a file, as in {_EXAMPLE}",
        )
    if source not in SOURCES:
        path = PurePosixPath(source)
        if path.is_absolute() or ".." in path.parts:
            raise _refused(text, f"{clean_line(source)} is outside the workspace: name a file in it")
        source = str(path)
    return which, source, at


def _is_source(word: str) -> bool:
    return word in SOURCES or bool(
        re.fullmatch(r"[\w.~$()+%@:-]*[/.][\w./~$()+%@:-]*\w", word) and not word[0].isdigit()
    )


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _selector_and_operator(text: str, at: int) -> tuple[str | None, str, int]:
    """The selector, if there is one, the comparison, and the position after its operator."""
    start = at
    if at < len(text) and text[at] == "/":
        at = _regex_end(text, at)
        selector: str | None = text[start:at]
        at = _skip(text, at)
        operator = _operator_at(text, at)
        if operator is None:
            raise _refused(text, f"an operator is missing at column {at + 1}: write >=, ==, ~ or another after the /…/")
        return selector, *operator
    quote: str | None = None
    depth: list[str] = []
    while at < len(text):
        char = text[at]
        if quote:
            quote = None if char == quote else quote
        elif char in _OPENED:
            quote = _OPENED[char]
        elif char in _PAIRS:
            depth.append(_PAIRS[char])
        elif depth and char == depth[-1]:
            depth.pop()
        elif not depth and (at == start or text[at - 1].isspace() or not char.isalnum()):
            operator = _operator_at(text, at)
            if operator is not None:
                selector = text[start:at].strip() or None
                return selector, *operator
        at += 1
    raise _refused(
        text, f"it has no operator: write one of <, <=, ==, !=, >=, >, ~, !~, contains, empty, as in {_EXAMPLE}"
    )


def _operator_at(text: str, at: int) -> tuple[str, int] | None:
    for written, comparison in _OPERATORS:
        end = at + len(written)
        if text.startswith(written, at) and (not written[-1].isalpha() or end == len(text) or text[end].isspace()):
            return comparison, end
    return None


def _regex_end(text: str, at: int) -> int:
    """The position after a regular expression `/…/` and its flags."""
    end = at + 1
    while end < len(text) and text[end] != "/":
        end += 2 if text[end] == "\\" else 1
    if end >= len(text):
        raise _refused(text, f"the /…/ at column {at + 1} has no end: close it with /")
    end += 1
    while end < len(text) and text[end].isalpha():
        end += 1
    return end


def _regex(text: str, written: str) -> tuple[str, str]:
    """A checked regular expression as `/…/`, and its flags."""
    body, _, flags = written[1:].rpartition("/")
    if set(flags) - {"i"}:
        raise _refused(text, f"/{flags} is not a flag: only i (upper and lower case are equal) is")
    if not body:
        raise _refused(text, "the /…/ is empty: write what to look for")
    body = body.replace("\\/", "/")
    try:
        re.compile(body)
    except (re.error, OverflowError, RecursionError) as error:
        raise _refused(text, f"/{clean_line(body)}/ is not a regular expression ({error})") from error
    return f"/{body}/", flags


def _bound(text: str, comparison: str, raw: str) -> tuple[float | str | None, str | None, str]:
    """The bound, its unit, and the flags of a regular expression."""
    if comparison in ("empty", "not empty"):
        if raw:
            raise _refused(text, f"“{clean_line(raw)}” after {comparison} means nothing: remove it")
        return None, None, ""
    if not raw:
        raise _refused(text, f"the bound after {comparison} is missing")
    if comparison in ("matches", "not matches"):
        if raw[0] != "/":
            raise _refused(text, f"after ~ and !~ stands a regular expression: write /{clean_line(raw)}/")
        end = _regex_end(raw, 0)
        if raw[end:].strip():
            raise _refused(
                text, f"“{clean_line(raw[end:].strip())}” after the regular expression means nothing: remove it"
            )
        body, flags = _regex(text, raw[:end])
        return body[1:-1], None, flags
    if raw[0] in "'\"":
        if len(raw) < 2 or raw[-1] != raw[0]:
            raise _refused(text, f"the text {clean_line(raw)} has no end: close it with {raw[0]}")
        return raw[1:-1], None, ""
    if comparison not in ("==", "!=", *_ORDERED):
        return raw, None, ""
    match = _NUMBER_AND_UNIT.fullmatch(raw)
    number = number_of(match["number"]) if match else None
    if match is None or number is None:
        if comparison in _ORDERED:
            raise _refused(text, f"“{clean_line(raw)}” is not a number, which {comparison} needs")
        return raw, None, ""
    unit = match["unit"]
    if unit is None or unit_named(unit) is not None:
        return number, unit, ""
    if factor := suffix_named(unit):
        return number * factor, None, ""
    raise _refused(
        text,
        f"“{clean_line(unit)}” is not a unit that llmval knows: use one such as ms, s, GB/s, GiB, %, °C, W or TFLOP/s, "
        "or leave it out",
    )


def _check(text: str, criterion: Criterion) -> None:
    """Refuse what can never be judged."""
    source, selector, comparison = criterion.source, criterion.selector, criterion.comparison
    numeric = comparison in _ORDERED or (comparison in ("==", "!=") and isinstance(criterion.bound, float))
    if criterion.which in COUNTS:
        pattern = selector is not None and selector.startswith("/")
        if not pattern or not numeric:
            raise _refused(
                text,
                f"{criterion.which} compares how often a /…/ is found with a number, as in "
                f"{criterion.which} /GPU \\d/ == 8",
            )
        return
    if source in ("exit", "duration"):
        if selector is not None or not numeric:
            raise _refused(text, f"{source} is compared with a number, as in {_example_of(source)}")
        unit = unit_named(criterion.unit) if criterion.unit else None
        if source == "duration" and (unit is None or unit.dimension != "time"):
            raise _refused(text, "a duration needs a unit of time, as in duration <= 10 min")
        return
    if source == "result" and (selector is None or selector.startswith("/")):
        raise _refused(text, "result needs the name of a metric, as in result ttft.p99 <= 200 ms")
    if selector is None:
        if comparison in _ORDERED:
            raise _refused(text, f"it does not say which number of {source} is compared: write {_example_of(source)}")
        return
    if selector.startswith("/"):
        groups = re.compile(selector[1:-1]).groups
        if groups > 1:
            raise _refused(text, f"{selector} has {groups} groups: keep one, and write the others as (?:…)")
        if groups == 0 and (numeric or comparison == "version >="):
            raise _refused(text, f"{selector} has no group for the number: put parentheses around it, as in {_EXAMPLE}")
        return
    if source != "result":
        _check_path(text, selector)


def _check_path(text: str, path: str) -> None:
    import jmespath  # not at the top: it costs every start of llmval, and few lists have a JSON path
    from jmespath.exceptions import JMESPathError

    try:
        jmespath.compile(path)
    except JMESPathError as error:
        first = str(error).splitlines()[0]
        raise _refused(
            text,
            f"“{clean_line(path)}” is neither a /regular expression/ nor a JSON path (JMESPath: {clean_line(first)})",
        ) from error


def _example_of(source: str) -> str:
    return {
        "exit": "exit == 0",
        "duration": "duration <= 10 min",
        "stdout": _EXAMPLE,
        "stderr": r"stderr /retries: (\d+)/ == 0",
    }.get(source, f"{source} metrics.ttft.p99 <= 200 ms")
