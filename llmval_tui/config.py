"""The operator's own settings: `~/.config/llmval/config.toml`, read once before the screen is taken over.

The command line wins over the file. What the file says wrong is refused with its line and what is allowed, for a key
that silently does nothing is worse than one that is not there.
"""

import os
import re
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmval_tui.foundation.errors import Refused
from llmval_tui.tui.settings import Keys

CHARTS = ("blocks", "braille", "ascii")
PRESETS = ("smoke",)
SHORTEST_S, LONGEST_S = 0.1, 60.0
# Keys with a name, as people write them and as Textual calls them.
NAMED = {
    name: name
    for name in (
        "enter", "escape", "tab", "shift+tab", "space", "backspace", "delete", "insert", "home", "end",
        "pageup", "pagedown", "up", "down", "left", "right", *(f"f{n}" for n in range(1, 13)),
    )
} | {"esc": "escape", "pgup": "pageup", "pgdn": "pagedown", "return": "enter"}  # fmt: skip
# Not compiled here: few settings files name a key, and it takes a while.
_COMBINED = r"(?:ctrl|alt|shift)\+(?:[a-z0-9]|" + "|".join(sorted(NAMED, key=len, reverse=True)) + ")"
RESERVED = ("ctrl+c", "ctrl+q")  # leave, whatever else is changed
# Names that Textual shortens.
_SHORT = {
    "solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
    "plus_sign": "plus", "low_line": "underscore",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says; None and empty where it says nothing."""

    theme: str | None = None
    interval: float | None = None
    preset: str | None = None
    runner_python: str | None = None
    ascii: bool | None = None
    mouse: bool | None = None
    charts: str | None = None
    bell: bool | None = None
    notify: bool | None = None
    keys: Mapping[str, Keys] = field(default_factory=dict)


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CONFIG_HOME/llmval/config.toml`, by default in `~/.config` (XDG Base Directory 0.8)."""
    base = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".config")
    return Path(base) / "llmval" / "config.toml"


def load_config(environment: Mapping[str, str] = os.environ, *, keys: bool = True) -> Config:
    """The operator's file; an empty `Config` where there is none.

    `keys=False` leaves out the table [keys], which only the dashboard has a use for and only Textual can check.

    Raises:
        Refused: it cannot be read, is not TOML, or says something that llmval does not know.
    """
    path = config_file(environment)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read ({error}): make it readable UTF-8, or move it away.") from error
    return parse_config(text, path, keys=keys)


def parse_config(text: str, path: Path, *, keys: bool = True) -> Config:
    """The settings in `text`.

    Raises:
        Refused: as `load_config`; the sentence has the file and the line.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{path} is not TOML: {error}.") from error

    def refuse(name: str, why: str, table: str = "") -> Refused:
        line = line_of(text, name, table)
        return Refused(f"{path}{f', line {line}' if line else ''}: {why}")

    found: dict[str, Any] = {}
    for name, value in data.items():
        if name == "keys":
            continue
        if name not in _CHECKS:
            raise refuse(name, f"there is no setting {name!r}; there are {', '.join((*_CHECKS, '[keys]'))}.")
        good, allowed = _CHECKS[name]
        if not good(value):
            raise refuse(name, f"{name} = {_said(value)} will not do: {allowed}.")
        found[name] = value
    table = data.get("keys", {})
    if not isinstance(table, dict):
        raise refuse("keys", 'keys is a table: write [keys] and below it a line such as complete = "c".')
    if table and keys:
        found["keys"] = _keys(table, refuse)
    return Config(**found)


def _keys(table: Mapping[str, Any], refuse: Any) -> dict[str, Keys]:
    from llmval_tui.tui.keys import KEYS, SCROLL_KEYS, find_conflict

    known = {key.id: key for key in (*KEYS, *SCROLL_KEYS)}
    changed: dict[str, Keys] = {}
    for name, value in table.items():
        if name not in known:
            raise refuse(name, f"there is no key {name!r}; there are {', '.join(known)}.", "keys")
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise refuse(name, f'keys.{name} is a key or a list of keys, such as "c" or ["c", "f5"].', "keys")
        made = []
        for word in words:
            if not word:
                continue  # no key at all: the palette still has the action
            key = key_name(word)
            if key is None or key in RESERVED:
                why = "always leaves" if key else "is no key"
                raise refuse(
                    name,
                    f"keys.{name}: {word!r} {why}; write one character, ctrl+ or alt+ with a letter, or one of "
                    f"{', '.join(NAMED)}.",
                    "keys",
                )
            made.append((key, word))
        if not made and name in ("quit", "back", "open", "palette", "help"):
            raise refuse(name, f"keys.{name} needs a key: without it there would be no way about.", "keys")
        changed[name] = tuple(made)
    if (clash := find_conflict(changed)) is not None:
        name, other, word = clash
        raise refuse(
            name,
            f"keys.{name} = {word!r} is taken by {other} ({known[other].help.lower()}): choose another key, or give "
            f"{other} another one too.",
            "keys",
        )
    return changed


def key_name(word: str) -> str | None:
    """A key as Textual names it: `?` is `question_mark`; None where there is no such key."""
    if len(word) == 1 and word.isprintable() and word != " ":
        if word.isalnum():
            return word
        try:
            name = unicodedata.name(word).lower().replace("-", "_").replace(" ", "_")
        except ValueError:
            return None
        return _SHORT.get(name, name)
    lower = word.lower()
    if lower in NAMED:
        return NAMED[lower]
    return lower if re.fullmatch(_COMBINED, lower) else None


def line_of(text: str, name: str, table: str = "") -> int | None:
    """The line, from 1, on which a TOML text sets `name` in `table`; None where it is written in a way not looked for
    (TOML's parser does not tell lines)."""
    inside = ""
    quoted = rf"(?:{re.escape(name)}|\"{re.escape(name)}\"|'{re.escape(name)}')"
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line)
        if header is not None:
            inside = header[1].strip("\"'")
            if inside == name and not table:
                return number
            continue
        head = rf"\s*{quoted}\s*[=.]" if inside == table else rf"\s*{table}\s*\.\s*{quoted}\s*=" if not inside else None
        if head is not None and re.match(head, line):
            return number
    return None


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _is_interval(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and SHORTEST_S <= value <= LONGEST_S


_FLAG = (lambda value: isinstance(value, bool), "write true or false")
_CHECKS: dict[str, tuple[Any, str]] = {
    "theme": (lambda value: isinstance(value, str) and bool(value), 'write the name of a theme, such as "light"'),
    "interval": (_is_interval, f"write seconds from {SHORTEST_S} to {LONGEST_S:.0f}"),
    "preset": (lambda value: value in PRESETS, f"write {' or '.join(map(repr, PRESETS))}, or leave it out"),
    "runner_python": (lambda value: isinstance(value, str) and bool(value), "write the path of a Python interpreter"),
    "ascii": _FLAG,
    "mouse": _FLAG,
    "charts": (lambda value: value in CHARTS, f"write one of {', '.join(CHARTS)}"),
    "bell": _FLAG,
    "notify": _FLAG,
}
