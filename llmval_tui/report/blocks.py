"""The blocks of a report: plain text and plots. `pages/` writes them as HTML, Markdown or text and escapes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Code:
    """Text in a fixed-width font: a path, a hash, a command."""

    text: str


@dataclass(frozen=True, slots=True)
class Badge:
    """An outcome or a state. `kind` selects its colour: pass, fail, invalid, inconclusive or open."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a heading of the same report."""

    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Trend:
    """How a figure compares with earlier runs, in words; HTML also draws the values, oldest first."""

    text: str
    values: Sequence[float]


Cell: TypeAlias = str | Code | Badge | Link | Trend


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One or two sentences; with `caution` they are highlighted."""

    text: str
    caution: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `numbers` are the indices of its numeric columns."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Lines in a fixed-width font."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Plots:
    """Plots side by side, as SVG; only HTML shows them. The caption says how to read them."""

    caption: str
    svgs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict of a run, or with `first` of the whole report, and its summary."""

    badge: Badge
    text: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that HTML shows after a click on `title`; on paper and in text they are always there."""

    title: str
    blocks: Sequence["Block"]


Block: TypeAlias = Heading | Paragraph | Table | CodeBlock | Plots | Judgement | Fold


def unfolded(blocks: Sequence[Block]) -> list[Block]:
    """The blocks with those of every fold in its place."""
    found: list[Block] = []
    for block in blocks:
        found += unfolded(block.blocks) if isinstance(block, Fold) else [block]
    return found
