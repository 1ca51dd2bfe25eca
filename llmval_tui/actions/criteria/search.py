"""Finds the values that the words of an item name in output and files: "p99 TTFT", "memory.used", "failed requests".

A value counts only if everything that names it in the item also names it in the output. Where that gives values of
different things, the caller sees all of them, and passes only if all hold.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llmval_tui.actions.criteria.sources import Text
from llmval_tui.actions.criteria.units import UNIT_TEXT, Unit, number_of, suffix_named, unit_named

_MOST_VALUES = 200_000  # numbers of one text; more are not looked at, see `TooMany`
_NUMBER = re.compile(
    r"(?<![\w.])(?P<number>[-+]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?:[eE][-+]?\d+)?)"
    rf"(?:(?P<gap>\s?)(?P<unit>{UNIT_TEXT}(?:\s+per second)?))?(?![\w.]*\.\d)"
)
_IN_BRACKETS = re.compile(rf"[\[(]\s*(?P<unit>{UNIT_TEXT})\s*[\])]")
_SYNONYMS = (
    (r"time[ _-]to[ _-]first[ _-]token", "ttft"),
    (r"time[ _-]per[ _-]output[ _-]token", "tpot"),
    (r"inter[ _-]?token[ _-]latency", "itl"),
    (r"completion[ _-]latency|clat[ _-]?(?:ns|us|ms)?\b", "clat"),
    (r"bus[ _-]?(?:bw|bandwidth)", "busbw"),
    (r"alg[a-z]*[ _-]?(?:bw|bandwidth)", "algbw"),
    (r"(\d+(?:\.\d+)?)(?:st|nd|rd|th)[ _-]*(?:percentile)?|\bp(?:ct|ercentile)?[ _]?(\d\d(?:\.\d+)?)\b", r"p\1\2"),
    (r"\bmedian\b", "p50"),
    (r"\b(?:average|avg)\b", "mean"),
    (r"\bmaximum\b", "max"),
    (r"\bminimum\b", "min"),
    (r"\bbandwidth\b", "bw"),
    (r"\btemperatures?\b", "temp"),
    (r"\bmemory\b", "mem"),
    (r"\b(?:utilisation|utilization)\b", "util"),
    (r"\blatenc(?:y|ies)\b", "lat"),
)
_COMPILED = tuple((re.compile(pattern), instead) for pattern, instead in _SYNONYMS)
# Words that may be missing in the output: they say what is counted, not what is measured.
_SOFT = frozenset(
    {
        "after", "all", "and", "count", "gpu", "measured", "num", "number", "of", "reported", "request", "run", "the",
        "total", "value",
    }
)  # fmt: skip
# Words of a figure that is asked for, promised or old, not measured by this run; without their last s, as in `tokens`.
_NOT_MEASURED = frozenset(
    {
        "advertised", "baseline", "budget", "expect", "expected", "goal", "ideal", "limit", "must", "need", "nominal",
        "previou", "previously", "reference", "require", "required", "requirement", "should", "sla", "slo",
        "target", "theoretical", "threshold", "yesterday",
    }
)  # fmt: skip
_OLD = re.compile(r"\blast (?:week|month|year|run|time|release)\b", re.IGNORECASE)
_COMPARED = re.compile(r"(?:[<>]=?|[≤≥])\s*$")
# "GPU 1 busbw 480 GB/s": the 1 says which GPU it is, whatever word follows.
_INDEXED = re.compile(r"(?<![A-Za-z])(?:gpu|cuda|device|rank|node|host|port|link|nic|hca)\s*[#:]?\s*$", re.IGNORECASE)
_KEY_UNITS = {
    "ns": "ns", "us": "us", "ms": "ms", "seconds": "s", "sec": "s", "s": "s", "pct": "%", "percent": "%", "bytes": "B",
    "mib": "MiB", "gib": "GiB", "watts": "W", "celsius": "°C", "tflops": "TFLOPS", "gflops": "GFLOPS", "mhz": "MHz",
}  # fmt: skip
# The units of nvidia-smi's query fields, which `nounits` leaves out. It never prints that of a temperature.
_SMI_UNITS = (
    ("memory", "MiB"),
    ("temperature", "°C"),
    ("power", "W"),
    ("clocks", "MHz"),
    ("utilization", "%"),
    ("fan", "%"),
)


class TooMany(Exception):
    """A text with more numbers than are searched."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number that was found. `unit` is None if the output names none; `factor` is that of a suffix such as M."""

    number: float
    unit: Unit | None
    unit_text: str
    name: str  # the words that name it in the output
    where: str  # file and line, or JSON path
    line: str
    suffix: str | None = None  # K, M, G, T: of bytes it may mean 1000 or 1024


def tokens(words: str) -> list[str]:
    """Words in one form: `Time to First Token (ms)` and `ttft_ms` both contain `ttft`."""
    text = (
        re.sub(r"([a-z\d])([A-Z])", r"\1 \2", words).lower() if "_" not in words and " " not in words else words.lower()
    )
    for pattern, instead in _COMPILED:
        text = pattern.sub(f" {instead} ", text)
    found = []
    for word in re.findall(r"p\d+(?:\.\d+)?|[^\W_]+", text):
        if re.fullmatch(r"p\d+\.\d+", word):
            word = word.rstrip("0").rstrip(".")
        found.append(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word)
    return found


def names(wanted: Sequence[str], words: str) -> bool:
    """Whether these words of the output contain every word that the item names the value by."""
    have = tokens(words)
    hard = [word for word in wanted if word not in _SOFT] or list(wanted)
    return bool(hard) and all(any(_alike(word, other) for other in have) for word in hard)


def _alike(one: str, other: str) -> bool:
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    return len(short) >= 4 and long.startswith(short) and not short.isdigit()


def values_in(text: Text, argv: Sequence[str] = ()) -> list[Value]:
    """All numbers of a text with the words that name them. `argv` is the command, whose query names the columns.

    Raises:
        TooMany: it has too many of them.
    """
    lines = text.lines
    query = _smi_query(argv)
    if query:
        found = list(_smi_values(text, query, argv))
        if found:
            return found
    found = list(_table_values(text))
    covered = {value.where for value in found}
    for index, line in enumerate(lines):
        if text.where(index) in covered:
            continue
        found += _line_values(text, index, line)
        if len(found) > _MOST_VALUES:
            raise TooMany(f"{text.name} has more than {_MOST_VALUES} numbers")
    return found


def _smi_query(argv: Sequence[str]) -> list[str]:
    for word in argv:
        if match := re.match(r"--query-[a-z-]+=(.+)", word):
            return [name.strip() for name in match[1].split(",") if name.strip()]
    return []


def _smi_values(text: Text, query: list[str], argv: Sequence[str]) -> Iterator[Value]:
    """The columns of `nvidia-smi --query-gpu=…`, by the names of the query."""
    for index, line in enumerate(text.lines):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(query):
            continue
        for name, cell in zip(query, cells, strict=True):
            value = _cell(cell, name, text.where(index), line)
            if value is None:
                continue
            if value.unit is None and (name.startswith("temperature") or any("nounits" in word for word in argv)):
                known = next((unit for start, unit in _SMI_UNITS if name.startswith(start)), None)
                value = _with_unit(value, known)
            yield value


def _cell(cell: str, name: str, where: str, line: str) -> Value | None:
    match = re.fullmatch(rf"(?P<number>[-+]?[\d.,]+(?:[eE][-+]?\d+)?)\s?(?P<unit>{UNIT_TEXT})?", cell)
    number = number_of(match["number"]) if match else None
    if match is None or number is None:
        return None
    bracket = _IN_BRACKETS.search(name)
    return _value(number, match["unit"] or (bracket["unit"] if bracket else None), name, where, line)


def _with_unit(value: Value, text: str | None) -> Value:
    unit = unit_named(text) if text else None
    return Value(value.number, unit, text or "", value.name, value.where, value.line, value.suffix)


def _value(number: float, unit: str | None, name: str, where: str, line: str) -> Value:
    known = unit_named(unit) if unit else None
    suffix = unit if unit and known is None and suffix_named(unit) else None
    return Value(number, known, unit or "" if known else "", name, where, line.strip(), suffix)


def _table_values(text: Text) -> Iterator[Value]:
    """The columns of tables with a header: separated by commas, or by two or more spaces, or aligned like `df`."""
    header: list[str] | None = None
    comma = False
    columns: list[tuple[int, int]] = []
    for index, line in enumerate(text.lines[:_MOST_VALUES]):
        if line.strip() and not line.strip().strip("-=+|: "):
            continue  # the rule below a header
        cells, by_comma, places = _cells(line)
        wordy = (
            len(cells) >= 2
            and not any(number_of(cell) is not None for cell in cells)
            and all(
                len(cell) <= 40 and re.match(r"[^\d]*[A-Za-z%]", cell) and not re.search(r"[:=]\s|\d{3,}", cell)
                for cell in cells
            )
        )
        if header is None or len(cells) != len(header) or by_comma != comma or not _aligned(columns, places):
            header, comma, columns = (cells, by_comma, places) if wordy else (None, False, [])
            continue
        found = [
            value
            for name, cell in zip(header, cells, strict=True)
            if (value := _cell(cell, _row_name(name, cells[0]), text.where(index), line)) is not None
        ]
        if not found and wordy:
            header, comma, columns = cells, by_comma, places
        yield from found


def _row_name(column: str, first: str) -> str:
    return f"{column} {first}" if re.match(r"[A-Za-z]", first) and first != column else column


def _cells(line: str) -> tuple[list[str], bool, list[tuple[int, int]]]:
    """The cells of a line, whether commas separate them, and the columns of cells that white space separates."""
    if line.count(",") >= 1 and "  " not in line.strip():
        try:
            return [cell.strip() for cell in next(csv.reader([line]))], True, []
        except (csv.Error, StopIteration):
            return [], True, []
    body = line.strip().strip("|").strip()
    if "|" in body:
        return [cell.strip() for cell in body.split("|")], False, []
    found = list(re.finditer(r"\S+", line))
    return [match[0] for match in found], False, [match.span() for match in found]


def _aligned(header: list[tuple[int, int]], row: list[tuple[int, int]]) -> bool:
    """Whether the cells of a row begin or end below those of the header; a sentence with as many words does not."""
    return len(header) == len(row) and all(
        one[0] == other[0] or one[1] == other[1] for one, other in zip(header, row, strict=True)
    )


def _line_values(text: Text, index: int, line: str) -> Iterator[Value]:
    """The numbers of a line, each named by the words before it, or by those after it ("37 requests failed")."""
    matches = list(_NUMBER.finditer(line))
    for at, match in enumerate(matches):
        number = number_of(match["number"])
        if number is None:
            continue
        begin = matches[at - 1].end() if at else 0
        end = matches[at + 1].start() if at + 1 < len(matches) else len(line)
        before, unit = line[begin : match.start()], match["unit"]
        if at + 1 < len(matches) and number.is_integer() and _INDEXED.search(before):
            continue
        known = unit_named(unit) if unit else None
        after = line[match.end() : end]
        if unit and known is None and suffix_named(unit) is None:
            after, unit = f"{unit}{after}", None
        after = re.split(r"[,;|]|\.\s", after)[0]
        bracket = _IN_BRACKETS.search(before)
        if unit is None and bracket:
            unit = bracket["unit"]
        last = re.split(r"[,;|]", before)[-1]
        counts = not re.search(r"[^\W\d]", last) and re.match(r"\s*[^\W\d]", after)
        label = last if counts or re.search(r"[^\W\d]", last) else line[: match.start()]
        # "p99 = 912 ms": a sign or colon before the number says that the words before it are its name.
        named = bool(re.search(r"[:=]\s*$|[:=]\s*[$€]?$", before)) or not re.search(r"[^\W\d_]", after)
        yield _value(number, unit, label if named else f"{label} ⟶ {after}", text.where(index), line)


def values_in_document(document: Any, name: str) -> list[Value]:
    """All numbers of a JSON document, named by their paths.

    Raises:
        TooMany: it has too many of them.
    """
    found: list[Value] = []
    for path, number in _walk(document, ""):
        keys = re.findall(r"[^\W_]+", path.lower())
        unit = _KEY_UNITS.get(keys[-1]) if keys else None
        if keys[-2:] == ["bw", "bytes"]:  # fio's bandwidth
            unit = "B/s"
        percentile = re.search(r"percentiles?\W+(\d+(?:\.\d+)?)$", path)
        named = f"{path} p{float(percentile[1]):g}" if percentile else path
        if percentile and unit is None:
            unit = next((_KEY_UNITS[key] for key in reversed(keys) if key in _KEY_UNITS and len(key) > 1), None)
        found.append(_value(number, unit, named, f"{name} {path}", f"{path} = {number:g}"))
        if len(found) > _MOST_VALUES:
            raise TooMany(f"{name} has more than {_MOST_VALUES} numbers")
    return found


def _walk(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, float]]:
    if isinstance(value, bool) or depth > 40:
        return
    if isinstance(value, int | float):
        yield path, float(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, f"{path}[{index}]", depth + 1)


def certain(found: Sequence[Value], wanted: Sequence[str], item: str, *, each: bool = False) -> list[Value]:
    """The values that have exactly the wanted name, or all if none has; of a table with a row "total", that row.

    `item` is the item's text: where values differ by a word of it ("Random read": `read.iops`, not `write.iops`), those
    with that word count. If it demands something of `each` value, a number in the names (`GPU 0`) chooses none of them.
    """
    exact = [value for value in found if set(tokens(value.name.rsplit(".", 1)[-1])) <= set(wanted)]
    chosen = exact or list(found)
    if totals := [value for value in chosen if re.search(r"\btotal\b", value.name, re.IGNORECASE)]:
        return totals
    words = [set(tokens(value.name)) for value in chosen]
    common = set.intersection(*words) if words else set()
    if each:
        words = [{word for word in have if not word.isdigit()} for have in words]
    spoken = set(tokens(item))
    return [value for value, have in zip(chosen, words, strict=True) if have - common <= spoken] or chosen


def is_measured(value: Value, wanted: Sequence[str]) -> bool:
    """Whether the words beside a value leave it a measurement: not "SLO: p99 TTFT < 150 ms" or "expected busbw: 480".

    `wanted` are the words by which the item names it: "Power limit at least 700 W" asks for the limit itself.
    """
    before = value.name.split(" ⟶ ")[0]
    said = set(tokens(value.name)) - set(wanted)
    return not (said & _NOT_MEASURED or _OLD.search(before) or _COMPARED.search(before))
