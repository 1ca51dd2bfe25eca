"""Criteria from outcomes that stand beside a command without a verb."""

import re
from typing import TYPE_CHECKING

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import number_of
from llmval_tui.actions.criteria.wording.beside import announced, facts, printed_words, values
from llmval_tui.actions.criteria.wording.demands import PROCEDURE, only_success, unreadable
from llmval_tui.actions.criteria.wording.labels import prints_one_value, stated_facts, values_in_brackets
from llmval_tui.actions.criteria.wording.prose import COMMAND, LITERAL, Marked
from llmval_tui.actions.criteria.wording.text_claims import is_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript

_I = re.IGNORECASE
# Commands that make a fact true ("Persistence mode on (`nvidia-smi -pm 1`)"), and labels that ask for it.
_SETS = re.compile(
    r"\s(?:set|enable|disable|start|stop|restart|install|load|apply|create|add|-pm|-pl|-mig|-lgc|-rgc|-ac|-e [01])\b"
    r"|^(?:sudo\s+)?(?:sysctl -w|modprobe|mount|systemctl (?:start|restart|enable)|chmod|swapoff|setenforce)\b"
)
# Commands whose exit code says yes or no, and words that ask for a no.
_ANSWERS = re.compile(
    r"^(?:sudo\s+)?(?:systemctl\s+(?:is-active|is-enabled)|test|\[|mountpoint|pgrep|getent|which|nc|pg_isready|ping"
    r"|grep\s+-q|kubectl\s+(?:wait|rollout\s+status))\b|^nvidia-smi$"
)
_NO = re.compile(r"\b(?:off|disabled|no|not|none|never|zero|inactive|clean)\b", _I)
_ORDERS = re.compile(
    r"^\W*(?:please\s+|then\s+|now\s+)*(?:set|turn|switch|make|bring|put|keep|leave|get|load|install|mount|start|enable"
    r"|disable|wait|go|move|carry|work|log|hold|spread|based|depending)\b",
    _I,
)


def claims_beside(
    words: Marked, known: list[Criterion], commands: "Sequence[WrittenCommand | WrittenScript]"
) -> list[Criterion]:
    """A criterion for each announced outcome that gave none; unreadable if it is more than a word or a number."""
    found = []
    for match in printed_words(words.text):
        at = words.command_near(match[0])
        what = words.literal(match["what"]) if re.fullmatch(LITERAL, match["what"]) else match["what"]
        number = number_of(what)
        text = words.plain(match["what"])
        if not any(one.command == at for one in known) and not only_success(match["what"]) and not is_path(what):
            kind = "==" if number is not None else "contains"
            bound = what if number is None else number
            found.append(Criterion(text, StatedBy.WORDS, "stdout", kind, bound, ignore_case=number is None, command=at))
    for match in (*facts(words.text), *(stated := tuple(stated_facts(words.text)))):
        at = words.command_near(match[0])
        outcome = words.plain(match["outcome"])
        command_text = commands[at].text if at is not None and at < len(commands) else ""
        by_itself = _SETS.search(command_text) or (
            _ANSWERS.search(command_text) and not _NO.search(outcome) and not re.search(r"\d", outcome)
        )
        # A word beside a figure ("NPS=1, SMT=off") is a demand of its own.
        same = not re.search(r"\d", outcome) and not (match in stated and re.search("[:=]", outcome))
        is_known = any(
            one.command == at and (one.text in outcome or outcome in one.text or same or one.unreadable is not None)
            for one in (*known, *found)
        )
        if (
            not by_itself
            and not is_known
            and not _ORDERS.match(match["outcome"])
            and not only_success(match["outcome"])
        ):
            found.append(unreadable(outcome, at))
    for match in announced(words.text):
        outcome = words.plain(match["outcome"])
        is_next = re.match(rf"\W*(?:{COMMAND}|then\b|next\b|step\b)", match["outcome"], _I)
        is_file = re.fullmatch(LITERAL + r"\W*", match["outcome"].strip()) and re.search(r"[/.]", outcome)
        if is_next or is_file or not re.search(r"\w", outcome) or only_success(match["outcome"]):
            continue
        if not any(one.text and (one.text in outcome or outcome in one.text) for one in (*known, *found)):
            found.append(unreadable(outcome, words.command_near(match[0])))
    for match in values(words.text):
        outcome = words.plain(match["outcome"])
        is_word = re.search(r"[A-Za-z]", match["outcome"])  # "(0)" is a value, "(exit 0)" is success
        if PROCEDURE.search(match["outcome"]) or (is_word and only_success(match["outcome"])):
            continue
        if not any(one.text and (one.text in outcome or outcome in one.text) for one in (*known, *found)):
            found.append(unreadable(outcome, words.command_near(match[0])))
    for match in values_in_brackets(words.text):
        at = words.command_near(match[0])
        outcome = words.plain(match["outcome"])
        one_value = at is not None and at < len(commands) and prints_one_value(commands[at].text)
        if one_value and not any(one.command == at for one in (*known, *found)) and not only_success(outcome):
            found.append(unreadable(outcome, at))
    return found
