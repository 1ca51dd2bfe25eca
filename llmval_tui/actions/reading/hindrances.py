"""What keeps a command from starting: the hindrances of `hindrance_words` around one code of a sentence."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmval_tui.actions.reading.hindrance_words import FANOUT, PATTERNS, RUN
from llmval_tui.actions.reading.sentences import MARK, Code, Sentence

_FANOUT = re.compile(FANOUT)
_OUTCOME = re.compile(
    r"(?:[,;—–]|\band\b|\bbut\b)\s*(?:then\s+)?(?:if|when|should|unless)\s+(?:it|this|that|they|any|anything"
    r"|one|there"
    r"|something|nothing|not|so|the (?:check|test|command|run|result|output|script|job))\b",
    re.I,
)
_WHETHER = re.compile(
    r"\b(?:check|see|verify|test|determine|find out|confirm|decide|know|tell)\s+(?:if"
    r"|when)\b",
    re.I,
)
_DOUBLE = re.compile(r"\b(?:do not|don['’]?t|never)\s+(?:forget|skip|omit|miss|neglect|hesitate)\b", re.I)


# A sentence without a command that restricts the item's command.
_RESTRICTION = re.compile(
    r"^\W*(?:only\s+(?:if|when|on|for|in|after|needed|necessary|required|once|applies|with)|skip\b|optional\b"
    r"|not (?:needed|necessary|required|on|for|if|when|applicable)\b|(?:do not|don['’]?t|never)\s+(?:do|run|use"
    r"|execute|try"
    r"|repeat|start)\b|(?:applies|needed|required|necessary|relevant|valid) only|n/a\b|obsolete|deprecated|no longer)"
    r"|\bonly (?:if|when)\b|\b(?:if|where) (?:needed|necessary|required|applicable)\b|\(optional\)"
    r"|\bthis (?:step |item |test )?is (?:optional|only|not)\b|\b(?:the answer is no|nothing to do)\b",
    re.I,
)

_COMPILED = {
    name: [
        (
            re.compile(one.before, re.I) if one.before else None,
            re.compile(one.after, re.I) if one.after else None,
            re.compile(one.above, re.I) if one.above else None,
        )
        for one in patterns
    ]
    for name, patterns in PATTERNS.items()
}


@dataclass(frozen=True, slots=True)
class Hindrance:
    """The name of a hindrance, and the words that say so."""

    name: str
    words: str


def hindrances_of(sentence: Sentence, index: int, code: Code) -> Iterator[Hindrance]:
    """The hindrances in a code's own sentence, and in the sentence that leads to it."""
    before, after = sentence.before(index), sentence.after(index)
    lead = sentence.lead if sentence.kind in ("bullet", "fence", "paragraph") else ""
    before = _DOUBLE.sub(" ", _WHETHER.sub(" ", before))
    lead = _DOUBLE.sub(" ", _WHETHER.sub(" ", lead))
    for name, patterns in _COMPILED.items():
        # "Rather than `a`, use `b`": the words speak of the first one.
        own = sentence.between(index)
        turned = name == "prohibition" and index and re.match(rf"\s*[,;—–]\W*(?:but\s+)?{RUN}\b", own, re.I)
        for number, (in_before, in_after, _) in enumerate(patterns):
            if name == "another machine" and _is_reached(code.text, number):
                continue
            match = in_before.search(own if turned else before) if in_before else None
            match = match or (in_before.search(lead) if in_before and lead else None)
            if match is None and in_after:
                match = next(
                    (
                        one
                        for one in in_after.finditer(after)
                        if not _is_outcome(name, after, one) and not _is_in_command(code.text, one)
                    ),
                    None,
                )
            if match is not None:
                yield Hindrance(name, _words(match[0]))
                break


def _is_reached(text: str, number: int) -> bool:
    """Whether the command itself goes to the other machines, or becomes the other user."""
    return bool(_FANOUT.match(text)) if number == 2 else text.startswith("sudo ") if number == 1 else False


def _is_in_command(text: str, match: re.Match[str]) -> bool:
    """Whether the command itself has the numbers with which it shall run: "`x --tp 2,4,8` with TP 2, 4 and 8"."""
    series = match.groupdict().get("series")
    if series is None:
        return False
    written = re.findall(r"\d+", text)
    return all(number in written for number in re.findall(r"\d+", series))


def _is_outcome(name: str, after: str, match: re.Match[str]) -> bool:
    """Whether a condition behind a command says what comes next ("…, if it fails, call"), not whether it runs."""
    if name != "condition":
        return False
    return any(one.start() <= match.start() < one.end() for one in _OUTCOME.finditer(after))


def above_of(texts: tuple[str, ...]) -> Iterator[Hindrance]:
    """The hindrances in a title or an introduction."""
    for text in texts:
        for name, patterns in _COMPILED.items():
            for _, _, above in patterns:
                if above is not None and (match := above.search(text)):
                    yield Hindrance(name, _words(match[0]))


def restriction_of(sentence: Sentence) -> Hindrance | None:
    """The restriction in a sentence without a command; None if it has none."""
    match = _RESTRICTION.search(sentence.text)
    return Hindrance("condition", _words(match[0])) if match else None


def _words(text: str) -> str:
    return " ".join(text.replace(MARK, "…").split()).strip(" ,;:(—–-.") or text.strip()
