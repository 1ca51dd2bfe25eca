"""Reads the TOML file beside a list, with its site settings and the answers to the questions of a first use.

`acceptance.md` has `acceptance.llmval.toml`. The file is meant for git. A wrong entry is refused with its line, because
a setting must never silently do nothing. `record.py` writes the file.
"""

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from llmval_tui.actions.review.model import Answer, Bound, Decision, FleetSettings, ListSettings
from llmval_tui.foundation.errors import Refused

SUFFIX = ".llmval.toml"
VALUE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SETTINGS = ("folder", "never_ask", "values", "env", "python", "fleet", "bounds", "answer")
_BOUND = {"item", "expect", "section"}
_ANSWER = {"section", "item", "occurrence", "answer", "sha256", "commands", "scripts", "by", "when"}
_HASH = re.compile(r"[0-9a-f]{64}")


def settings_path(checklist: Path) -> Path:
    """The file beside a list: `acceptance.md` has `acceptance.llmval.toml`."""
    return checklist.with_name(checklist.name.removesuffix(".md") + SUFFIX)


def settings_of(checklist_path: Path, workspace: Path) -> ListSettings:
    """The settings of a list; empty ones if it has no file.

    Raises:
        Refused: the file cannot be read, is not TOML, has an unknown or invalid setting, or two answers for one item;
            the message names the file and the line.
    """
    path = settings_path(checklist_path)
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ListSettings(path, workspace)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): make it readable, or move it away.") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8, or move it away.") from error
    return parse_settings(text, path, workspace)


def parse_settings(text: str, path: Path, workspace: Path) -> ListSettings:
    """The settings in `text`.

    Raises:
        Refused: see `settings_of`.
    """
    from llmval_tui.foundation.toml import parse_toml  # most lists have no such file

    try:
        data = parse_toml(text)
    except ValueError as error:
        last = max(1, len(text.splitlines()))
        where = str(error).replace("at end of document", f"at the end, line {last}")
        raise Refused(f"{path} is not TOML: {where}: correct it; nothing was started.") from error
    return _Reader(path, text).settings(data, workspace)


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def settings(self, data: Mapping[str, Any], workspace: Path) -> ListSettings:
        for name in data:
            if name not in _SETTINGS:
                known = ", ".join(_SETTINGS)
                raise self._refused(name, f"there is no setting {name!r}; the settings are {known}.")
        return ListSettings(
            path=self.path,
            workspace=workspace,
            values=self._strings(data, "values", VALUE_NAME, "the name of a placeholder, such as pod"),
            env=self._strings(data, "env", _VARIABLE, "the name of an environment variable"),
            python=self._python(data),
            folder=self._folder(data),
            fleet=self._fleet(data),
            never_ask=self._never_ask(data),
            bounds=tuple(self._bound(one, line) for one, line in self._tables(data, "bounds", _BOUND)),
            answers=self._answers(data),
        )

    def _strings(self, data: Mapping[str, Any], name: str, names: re.Pattern[str], what: str) -> dict[str, str]:
        table = data.get(name, {})
        if not isinstance(table, dict):
            raise self._refused(name, f'{name} must be a table: write [{name}], and below it lines such as x = "1".')
        for key, value in table.items():
            if not names.fullmatch(key):
                raise self._refused(key, f"{key!r} in [{name}] is not {what}.")
            if not isinstance(value, str):
                raise self._refused(key, f'{key} in [{name}] must be text in quotes, such as {key} = "{value}".')
            if not value.isprintable():
                raise self._refused(key, f"{key} in [{name}] contains control or invisible characters: remove them.")
        if name == "values" and "date" in table:
            raise self._refused("date", "llmval itself fills in <date>: leave date out of [values].")
        return dict(table)

    def _python(self, data: Mapping[str, Any]) -> str | None:
        table = data.get("python", {})
        path = table.get("path") if isinstance(table, dict) else None
        if isinstance(table, dict) and set(table) <= {"path"} and (path is None or _is_text(path)):
            return path
        raise self._refused("python", '[python] has one setting: path = "/opt/venv/bin/python".')

    def _fleet(self, data: Mapping[str, Any]) -> FleetSettings:
        table = data.get("fleet", {})
        valid: dict[str, tuple[Callable[[Any], bool], str]] = {
            "nodes": (_is_text, 'a node list in quotes, such as "n[1-4]"'),
            "launcher": (lambda value: value in ("slurm", "ssh"), '"slurm" or "ssh"'),
            "slurm_options": (_is_texts, 'a list of options in quotes, such as ["--partition=gpu"]'),
            "ssh": (_is_text, 'a command in quotes, such as "ssh -F site/ssh_config"'),
            "exporter": (
                _is_exporter,
                'a URL such as "http://{node}:9400/metrics", or "http://localhost:9400/metrics"',
            ),
            "shared": (lambda value: isinstance(value, bool), "true or false"),
        }
        if not isinstance(table, dict):
            raise self._refused(
                "fleet", 'fleet must be a table: write [fleet], and below it lines such as nodes = "n[1-4]".'
            )
        for key, value in table.items():
            if key not in valid:
                raise self._refused(key, f"there is no setting {key!r} in [fleet]; it has {', '.join(valid)}.")
            if not valid[key][0](value):
                raise self._refused(key, f"{key} in [fleet] must be {valid[key][1]}.")
        return FleetSettings(
            nodes=table.get("nodes"),
            launcher=table.get("launcher"),
            slurm_options=tuple(table.get("slurm_options", ())),
            ssh=tuple(shlex.split(table["ssh"])) if "ssh" in table else (),
            exporter=table.get("exporter"),
            shared=table.get("shared"),
        )

    def _folder(self, data: Mapping[str, Any]) -> str | None:
        folder = data.get("folder")
        if folder is None:
            return None
        if not _is_text(folder):
            raise self._refused("folder", 'folder must be text in quotes, such as folder = "bench".')
        path = PurePosixPath(folder)
        if path.is_absolute() or ".." in path.parts:
            raise self._refused("folder", f"folder = {folder!r} leads outside of the workspace: name a folder in it.")
        return str(path)

    def _never_ask(self, data: Mapping[str, Any]) -> frozenset[str]:
        # Their tables take long; a look at a list needs none.
        from llmval_tui.actions.review.programs import always_asks
        from llmval_tui.actions.review.wrappers import is_wrapper

        found = data.get("never_ask", [])
        if not isinstance(found, list) or not all(_is_text(one) for one in found):
            raise self._refused("never_ask", 'never_ask must be a list of programs, such as ["pytest", "make"].')
        for one in found:
            if always_asks([one]):
                raise self._refused("never_ask", f"{one} asks each time: leave it out of never_ask.")
            if is_wrapper(one):
                raise self._refused("never_ask", f"{one} starts any program: name that program in never_ask instead.")
        return frozenset(found)

    def _tables(self, data: Mapping[str, Any], name: str, known: set[str]) -> "list[tuple[dict[str, Any], int | None]]":
        """The tables of an array with the lines of their headers."""
        found = data.get(name, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._refused(name, f"{name} must be a list of tables: write [[{name}]] above each.")
        header = re.compile(rf"\s*\[\[\s*{name}\s*\]\]")
        lines: list[int | None] = [number for number, line in enumerate(self.lines, 1) if header.match(line)]
        if len(lines) != len(found):
            lines = [None] * len(found)
        for one, line in zip(found, lines, strict=True):
            if unknown := sorted(set(one) - known):
                raise self._at(line, f"[[{name}]] has no {unknown[0]!r}; it has {', '.join(sorted(known))}.")
        return list(zip(found, lines, strict=True))

    def _bound(self, table: dict[str, Any], line: int | None) -> Bound:
        item = self._need(table, "item", _is_text, line, "the item's text in quotes", "bounds")
        expect = self._need(table, "expect", _is_texts, line, "a list of criteria in quotes", "bounds")
        section = table.get("section")
        if section is not None and not isinstance(section, str):
            raise self._at(line, "section in [[bounds]] must be the section's title in quotes.")
        return Bound(item, tuple(expect), section, line)

    def _answers(self, data: Mapping[str, Any]) -> tuple[Answer, ...]:
        seen: dict[tuple[str, str, int], int | None] = {}
        found = []
        for table, line in self._tables(data, "answer", _ANSWER):
            answer = self._answer(table, line)
            key = (answer.section, answer.item, answer.occurrence)
            if key in seen:
                first = f" (the first is in line {seen[key]})" if seen[key] else ""
                raise self._at(line, f"there are two answers for the item “{answer.item[:60]}”{first}: remove one.")
            seen[key] = line
            found.append(answer)
        return tuple(found)

    def _answer(self, table: dict[str, Any], line: int | None) -> Answer:
        def need(name: str, valid: Callable[[Any], bool], what: str) -> Any:
            return self._need(table, name, valid, line, what, "answer")

        table = {"occurrence": 1, "commands": [], "scripts": {}, "by": "", "when": "", **table}
        decisions = " or ".join(f'"{one}"' for one in Decision)
        return Answer(
            section=need("section", lambda value: isinstance(value, str), "the section's title in quotes"),
            item=need("item", _is_text, "the item's text in quotes"),
            occurrence=need("occurrence", _is_count, "a number from 1"),
            decision=Decision(need("answer", lambda value: value in set(Decision), decisions)),
            sha256=need("sha256", _is_hash, "a SHA-256 as 64 hex digits"),
            commands=tuple(need("commands", _is_texts, "a list of commands in quotes")),
            scripts=need("scripts", _is_hashes, "a table of SHA-256 by path"),
            by=need("by", lambda value: isinstance(value, str), "a name in quotes"),
            when=str(need("when", lambda value: not isinstance(value, dict | list), "a time in quotes")),
        )

    def _need(
        self, table: Mapping[str, Any], name: str, valid: Callable[[Any], bool], line: int | None, what: str, of: str
    ) -> Any:
        if name not in table:
            raise self._at(line, f"[[{of}]] has no {name}: write {what}.")
        if not valid(table[name]):
            raise self._at(line, f"{name} in [[{of}]] must be {what}.")
        return table[name]

    def _refused(self, name: str, reason: str) -> Refused:
        """A refusal with the line of a setting or of a table's header."""
        wanted = re.compile(rf"""\s*(?:\[+\s*{re.escape(name)}\s*\]+|["']?{re.escape(name)}["']?\s*[=.])""")
        return self._at(next((n for n, line in enumerate(self.lines, 1) if wanted.match(line)), None), reason)

    def _at(self, line: int | None, reason: str) -> Refused:
        return Refused(f"{self.path}{f', line {line}' if line else ''}: {reason}")


def _is_exporter(value: Any) -> bool:
    from llmval_tui.telemetry.dcgm.exporters import fetcher  # few lists name one

    try:
        return isinstance(value, str) and fetcher(value) is not None
    except ValueError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(one) for one in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _is_hashes(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_hash(one) for one in value.values())
