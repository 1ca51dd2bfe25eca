"""The ledger for people in `docs/TODO.md`: one Markdown line per item in llmval's own block."""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote as percent

from llmval_tui.checklist.document import decode, read_document
from llmval_tui.checklist.edit import edit_document
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import without_secrets
from llmval_tui.foundation.paths import inside, named_path
from llmval_tui.foundation.text import clean_line

BEGIN = b"<!-- llmval:ledger:begin -->"
END = b"<!-- llmval:ledger:end -->"
HEADING = "## Validation ledger"
SHOWN_HEX = 12  # shown digits of the SHA-256; the ledger beside the runs has all

_LINE_END = re.compile(rb"(?<=\n)|(?<=\r)(?!\n)")
_ITEM = re.compile(rb"<!-- llmval:item ([0-9a-f]{12})#(\d+) -->\s*$")
_NUMBER = re.compile(rb"- \*\*([A-Z]?)(\d*(?:\.\d+)*)\*\*")
_SPECIAL = re.compile(r"[\\`*\[\]<>|~&!$]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|#")
_ESCAPED = re.compile(r"\\([\\`*\[\]<>|~&!$_#])|&(middot|rsaquo);")
_LABELS = ("rests on", "by", "host", "run", "contradicts run", "artifact", "sha256", "note", "deviation", "link")
_ENTITIES = {"middot": "·", "rsaquo": "›"}


@dataclass(frozen=True, slots=True)
class Entry:
    """The ledger line of one item. After reading, `sha256` has only the shown digits."""

    number: str  # "1.2"
    section: str
    text: str
    outcome: str  # "pass", or "by hand"
    utc: str  # "2026-01-02T03:04:05Z"
    host: str  # may be empty
    run_id: str  # empty for a tick by hand
    artifact: str | None = None  # path relative to the workspace
    sha256: str | None = None
    notes: tuple[str, ...] = ()  # a run has its summary; a tick by hand has one note for each time
    deviations: tuple[str, ...] = ()
    link: str | None = None
    occurrence: int = 1
    rests_on: str | None = None  # a tick by a run has "measured" or "exit code only"
    by: str | None = None  # the user of a tick by hand
    contradicts: str | None = None  # the run that had failed before a tick by hand
    written_key: StepKey | None = None  # as the list writes it: an older llmval named the item's line by that

    @property
    def key(self) -> StepKey:
        return StepKey(self.section, self.text, self.occurrence)

    @property
    def keys(self) -> tuple[StepKey, ...]:
        """The keys that name the item's line; the first one is that of new lines."""
        return (self.key,) if self.written_key in (None, self.key) else (self.key, self.written_key)


def record(todo: Path, entry: Entry, workspace: Path) -> None:
    """Write the entry's line into the ledger of `todo`; it replaces an earlier line of the same item.

    A missing block is appended under a heading, and a missing file is created. Every byte outside the block stays.

    Raises:
        Refused: the artifact lies outside the workspace, the block's markers are damaged, or the file cannot be read or
            written. Nothing was changed.
    """
    line = _line(entry, todo, workspace)
    edit_document(todo, lambda data: _with_line(data, line, entry.keys, todo), missing=b"# TODO\n")


def _with_line(data: bytes, line: bytes, keys: Sequence[StepKey], todo: Path) -> bytes:
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    block = _block(data, todo)
    if block is None:
        gap = b"" if data.endswith((b"\n", b"\r")) or not data else newline
        return data + gap + newline.join([b"", HEADING.encode(), b"", BEGIN, line, END, b""])
    start, end = block
    return data[:start] + _merged(data[start:end], line, keys, newline) + data[end:]


def line_of(todo: Path, keys: Sequence[StepKey]) -> bytes | None:
    """The present line of the item with one of these keys, without its line end; None if there is none.

    Raises:
        Refused: the file cannot be read, or its markers are damaged.
    """
    if not os.path.lexists(todo):
        return None
    data = read_document(todo)
    block = _block(data, todo)
    return next(iter(_lines_of(data[slice(*block)], keys)), None) if block is not None else None


def put_line(todo: Path, keys: Sequence[StepKey], line: bytes | None) -> None:
    """Put an earlier line of the item with one of these keys back, or remove its line if there was none.

    Raises:
        Refused: as `record`.
    """
    if line_of(todo, keys) == line:
        return

    def change(data: bytes) -> bytes:
        newline = b"\r\n" if b"\r\n" in data else b"\n"
        block = _block(data, todo)
        if block is None:
            return data
        start, end = block
        if line is not None:
            return data[:start] + _merged(data[start:end], line, keys, newline) + data[end:]
        unwanted = set(_lines_of(data[start:end], keys))
        kept = [raw for raw in _LINE_END.split(data[start:end]) if raw.rstrip(b"\r\n") not in unwanted]
        return data[:start] + b"".join(kept) + data[end:]

    edit_document(todo, change)


def _lines_of(block: bytes, keys: Sequence[StepKey]) -> list[bytes]:
    lines = [raw.rstrip(b"\r\n") for raw in _LINE_END.split(block)]
    return [line for line in lines if _is_of(line, keys)]


def _is_of(line: bytes, keys: Sequence[StepKey]) -> bool:
    item = _ITEM.search(line)
    return item is not None and item.groups() in [(key_hash(key).encode(), b"%d" % key.occurrence) for key in keys]


def entries(todo: Path) -> list[Entry]:
    """The entries of the ledger in `todo` in order; empty if there is no file or no block.

    Lines in the block without llmval's item comment belong to the operator and are skipped.

    Raises:
        Refused: the file cannot be read, its markers are damaged, or an edited line cannot be parsed.
    """
    if not os.path.lexists(todo):
        return []
    data = read_document(todo)
    block = _block(data, todo)
    if block is None:
        return []
    start, end = block
    found = []
    line = data[:start].count(b"\n")
    for raw in _LINE_END.split(data[start:end]):
        line += 1
        if comment := _ITEM.search(raw):
            text = decode(raw[: comment.start()], todo).strip()
            try:
                found.append(_entry(text, int(comment[2])))
            except ValueError as error:
                raise Refused(
                    f"{todo}, line {line}: this ledger line was edited and cannot be read ({error}): "
                    "delete it and complete the item again, or restore it."
                ) from error
    return found


def key_hash(key: StepKey) -> str:
    """The hash that identifies an item's line: 12 hex digits of SHA-256 over section and text."""
    return hashlib.sha256("\0".join((key.section, key.text)).encode()).hexdigest()[:12]


def escape(text: str) -> str:
    """`text` as one line of literal Markdown: it cannot become markup, a link, a table cell or a comment."""
    text = " ".join(clean_line(" ".join(text.split())).split())
    text = _SPECIAL.sub(lambda match: "\\" + match[0], text)
    return text.replace("·", "&middot;").replace("›", "&rsaquo;")


def unescape(text: str) -> str:
    """The inverse of `escape`, on one line."""
    return _ESCAPED.sub(lambda match: match[1] or _ENTITIES[match[2]], text)


def _line(entry: Entry, todo: Path, workspace: Path) -> bytes:
    section, text = without_secrets(entry.section), without_secrets(entry.text)
    parts = [
        f"- **{escape(entry.number)}** {escape(section)} › {escape(text)}",
        f"**{escape(entry.outcome)}**",
        escape(entry.utc),
    ]
    labelled = (
        ("rests on", entry.rests_on),
        ("by", entry.by),
        ("host", entry.host),
        ("run", entry.run_id),
        ("contradicts run", entry.contradicts),
    )
    parts += [f"{label} {escape(value)}" for label, value in labelled if value]
    if entry.artifact is not None:
        inside(workspace, named_path(entry.artifact))
        lexical = os.path.normpath(workspace.resolve() / named_path(entry.artifact))
        target = os.path.relpath(lexical, todo.resolve().parent)
        parts.append(f"artifact [{escape(entry.artifact)}]({percent(os.fsencode(target))})")
    if entry.sha256 is not None:
        parts.append(f"sha256 {escape(entry.sha256[:SHOWN_HEX])}")
    parts += [f"note {escape(without_secrets(note))}" for note in entry.notes]
    parts += [f"deviation {escape(without_secrets(deviation))}" for deviation in entry.deviations]
    if entry.link is not None:
        parts.append(f"link {_link(without_secrets(entry.link))}")
    comment = f"<!-- llmval:item {key_hash(entry.key)}#{entry.occurrence} -->"
    return f"{' · '.join(parts)} {comment}".encode()


def _link(link: str) -> str:
    """An autolink if the text is a URL, else the escaped text."""
    return f"<{link}>" if re.fullmatch(r"https?://[!-;=?-~]+", link) else escape(link)


def _entry(text: str, occurrence: int) -> Entry:
    parts = text.split(" · ")
    head = re.fullmatch(r"- \*\*(.+?)\*\* (.*) › (.*)", parts[0])
    outcome = re.fullmatch(r"\*\*(.+)\*\*", parts[1]) if len(parts) > 1 else None
    if head is None or outcome is None or len(parts) < 3:
        raise ValueError("its first parts are not number, section, text, outcome and time")
    repeated: dict[str, list[str]] = {"deviation": [], "note": []}
    values: dict[str, str] = {}
    for part in parts[3:]:
        label = next((name for name in _LABELS if part == name or part.startswith(f"{name} ")), "")
        value = part.removeprefix(label).removeprefix(" ")
        if label in repeated:
            repeated[label].append(unescape(value))
        elif label and label not in values:
            values[label] = value
        else:
            raise ValueError(f"“{part[:40]}” is unknown or occurs twice")
    artifact = values.get("artifact")
    if artifact is not None:
        shown = re.fullmatch(r"\[((?:[^\\\]]|\\.)*)\]\(.*\)", artifact)
        if shown is None:
            raise ValueError("the artifact is not a link")
        artifact = unescape(shown[1])
    link = values.get("link")
    if link is not None:
        link = link[1:-1] if link.startswith("<") else unescape(link)
    return Entry(
        number=unescape(head[1]),
        section=unescape(head[2]),
        text=unescape(head[3]),
        outcome=unescape(outcome[1]),
        utc=unescape(parts[2]),
        host=unescape(values.get("host", "")),
        run_id=unescape(values.get("run", "")),
        artifact=artifact,
        sha256=values.get("sha256"),
        notes=tuple(repeated["note"]),
        deviations=tuple(repeated["deviation"]),
        link=link,
        occurrence=occurrence,
        rests_on=_optional(values, "rests on"),
        by=_optional(values, "by"),
        contradicts=_optional(values, "contradicts run"),
    )


def _optional(values: dict[str, str], label: str) -> str | None:
    return unescape(values[label]) if label in values else None


def _block(data: bytes, todo: Path) -> tuple[int, int] | None:
    """Start and end of the bytes between the two marker lines; None without markers."""
    begins = list(_marker_lines(data, BEGIN))
    ends = list(_marker_lines(data, END))
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0][0] < begins[0][1]:
        raise Refused(
            f"{todo} must contain the line {BEGIN.decode()} once and {END.decode()} once below it, but has "
            f"{len(begins)} and {len(ends)}: repair or delete these lines; nothing was changed."
        )
    return begins[0][1], ends[0][0]


def _marker_lines(data: bytes, marker: bytes) -> Iterator[tuple[int, int]]:
    """Start and end (after the line end) of every marker line."""
    at = 0
    for raw in _LINE_END.split(data):
        if raw.strip() == marker:
            yield at, at + len(raw)
        at += len(raw)


def _merged(block: bytes, line: bytes, keys: Sequence[StepKey], newline: bytes) -> bytes:
    """The block with this item's line replaced, or inserted by its number."""
    lines = [raw for raw in _LINE_END.split(block) if raw]
    same = [index for index, raw in enumerate(lines) if _is_of(raw, keys)]
    if same:
        lines[same[0]] = line + newline
        # Two lines for one item come from a merge of two branches; the new line replaces both.
        return b"".join(raw for index, raw in enumerate(lines) if index not in same[1:])
    number = _order(line)
    at = next((index for index, raw in enumerate(lines) if _ITEM.search(raw) and _order(raw) > number), len(lines))
    return b"".join([*lines[:at], line + newline, *lines[at:]])


def _order(line: bytes) -> tuple[bytes, list[int]]:
    match = _NUMBER.match(line)
    return (match[1], [int(part) for part in match[2].split(b".") if part]) if match else (b"", [])
