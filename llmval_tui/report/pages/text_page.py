"""Blocks as plain text for a terminal or a mail: aligned tables, no control character."""

import textwrap
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

from llmval_tui.report.blocks import Block, Cell, CodeBlock, Heading, Judgement, Paragraph, Plots, Table
from llmval_tui.report.pages.markup import clean

_WIDTH = 120
_LONGEST = 56  # columns of a cell; a longer text goes on in the next line


def text_page(blocks: Sequence[Block]) -> str:
    """The blocks, one blank line between any two; plots have no text form."""
    return "\n\n".join(_block(block) for block in blocks if not isinstance(block, Plots)) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(_, text, _):
            return clean(text).upper()
        case Paragraph(text, caution):
            return textwrap.fill(("NOTE: " if caution else "") + clean(text), _WIDTH)
        case Table():
            return _table(block)
        case CodeBlock(lines):
            return "\n".join("    " + clean(line) for line in lines)
        case Judgement(word, text):
            return f"{clean(word.text)}: {clean(text)}"
        case Plots():
            return ""


def _table(table: Table) -> str:
    grid = [[clean(name) for name in table.columns], *([_plain(cell) for cell in row] for row in table.rows)]
    widths = [min(_LONGEST, max(_columns(row[at]) for row in grid)) for at in range(len(table.columns))]
    lines = []
    for row in grid:
        wrapped = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            cells = []
            for at, (part, width) in enumerate(zip(parts, widths, strict=True)):
                pad = " " * (width - _columns(part))
                cells.append(pad + part if at in table.numbers else part + pad)
            lines.append("  ".join(cells).rstrip())
    return "\n".join([clean(table.caption), *lines])


def _plain(cell: Cell) -> str:
    return clean(cell if isinstance(cell, str) else cell.text)


def _columns(text: str) -> int:
    """Terminal columns: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
