"""The scanner: headings and task-list items of a Markdown file with their byte offsets, from markdown-it-py."""

import html
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.rules_block import table
from markdown_it.rules_inline import StateInline, backtick, html_inline
from markdown_it.token import Token

from llmval_tui.checklist.document import decode
from llmval_tui.checklist.entries import NEEDS, ON_FAIL, ON_FAIL_VALUES, Block, BlockKind, Entry, Heading, Item, Span
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.text import clean_line

# Far above any real checklist; a hostile file then takes only seconds to parse.
MAX_DOCUMENT_BYTES = 512 * 1024
MAX_LINES = 10_000
MAX_ITEM_CHARS = 20_000
MAX_NESTING = 40  # nested containers; a list and its item count as two

_NEWLINE = re.compile(rb"\r\n?|\n")
# GitHub's task list item: a box, white space as cmark-gfm defines it, and text.
_BOX = re.compile(r"\[([ xX])\](?=[ \t\v\f\r\n])")
_COMMENT = re.compile(r"<!--\s*llmval:\s(.*?)\s*-->", re.DOTALL)
_DEVIATION = "deviation:"
REPEATABLE = frozenset({"artifact", "expect"})  # keys of a comment that may be repeated; their values become lines
_DIRECTIVE = re.compile(r"([a-z][a-z0-9_-]*)=(.*)", re.DOTALL)
_LINES = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+$")
_YAML_LINE = re.compile(r"[\w.\"'-][\w .\"'-]*:(?:\s|$)|[-#\]}]|\s|$")
_YAML_KEY = re.compile(r"^[\w.\"'-][\w .\"'-]*:(?:\s|$)", re.MULTILINE)
_TASK = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+\[[ xX]\]\s")
_CONTAINERS: dict[str, BlockKind] = {"blockquote_open": "quote", "table_open": "table"}


def scan(data: bytes, path: Path) -> list[Entry]:
    """Headings and task-list items of a Markdown document in order; nested items follow their parent.

    Raises:
        Refused: not text, an item that is too long, or an invalid llmval comment; the message has the line.
    """
    return _Scanner(data, path).scan()


def _recording(rule: Callable[[StateInline, bool], bool], kind: str) -> Callable[[StateInline, bool], bool]:
    """A rule of markdown-it-py whose tokens also get their position in the paragraph's source."""

    def recording(state: StateInline, silent: bool) -> bool:
        start, before = state.pos, len(state.tokens)
        matched = rule(state, silent)
        if len(state.tokens) > before and state.tokens[-1].type == kind:
            state.tokens[-1].meta = {"start": start, "end": state.pos}
        return matched

    return recording


@cache
def _parser() -> MarkdownIt:
    # With tables as on GitHub, since they end an item's paragraph. Only items get inline parsing, and only for syntax
    # that can contain or hide a code span or a comment. Links and emphasis cannot, and are slowest on hostile input.
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING})
    # After lists and the like, as in cmark-gfm: with markdown-it's own order, `- [ ] a |` above `---` is a table.
    parser.block.ruler.before("lheading", "table_after_lists", table, {"alt": ["paragraph", "reference"]})
    parser.disable(["inline", "text_join", "link", "image", "emphasis", "entity", "balance_pairs", "fragments_join"])
    parser.inline.ruler.at("html_inline", _recording(html_inline, "html_inline"))
    parser.inline.ruler.at("backticks", _recording(backtick, "code_inline"))
    return parser


@dataclass(slots=True)
class _Container:
    """An open list item, quotation or table."""

    kind: "BlockKind"  # of a paragraph in it
    level: int
    item: Item | None = None  # of a task item, and
    first: Token | None = None  # the text beside its box
    text: str = ""  # of a plain list item


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
        self.tokens = self.parser.parse(_without_front_matter(text), self.env)

    def _add_line(self, data: bytes, start: int, end: int) -> None:
        self.starts.append(start)
        self.lines.append(data[start:end].decode())

    def scan(self) -> list[Entry]:
        found: list[Entry] = []
        containers: list[_Container] = []
        ordinals: list[int | None] = []  # of each open list, the next item's number; None for bullets
        above = ""  # the paragraph directly above the present list
        for index, token in enumerate(self.tokens):
            if token.nesting == 1 and token.level + 1 >= MAX_NESTING:
                # markdown-it silently drops deeper content.
                raise Refused(
                    f"{self.path}, line {_first_line(token)}: lists or quotations are nested too deep: flatten them."
                )
            if token.type == "heading_open" and token.level == 0:
                inline = self.tokens[index + 1]
                found.append(self._heading(int(token.tag[1:]), inline))
            elif token.type == "html_block" and token.level == 0:
                self._section_comments(token, found)
            elif token.type in ("bullet_list_open", "ordered_list_open"):
                ordinals.append(int(token.attrs.get("start", 1)) if token.type == "ordered_list_open" else None)
            elif token.type in ("bullet_list_close", "ordered_list_close"):
                ordinals.pop()
            elif token.type == "list_item_open":
                item = self._item(index)
                ordinal = ordinals[-1]
                if ordinal is not None:
                    ordinals[-1] = ordinal + 1
                if item is not None:
                    item.depth, item.ordinal = sum(one.item is not None for one in containers), ordinal
                    plain = [one.text for one in containers if one.kind == "bullet" and one.item is None]
                    item.introduction = tuple(text for text in (above, *plain) if text)
                    found.append(item)
                first = self.tokens[index + 2] if index + 2 < len(self.tokens) else token
                text = first.content if item is None and first.type == "inline" else ""
                containers.append(_Container("bullet", token.level, item, first if item else None, text))
            elif token.type in _CONTAINERS:
                containers.append(_Container(_CONTAINERS[token.type], token.level))
            elif token.type in ("list_item_close", "blockquote_close", "table_close"):
                containers.pop()
            elif containers:
                self._content(token, containers)
            elif token.type == "inline":
                above = token.content if self.tokens[index - 1].type == "paragraph_open" else ""
            elif token.type in ("fence", "code_block", "hr", "html_block"):
                above = ""
        return found

    def _content(self, token: Token, containers: "list[_Container]") -> None:
        """Add a token's content to the innermost task item that contains it."""
        kind: BlockKind = "paragraph"
        for container in reversed(containers):
            if container.item is not None:
                break
            if kind != "quote":
                kind = container.kind
        else:
            return
        item = container.item
        if token.type == "html_block" and token.level == container.level + 1:
            self._block_comments(token, item)
        elif token.type in ("fence", "code_block"):
            words = token.info.split()
            kind = "quote" if kind == "quote" else "fence"
            item.blocks += (Block(kind, token.content, _first_line(token), (), words[0] if words else ""),)
        elif token.type == "inline" and token is not container.first and token.map:
            block, comments = self._inline(token, 0, kind)
            if kind == "paragraph":
                self._inline_comments(token, comments, item)
            if block.text:
                item.blocks += (block,)

    def _heading(self, level: int, inline: Token) -> Heading:
        _, comments = self._inline(inline, 0, "paragraph")
        heading = Heading(level, "", _first_line(inline))
        title = inline.content
        for text, start, end in reversed(comments):
            comment = _COMMENT.fullmatch(text)
            if comment and self._section_comment(heading, comment[1], heading.line):
                title = title[:start] + title[end:]
        return replace(heading, title=clean_line(" ".join(title.split())))

    def _section_comments(self, token: Token, found: list[Entry]) -> None:
        """Read the llmval comments outside of items; they belong to the heading above them."""
        assert token.map is not None
        for number in range(*token.map):
            for comment in _COMMENT.finditer(self.lines[number]):
                heading = next((entry for entry in reversed(found) if isinstance(entry, Heading)), None)
                if heading is None:
                    heading = Heading(0, self.path.name, 1)
                    found.insert(0, heading)
                self._section_comment(heading, comment[1], number + 1)

    def _section_comment(self, heading: Heading, body: str, line: int) -> bool:
        """Read a comment of a heading; False if it is not made of key=value words: markers of other documents are not.

        Raises:
            Refused: a key or a value that a heading cannot have.
        """
        words = [_DIRECTIVE.fullmatch(word) for word in body.split()]
        for match in words if all(words) else ():
            assert match is not None
            is_known = match[2] in ON_FAIL_VALUES if match[1] == ON_FAIL else match[1] == NEEDS
            if not is_known:
                raise Refused(
                    f"{self.path}, line {line}: the llmval comment of a section contains “{clean_line(match[0])}”; "
                    f"a section can have {ON_FAIL}={' or '.join(ON_FAIL_VALUES)} and {NEEDS}=PROGRAM: correct it, or "
                    "put it into an item."
                )
            heading.directives[match[1]] = match[2]
        return all(words)

    def _item(self, index: int) -> Item | None:
        """The step of the list item that starts at token `index`; None if it has no box."""
        if index + 2 >= len(self.tokens) or self.tokens[index + 1].type != "paragraph_open":
            return None
        inline = self.tokens[index + 2]
        box = _BOX.match(inline.content)
        if box is None or not inline.content[box.end() :].strip():
            return None
        line = _first_line(inline)
        if not self._begins_its_line(inline, line):
            return None
        if len(inline.content) > MAX_ITEM_CHARS:
            raise Refused(
                f"{self.path}, line {line}: this item has {len(inline.content)} characters; "
                f"{MAX_ITEM_CHARS} are allowed: shorten it."
            )
        offsets = _OffsetMap(self, inline)
        block, comments = self._inline(inline, box.end(), "paragraph")
        item = Item(
            text="",
            spans=tuple(_rendered(span.content) for span in block.spans),
            checked=box[1] != " ",
            line=line,
            mark_offset=offsets.offset(box.start(1)),
            end_offset=offsets.offset(len(inline.content)),
            blocks=(block,),
        )
        pieces, at = [], box.end()
        for comment, start, end in comments:
            if _COMMENT.fullmatch(comment):
                pieces.append(inline.content[at:start].rstrip())
                at = end
        self._inline_comments(inline, comments, item)
        pieces.append(inline.content[at:])
        item.text = clean_line(re.sub(r"[ \t]*\n[ \t]*", " ", "".join(pieces)).strip())
        # A box with only a comment after it is not a step.
        return item if item.text else None

    def _begins_its_line(self, inline: Token, line: int) -> bool:
        """Whether only containers stand before the text: markdown-it drops what Python calls white space, as NBSP."""
        first = inline.content.partition("\n")[0].rstrip()
        before, found, _ = self.lines[line - 1].rstrip().rpartition(first)
        return bool(found) and before[-1:] in ("", " ", "\t", "\v", "\f", ">")

    def _inline(self, inline: Token, start: int, kind: "BlockKind") -> tuple[Block, list[tuple[str, int, int]]]:
        """The block of a paragraph from position `start` on, and its HTML comments with their positions."""
        source = inline.content
        children: list[Token] = []
        self.parser.inline.parse(source, self.parser, self.env, children)
        comments: list[tuple[str, int, int]] = []
        spans: list[Span] = []
        text, at = "", len(source) - len(source[start:].lstrip())
        opened: Token | None = None  # `<code>cmd</code>` is a code span too
        for child in children:
            if child.type == "html_inline" and _CODE_TAG.fullmatch(child.content):
                opened = child
            elif child.type == "html_inline" and _CODE_END.fullmatch(child.content) and opened is not None:
                content = html.unescape(source[opened.meta["end"] : child.meta["start"]])
                if content.strip() and "`" not in content and opened.meta["start"] >= at:
                    text += source[at : opened.meta["start"]]
                    spans.append(Span(content.strip(), len(text), len(text) + len(content) + 2))
                    text, at = f"{text}`{content}`", child.meta["end"]
                opened = None
            if child.type == "html_inline" and child.content.startswith("<!--"):
                comments.append((child.content, child.meta["start"], child.meta["end"]))
                text += source[at : child.meta["start"]].rstrip(" \t")
                at = child.meta["end"]
            elif child.type == "code_inline":
                first, last = (len(text) + child.meta[name] - at for name in ("start", "end"))
                spans.append(Span(_code(source[child.meta["start"] : child.meta["end"]], child.markup), first, last))
        text = (text + source[at:]).rstrip()
        return Block(kind, text, _first_line(inline), tuple(spans)), comments

    def _inline_comments(self, inline: Token, comments: list[tuple[str, int, int]], item: Item) -> None:
        """Read the llmval comments of a paragraph."""
        offsets = _OffsetMap(self, inline)
        for text, start, end in comments:
            if comment := _COMMENT.fullmatch(text):
                before = inline.content[:start]
                blanks = len(before) - len(before.rstrip(" \t"))
                self._comment(
                    item, comment[1], (offsets.offset(start - blanks), offsets.offset(end)), _first_line(inline)
                )

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
            key, value = match[1], match[2]
            if key in REPEATABLE:
                value = " ".join(value.splitlines())
                value = f"{item.directives[key]}\n{value}" if key in item.directives else value
            item.directives[key] = value

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


_CODE_TAG, _CODE_END = re.compile(r"<(?:code|tt)>", re.IGNORECASE), re.compile(r"</(?:code|tt)>", re.IGNORECASE)


def _without_front_matter(text: str) -> str:
    """The text with its YAML front matter blanked out; line numbers stay.

    It is the lines between `---` at the start of the file and the next `---` or `...`, if they look like YAML and have
    no task item.
    """
    lines = _LINES.findall(text) if text.startswith("---") else []
    if not lines or lines[0].strip() != "---":
        return text
    end = next((index for index, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), None)
    inner = lines[1:end]
    looks = all(_YAML_LINE.match(line) and not _TASK.match(line) for line in inner) and _YAML_KEY.search("".join(inner))
    if end is None or not looks:
        return text
    return "".join("\n" for _ in lines[: end + 1]) + "".join(lines[end + 1 :])


def _code(source: str, fence: str) -> str:
    """The content of a code span between its backticks, with its line breaks."""
    content = source[len(fence) : -len(fence)]
    ends = content[:1] in (" ", "\n") and content[-1:] in (" ", "\n")
    return content[1:-1] if ends and content.strip(" \n") else content


def _rendered(content: str) -> str:
    """A code span as Markdown shows it: a line break is a space."""
    return content.replace("\n", " ")


def _first_line(token: Token) -> int:
    assert token.map is not None
    return token.map[0] + 1
