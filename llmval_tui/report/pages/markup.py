"""Escaping for HTML and Markdown, and their tables."""

import html
import re
from collections.abc import Iterable, Sequence

from llmval_tui.foundation.text import clean_line

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~&])")


def clean(text: object) -> str:
    """Any value as one line of text, without control characters, escape sequences and lone surrogates."""
    # Replace line breaks first: clean_line drops the text before a carriage return.
    plain = str(text).replace("\r", " ").replace("\n", " ")
    return clean_line(plain).encode("utf-8", "replace").decode()


def esc(text: object) -> str:
    """Any value as the text of an HTML element or attribute."""
    return html.escape(clean(text), quote=True)


def md(text: object) -> str:
    """Any value as literal Markdown text, also inside a table cell."""
    return _MARKDOWN.sub(r"\\\1", clean(text))


def md_code(text: object) -> str:
    """Any value as a Markdown code span, also inside a table cell."""
    plain = clean(text)
    longest = max((len(run) for run in re.findall(r"`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") or not plain else ""
    # In GitHub's tables a bar needs a backslash even inside a code span.
    return f"{fence}{pad}{plain.replace('|', chr(92) + '|')}{pad}{fence}"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """An HTML table of cells that are HTML already. The first cell of a row is its header.

    Args:
        numbers: indices of the right-aligned, numeric columns.
    """
    head = "".join(f'<th scope="col"{_number(at, numbers)}>{esc(name)}</th>' for at, name in enumerate(columns))
    body = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td{_number(at, numbers)}>{cell}</td>" for at, cell in enumerate(rest, 1))
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{esc(caption)}"><table>'
        f"<caption>{esc(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _number(at: int, numbers: Sequence[int]) -> str:
    return ' class="n"' if at in numbers else ""


def md_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells that are Markdown already."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
