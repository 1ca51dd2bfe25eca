"""The checklist as data: sections, steps, and the byte offsets of each step's mark and text."""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from llmval_tui.checklist.document import read_document
from llmval_tui.checklist.entries import Block, Entry, Heading, Item
from llmval_tui.checklist.numbering import numbers_of
from llmval_tui.checklist.step_keys import RecordedKeys, StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import without_secrets

_STEP_WORD = re.compile(r"(?:step|task|item|check|no\.|#)\s*(?=\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Step:
    """One task-list item.

    `text` is the item's own inline Markdown, with one space for each soft line break and without llmval's HTML
    comments, so that a recorded deviation does not change the step's identity.
    """

    number: str  # as shown: "1.2"; `numbering` has the rules
    section: str
    text: str
    spans: tuple[str, ...]  # the code spans of the text, in order, without their backticks
    checked: bool
    occurrence: int
    line: int  # 1-based
    mark_offset: int  # byte offset in the file of the character between the brackets
    end_offset: int  # byte offset just after the last visible character of the item's own text
    # From `<!-- llmval: action=… key="two words" -->`. Not in the hash, because a mapping has none.
    directives: Mapping[str, str] = field(hash=False)
    blocks: tuple[Block, ...] = field(default=(), hash=False)  # its whole content, the first paragraph included
    parent: str | None = None  # the number of the task item that directly contains it
    written_number: str | None = None  # the number that the list itself gives it: "7" of an ordered list, "7.5"
    # The paragraph directly above its list, and the text of the plain bullets that contain it, the outermost first.
    introduction: tuple[str, ...] = field(default=(), hash=False)
    deviation: str | None = None  # from `<!-- llmval: deviation: … -->`, which `set_mark` writes
    deviation_range: tuple[int, int] | None = None  # bytes of that comment and the spaces before it
    keys_of_list: RecordedKeys = field(default=RecordedKeys(()), repr=False, compare=False)

    @property
    def key(self) -> StepKey:
        return StepKey(self.section, self.text, self.occurrence)

    @property
    def recorded_key(self) -> StepKey:
        """Its key in records: without secrets."""
        return self.keys_of_list.recorded(self.key)

    @property
    def keys_in_records(self) -> tuple[StepKey, StepKey]:
        """The keys that records may have of it; an older llmval kept secrets."""
        return self.recorded_key, self.key

    @property
    def fingerprint(self) -> str:
        """A checksum of all that the item says: its text, its blocks and its directives, without mark and deviation.

        Without its secrets, too: a checksum of a short password would give it away, and another password makes no
        other item.
        """
        shown = tuple(without_secrets(one) for one in self.said)
        return _checksum("1" if shown == self.said else "2", shown)

    def has_fingerprint(self, recorded: str) -> bool:
        """Whether a recorded fingerprint is that of this item. An older llmval did not leave out secrets."""
        # In this order: the patterns of secrets are slow to import, and most lists have none.
        return recorded == _checksum("1", self.said) or (recorded.startswith("2") and recorded == self.fingerprint)

    @property
    def said(self) -> tuple[str, ...]:
        """All that the item says: its blocks on one line each, else its text; then its directives."""
        blocks = [" ".join(block.text.split()) for block in self.blocks] or [self.text]
        return (*blocks, *(f"{name}={value}" for name, value in sorted(self.directives.items())))

    @property
    def prose(self) -> str:
        """The text without its code spans."""
        return _without_code(self.text)


def _checksum(version: str, said: Sequence[str]) -> str:
    data = "\0".join(said).encode("utf-8", "backslashreplace")
    return f"{version}-{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


@lru_cache(maxsize=4096)
def _without_code(text: str) -> str:
    return re.sub(r"(`+).*?\1|<(code|tt)>.*?</\2>", " ", text)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with at least one step below it, before the next heading."""

    number: str  # from its title, else its position from 1 or a letter; `numbering` has the rules
    title: str  # as written, "1. Multi-GPU …"
    line: int  # 1-based, of the heading; of the first step if there is no heading
    steps: tuple[Step, ...]
    # Of the comments of its heading and of the headings that contain it; the innermost counts.
    directives: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Checklist:
    """A parsed checklist with its source bytes."""

    path: Path
    title: str  # the first heading of level 1, else the file's name
    sections: tuple[Section, ...]
    source: bytes
    _places: dict[StepKey, tuple[Section, Step]] = field(init=False, repr=False, compare=False)
    _keys: RecordedKeys = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {step.key: (section, step) for section in self.sections for step in section.steps}
        object.__setattr__(self, "_places", places)
        keys = RecordedKeys(places)
        object.__setattr__(self, "_keys", keys)
        for _, step in places.values():
            object.__setattr__(step, "keys_of_list", keys)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step in document order."""
        return tuple(step for section in self.sections for step in section.steps)

    def section_of(self, step: Step) -> Section:
        """The section that contains the step.

        Raises:
            Refused: the step is from an earlier version of the list and no longer in it.
        """
        place = self._places.get(step.key)
        if place is None:
            raise Refused(f"step {step.number} is no longer in {self.path.name}: reload the checklist.")
        return place[0]

    def find(self, key: StepKey) -> Step | None:
        """The step with that key, also as records hold it; None if it no longer exists."""
        place = self._places.get(self.key_of(key))
        return place[1] if place is not None else None

    def key_of(self, recorded: tuple[str, str, int]) -> StepKey:
        """The key of the step that a record names by section, text and occurrence; the record's own if it is gone."""
        return self._keys.present(recorded)

    def step(self, number_or_text: str) -> Step:
        """The step with that number (`1.2`, or the list's own: `7`, `Step 7.5`) or text.

        If there is none, the only step that contains the text; case is ignored.

        Raises:
            Refused: no step or several steps match; the message lists them.
        """
        wanted = " ".join(number_or_text.split())
        steps = self.steps
        number = _STEP_WORD.sub("", wanted, count=1) if _STEP_WORD.match(wanted) else wanted
        by_number = [step for step in steps if step.number == number]
        by_number = by_number or [step for step in steps if step.written_number == number.rstrip(".)")]
        if len(by_number) == 1:
            return by_number[0]
        folded = [(step, " ".join(step.text.split())) for step in steps]
        found = by_number or [step for step, text in folded if text == wanted]
        # “1” would be found in “Kernel 5.10”: a number is not text.
        if not found and wanted and not re.fullmatch(r"\d+(?:\.\d+)*", wanted):
            found = [step for step, text in folded if wanted.casefold() in text.casefold()]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(
                f"“{wanted}” matches {len(found)} steps of {self.path.name}: {_names(found)}; give the number."
            )
        raise Refused(f"{self.path.name} has no step “{wanted}”; it has {_names(steps)}.")


def _names(steps: list[Step] | tuple[Step, ...], limit: int = 40) -> str:
    shown = ", ".join(step.number for step in steps[:limit])
    return shown if len(steps) <= limit else f"{shown} and {len(steps) - limit} more"


Scan = Callable[[bytes, Path], list[Entry]]


def parse(data: bytes, path: Path, scan: Scan | None = None) -> Checklist:
    """Parse a checklist. `path` is only used in titles and messages; `scan` replaces the scanner.

    Raises:
        Refused: there are no task items, or the file has invalid UTF-8, NUL bytes, a malformed llmval comment or an
            item that is too long; the message has the line.
    """
    if scan is None:
        from llmval_tui.checklist import markdown

        scan = markdown.scan
    groups: list[tuple[Heading, list[Item]]] = [(Heading(0, path.name, 1), [])]
    for entry in scan(data, path):
        if isinstance(entry, Heading):
            groups.append((entry, []))
        else:
            groups[-1][1].append(entry)
    title = next((heading.title for heading, _ in groups if heading.level == 1), "") or path.name
    all_groups, groups = groups, [(heading, items) for heading, items in groups if items]
    if not groups:
        raise Refused(f"{path} has no task items from line 1 to its end: add lines such as “- [ ] Run: `…`”.")
    seen: Counter[tuple[str, str]] = Counter()
    sections = []
    inherited = _inherited([heading for heading, _ in all_groups])
    numbered = numbers_of([(heading.title, items) for heading, items in groups])
    for numbers, (heading, items) in zip(numbered, groups, strict=True):
        steps = []
        path_to: list[str] = []  # the numbers of the items that contain the present one, the outermost first
        for number, written, item in zip(numbers.items, numbers.written, items, strict=True):
            seen[heading.title, item.text] += 1
            del path_to[item.depth :]
            steps.append(
                Step(
                    number=number,
                    section=heading.title,
                    text=item.text,
                    spans=item.spans,
                    checked=item.checked,
                    occurrence=seen[heading.title, item.text],
                    line=item.line,
                    mark_offset=item.mark_offset,
                    end_offset=item.end_offset,
                    directives=item.directives,
                    blocks=item.blocks,
                    parent=path_to[-1] if path_to else None,
                    written_number=written,
                    introduction=item.introduction,
                    deviation=item.deviation,
                    deviation_range=item.deviation_range,
                )
            )
            path_to.append(number)
        line = heading.line if heading.level else items[0].line
        sections.append(Section(numbers.section, heading.title, line, tuple(steps), inherited[id(heading)]))
    return Checklist(path, title, tuple(sections), data)


def _inherited(headings: list[Heading]) -> dict[int, dict[str, str]]:
    """The directives of each heading, by its `id`: those of the headings that contain it, then its own."""
    found: dict[int, dict[str, str]] = {}
    containing: list[Heading] = []
    for heading in headings:
        # Level 0 contains all: a comment before the first heading is about the whole list.
        containing = [one for one in containing if one.level < heading.level]
        containing.append(heading)
        found[id(heading)] = {key: value for one in containing for key, value in one.directives.items()}
    return found


@lru_cache(maxsize=4)  # one command reads its list several times; the same bytes are the same list
def _parsed(data: bytes, path: Path, scan: Scan | None) -> Checklist:
    return parse(data, path, scan)


def load(path: Path, scan: Scan | None = None) -> Checklist:
    """Read and parse the checklist at `path`.

    Raises:
        Refused: as `parse`, and if the file is missing, unreadable, a folder, a device, or larger than 2 MiB.
    """
    return _parsed(read_document(path, "a checklist"), path, scan)
