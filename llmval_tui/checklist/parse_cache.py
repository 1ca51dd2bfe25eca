"""A cache of the entries of a checklist, because importing markdown-it-py takes longer than showing the list.

The cache file contains the whole source. It is used only if that equals the present file byte for byte and the parser
is the same.
"""

import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from llmval_tui.checklist.entries import Block, Entry, Heading, Item, Span

SLOTS = 16  # cache files, shared by hash, so that many workspaces do not fill the folder


class ParseCache:
    """The entries of one checklist, from the cache file if it is valid, else from the scanner."""

    def __init__(self, checklist: Path, environment: Mapping[str, str]) -> None:
        cache = environment.get("XDG_CACHE_HOME", "")
        # The base directory specification: a relative path must be ignored.
        root = Path(cache) if cache.startswith("/") else Path(environment.get("HOME", "/nowhere"), ".cache")
        slot = zlib.crc32(os.fsencode(checklist)) % SLOTS
        self._file = root / "llmval" / f"list-{slot:02}.json"
        self._new: tuple[bytes, list[Entry]] | None = None

    def scan(self, data: bytes, path: Path) -> list[Entry]:
        """As `markdown.scan`.

        Raises:
            Refused: as `markdown.scan`; such a list is not cached.
        """
        with suppress(OSError, ValueError, TypeError, KeyError):  # missing, incomplete, or from another llmval
            value = orjson.loads(self._file.read_bytes())
            if value["parser"] == _parser() and value["source"].encode() == data:
                return [_entry(kind, fields) for kind, fields in value["entries"]]
        from llmval_tui.checklist.markdown import scan

        entries = scan(data, path)
        self._new = data, entries
        return entries

    def save(self) -> None:
        """Write the scanner's entries to the cache file; a failure only makes the next start slower."""
        if self._new is None:
            return
        (data, entries), self._new = self._new, None
        with suppress(OSError):
            named = [(type(entry).__name__, entry) for entry in entries]
            value = orjson.dumps({"parser": _parser(), "source": data.decode(), "entries": named})
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Not synced, unlike records: an incomplete file after a power cut is ignored.
            temporary = self._file.with_suffix(f".{os.getpid()}")
            temporary.touch(0o600)  # it holds the whole list, which may be for its owner alone
            temporary.write_bytes(value)
            temporary.replace(self._file)


def _entry(kind: str, fields: dict[str, Any]) -> Entry:
    if kind == Heading.__name__:
        return Heading(**fields)
    deviation_range = fields.pop("deviation_range")
    blocks = tuple(
        Block(**{**block, "spans": tuple(Span(**span) for span in block["spans"])}) for block in fields.pop("blocks")
    )
    return Item(
        **{**fields, "spans": tuple(fields["spans"]), "introduction": tuple(fields["introduction"])},
        blocks=blocks,
        deviation_range=tuple(deviation_range) if deviation_range else None,
    )


def _parser() -> list[list[int]]:
    """The parser's identity: inode, size and change time of two of its files, which every update changes."""
    library = find_spec("markdown_it")
    files = [Path(__file__).with_name("markdown.py"), Path(library.origin if library and library.origin else "/")]
    return [[status.st_ino, status.st_size, status.st_ctime_ns] for status in map(Path.stat, files)]
