"""Markdown documents: the tasks are those of cmark-gfm, and a tick changes one byte."""

import random
import re
from functools import cache
from pathlib import Path

from fuzzing.target import Target, Wrong
from llmval_tui.checklist.model import Checklist, parse
from llmval_tui.checklist.write_mark import marked
from llmval_tui.foundation.errors import Refused

ROOT = Path(__file__).parents[1]
PATH = Path("list.md")
PIECES = (
    "- [ ] ", "* [x] ", "+ [X] ", "1. [ ] ", "2) [x] ", "- [ ]", "- [x]\t", "-\t[ ] ", "-    [ ] ", "-     [ ] ", "> ",
    ">", "  ", "    ", "\t", "\n", "\n", "\n", "\r\n", "\n\n", "# ", "## Part\n", "Title\n===\n", "---\n", "***\n",
    "`", "``", "```\n", "~~~ sh\n", "    code\n", "<!-- ", " -->", "<!-- llmval: timeout=5s -->", "<div>", "</div>\n",
    "<pre>\n", "</pre>\n", "<textarea>", "<script>", "</script>", "<?", "?>", "<![CDATA[", "]]>",
    "<a href='", "'>", "</a>", "word", "two words", "ü", "\u00a0", "\u0085", "\u2028", "\u3000", "|", "| a | b |\n",
    "|---|---|\n", "\\", "[", "]", "](", "](x)", "![", "[ ]", "[x] ", "*", "**", "_", "~~", "&amp;",
    "- ", "* ", "1. ", "10) ", "-", "+", "\f", "\v", "\x00", "  \n", "\\\n", "https://a.b/c", "www.a.b", "[^1]",
    "- [ ] a\n  - [x] b\n    - [ ] c\n", "- [ ] `x` <!-- c -->\n",
)  # fmt: skip
_TASK = re.compile(r'<li data-sourcepos="(\d+):[^"]*"><input type="checkbox" (checked="" )?disabled="" ?/?>')
# A task whose first block is not a paragraph is one for cmark-gfm only.
_PARAGRAPH = re.compile(r"(?!\s*<(?:h\d|pre|ul|ol|blockquote|hr|table)\b)")
_ITEM = re.compile(r'<li data-sourcepos="(\d+):[^"]*">\s*(?:<(?:p|h\d)[^>]*>)?\[[ xX]\]\s')
# What cmark-gfm takes for a task: it wants the list marker first in the line, and no text before it.
_PLAIN = re.compile(r"[ \t\v\f]*(?:[-+*]|\d+[.)])[ \t\v\f]+\[[ xX]\][ \t\v\f\r\n]")
# A box without a text in its line: no task here, since a step needs a name, and none or an empty one for cmark-gfm.
_EMPTY = re.compile(r"\[[ xX]\]\s*(?:<!--.*)?$", re.MULTILINE)
# Where cmark-gfm leaves the specification: such a tag starts an HTML block even in a paragraph, a list that
# does not begin with 1 may not follow a reference, a line without a pipe is the head of a table, a form feed is an
# indent, and a number of ten digits before a box takes the mark of the list item around it. markdown-it leaves it for
# a quotation sign that is indented by four columns inside a quotation.
_OTHERWISE = re.compile(
    r"^[ >]*</?(?:a|pre|script|style|textarea)\b[^>]*>\s*$|\]:|^[ >]*\|\s*-+\s*\|?\s*$|[\f\v]|\d{10,}"
    r"|^[ >]*(?: {4}|\t)\s*>",
    re.MULTILINE | re.IGNORECASE,
)
_MARKER = re.compile(r"[\s>]*(?:[-+*]|\d+[.)])\s")
_BOX = re.compile(r"\[[xX]\]")


@cache
def _chapters() -> list[list[str]]:
    """The lines of the documents of this repository."""
    found = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md"), ROOT / "README.md"])
    return [path.read_text().splitlines(keepends=True) for path in found if path.is_file()]


def _document(chance: random.Random) -> str:
    if chance.random() < 0.6:
        first = chance.choice(("", "- [ ] first\n", "1. [x] first\n\n"))
        return first + "".join(chance.choices(PIECES, k=chance.randrange(1, 40)))
    lines = chance.choice(_chapters())
    start = chance.randrange(len(lines))
    part = lines[start : start + chance.randrange(1, 30)]
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(part))
        place = chance.randrange(len(part[at]) + 1)
        part[at] = part[at][:place] + chance.choice(PIECES) + part[at][place + chance.randrange(3) :]
    return "".join(part)


class Reference:
    """The document as cmark-gfm sees it, by line from 1."""

    def __init__(self, text: str) -> None:
        import cmarkgfm
        from cmarkgfm.cmark import Options

        flags = Options.CMARK_OPT_UNSAFE | Options.CMARK_OPT_SOURCEPOS
        html = cmarkgfm.markdown_to_html_with_extensions(text, flags, extensions=("table", "tasklist"))
        found = list(_TASK.finditer(html))
        self.tasks = {int(match[1]): bool(match[2]) for match in found}
        self.certain = {int(match[1]) for match in found if _PARAGRAPH.match(html, match.end())}
        self.items = {int(match[1]) for match in _ITEM.finditer(html)}  # list items whose text begins with a box

    def differs(self, checklist: Checklist) -> str | None:
        """What is otherwise in our reading; None if nothing is."""
        source = checklist.source.decode()
        lines = _lines(source)
        for step in checklist.steps:
            line = lines[step.line - 1] + "\n"
            if not _MARKER.match(line):
                continue  # the list marker stands alone in the line above
            if step.line not in self.tasks and (_PLAIN.match(line) or step.line not in self.items):
                return f"the task in line {step.line} is none for cmark-gfm"
            # cmark-gfm looks for a ticked box in all that follows.
            alone = len(_BOX.findall("\n".join(lines[step.line - 1 :]))) == step.checked
            if step.line in self.tasks and alone and step.checked != self.tasks[step.line]:
                return f"the mark of line {step.line}"
        return self.missing({step.line for step in checklist.steps})

    def missing(self, ours: set[int]) -> str | None:
        """A task of cmark-gfm that is not in a line of `ours`."""
        found = sorted(self.certain - ours)
        return f"line {found[0]} is a task for cmark-gfm" if found else None


def _lines(source: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", source)


def needs() -> str | None:
    try:
        import cmarkgfm  # noqa: F401
    except ImportError:
        return "the package cmarkgfm is not installed"
    return None


def case(chance: random.Random) -> str:
    """One random document."""
    text = _document(chance)
    if "<input" in text or _OTHERWISE.search(text) or _EMPTY.search(text) or text.startswith(("---", "\ufeff")):
        return "left out"  # front matter is known to llmval only
    data = text.encode()
    try:
        checklist = parse(data, PATH)
    except Refused as refusal:
        if "\n" in str(refusal):
            raise Wrong(f"{text!r} is refused in several lines: {refusal}") from refusal
        if "has no task items" in str(refusal) and Reference(text).missing(set()):
            raise Wrong(f"{text!r} has tasks for cmark-gfm, and none here") from refusal
        return "refused"
    if difference := Reference(text).differs(checklist):
        raise Wrong(f"{text!r}: {difference}")
    _tick(checklist, chance)
    return "the same tasks, and one byte a tick"


def _tick(checklist: Checklist, chance: random.Random) -> None:
    number = chance.randrange(len(checklist.steps))
    step = checklist.steps[number]
    before = checklist.source
    after = marked(checklist, step.key, not step.checked)
    differing = [at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new]
    if len(before) != len(after) or differing != [step.mark_offset]:
        raise Wrong(f"{before!r}: ticking task {number} changes {differing} and {len(after) - len(before)} bytes")
    parsed = parse(after, PATH)
    if [one.checked for one in parsed.steps] != [
        one.checked != (at == number) for at, one in enumerate(checklist.steps)
    ]:
        raise Wrong(f"{before!r}: ticking task {number} changes another one")
    if difference := Reference(after.decode()).differs(parsed):
        raise Wrong(f"{before!r}: after ticking task {number}, {difference}")
    back = marked(parsed, step.key, step.checked)
    if back != before and before[step.mark_offset : step.mark_offset + 1] != b"X":
        raise Wrong(f"{before!r}: ticking and unticking task {number} gives {back!r}")


TARGET = Target(
    "documents",
    "random and mutated Markdown: the tasks of cmark-gfm, one byte a tick, the same bytes after unticking",
    case,
    300_000,
    needs,
    packages=("llmval_tui.checklist",),
)
