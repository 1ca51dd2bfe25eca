"""The gate on output that plainly contradicts an item: "all tests pass" beside "8 passed, 2 failed" and exit code 0.

Only a count of failures above 0 and a result word at the place of a result count. A sentence about a failure proves
nothing: many programs report one that they recovered from.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llmval_tui.actions.criteria.frozen import frozen_criteria
from llmval_tui.actions.criteria.model import StatedBy
from llmval_tui.actions.criteria.search import tokens
from llmval_tui.actions.criteria.sources import Sources
from llmval_tui.actions.criteria.wording.success import success_demanded
from llmval_tui.foundation.redaction import redact_text
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.runs.store import Run

_I = re.IGNORECASE
_MOST_SHOWN = 3
_LONGEST_LINE = 300  # characters; a result stands on a short line
_RULE = re.compile(r"\s{4,}|([.=_-])\1{3,}|(?:\s+\.){3,}|(?:\.\s+){3,}")
_OF_INTEREST = re.compile(r"fail|unhealthy|not ok|not healthy|errors|\d error|pass|\bok\b|healthy|succe", _I)
# Words that make a failure a matter of the past, of a rule, or of something that the program got over.
_HEDGED = re.compile(
    r"\b(?:no|none|zero|nothing|without|retr(?:y|ies|ied|ying)|attempts?|recovered|ignor(?:e|ed|ing)|allowed|tolerated"
    r"|optional|expect(?:ed|s)?|known|fall(?:ing|s)?[ -]?back|flaky|criteri\w+|threshold|would|could|may|previous\w*"
    r"|yesterday|last (?:run|time|week)|baseline|max(?:imum)?|limit|legend|example|usage|simulat\w+|inject\w+"
    r"|corrected|on[ _-]fail\w*|if|policy|mode|action|default|when|until|todo|using)\b",
    _I,
)
_ZERO = re.compile(r"(?<![\w.])0\s*(?:of|/|out of)\s*\d+(?:\s+\w+){0,2}|(?<![\w.])0 \w+|\w+\s*[:=]\s*0\b(?!\.)", _I)
# A number behind another word is that of a thing: "GPU 3 failed", "port 8080 failed".
_BEFORE = (
    r"(?:^|[^\w\s/.]|\d(?=\s)|\b(?:and|total|with|had|has|have|found|were|are|results?|tests?|checks?|summary|INFO"
    r"|WARN(?:ING)?|ERROR)(?=\s))\s*"
)
_COUNT = re.compile(
    rf"{_BEFORE}(?<![\w.,/-])(?<!of )(?P<n>[1-9][\d,]*)(?:\s*(?:/|of|out of)\s*\d+)?\s+(?:(?P<noun>[a-z][a-z-]*)\s+)?"
    r"(?P<what>failed|failures?|failing|errors?|unhealthy)\b"
    r"(?=\s*(?:$|[,;.:!)\]=|]|(?:in|out of|of|and|tests?|checks?|nodes?|gpus?)\b))",
    _I,
)
_LABELLED = re.compile(
    r"(?:^|[,;(|\[{\t#]|\s{2,}|\b(?:tests?|checks?|total|summary|number of|gpus?|nodes?)\s|=\d+\s)\s*[\"']?"
    r"(?P<what>fail(?:ed|ures?|s|ing)?|errors|unhealthy)(?:\s+(?P<noun>tests?|checks?|requests?|cases?|gpus?|nodes?))?"
    r"[\"']?(?:\s*[:=]\s*|(?<=# fail)\s+)(?P<n>[1-9][\d,]*)\b(?!\.\d|e-|\s*(?:%|ms\b|s\b))",
    _I,
)
_BAD = r"fail(?:ed|ure|s)?|unhealthy|not (?:ok|healthy|passed)|unsuccessful"
_GOOD = r"pass(?:ed|es)?|ok|healthy|success(?:ful)?|succeeded"
_RESULT = re.compile(
    rf"(?:^|[,;|])\s*[\"']?(?P<label>[A-Za-z][\w /.#()-]{{0,80}}?)[\"']?\s*(?:[:=]|\.{{2,}}|->|→)\s*[\"'\[]*\s*"
    rf"(?:(?P<bad>{_BAD})|(?P<good>{_GOOD}))\b[\"'\]]*\s*(?=$|[(,;.!}}—|])",
    _I,
)
# Without a sign before it, only capitals are a result: "FAILED tests/a.py::b", "--- FAIL: TestX", "memory FAIL".
_LOUD = re.compile(
    r"^\W*(?:(?P<first>FAIL|FAILED|UNHEALTHY)(?:\W*$|:?\s+(?P<after>\S*[A-Z_/:.]\S*))"
    r"|(?P<before>\S.*?)[\s.]+\[?\s*(?:(?P<bad>FAIL|FAILED|UNHEALTHY)|(?P<good>PASS|PASSED|OK))\s*\]?\s*(?:\[\s*\d+%\])?\s*$)"
)
_NOT_OK = re.compile(r"^\s*not ok \d+\b(?!.*#)")
_SAID = re.compile(
    r"^\W*(?P<label>(?:[A-Za-z][\w-]*\s+){0,3}?(?:tests?|checks?|suite|validation)(?=\s+(?:(?:has|have)\s+)?failed)"
    r"|\S.{0,80}?(?=\s+(?:(?:is|are)\s+unhealthy|\(unhealthy\))))"
    r"\s+(?:(?:has|have)\s+)?(?:failed|(?:(?:is|are)\s+)?\(?unhealthy\)?)\W*$",
    _I,
)
_ALL_GOOD = re.compile(
    r"\ball\s+(?:[\w-]+\s+){0,3}?(?:pass(?:ed)?|succeeded|healthy|ok)\b|(?<![\w.])[1-9]\d* passed\b", _I
)
# Names of the whole result, and words of an item that name nothing, as `tokens` gives them.
_WHOLE = frozenset(tokens("result overall status summary verdict outcome test check final"))
_COMMON = frozenset(tokens("the run and for all with that must should pass every each are"))


@dataclass(frozen=True, slots=True)
class _Finding:
    place: str
    line: str
    is_count: bool
    decides: bool  # it is a result of what the item demands, not of something beside it


def contradiction_gates(run: Run) -> list[Gate]:
    """A gate if the item demands success in words and the output says the opposite; [] otherwise.

    `fail` if the result is that of the demanded thing; `inconclusive` if it may be that of something else, if the
    output also says that all is well, or if the run has several commands. An `expect=` of the author replaces it.
    """
    intent = run.intent
    criteria = frozen_criteria(run)
    stated = any(one.stated_by in (StatedBy.COMMENT, StatedBy.SETTINGS) or one.source == "exit" for one in criteria)
    if not intent.commands or stated or any(artifact.schema for artifact in intent.artifacts):
        return []
    demand = success_demanded(intent.step.text)
    if demand is None:
        return []
    spoken = set(tokens(re.sub(r"`[^`]*`", " ", intent.step.text))) - _COMMON
    found: list[_Finding] = []
    doubted = len(intent.commands) > 1
    for text in Sources(run).logs(("stdout", "stderr"), None):
        of_text, said_good = _findings(text.lines, spoken, text.where)
        found += of_text
        doubted = doubted or (said_good and bool(of_text))
    if not found:
        return []
    fails = not doubted and any(one.decides for one in found)
    chosen = [one for one in found if one.decides] or found
    shown = "; ".join(f"{one.place}: {clean_line(one.line)[:160]}" for one in chosen[:_MOST_SHOWN])
    more = f"; and {len(chosen) - _MOST_SHOWN} more" if len(chosen) > _MOST_SHOWN else ""
    doubt = "" if fails else '; if this is fine, say what counts, such as expect="exit == 0"'
    return [
        Gate(
            f"words: {clean_line(demand)}"[:160],
            Outcome.FAIL if fails else Outcome.INCONCLUSIVE,
            redact_text(clean_line(chosen[0].line)[:80]),
            "no failure in the output",
            redact_text(f"the output contradicts it: {shown}{more}{doubt}"),
        )
    ]


def _findings(lines: Sequence[str], spoken: set[str], where: Callable[[int], str]) -> tuple[list[_Finding], bool]:
    """What contradicts success, and whether a later line says that all is well.

    The last result of a name is the one that holds, so a check that is polled until it is healthy contradicts nothing.
    """
    counts: list[_Finding] = []
    results: dict[str, _Finding] = {}
    said_good = False
    for index, written in enumerate(lines):
        if len(written) > 4 * _LONGEST_LINE or not _OF_INTEREST.search(written):
            continue
        # Long rules of spaces, dots or dashes would make the patterns slow.
        line = _RULE.sub(lambda match: match[0][:3], written.strip())
        if len(line) > _LONGEST_LINE:
            continue
        plain = _ZERO.sub(" ", line)
        if _HEDGED.search(plain):
            continue
        if (counted := _counted(plain, spoken)) is not None:
            counts.append(_Finding(where(index), line, True, counted))
            said_good = False
            continue
        bad = False
        for label, is_bad in _results(line):
            results.pop(label, None)
            if is_bad:
                bad = True
                named = set(tokens(label))
                decides = not named or bool(named & (_WHOLE | spoken))
                results[label] = _Finding(where(index), line, False, decides)
        if bad:
            said_good = False
        elif _ALL_GOOD.search(line):
            # What tests print themselves precedes their summary.
            results.clear()
            said_good = True
    return [*counts, *results.values()], said_good


def _counted(line: str, spoken: set[str]) -> bool | None:
    """Whether a count of failures above 0 is that of the demanded thing; None if the line has no such count."""
    decides: bool | None = None
    summary = re.search(r"\b(?:pass(?:ed|ing)?|fail(?:ed|ures?|ing)|assertions|tests run)\b", line, _I)
    for match in (*_COUNT.finditer(line), *_LABELLED.finditer(line)):
        of_errors = match["what"].lower().startswith("error")
        if of_errors and not summary and match.re is _COUNT:
            continue  # "2 errors" in a sentence
        named = set(tokens(match["noun"] or ""))
        decides = bool(decides) or ((not named or bool(named & (_WHOLE | spoken))) and not (of_errors and not summary))
    return decides


def _results(line: str) -> list[tuple[str, bool]]:
    """The results of a line: the name of each, in one form, and whether it is bad."""
    found = [(_name(match["label"]), match["bad"] is not None) for match in _RESULT.finditer(line)]
    if found:
        return found
    if match := _LOUD.match(line):
        if match["first"]:
            return [(_name(f"test {match['after'] or ''}"), True)]
        if match["bad"] and re.search(r"\b(?:PASS|PASSED|OK)\b", match["before"]):
            return []  # a heading of a table: "Test  PASS  FAIL"
        return [] if match["before"].endswith(("/", " or")) else [(_name(match["before"]), match["bad"] is not None)]
    if _NOT_OK.match(line):
        return [(_name(f"test {line}"), True)]
    return [(_name(match["label"]), True)] if (match := _SAID.match(line)) else []


def _name(label: str) -> str:
    return " ".join(re.findall(r"\w+", label.lower()))
