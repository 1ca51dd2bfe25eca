"""What the scanner finds in a checklist's Markdown; apart from it, for the scanner imports markdown-it-py."""

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
    deviation_range: tuple[int, int] | None = None  # bytes of the comment with the blanks before it


Entry = Heading | Item
