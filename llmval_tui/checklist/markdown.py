"""The scanner: headings and task-list items of a Markdown file with their byte offsets, from markdown-it-py."""

import re
import shlex
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline, html_inline
from markdown_it.token import Token

from llmval_tui.checklist.document import decode
from llmval_tui.checklist.entries import Entry, Heading, Item
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

# Far above any real checklist; a hostile file then takes only seconds to parse.
MAX_DOCUMENT_BYTES = 512 * 1024
MAX_LINES = 10_000
MAX_ITEM_CHARS = 20_000
MAX_NESTING = 40  # nested containers; a list and its item count as two

_NEWLINE = re.compile(rb"\r\n?|\n")
# GitHub's task list item: a box, white space, and text.
_BOX = re.compile(r"\[([ xX])\](?=\s)")
_COMMENT = re.compile(r"<!--\s*llmval:\s(.*?)\s*-->", re.DOTALL)
_DEVIATION = "deviation:"
_DIRECTIVE = re.compile(r"([a-z][a-z0-9_-]*)=(.*)", re.DOTALL)


def scan(data: bytes, path: Path) -> list[Entry]:
    """Headings and task-list items of a Markdown document in order; nested items follow their parent.

    Raises:
        Refused: not text, an item that is too long, or an invalid llmval comment; the message has the line.
    """
    return _Scanner(data, path).scan()


def _recording_html_inline(state: StateInline, silent: bool) -> bool:
    """markdown-it-py's own rule; the token also gets its position in the item's source."""
    start = state.pos
    matched = html_inline(state, silent)
    if matched and not silent:
        state.tokens[-1].meta = {"start": start, "end": state.pos}
    return matched


def _parser() -> MarkdownIt:
    # With tables as on GitHub, since they end an item's paragraph. Only items get inline parsing, and only for syntax
    # that can contain or hide a code span or a comment. Links and emphasis cannot, and are slowest on hostile input.
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}).enable("table")
    parser.disable(["inline", "text_join", "link", "image", "emphasis", "entity", "balance_pairs", "fragments_join"])
    parser.inline.ruler.at("html_inline", _recording_html_inline)
    return parser


class _Scanner:
    def __init__(self, data: bytes, path: Path) -> None:
        self.path = path
        text = decode(data, path)
        self.parser = _parser()
        self.env: dict[str, object] = {}
        self.lines: list[str] = []
        self.starts: list[int] = []  # byte offset of each line
        start = 0
        # A byte order mark stays in the first line here, though not in `text`: lines are aligned at their right ends.
        for end in _NEWLINE.finditer(data):
            self._add_line(data, start, end.start())
            start = end.end()
        self._add_line(data, start, len(data))
        if len(data) > MAX_DOCUMENT_BYTES or len(self.lines) > MAX_LINES:
            raise Refused(
                f"{path} has {len(data)} bytes in {len(self.lines)} lines; a checklist may have {MAX_DOCUMENT_BYTES} "
                f"bytes and {MAX_LINES} lines: split it, or check the name."
            )
        self.tokens = self.parser.parse(text, self.env)

    def _add_line(self, data: bytes, start: int, end: int) -> None:
        self.starts.append(start)
        self.lines.append(data[start:end].decode())

    def scan(self) -> list[Entry]:
        found: list[Entry] = []
        open_items: list[tuple[int, Item | None]] = []  # level of the list item, and its step, if it is one
        for index, token in enumerate(self.tokens):
            if token.nesting == 1 and token.level + 1 >= MAX_NESTING:
                # markdown-it silently drops deeper content.
                raise Refused(
                    f"{self.path}, line {_first_line(token)}: lists or quotations are nested too deep: flatten them."
                )
            if token.type == "heading_open" and token.level == 0:
                inline = self.tokens[index + 1]
                found.append(Heading(int(token.tag[1:]), self._title(inline), _first_line(token)))
            elif token.type == "list_item_open":
                item = self._item(index)
                open_items.append((token.level, item))
                if item is not None:
                    found.append(item)
            elif token.type == "list_item_close":
                open_items.pop()
            elif token.type == "html_block" and open_items:
                level, item = open_items[-1]
                if item is not None and token.level == level + 1:
                    self._block_comments(token, item)
        return found

    def _title(self, inline: Token) -> str:
        return clean_line(" ".join(inline.content.split()))

    def _item(self, index: int) -> Item | None:
        """The step of the list item that starts at token `index`; None if it has no box."""
        if index + 2 >= len(self.tokens) or self.tokens[index + 1].type != "paragraph_open":
            return None
        inline = self.tokens[index + 2]
        box = _BOX.match(inline.content)
        if box is None or not inline.content[box.end() :].strip():
            return None
        line = _first_line(inline)
        if len(inline.content) > MAX_ITEM_CHARS:
            raise Refused(
                f"{self.path}, line {line}: this item has {len(inline.content)} characters; "
                f"{MAX_ITEM_CHARS} are allowed: shorten it."
            )
        offsets = _OffsetMap(self, inline)
        children: list[Token] = []
        self.parser.inline.parse(inline.content, self.parser, self.env, children)
        item = Item(
            text="",
            spans=tuple(child.content for child in children if child.type == "code_inline"),
            checked=box[1] != " ",
            line=line,
            mark_offset=offsets.offset(box.start(1)),
            end_offset=offsets.offset(len(inline.content)),
        )
        pieces, at = [], box.end()
        for child in children:
            if child.type == "html_inline" and (comment := _COMMENT.fullmatch(child.content)):
                start, end = child.meta["start"], child.meta["end"]
                before = inline.content[at:start]
                pieces.append(before.rstrip())
                at = end
                blanks = len(before) - len(before.rstrip(" \t"))
                self._comment(item, comment[1], (offsets.offset(start - blanks), offsets.offset(end)), line)
        pieces.append(inline.content[at:])
        item.text = clean_line(re.sub(r"[ \t]*\n[ \t]*", " ", "".join(pieces)).strip())
        # A box with only a comment after it is no step.
        return item if item.text else None

    def _block_comments(self, token: Token, item: Item) -> None:
        """Read the llmval comments on their own lines inside the item."""
        assert token.map is not None
        for number in range(*token.map):
            for comment in _COMMENT.finditer(self.lines[number]):
                span = (self.byte_at(number, comment.start()), self.byte_at(number, comment.end()))
                self._comment(item, comment[1], span, number + 1)

    def _comment(self, item: Item, body: str, span: tuple[int, int], line: int) -> None:
        if body.startswith(_DEVIATION):
            item.deviation = clean_line(" ".join(body.removeprefix(_DEVIATION).split()))
            item.deviation_range = span
            return
        try:
            words = shlex.split(body)
        except ValueError:
            words = [body]
        for word in words:
            match = _DIRECTIVE.fullmatch(word)
            if match is None:
                raise Refused(
                    f"{self.path}, line {line}: the llmval comment contains “{clean_line(' '.join(word.split()))}”; "
                    'write key=value words, as in <!-- llmval: action=findings_note document="docs/my notes.md" -->.'
                )
            item.directives[match[1]] = match[2]

    def byte_at(self, line: int, column: int) -> int:
        """The byte offset in the file of a 0-based column in a 0-based line."""
        return self.starts[line] + len(self.lines[line][:column].encode())


class _OffsetMap:
    """Maps a position in a paragraph's content to a byte offset in the file.

    The content's lines are the file's lines without the prefixes of their containers (indentation, `>`, list markers),
    so both are aligned at their right ends.
    """

    def __init__(self, scanner: _Scanner, inline: Token) -> None:
        assert inline.map is not None
        self.scanner, self.first = scanner, inline.map[0]
        self.content = inline.content

    def offset(self, position: int) -> int:
        before = self.content.count("\n", 0, position)
        start = self.content.rfind("\n", 0, position) + 1
        end = self.content.find("\n", position)
        line = self.content[start : end if end >= 0 else len(self.content)].rstrip()
        source = self.scanner.lines[self.first + before].rstrip()
        column = min(position - start, len(line))
        return self.scanner.byte_at(self.first + before, len(source) - len(line) + column)


def _first_line(token: Token) -> int:
    assert token.map is not None
    return token.map[0] + 1
