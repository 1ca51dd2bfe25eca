"""The operator's own settings: `~/.config/llmval/config.toml`, read once at the start.

The command line wins over the file. A wrong entry is refused with its line and the allowed values: a setting that
silently does nothing is worse than a missing one.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.toml import parse_toml

CHARTS = ("blocks", "braille", "ascii")
PRESETS = ("smoke",)
SHORTEST_S, LONGEST_S = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class KeyTable:
    """The table [keys], which only the dashboard uses; `tui.keys.read_keys` checks it, with Textual's names of keys."""

    entries: Mapping[str, object]
    text: str  # the whole file, for line numbers
    path: Path

    def refusal(self, name: str, reason: str) -> Refused:
        return _refusal(self.path, self.text, name, reason, "keys")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The settings of the file; None for a setting that it does not have."""

    theme: str | None = None
    interval: float | None = None
    preset: str | None = None
    runner_python: str | None = None
    ascii: bool | None = None
    mouse: bool | None = None
    charts: str | None = None
    bell: bool | None = None
    notify: bool | None = None
    keys: KeyTable | None = None


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_CONFIG_HOME/llmval/config.toml`, by default in `~/.config` (XDG Base Directory 0.8)."""
    base = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".config")
    return Path(base) / "llmval" / "config.toml"


def load_config(environment: Mapping[str, str] = os.environ) -> ConfigFile:
    """The operator's file; an empty `ConfigFile` if it does not exist.

    Raises:
        Refused: it cannot be read, is not TOML, or has an unknown or invalid setting.
    """
    path = config_file(environment)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ConfigFile()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read ({error}): make it readable UTF-8, or move it away.") from error
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> ConfigFile:
    """The settings in `text`.

    Raises:
        Refused: like `load_config`; the message names the file and the line.
    """
    try:
        data = parse_toml(text)
    except ValueError as error:
        raise Refused(f"{path} is not TOML: {error}.") from error
    table = data.pop("keys", {})
    for name, value in data.items():
        if name not in _CHECKS:
            names = ", ".join((*_CHECKS, "[keys]"))
            raise _refusal(path, text, name, f"there is no setting {name!r}; the settings are {names}.")
        valid, allowed = _CHECKS[name]
        if not valid(value):
            raise _refusal(path, text, name, f"{name} = {_toml(value)} is not valid: {allowed}.")
    if not isinstance(table, dict):
        raise _refusal(
            path, text, "keys", 'keys must be a table: write [keys] and below it a line such as complete = "c".'
        )
    return ConfigFile(**data, keys=KeyTable(table, text, path) if table else None)


def line_of(text: str, name: str, table: str = "") -> int | None:
    """The line, from 1, on which a TOML text sets `name` in `table`; None if it is written in an unusual way.

    TOML's parser gives no line numbers.
    """
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


def _refusal(path: Path, text: str, name: str, reason: str, table: str = "") -> Refused:
    line = line_of(text, name, table)
    return Refused(f"{path}{f', line {line}' if line else ''}: {reason}")


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _is_interval(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and SHORTEST_S <= value <= LONGEST_S


_Check = tuple[Callable[[object], bool], str]  # whether a value is valid, and the advice if it is not
_FLAG: _Check = (lambda value: isinstance(value, bool), "write true or false")
_CHECKS: dict[str, _Check] = {
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
