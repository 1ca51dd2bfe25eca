"""The places where a criterion's value may be: the logs of a run and the files that it wrote, read in bounded parts."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import inside
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.file_origin import own_files
from llmval_tui.runs.records import Artifact
from llmval_tui.runs.store import LogFile, Run

READ_BYTES = (
    64 * 1024 * 1024
)  # of one log or file; what is longer is judged on its end, and passes only if that suffices
MIB = 1024 * 1024


class NotThere(Exception):
    """A source that cannot be read; the message is the reason, as part of a sentence."""


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a log or file, or its end."""

    name: str  # for people, relative to the run folder or the workspace
    lines: tuple[str, ...]
    size: int
    first_line: int = 1  # the number of the first line in `lines`; 0: unknown, because the beginning was left out

    @property
    def whole(self) -> bool:
        return self.first_line == 1

    def where(self, index: int) -> str:
        """The place of a line: `logs/main.stdout.log:12`."""
        if self.whole:
            return f"{self.name}:{index + 1}"
        return f"{self.name}, {len(self.lines) - index} lines before its end"


def read_text(path: Path, name: str) -> Text:
    """A log or file as lines without control characters; of a long one the end.

    Raises:
        NotThere: it cannot be read, or it is not text.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - READ_BYTES))
            data = file.read(READ_BYTES)
    except OSError as error:
        raise NotThere(f"{name} cannot be read ({error.strerror})") from error
    if b"\0" in data[:4096]:
        raise NotThere(f"{name} is not a text file")
    lines = data.decode("utf-8", "replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    cut = size > READ_BYTES
    if cut:
        lines = lines[1:]  # the first one is only the end of a line
    return Text(name, tuple(clean_line(line) for line in lines), size, 0 if cut else 1)


def read_document(path: Path, name: str) -> Any:
    """The JSON value in a file; of a file with one JSON value a line, their list.

    Raises:
        NotThere: it cannot be read, is too long, or is not JSON.
    """
    try:
        size = path.stat().st_size
        if size > READ_BYTES:
            raise NotThere(f"{name} has {size / MIB:.0f} MiB; llmval reads JSON up to {READ_BYTES // MIB} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise NotThere(f"{name} cannot be read ({error.strerror})") from error
    return parsed_json(data, name)


def parsed_json(data: bytes, name: str) -> Any:
    """JSON, or JSON lines.

    Raises:
        NotThere: it is neither.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            lines = [orjson.loads(line) for line in data.splitlines() if line.strip()]
        except orjson.JSONDecodeError:
            lines = []
        if lines:
            return lines
        raise NotThere(f"{name} is not JSON ({error})") from error


@dataclass
class Sources:
    """The logs and files of one run; each is read once."""

    run: Run
    _texts: dict[Path, Text] = field(default_factory=dict)

    def logs(self, streams: tuple[str, ...], command: int | None) -> list[Text]:
        """The logs of these streams; of one command, if its position is given. Ranks have logs of their own."""
        return [self._text(log) for log in self._existing if log.stream in streams and self._of(log, command)]

    def _of(self, log: LogFile, command: int | None) -> bool:
        commands = self.run.intent.commands
        # A position beyond the commands: the item's block became one script, or a pair of runs.
        return command is None or command >= len(commands) or len(commands) == 1 or log.label == commands[command].label

    @cached_property
    def _existing(self) -> list[LogFile]:
        return self.run.logs()

    def _text(self, log: LogFile) -> Text:
        if log.path not in self._texts:
            self._texts[log.path] = read_text(log.path, f"logs/{log.path.name}")
        return self._texts[log.path]

    def file(self, path: str) -> Path:
        """A file that the run wrote.

        Raises:
            NotThere: it is missing, outside the workspace, or another run wrote it.
        """
        for command in self.run.intent.commands:
            if command.tee == path and command.appended_file is not None:
                return self._appended(command.appended_file, path)
        artifact = next((one for one in self.run.intent.artifacts if _covers(one.path, path)), Artifact(path))
        try:
            found = inside(self.run.workspace, path)
        except Refused as refusal:
            raise NotThere(str(refusal)) from refusal
        if not found.is_file():
            raise NotThere(f"{path} is missing: the command did not write it")
        if found not in own_files(self.run, artifact):
            raise NotThere(f"{path} is empty, or this run did not write it")
        return found

    def _appended(self, name: str, path: str) -> Path:
        """The bytes that this run appended to a file: what stood there before is not a result of it."""
        found = self.run.folder / name
        if not found.is_file() or not found.stat().st_size:
            raise NotThere(f"this run appended nothing to {path}")
        return found

    def text_of(self, path: str) -> Text:
        """The text of a file that the run wrote; see `file`."""
        found = self.file(path)
        if found not in self._texts:
            self._texts[found] = read_text(found, path)
        return self._texts[found]

    @cached_property
    def files(self) -> list[tuple[str, Path]]:
        """The files that the run wrote, with their paths in the workspace; those of a folder included."""
        root = self.run.workspace.resolve()
        found = {file for artifact in self.run.intent.artifacts for file in own_files(self.run, artifact)}
        return sorted((str(file.relative_to(root)), file) for file in found)


def _covers(promised: str, path: str) -> bool:
    return path == promised or path.startswith(f"{promised.rstrip('/')}/")
