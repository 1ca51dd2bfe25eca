"""The scanner's results. They are not in `markdown.py`, because that imports markdown-it-py, which is slow."""

import re
from dataclasses import dataclass, field
from typing import Literal

BlockKind = Literal["paragraph", "bullet", "fence", "quote", "table"]

ON_FAIL = "on-fail"  # the key in an llmval comment of an item, a section or a list
ON_FAIL_VALUES = ("stop", "continue")
NEEDS = "needs"  # another one: the programs without which an item is skipped
PROGRAMS = re.compile(r"[\w.+-]+(?:[,\s]+[\w.+-]+)*")  # its value


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading outside of any list or quotation."""

    level: int  # 0: what stands before the first heading
    title: str  # without llmval's comments
    line: int  # 1-based
    directives: dict[str, str] = field(default_factory=dict)  # of an llmval comment in it or below it, outside of items


@dataclass(frozen=True, slots=True)
class Span:
    """A code span inside a paragraph."""

    content: str  # with its line breaks
    start: int  # where its first backtick is in the paragraph's text
    end: int  # just after its last backtick


@dataclass(frozen=True, slots=True)
class Block:
    """One block of an item's own content. Task items nested in it are steps of their own and not part of it."""

    kind: BlockKind
    text: str  # inline Markdown with its line breaks and without HTML comments; of a fence its code as written
    line: int  # 1-based
    spans: tuple[Span, ...] = ()
    language: str = ""  # a fence's language, the first word of its info string


@dataclass(slots=True)
class Item:
    """A task-list item; the fields as in `model.Step`."""

    text: str
    spans: tuple[str, ...]
    checked: bool
    line: int
    mark_offset: int
    end_offset: int
    blocks: tuple[Block, ...] = ()  # the first one is the paragraph that `text` comes from
    depth: int = 0  # the number of task items that contain it
    ordinal: int | None = None  # its number in an ordered list, as a browser shows it
    introduction: tuple[str, ...] = ()  # what stands above it, see `model.Step`
    directives: dict[str, str] = field(default_factory=dict)
    deviation: str | None = None
    deviation_range: tuple[int, int] | None = None  # bytes of the comment and the spaces before it


Entry = Heading | Item
