"""Writes blocks as plain text for a terminal or a mail, with aligned tables."""

import textwrap
from collections.abc import Sequence
from itertools import zip_longest

from llmval_tui.report.blocks import (
    Block,
    Cell,
    CodeBlock,
    Fold,
    Heading,
    Judgement,
    Paragraph,
    Plots,
    Table,
    unfolded,
)
from llmval_tui.report.pages.markup import clean
from llmval_tui.terminal.cell_width import cell_len

_WIDTH = 120
_MAX_CELL = 56  # terminal columns of a table cell; longer text is wrapped


def text_page(blocks: Sequence[Block]) -> str:
    """The blocks with a blank line between them, without the plots."""
    return "\n\n".join(_block(block) for block in unfolded(blocks) if not isinstance(block, Plots)) + "\n"


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
        case Judgement(badge, text, _):
            return f"{clean(badge.text)}: {clean(text)}"
        case Plots() | Fold():
            return ""


def _table(table: Table) -> str:
    grid = [[clean(name) for name in table.columns], *([_plain(cell) for cell in row] for row in table.rows)]
    widths = [min(_MAX_CELL, max(cell_len(row[at]) for row in grid)) for at in range(len(table.columns))]
    lines = []
    for row in grid:
        wrapped = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            cells = []
            for at, (part, width) in enumerate(zip(parts, widths, strict=True)):
                pad = " " * (width - cell_len(part))
                cells.append(pad + part if at in table.numbers else part + pad)
            lines.append("  ".join(cells).rstrip())
    return "\n".join([clean(table.caption), *lines])


def _plain(cell: Cell) -> str:
    return clean(cell if isinstance(cell, str) else cell.text)
