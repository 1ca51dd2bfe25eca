"""The scanner's results. They are not in `markdown.py`, because that imports markdown-it-py, which is slow."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading outside of any list or quotation."""

    level: int
    title: str
    line: int  # 1-based


@dataclass(slots=True)
class Item:
    """A task-list item; the fields as in `model.Step`."""

    text: str
    spans: tuple[str, ...]
    checked: bool
    line: int
    mark_offset: int
    end_offset: int
    directives: dict[str, str] = field(default_factory=dict)
    deviation: str | None = None
    deviation_range: tuple[int, int] | None = None  # bytes of the comment and the spaces before it


Entry = Heading | Item
