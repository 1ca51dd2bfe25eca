"""What an item demands of its run in its own words: "p99 TTFT < 200 ms", "prints nothing", "all 8 GPUs listed".

The words become criteria by the tables below and in `comparisons`. What a table does not know gives no criterion; words
that state a demand which no table can read give an unreadable one, so that exit code 0 alone never ticks the item.
"""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import WORD_NUMBERS, number_of, unit_named
from llmval_tui.actions.criteria.wording.around import cells_expected, demanded_above, is_named_value
from llmval_tui.actions.criteria.wording.beside import PREREQUISITE
from llmval_tui.actions.criteria.wording.beside_claims import claims_beside
from llmval_tui.actions.criteria.wording.comments import commented
from llmval_tui.actions.criteria.wording.comparisons import (
    Comparison,
    comparisons_in,
    states_a_value,
    states_more,
    turned,
)
from llmval_tui.actions.criteria.wording.demands import (
    OTHER_DEMANDS,
    PROCEDURE,
    must_fail,
    only_success,
    proves_nothing,
    unreadable,
)
from llmval_tui.actions.criteria.wording.how_long import how_long
from llmval_tui.actions.criteria.wording.printed import ANNOUNCES_OUTPUT, expected_outputs, printed_claims
from llmval_tui.actions.criteria.wording.prose import COMMAND, LITERAL, Marked, marked
from llmval_tui.actions.criteria.wording.same_value import same_value
from llmval_tui.actions.criteria.wording.text_claims import text_claim, version_claim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript
    from llmval_tui.checklist.model import Step

_I = re.IGNORECASE
# What every readable claim has: a number, quoted text, a word such as "no" or "empty", or capitals. Most clauses
# have none of these, and the tables cost time. A clause in another language is always looked at.
_TRIGGER = re.compile(
    rf"\d|{LITERAL}|[^\x00-\x7f\ue000-\ue0ff]|\b[A-Z][A-Z_]|\b(?i:no|none|nothing|non|not|never|zero|without|free"
    rf"|empty|output"
    rf"|silent|quiet|blank|leer|nichts|something|anything|{'|'.join(WORD_NUMBERS)})\b|(?i:n't)"
)
_CONDITION = re.compile(r"\b(?:if|when|whenever|unless|in case|falls|wenn)\b|もし|場合|如果", _I)
_FAULT = re.compile(
    r"\b(?:fail(?:s|ed|ure)?|abort|reject(?:ed)?|stop|red|bad|broken|defect(?:ive)?|not ok|return(?:ed)? to"
    r"|replace)\b",
    _I,
)
# "400.000 MB/s": a thousand times as much in a list of other people.
_THOUSANDS = re.compile(r"(?<![\d.])[1-9]\d{0,2}\.000(?![\d.])")
# Words that demand that all values hold, not only one.
_EACH = re.compile(
    r"\b(?:each|every|per|all|both|not|never|exceeds?|always|stays?|remains?|throughout|any)\b|\bpro\b|\bje\b|各|每|すべて",
    _I,
)
_DURATION = re.compile(r"\b(?:takes?|finish(?:es)?|completes?|ends?|done|lasts?|runs? for|dauert|returns?)\b[^.]*$", _I)
# Verbs that demand something which the run must show.
_DEMANDS = re.compile(
    r"\b(?:verif(?:y|ies)|make sure|ensures?|confirm|validate|assert|double-check|check (?:that|whether|if"
    r"|for)|see (?:that|whether)"
    r"|must|should|shall|has to|have to|(?<!no )needs? to|ought to|expect(?:s|ed)?|is expected)\b",
    _I,
)
# Words that describe a good outcome without a value.
_WEAK = re.compile(
    r"\b(?:(?:stays?|remains?|keeps?) (?:at|within|in|under|above|below|constant|flat|zero)"
    r"|looks? (?:good|ok|okay|fine|right|sane|healthy|clean|normal|reasonable|correct)|healthy|sane"
    r"|as expected|as before"
    r"|(?:is|are|be|stays?|remains?) (?:clean|stable|correct|normal|identical|consistent|reasonable|plausible"
    r"|acceptable|fine|ok|okay"
    r"|green|up|active|online|trained|ready|unchanged|visible|balanced)|match(?:es)?|identical to|the same as"
    r"|same \w+ as"
    r"|comparable|within tolerance|goes (?:down|up)|(?:de|in)creas(?:es|ing)|improves?|converges?|no sign of|±|\+/-"
    r"|within \S+ (?:%|percent) of"
    r"|\b(?:no|without(?: any)?|zero)\s+(?:[\w-]+\s+){0,2}?(?:regressions?|degradations?|slow-?downs?))",
    _I,
)
_EVERY_IS = re.compile(r"^\W*(?:every|each|all|only|no|none|neither)\b.*\b(?:is|are)\b", _I)
# A statement about the output with a word that excludes or counts something: it demands something, whatever it is.
_STRICT = re.compile(
    r"\b(?:contains?|includes?|shows?|prints?|reports?|lists?|says?|returns?|outputs?|displays?|finds?|sees?|gives?)\b"
    r"[^.;]*\b(?:neither|nor|only|exactly|no|not|none|never|same|every|each|both|at (?:least|most))\b",
    _I,
)
# "`kubectl version` shows both versions": the words say what the command prints.
_SHOWN = re.compile(
    rf"{COMMAND}\W*(?:(?:must|should|shall|has to|needs to|still|now)\s+)*(?:shows?|prints?|reports?|lists?|says?"
    rf"|returns?|outputs?|displays?|contains?|includes?|gives?|finds?|sees?|confirms?|detects?|indicates?|validates?|has|have"
    rf"|recogni[sz]es?)\s+(?P<what>\S.*)",
    _I,
)
# "Check `dmesg` for Xids", "Review the resources with `kubectl kustomize .`": somebody has to look.
_LOOKED_FOR = re.compile(
    rf"\b(?:check|inspect|scan|search|grep|look through|examine)\W+{COMMAND}\W*\bfor\s+\S"
    rf"|^\W*(?:please\s+)?(?:review|examine|eyeball)\b[^.;]*?\b(?:with|using|via|by)\W*{COMMAND}"
    rf"|\bcompare\b[^.;]*?{COMMAND}",
    _I,
)
# "Is the right driver loaded?": yes or no, and somebody has to say which. "Which GPUs answer?" only asks to look.
_QUESTION = re.compile(
    r"(?:^|[:,(])\W*(?:is|are|does|do|did|has|have|was|were|can|will|any|all|no|new)\b[^?？]*[?？]\s*[)\]]?\s*$", _I
)
_CHECKED_BY_HAND = re.compile(r"^\W*(?:then\s+|also\s+)*(?:check|inspect|examine|eyeball|look at)\b", _I)
_LISTED = re.compile(
    rf"{LITERAL}(?:\s*(?:,|/|,?\s*\b(?:and|or|nor|und|oder|noch|et|ou|y)\b)\s*(?:an?\s+|the\s+)?{LITERAL})+", _I
)
# "all counters zero", "none Pending", "no CrashLoopBackOff"; but "all GPUs", "each rank" only say of what.
_OF_ALL = re.compile(
    r"^\W*(?:(?P<none>none|zero"
    r"|no(?!\s+(?:need|other|longer|more|less|later|further)\b)(?![^,;]*\b(?:needed|required|necessary)\b))"
    r"|all(?![- ]?(?:reduce|gather|to)\b)|every|each|both)\s+(?P<what>\w[^\ue000-\ue0ff]*)$",
    _I,
)
_NAMED = re.compile(
    r"\W*(?:(?:the|of|them|these|those|available|other|\d+)\s+)*(?:[a-z][\w-]*s|[a-zA-Z]*s|[gG][pP][uU]|node|rank|host|link|pair|size|\w*day)\W*"
)
_ONLY_TEXTS = re.compile(rf"\W*(?:(?:and|or|nor|und|oder|{LITERAL})\W*)*{LITERAL}\W*", _I)
# "Verify GPU visibility with `…`", "Check the topology: `…`": the command is the check.
_MEANS = re.compile(
    r"\b(?:verify|validate|confirm|check|test|prüfen|vérifier)\b(?P<object>[^\ue000-\ue0ff]{0,80}?)"
    r"(?:\b(?:with|using|via|by running|by|through|mit|avec|con)\b)[^\ue000-\ue0ff]{0,20}" + COMMAND,
    _I,
)
_STATED = re.compile(r"\b(?:that|whether|if|is|are|has|have|all|every|each|match(?:es)?|against|dass|que)\b", _I)
_QUALIFIERS = re.compile(
    r"\b(?:and|then|verify|that|make|sure|ensure|confirm|check|expect|expects?|expected|the|a|an|of|must"
    r"|should|shall|has|have|to"
    r"|need|needs|be|is|are|was|were|may|can|will|not|never|does|do|stays?|remains?|keeps?|back|it|its|well"
    r"|reach(?:es)?|reports?"
    r"|shows?|gives?|prints?|returns?|draws?|has|with|results?|on|in|for|at|after|before|during|run|each|every"
    r"|per|all|gpus?"
    r"|nodes?|links?|from|value|go|goes|fall|drop|get|gets|always|observed|measured|single|via|by"
    r"|with|line|lines)\b",
    _I,
)  # fmt: skip


def claims_of(
    step: "Step",
    commands: "tuple[WrittenCommand, ...]",
    script: "WrittenScript | None",
    above: tuple[str, ...] = (),
) -> tuple[Criterion, ...]:
    """The criteria that the item's words state besides exit code 0, in order; () if it runs nothing.

    Args:
        above: the texts above the item that speak of it: the section's title, introductions, the items above it.
    """
    if not commands and script is None:
        return ()
    texts = [block.text for block in step.blocks if block.kind in ("paragraph", "bullet")] or [step.text]
    found: list[Criterion] = []
    for text in texts:
        found += _of_text(text, commands)
    bullets = [block.text for block in step.blocks if block.kind == "bullet" and not block.spans]
    found += [unreadable(one) for one in bullets if is_named_value(one) and not any(_of_text(one, commands))]
    if (cells := cells_expected(step)) is not None:
        found.append(unreadable(cells))
    for command, text in commented(step):
        if script is None:
            found += _of_text(text, commands)
        elif _of_text(text, (replace(script, text=command),)):  # its output is that of the whole script
            found.append(unreadable(text.replace("`", "")))
    if expected := expected_outputs(step, commands, script):  # the words only announce the block
        found = [one for one in found if not (one.unreadable and ANNOUNCES_OUTPUT.search(one.text))] + expected
    found += printed_claims(step, commands)
    found = [same_value(one, commands) or one for one in found]
    found += [
        _answer_alone(at, why)
        for at, command in enumerate(commands)
        if all(one.command not in (None, at) for one in found) and (why := proves_nothing(command.text))
    ]
    if not any(one.source == "exit" for one in found):
        found += [
            unreadable(words.plain(match[0]), words.command_near(match[0]))
            for words in (marked(text, commands) for text in texts)
            if (match := must_fail(words.text))
        ]
    for text, is_bound in demanded_above(above, has_own=bool(found)):
        read = _of_text(text, commands) if is_bound else []
        readable = bool(read) and all(_is_named_bound(one) for one in read)
        found += [replace(one, text=f"{one.text} (above the item)") for one in read] if readable else [unreadable(text)]
    return tuple(dict.fromkeys(found))


def _is_named_bound(one: Criterion) -> bool:
    """Whether a criterion is a bound on a value that has a name, so that it can be found in the output of each item."""
    return one.source == "output" and one.comparison in ("<", "<=", ">", ">=") and one.metric is not None


def _of_text(text: str, commands: "Sequence[WrittenCommand | WrittenScript]") -> list[Criterion]:
    words = marked(text, commands)
    found: list[Criterion] = []
    for sentence in words.sentences:
        found += _of_sentence(words, _joined(sentence))
    found += claims_beside(words, found, commands)
    found += [] if any(one.source == "duration" for one in found) else how_long(words, commands)
    return found


def _answer_alone(position: int, why: str) -> Criterion:
    return replace(
        unreadable("its result", position),
        unreadable=f'{why}, or say what it must print in the item\'s llmval comment, such as expect="stdout ~ /WORDS/"',
    )


def _joined(clauses: tuple[str, ...]) -> list[str]:
    """The clauses of a sentence; a bare "make sure" belongs to the next clause, further listed texts to the last."""
    found: list[str] = []
    for clause in clauses:
        if found and _bare_demand(found[-1]):
            found[-1] = f"{found[-1]} {clause}"
        elif found and re.search(f"{LITERAL}\\W*$", found[-1]) and _ONLY_TEXTS.fullmatch(clause):
            found[-1] = f"{found[-1]}, {clause}"
        else:
            found.append(clause)
    return found


def _bare_demand(clause: str) -> bool:
    if not _DEMANDS.search(clause):
        return False
    rest = _DEMANDS.sub(" ", re.sub(COMMAND, " ", clause))
    return not re.sub(
        r"\b(?:run|and|then|that|please|mit|with|using|via|the|output|following|result)\b|\W", "", rest, flags=_I
    )


def _of_sentence(words: Marked, clauses: list[str]) -> list[Criterion]:
    found: list[Criterion] = []
    open_demands: list[str] = []
    whole = " ".join(clauses)
    if re.search(r"[?？]\W*$", whole) and not any(_QUESTION.search(one) for one in (whole, *clauses)):
        return []
    for clause in clauses:
        read = _of_clause(words, clause, whole)
        # "shows 8 GPUs, driver 580.95.05 and CUDA 13.0": each of them is shown, or the item is not done.
        listed = bool(found) and _SHOWN.search(whole) and re.search(r"\d", clause) and not PREREQUISITE.match(clause)
        if not read and (_demands(clause, whole) or listed or states_a_value(clause) or _of_all(clause)):
            open_demands.append(clause)
        found += read
    found += [unreadable(words.plain(clause), words.command_near(clause)) for clause in open_demands]
    if not found and OTHER_DEMANDS.search(whole):
        found.append(unreadable(words.plain(whole), words.command_near(whole)))
    vague = (_WEAK, _EVERY_IS, _STRICT, _SHOWN, _LOOKED_FOR, _QUESTION)
    texts = (whole, *clauses)
    if not found and any(one.search(text) for one in vague for text in texts) and not only_success(whole):
        weak = next((clause for clause in clauses if any(one.search(clause) for one in vague)), whole)
        found.append(unreadable(words.plain(weak), words.command_near(weak)))
    return found


def _of_clause(words: Marked, clause: str, sentence: str) -> list[Criterion]:
    if not _TRIGGER.search(clause):
        return []
    if found := version_claim(words, clause):
        return [found]
    compared = comparisons_in(clause)
    if found := text_claim(words, clause):
        more = [_beside(words, clause, one) for one in compared if one.bound != found.bound]
        numbers = [
            number for one in re.findall(r"\d[\d.,]*", clause) if (number := number_of(one.rstrip(".,"))) is not None
        ]
        if found.which == "count" and any(
            one not in (found.bound, *(more.bound for more in compared)) for one in numbers
        ):
            more.append(unreadable(words.plain(clause), words.command_near(clause)))  # "32 DIMMs of 64 GB"
        return [*_with_listed(words, clause, found), *more]
    if not compared:
        return []
    if _THOUSANDS.search(clause):
        return [unreadable(words.plain(clause), words.command_near(clause))]
    condition = _CONDITION.search(sentence)
    at = sentence.find(clause)
    if condition and condition.start() <= at + len(clause):
        if _FAULT.search(sentence) and len(compared) == 1:
            one = compared[0]
            compared = [Comparison(turned(one.comparison), one.bound, one.unit, one.before, one.after)]
        elif re.search(r"\b(?:ignore|harmless|fine|ok)\b", sentence, _I):
            return []
        else:
            return [unreadable(words.plain(clause), words.command_near(clause))]
    read = [_criterion(words, clause, one) for one in compared]
    if states_more(clause, len(compared)):
        read.append(unreadable(words.plain(clause), words.command_near(clause)))
    return read


def _with_listed(words: Marked, clause: str, found: Criterion) -> list[Criterion]:
    """The claim, and one for each further text that the clause lists with it: "neither `A` nor `B`"."""
    for listed in _LISTED.finditer(clause):
        texts = [words.literal(mark) for mark in re.findall(LITERAL, listed[0])]
        if found.bound not in texts or found.comparison not in ("contains", "not contains", "=="):
            continue
        if found.comparison != "not contains" and re.search(r"\b(?:or|oder|ou)\b", listed[0], _I):
            return [unreadable(words.plain(clause), words.command_near(clause))]
        comparison = "contains" if found.comparison == "==" else found.comparison
        return [replace(found, comparison=comparison, source="output", bound=text) for text in texts]
    return [found]


def _beside(words: Marked, clause: str, one: Comparison) -> Criterion:
    """The criterion of a number that stands beside a text: "no errors in under ten minutes"."""
    unit = unit_named(one.unit) if one.unit else None
    is_time = unit is not None and unit.dimension == "time"
    return _criterion(words, clause, replace(one, before="takes") if is_time else one)


def _criterion(words: Marked, clause: str, one: Comparison) -> Criterion:
    text, command = words.plain(clause), words.command_near(clause)
    unit = unit_named(one.unit) if one.unit else None
    if (
        unit
        and unit.dimension == "time"
        and _DURATION.search(one.before)
        and not re.search(r"p\d\d|latency", one.before)
    ):
        return Criterion(
            text, StatedBy.WORDS, "duration", one.comparison, one.bound, one.unit, metric="duration", command=command
        )
    if re.search(r"\b(?:exit|return) (?:code|status)\b|\brc\b", clause, _I):
        return Criterion(text, StatedBy.WORDS, "exit", one.comparison, one.bound, command=command)
    metric = _metric(words, one)
    each = bool(_EACH.search(clause))
    return Criterion(
        text,
        StatedBy.WORDS,
        "output",
        one.comparison,
        one.bound,
        one.unit,
        metric=metric,
        which="all" if each else "one",
        command=command,
    )


def _metric(words: Marked, one: Comparison) -> str | None:
    """The words that name the value: those before the comparison, else those after it."""
    for text in (one.before, one.after):
        named = re.sub(LITERAL, lambda mark: f" {words.literal(mark[0])} ", text)
        rest = " ".join(
            re.sub(r"[^\w.%@/ -]|[ぁ-んァ-ヶ]", " ", _QUALIFIERS.sub(" ", re.sub(COMMAND, " ", named))).split()
        )
        if re.search(r"\w", rest):
            return rest
    return None


def _of_all(clause: str) -> bool:
    """Whether a clause says something of all or of none, and does not only name them."""
    match = _OF_ALL.match(clause)
    if match is None or only_success(clause):
        return False
    return bool(match["none"]) or not _NAMED.fullmatch(match["what"])


def _demands(clause: str, sentence: str) -> bool:
    """Whether a clause without a readable claim demands something other than success."""
    if not _DEMANDS.search(clause):
        at = sentence.find(clause)
        has_command = re.search(COMMAND, clause) or re.search(COMMAND, sentence[at + len(clause) :])
        return bool(_CHECKED_BY_HAND.match(clause) and at > 0 and not has_command and not only_success(clause))
    if only_success(clause) or PROCEDURE.search(clause):
        return False
    means = _MEANS.search(sentence)
    if means and not _STATED.search(means["object"]):
        return False
    after = sentence[sentence.find(clause) + len(clause) :]
    names_only = re.match(r"\W*(?:verify|validate|confirm|prüfen)\b(?P<object>.*)", clause, _I)
    return not (names_only and re.match(rf"\s*{COMMAND}", after) and not _STATED.search(names_only["object"]))
