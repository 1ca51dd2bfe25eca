"""Reads result files of other programs: bounded, tolerant of NaN, and never with an exception."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

MAX_JSON_BYTES = 512 * 2**20  # of a file that is read as a whole
MAX_TEXT_BYTES = 16 * 2**20  # of a log: its head and its tail, half each
MAX_LINES = 5_000_000
_MAX_CHECKED_BYTES = 16 * 2**20  # of JSON that is looked through for doubled keys, which takes ten times as long
_LARGEST = 1e100  # a greater value is damage, and its sums overflow


class Unreadable(Exception):
    """A result that cannot be read; the text is one sentence without a full stop, for a gate."""


def read_json_file(path: Path) -> Any:
    """The JSON in a file. NaN and Infinity, which Python's writers produce, become None.

    Raises:
        Unreadable: the file is missing, too large or not JSON.
    """
    return parse_json(_read(path), path.name)


def parse_json(data: bytes, name: str) -> Any:
    """The JSON in some bytes; see `read_json_file`."""
    if data.startswith(b"\x1f\x8b"):
        raise Unreadable(f"{name} is compressed: gunzip it, and name the unpacked file")
    if len(data) > _MAX_CHECKED_BYTES:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    try:
        return json.loads(data, parse_constant=lambda _: None, object_pairs_hook=_without_doubles)
    except _Doubled as error:
        raise Unreadable(f"{name} has the key {str(error)[:80]!r} twice, so it is unclear which value counts") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{name} is not complete JSON: {str(error)[:120]}") from error


class _Doubled(Exception):
    """A key that an object has twice."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Doubled(next(name for name in names if names.count(name) > 1))
    return found


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a file of JSON lines, one at a time.

    Raises:
        Unreadable: the file is missing, a line is not a JSON object, or there are too many lines.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number > MAX_LINES:
                    raise Unreadable(f"{path.name} has more than {MAX_LINES:,} lines")
                if line.strip():
                    value = parse_json(line, f"line {number} of {path.name}")
                    if not isinstance(value, dict):
                        raise Unreadable(f"line {number} of {path.name} is not a JSON object")
                    yield value
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read ({error.strerror})") from error


def read_text_file(path: Path | None) -> str:
    """The text of a log; of a very long one the head and the tail. "" if there is none."""
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= MAX_TEXT_BYTES:
                return file.read().decode(errors="replace")
            head = file.read(MAX_TEXT_BYTES // 2)
            file.seek(-(MAX_TEXT_BYTES // 2), 2)
            return (head + b"\n" + file.read()).decode(errors="replace")
    except OSError:
        return ""


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise Unreadable(f"{path.name} is larger than {MAX_JSON_BYTES // 2**20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be read ({error.strerror})") from error


def number(value: object) -> float | None:
    """A number as a float; None for anything else, also for true, false, NaN, infinity and text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if abs(result) < _LARGEST else None  # False for NaN too


def count(value: object) -> int | None:
    """A whole number that is not negative; None for anything else."""
    found = number(value)
    return int(found) if found is not None and found >= 0 and found == int(found) else None


def numbers(value: object) -> list[float] | None:
    """A list of finite numbers; None if it is not a list or holds anything else."""
    if not isinstance(value, list):
        return None
    found = [number(item) for item in value]
    return [item for item in found if item is not None] if None not in found else None


def items(value: object) -> list[Any]:
    """A list as it is; [] for anything else."""
    return value if isinstance(value, list) else []


def at(value: object, *keys: str | int) -> Any:
    """The value below nested keys; None if any is missing."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return value
