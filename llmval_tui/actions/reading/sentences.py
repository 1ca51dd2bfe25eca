"""An item's content as sentences, in which each code span or fenced block is one mark."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmval_tui.actions.reading.shell import joined
from llmval_tui.actions.reading.spans import Nature, nature_of
from llmval_tui.checklist.entries import Block
from llmval_tui.checklist.model import Step

MARK = "\ue000"  # stands for a code span or a fenced block
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^()\n\ue000]*\)")
_EMPHASIS = re.compile(r"\*{1,3}|(?<![\w/])_{1,2}(?=\S)|(?<=\S)_{1,2}(?![\w/])")
_ABBREVIATIONS = re.compile(
    r"\b(e\.\s?g|i\.\s?e|etc|vs|resp|approx|incl|z\.\s?B|bzw|d\.\s?h|no|nr|fig|sec|min|max)\.", re.I
)
_DOT = "\ue001"  # a dot that ends no sentence
_END = re.compile(r"(?<=[.!?;])[)\"”']?\s+|(?<=[。！？；])\s*|(?<=\ue000)\s*\n\s*(?=[A-Z])")


@dataclass(slots=True)
class Code:
    """A code span or a fenced block, and where it stands."""

    text: str
    line: int
    nature: Nature
    block: Block
    is_fence: bool = False
    is_struck: bool = False
    is_broken_fence: bool = False  # ``` and a line break inside a paragraph: meant as a block


@dataclass(slots=True)
class Sentence:
    """A sentence; the n-th mark in `text` stands for the n-th of `codes`."""

    text: str
    codes: list[Code]
    kind: str  # the kind of the block that it is in
    lead: str = ""  # the sentence above a bullet or a fence

    def before(self, index: int) -> str:
        """The text before a code, back to the sentence's start."""
        return self.text[: self._places()[index]]

    def after(self, index: int) -> str:
        """The text behind a code, to the sentence's end."""
        return self.text[self._places()[index] + 1 :]

    def between(self, index: int) -> str:
        """The text between the code before this one and this one; from the start for the first."""
        places = self._places()
        return self.text[places[index - 1] + 1 if index else 0 : places[index]]

    def until_next(self, index: int) -> str:
        """The text between this code and the next one; to the end for the last."""
        places = self._places()
        return self.text[places[index] + 1 : places[index + 1] if index + 1 < len(places) else len(self.text)]

    def _places(self) -> list[int]:
        return [match.start() for match in re.finditer(MARK, self.text)]


@dataclass(slots=True)
class Prose:
    """The sentences of an item, in order."""

    sentences: list[Sentence] = field(default_factory=list)

    def codes(self) -> Iterator[tuple[Sentence, int, Code]]:
        """Every code with its sentence and its index there."""
        for sentence in self.sentences:
            for index, code in enumerate(sentence.codes):
                yield sentence, index, code


def prose_of(step: Step) -> Prose:
    """The sentences of an item's whole content."""
    found = Prose()
    lead = ""
    for number, block in enumerate(step.blocks):
        if block.kind == "fence" or (block.kind == "quote" and not block.spans and "\n" in block.text):
            code = Code(block.text, block.line + (block.kind == "fence"), Nature.COMMAND, block, is_fence=True)
            found.sentences.append(Sentence(MARK, [code], block.kind, lead))
            continue
        is_quoted = number == 0 and block.text.startswith(">")
        sentences = _sentences(block, "quote" if is_quoted else block.kind)
        for sentence in sentences:
            sentence.lead = lead if block.kind == "bullet" else ""
        found.sentences += sentences
        if sentences and block.kind == "paragraph":
            lead = sentences[-1].text
    return found


def _sentences(block: Block, kind: str) -> list[Sentence]:
    masked, codes = _masked(block)
    found = []
    for part in _END.split(_ABBREVIATIONS.sub(lambda match: match[0].replace(".", _DOT), masked)):
        text = " ".join(part.replace(_DOT, ".").split())
        count = text.count(MARK)
        if text:
            found.append(Sentence(text, codes[:count], kind))
        codes = codes[count:]
    return found


def _masked(block: Block) -> tuple[str, list[Code]]:
    """The block's text with a mark for each span, without emphasis and the targets of links, and the spans."""
    text, at = "", 0
    codes = []
    struck = [(match.start(), match.end()) for match in re.finditer(r"~~.+?~~", block.text, re.DOTALL)]
    for span in block.spans:
        text += block.text[at : span.start] + MARK
        at = span.end
        line = block.line + block.text.count("\n", 0, span.start)
        is_struck = any(start <= span.start < end for start, end in struck)
        written = block.text[span.start : span.end]
        is_broken_fence = written.startswith("```") and "\n" in written
        nature = nature_of(span.content)
        codes.append(Code(joined(span.content), line, nature, block, False, is_struck, is_broken_fence))
    text += block.text[at:]
    text = _LINK.sub(r"\1", text)
    return _EMPHASIS.sub("", text.replace("~~", "")), codes
