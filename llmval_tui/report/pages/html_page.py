"""Writes blocks as one self-contained HTML file: no script, no network, no web font."""

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
)
from llmval_tui.report.pages import markup
from llmval_tui.report.pages.css import CSS
from llmval_tui.report.pages.markup import esc
from llmval_tui.report.pages.sparkline import sparkline

MARKER = '<meta name="generator" content="llmval report">'
_GLYPHS = {"pass": "✔", "fail": "✘", "invalid": "⊘", "inconclusive": "?", "open": "○"}


def html_page(title: str, blocks: Sequence[Block]) -> str:
    """The page. Its content security policy forbids scripts and requests, in case any text escapes the escaping."""
    contents = "".join(
        f'<li><a href="#{esc(block.anchor)}">{esc(block.text)}</a></li>'
        for block in blocks
        if isinstance(block, Heading) and block.level == 2 and block.anchor
    )
    nav = f'<nav aria-label="Contents"><ol>{contents}</ol></nav>'
    parts = []
    for block in blocks:
        if isinstance(block, Heading) and block.level == 2 and nav:
            parts.append(nav)
            nav = ""
        parts.append(_block(block))
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">{MARKER}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(title)}</title><style>{CSS}</style></head><body><main>\n"
        + "\n".join(parts)
        + "\n</main><footer>All figures are from the runs, the node and the versions named here. "
        "Check the hashes with sha256sum, or with llmval verify in the workspace.</footer></body></html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(level, text, anchor):
            place = f' id="{esc(anchor)}"' if anchor else ""
            return f"<h{level}{place}>{esc(text)}</h{level}>"
        case Paragraph(text, caution):
            return f'<p class="caution">{esc(text)}</p>' if caution else f"<p>{esc(text)}</p>"
        case Table(caption, columns, rows, numbers):
            cells = [[_cell(cell) for cell in row] for row in rows]
            return markup.table(caption, columns, cells, numbers=numbers)
        case CodeBlock(lines):
            return "<pre>" + "\n".join(esc(line) for line in lines) + "</pre>"
        case Plots(caption, svgs):
            columns = "" if len(svgs) == 1 else ' class="three"'
            return f"<figure><figcaption>{esc(caption)}</figcaption><div{columns}>{''.join(svgs)}</div></figure>"
        case Fold(title, blocks):
            return f"<details><summary>{esc(title)}</summary>\n" + "\n".join(map(_block, blocks)) + "\n</details>"
        case Judgement(badge, text, first):
            kinds = f"verdict {'first ' if first else ''}{esc(badge.kind)}"
            return f'<div class="{kinds}"><p>Verdict: {_cell(badge)}</p><p>{esc(text)}</p></div>'


def _cell(cell: Cell) -> str:
    match cell:
        case Code(text):
            return f"<code>{esc(text)}</code>"
        case Badge(text, kind):
            glyph = _GLYPHS.get(kind, "")
            return f'<span class="word {esc(kind)}"><span aria-hidden="true">{glyph} </span>{esc(text)}</span>'
        case Trend(text, values):
            return f"{sparkline(values)}{esc(text)}"
        case Link(text, anchor):
            return f'<a href="#{esc(anchor)}">{esc(text)}</a>'
        case _:
            return esc(cell)
