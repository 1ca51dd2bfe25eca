"""Words that demand success of everything: "all tests pass", "the health check", "no failures".

The exit code answers them, unless the output plainly says the opposite (`gates.contradictions`).
"""

import re

from llmval_tui.actions.criteria.wording.prose import LITERAL, marked

_I = re.IGNORECASE
_THING = (
    r"\b(?:all|every|each|both|everything|they|it|this|(?:self-?)?tests?|checks?|suites?|cases?|jobs?|runs?|scripts?"
    r"|commands?|builds?|diagnostics?|validations?|benchmarks?|probes?|requests?|gpus?|nodes?|ranks?|hosts?|pods?"
    r"|servers?|services?|engines?|cluster)\b"
)
_END = r"(?:\s+(?:cleanly|again|too|now|everywhere|afterwards|(?:on|in|for|across|with|using|via)\s[\w\s-]{1,30}))?\W*$"
_PASSES = re.compile(
    rf"{_THING}.*?\b(?:passes|succeeds?|successful(?:ly)?|healthy|(?:is|are|be|stays?|remains?)\s+(?:all\s+)?(?:ok|okay|green)"
    # "tests pass", "must pass"; but "the first pass" is no demand.
    rf"|(?:\w+s|all|both|must|should|shall|they|still|to)\s+pass){_END}",
    _I,
)
_HEALTH = re.compile(r"\bhealth[ -]?checks?\b|\b(?:check|verify|confirm)\b[^.]*\bhealth\b", _I)
_NO_FAILURE = re.compile(
    r"\b(?:no|zero|without(?:\s+any)?|not a single)\s+(?:\w+\s+)?(?:failures?|fail(?:s|ed|ing)?(?:\s+\w+)?)\b"
    r"|\bnothing fails\b",
    _I,
)
_DENIED = re.compile(r"\b(?:not|never|nor|fail\w*|if|when|whenever|unless|once|after|before|until|two|three|\d+)\s", _I)
_CONDITION = re.compile(r"\b(?:if|when|whenever|unless|in case)\b", _I)
# An item that lets something fail demands less than success of everything.
_LENIENT = re.compile(
    r"\b(?:expected|known|may|might|can|could|should|must|allowed?|supposed)\s+(?:to\s+)?fail|xfail|\bignor|\bharmless"
    r"|\btolera|\bat most\b|\bfewer than\b|\bflak|\bnegative test|\bexcept\b|\bapart from\b|\bother than\b"
    r"|\bnon-?zero\b|\bwhether\b|[?？]",
    _I,
)


def success_demanded(text: str) -> str | None:
    """The clause of an item's text that demands success of everything; None if no clause does."""
    words = marked(text, ())
    if _LENIENT.search(words.text):
        return None
    for sentence in words.sentences:
        condition = False
        for clause in sentence:
            condition = condition or _CONDITION.search(clause) is not None
            bare = re.sub(LITERAL, " command ", clause).strip()
            passes = _PASSES.search(bare) or _HEALTH.search(bare)
            counted = re.sub(r"\b(?:all|both|the|these)\s+\d+\s", "all ", bare, flags=_I)
            if not condition and (_NO_FAILURE.search(bare) or (passes and not _DENIED.search(counted))):
                return words.plain(re.sub(LITERAL, " ", clause))
    return None
