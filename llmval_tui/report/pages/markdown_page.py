"""Writes blocks as Markdown, without the plots; their figures are in the tables."""

from collections.abc import Sequence

from llmval_tui.report.blocks import (
    Badge,
    Block,
    Cell,
    Code,
    CodeBlock,
    Fold,
    Heading,
    Judgement,
    Link,
    Paragraph,
    Plots,
    Table,
    Trend,
    unfolded,
)
from llmval_tui.report.pages.markup import clean, md, md_code, md_table

MARKER = "<!-- llmval report -->"


def markdown_page(blocks: Sequence[Block]) -> str:
    """The document. Headings that have only plots below them are left out."""
    shown = [block for block in unfolded(blocks) if not isinstance(block, Plots)]
    parts = [MARKER]
    for at, block in enumerate(shown):
        following = shown[at + 1] if at + 1 < len(shown) else None
        if isinstance(block, Heading) and (following is None or _is_empty(block, following)):
            continue
        parts.append(_block(block))
    return "\n\n".join(parts) + "\n"


def _is_empty(heading: Heading, following: Block) -> bool:
    return isinstance(following, Heading) and following.level <= heading.level


def _block(block: Block) -> str:
    match block:
        case Heading(level, text, _):
            return f"{'#' * level} {md(text)}"
        case Paragraph(text, caution):
            return f"**Note:** {md(text)}" if caution else md(text)
        case Table(caption, columns, rows, _):
            return f"{md(caption)}:\n\n" + md_table(
                [md(name) for name in columns], [list(map(_cell, row)) for row in rows]
            )
        case CodeBlock(lines):
            return "\n".join("    " + clean(line) for line in lines)
        case Judgement(badge, text, _):
            return f"**Verdict: {md(badge.text)}.** {md(text)}"
        case Plots() | Fold():  # plots are left out; folds are unfolded
            return ""


def _cell(cell: Cell) -> str:
    match cell:
        case Code(text):
            return md_code(text)
        case Badge(text, _) | Link(text, _) | Trend(text, _):
            return md(text)
        case _:
            return md(cell)
