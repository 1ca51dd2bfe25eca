"""The words of an item as clauses, with marks in place of its commands and of other quoted text."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.units import unit_named

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript

# Private characters: one for each command of the item, one for each other code span or quotation.
_COMMANDS, _LITERALS, _END = 0xE000, 0xE100, 0xF000
COMMAND = "[\ue000-\ue0ff]"
LITERAL = "[\ue100-\uefff]"
_QUOTED = re.compile(
    r"(`+)(?P<code>.+?)\1(?!`)|[“„](?P<a>[^“”„\n]{1,200})[”“]|「(?P<b>[^」\n]{1,200})」|«(?P<c>[^»\n]{1,200})»"
    r'|(?<![\w=])"(?P<d>[^"\n]{1,200})"',
    re.DOTALL,
)
# A quoted value that reads like plain words: a number with its unit, a version, a comparison.
_VALUE = re.compile(
    r"v?[-−]?\d[\d.,]*\s?(?P<unit>[%°A-Za-zµμ/]{0,8})|[<>≤≥=!]=?\s*-?\d\S*(?:\s?\S{1,8})?|"
    r"[\w.@% -]{1,40}\s*(?:<=|>=|==|!=|≤|≥|<|>)\s*-?\d[\d.,]*\s*\S{0,8}"
)
_ABBREVIATIONS = ((r"\b(max|min|approx|ca|vs|mind|incl)\.", r"\1"), (r"\be\.g\.", "eg"), (r"\bi\.e\.", "ie"))
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n{2,}")
_CLAUSE = re.compile(
    r"\s*(?:;|；|：|(?<!output)(?<!status)(?<!state)(?<!result):(?=\s|$)|[()]|(?<!\d)[—–]|[—–](?!\d)|\s-+>?\s|→|,(?!\d)|、|\band\b|\bund\b|\bet\b)\s*"
)
# "to confirm the capability (10.0? 10.3?)"; but "(all running?)" asks what the command must show.
_QUESTION_ASIDE = re.compile(
    r"\s*\((?!\s*(?:all|any|is|are|does|do|did|has|have|no|new|still|both|every\w*|nothing)\b)[^()]*[?？][^()]*\)",
    re.IGNORECASE,
)
# "score in [0.74, 0.76]"
_INTERVAL = re.compile(
    r"\s(?:(?:is|be|lies?|stays?)\s+)?(?:in|within|∈)\s*\[\s*(-?[\d.]+)\s*[,;…]\s*(-?[\d.]+)\s*\](?!\()"
)
_ARROWS = re.compile(r"[⇒⟹⟶➔➜➙➡👉▶⮕]\ufe0f?|[-—–=]{2,}>")
# "`nproc` => 10 or less": behind a command it points at the result, it is no "≥".
_ARROW_BEHIND = re.compile(rf"({COMMAND}[\s)\]*_,]*)=>\s*")
_BETWEEN = re.compile(r"\b(between|zwischen|entre)\s+(\S+(?:\s\S+)?)\s+(?:and|und|et|y)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Marked:
    """A block's words. Each clause belongs to a sentence, and speaks of a command."""

    sentences: tuple[tuple[str, ...], ...]  # clauses of each sentence, with marks
    literals: tuple[str, ...]
    text: str
    commands: tuple[str, ...] = ()  # as written, on one line each

    def literal(self, mark: str) -> str:
        return self.literals[ord(mark) - _LITERALS]

    def plain(self, clause: str) -> str:
        """The clause as the item writes it, without its commands."""
        found = re.sub(LITERAL, lambda mark: f"`{self.literal(mark[0])}`", re.sub(COMMAND, " ", clause))
        return " ".join(found.split()).strip(" ,.;:*_")

    def command_near(self, clause: str) -> int | None:
        """The position of the command that a clause speaks of: in it, or the last one before it, or the next one."""
        inside = re.search(COMMAND, clause)
        if inside:
            return ord(inside[0]) - _COMMANDS
        at = self.text.find(clause)
        before = re.findall(COMMAND, self.text[:at] if at >= 0 else self.text)
        after = re.findall(COMMAND, self.text)
        mark = before[-1] if before else after[0] if after else None
        return ord(mark) - _COMMANDS if mark else None


def marked(text: str, commands: "Sequence[WrittenCommand | WrittenScript]") -> Marked:
    """Split a paragraph into sentences and clauses."""
    known = [" ".join(command.text.replace("\\\n", " ").split()) for command in commands]
    literals: list[str] = []

    def mark(match: re.Match[str]) -> str:
        content = next(part for part in match.groups()[1:] if part is not None)
        squeezed = " ".join(content.replace("\\\n", " ").split())
        if match["code"] is not None:
            for position, command in enumerate(known):
                if command and (squeezed == command or command in squeezed or squeezed.removeprefix("$ ") == command):
                    return chr(_COMMANDS + min(position, 0xFF))
        value = _VALUE.fullmatch(squeezed)
        if value and (not value["unit"] or unit_named(value["unit"])):
            return squeezed
        if len(literals) >= _END - _LITERALS:
            return ""
        literals.append(squeezed)
        return chr(_LITERALS + len(literals) - 1)

    words = text if text.isascii() else re.sub(r"[\ue000-\uefff]", "", text)
    words = _ARROWS.sub("→", _QUOTED.sub(mark, words))
    words = _ARROW_BEHIND.sub(r"\1 → ", words)
    words = _INTERVAL.sub(r" is between \1 … \2 ", words)
    words = re.sub(r"\]\([^()\s]*\)|!?\[|\]", " ", words)  # a link's address is not prose
    words = re.sub(r"\*\*|__|~~|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)", "", words)
    words = re.sub(r"[ \t]*\n[ \t]*(?!\n)", " ", words)
    for pattern, instead in _ABBREVIATIONS:
        words = re.sub(pattern, instead, words, flags=re.IGNORECASE)
    words = _BETWEEN.sub(r"\1 \2 … ", words)
    words = _QUESTION_ASIDE.sub(" ", words)
    sentences = tuple(
        tuple(clause for clause in _CLAUSE.split(sentence) if clause.strip())
        for sentence in _SENTENCE.split(words)
        if sentence.strip()
    )
    return Marked(sentences, tuple(literals), words, tuple(known))
