"""What was found in a checklist, kept for the next start: markdown-it-py takes longer to import than a list to show.

Nothing is taken on trust: what is kept lies beside the whole source it was found in, and counts only where that is,
byte for byte, what the file says now, and where the parser is the one that found it.
"""

import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.checklist.entries import Entry, Heading, Item

SLOTS = 16  # lists that can be kept: their names share them, so that no number of workspaces fills the folder


class ParseCache:
    """The entries of one checklist: from the file of before where they are still right, else from the scanner."""

    def __init__(self, checklist: Path, environment: Mapping[str, str]) -> None:
        cache = environment.get("XDG_CACHE_HOME", "")
        # The base directory specification: a relative path there is to be ignored.
        root = Path(cache) if cache.startswith("/") else Path(environment.get("HOME", "/nowhere"), ".cache")
        slot = zlib.crc32(os.fsencode(checklist)) % SLOTS
        self._file = root / "llmval" / f"list-{slot:02}.json"
        self._new: tuple[bytes, list[Entry]] | None = None

    def scan(self, data: bytes, path: Path) -> list[Entry]:
        """As `markdown.scan`.

        Raises:
            Refused: as `markdown.scan`; such a list is never kept.
        """
        with suppress(OSError, ValueError, TypeError, KeyError):  # not there, torn, or of another llmval
            value = orjson.loads(self._file.read_bytes())
            if value["parser"] == _parser() and value["source"].encode() == data:
                return [_entry(kind, fields) for kind, fields in value["entries"]]
        from llmval_tui.checklist.markdown import scan

        entries = scan(data, path)
        self._new = data, entries
        return entries

    def save(self) -> None:
        """Keep what the scanner found since; where that cannot be, the next start is slower and nothing else."""
        if self._new is None:
            return
        (data, entries), self._new = self._new, None
        with suppress(OSError):
            kept = [(type(entry).__name__, entry) for entry in entries]
            value = orjson.dumps({"parser": _parser(), "source": data.decode(), "entries": kept})
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Not synced, unlike records: a file that a power cut has torn is one that is not there.
            made = self._file.with_suffix(f".{os.getpid()}")
            made.write_bytes(value)
            made.replace(self._file)


def _entry(kind: str, fields: dict[str, Any]) -> Entry:
    if kind == Heading.__name__:
        return Heading(**fields)
    place = fields.pop("deviation_range")
    return Item(**{**fields, "spans": tuple(fields["spans"])}, deviation_range=tuple(place) if place else None)


def _parser() -> list[list[int]]:
    """What tells one parser from another: which files it consists of, as far as an update changes them all."""
    library = find_spec("markdown_it")
    files = [Path(__file__).with_name("markdown.py"), Path(library.origin if library and library.origin else "/")]
    return [[status.st_ino, status.st_size, status.st_ctime_ns] for status in map(Path.stat, files)]
