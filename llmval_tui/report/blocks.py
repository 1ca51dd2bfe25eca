"""A report as blocks, before it is written as HTML or as Markdown. All text in them is plain: the writers escape it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Code:
    """A piece of text that is shown as it is: a path, a hash, a command."""

    text: str


@dataclass(frozen=True, slots=True)
class Badge:
    """A verdict's word, or a state's; `kind` is the outcome that it looks like."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Link:
    """A jump to a heading of the same report."""

    text: str
    anchor: str


Cell: TypeAlias = str | Code | Badge | Link


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: str
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence or two; `caution` is something that the reader must not miss."""

    text: str
    caution: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; `numbers` are the columns that hold figures."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numbers: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Lines as one would type them."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Plots:
    """One or several plots side by side; the caption says how to read them. The Markdown leaves them out."""

    caption: str
    svgs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A run's verdict with its sentence."""

    word: Badge
    text: str


Block: TypeAlias = Heading | Paragraph | Table | CodeBlock | Plots | Judgement
