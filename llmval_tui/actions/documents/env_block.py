"""The environment block of a document: `export NAME=value` lines in a fenced code block."""

import re
import shlex

from markdown_it import MarkdownIt
from markdown_it.token import Token

from llmval_tui.foundation.errors import Refused

_MARKER = re.compile(r"<!--\s*llmval:env(?:\s+([A-Za-z0-9_-]+))?\s*-->")
_EXPORT = re.compile(r"^\s*export\s", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def environment_block(text: str, document: str, name: str | None = None) -> dict[str, str]:
    """The variables of the block marked `<!-- llmval:env NAME -->`.

    Without `name`: the block marked `nvlink`, else the first marked block, else the first with `export` lines.

    Raises:
        Refused: the block does not exist, or a line in it is more than `export NAME=value`.
    """
    marked, plain = _blocks(text)
    if name is not None:
        if name not in marked:
            known = ", ".join(marked) or "none"
            raise Refused(f"{document} has no block marked <!-- llmval:env {name} -->; it has {known}.")
        return _variables(marked[name], document)
    if marked:
        return _variables(marked.get("nvlink") or next(iter(marked.values())), document)
    found = next((block for block in plain if _EXPORT.search(block.content)), None)
    if found is None:
        raise Refused(
            f"{document} has no code block with export lines: add one below a line <!-- llmval:env nvlink -->."
        )
    return _variables(found, document)


def _blocks(text: str) -> tuple[dict[str, Token], list[Token]]:
    marked: dict[str, Token] = {}
    plain: list[Token] = []
    waiting: str | None = None
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block" and (match := _MARKER.search(token.content)):
            waiting = match[1] or ""
        elif token.type == "fence":
            plain.append(token)
            if waiting is not None:
                marked.setdefault(waiting, token)
            waiting = None
        elif token.type != "html_block":
            waiting = None
    return marked, plain


def _variables(block: Token, document: str) -> dict[str, str]:
    first = (block.map[0] if block.map else 0) + 2  # 1-based; the line after the opening fence
    found: dict[str, str] = {}
    for offset, line in enumerate(block.content.splitlines()):
        where = f"{document}, line {first + offset}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise Refused(f"{where}: a quote is not closed; write export NAME=value.") from error
        if not words:
            continue
        if words[0] != "export" or len(words) < 2:
            raise Refused(f"{where}: “{line.strip()}” is not an export line; write export NAME=value.")
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if not equals or not _NAME.fullmatch(name):
                raise Refused(f"{where}: “{word}” is not NAME=value.")
            if "$" in value or "`" in value:
                raise Refused(f"{where}: only a shell could compute {name}; write its value.")
            found[name] = value
    if not found:
        raise Refused(f"{document}, line {first}: the block exports nothing; write export NAME=value.")
    return found
