"""The role of a code span in its sentence: to be run, talked about, unclear, or no command at all."""

import re
from enum import Enum

from llmval_tui.actions.reading.sentences import MARK, Code, Sentence
from llmval_tui.actions.reading.spans import Nature
from llmval_tui.foundation.lazy_pattern import lazy_pattern


class Role(Enum):
    """What the words around a code span make of it."""

    RUN = "run"
    MENTION = "mention"  # something is said about it, or done to it
    UNCLEAR = "unclear"
    NONE = "none"  # no command: a value, a file, a message


_I = re.IGNORECASE
# "Run the following", "Use our own script", "Execute once:".
_RUN_VERB = lazy_pattern(
    r"(?<!on-)\b(?:re-?)?(?:run|execute|launch|start|use|invoke|call|try|issue|enter|type|perform|do|repeat|kick off"
    r"|fire up|trigger|apply)"
    r"(?:\s+(?!of\b|how\b|why\b|when\b|whether\b|what\b|that\b|which\b|about\b|in\b|from\b|to\b|and\b|or\b"
    r"|for\b|after\b|before\b)[\w'’-]+){0,4}"
    r"\s*(?:[:(>→—–]|->|=>|-)*\s*$",
    _I,
)
_ADVERBS = lazy_pattern(
    r"(?:\b(?:first|then|now|next|finally|simply|just|also|again|directly|locally|afterwards|please"
    r"|once)\b[\s,]*)+$",
    _I,
)
_GERUND = lazy_pattern(
    r"\b(?:by\s+)?(?:running|executing|using|invoking|calling|issuing|starting|launching)(?:\s+the)?\s*:?\s*$", _I
)
_INSTRUMENT = lazy_pattern(
    r"\b(?:with|via|using|by|through|by means of|by way of)(?:\s+(?:the|our|a|an|help of|script|command"
    r"|tool)\b)*\s*[:(]?\s*$",
    _I,
)
_CHECK_VERB = lazy_pattern(
    r"\b(?:check|verify|confirm|ensure|validate|test|assert|make sure|wait (?:until|for|till)|poll|query"
    r"|see(?=\s+(?:that|whether|if)\b))"
    r"(?:\s+(?:that|whether|if|until|the|output of|exit code of|result of))*\s*:?\s*$",
    _I,
)
_OUTPUT_OF = lazy_pattern(
    r"\b(?:output|result|exit code|exit status|return code|status|lines?|count|number)s?\s+(?:of|from"
    r"|by)\s+(?:the\s+)?$",
    _I,
)
_KEEP_OUTPUT = lazy_pattern(
    r"\b(?:check|compare|record|save|keep|capture|look at|note|inspect|verify|confirm|store|log|collect"
    r"|validate)\b",
    _I,
)
_LABEL_END = lazy_pattern(r"(?:[:：→]|->|=>|\s[—–-]{1,2}|\?)\s*$")
# A label whose content is not something to run.
_VALUE_LABEL = lazy_pattern(
    r"\b(?:expected(?: output| result)?|outputs?|results?|values?|notes?|see(?: also)?|defaults?|was|formerly"
    r"|old|template|messages?"
    r"|errors?|paths?|files?|names?|branch|image|version|tags?|url|owner|contact|refs?|references?"
    r"|config(?:uration)?|looks? like"
    r"|prints?|shows?|says?|returns?|gives?|reads?|background|why|reason|source|docs?|documentation|history"
    r"|beware|warning|caution"
    r"|danger(?:ous)?|destructive|irreversible|attention|quote|quoted|title|subject|syntax|usage|alias|format|pattern|regex|key|label|namespace"
    r"|folder|directory)\s*"
    r"(?:[:：→]|->|=>|\s[—–-]{1,2})\s*$",
    _I,
)
# Verbs before a word that is said, printed or compared, not run.
_SAYS = lazy_pattern(
    r"\b(?:says?|prints?|shows?|reports?(?: as)?|returns?|gives?|contains?|equals?|is|are|be|reads?|reported as"
    r"|as|to|than|in|of|like"
    r"|called|named|for|until|state|status|look for|ends? with|begins? with|starts? with|contains|has|have"
    r"|lists?|answers?|outputs?"
    r"|displays?|matches|match|no|without|the|a|an|its|every|each|any|ein|als|auf|von)\s*[\"“„']?\s*$",
    _I,
)
_OUTCOME = lazy_pattern(
    r"^\W*(?:(?:must|should|has to|needs to|shall|will|may)\s+(?:not\s+|never\s+)?(?:be\s+"
    r"|still\s+)?)?(?:still\s+|now\s+|also\s+|again\s+)?"
    r"(?:pass(?:es)?|prints?|says?|shows?|reports?|returns?|gives?|succeeds?|works?|answers?|exits?|ends?"
    r"|finish(?:es)?|completes?"
    r"|lists?|outputs?|contains?|displays?|runs?|stays?|remains?|agrees?|confirms?|detects?|finds?|sees?"
    r"|produces?|yields?|reaches?"
    r"|takes?|drops?|loses?|covers|leaves|counts|offers|tells|accepts|negotiates|loads|parses|validates"
    r"|compiles|builds|renders"
    r"|fits|peaks|averages|settles|converges|clears|measures?|achieves?|sustains?|holds?|matches|equals"
    r"|resolves?|responds?|connects?|starts|comes|goes"
    r"|reads|does not|doesn['’]t"
    r"|never (?:prints|shows|reports|fails|returns)|fails|has (?:no|zero|at least|exactly|only|all)|have"
    r"|mentions?|begins?"
    r"|(?:is|are|stays?|remains?|comes? (?:back|out)|looks?)\s+(?:still\s+|all\s+|completely\s+)?(?:clean|empty"
    r"|green|ok|okay|successful|healthy"
    r"|silent|quiet|fine|good|unchanged|identical|error-free|below|above|under|over|at (?:least|most)|≥|≤|<|>|="
    r"|zero|\d|no\b|not\b|all\b|the same"
    r"|up\b|active|running|enabled|disabled|ready|complete))\b",
    _I,
)
_ATTRIBUTE = lazy_pattern(
    r"^\W*(?:is|are|was|were|has been|needs|contains the|lives|belongs|comes from|has to be|should be|must be"
    r"|can be|may be)\b",
    _I,
)
# Imperatives whose object is a thing to work on, not a command to run.
_MENTION_VERB = lazy_pattern(
    r"^\W*(?:please\s+|then\s+|also\s+|finally\s+|first,?\s+|next,?\s+|\d+[.)]\s*)*"
    r"(?:review|read|create|delete|remove|make|upload|download|edit|add|explain|describe|document|write|rename"
    r"|move|copy|update|change"
    r"|adjust|modify|fix|extend|port|install|uninstall|replace|look|open|close|put|keep|save|store|archive"
    r"|commit|push|merge|publish|send"
    r"|attach|link|mention|list|name|note|record|discuss|decide|plan|understand|learn|study|find|locate|show"
    r"|teach|train|give|hand|sign"
    r"|approve|format|lint|refactor|clean|tidy|mark|tag|label|print|translate|bump|pin|set|define|configure"
    r"|enable|disable|compare|include"
    r"|exclude|drop|deprecate|retire|introduce|implement|prepare|provide|extract|ship|bundle|mirror|vendor|fork"
    r"|clone|grant|revoke|own"
    r"|protect|encrypt|sort|paste|post|report|announce|audit|inspect|skim|walk|go|proof-?read|check in|sync"
    r"|migrate|convert|schedule|cron|wire"
    r"|register|promote|embed|reference|cite|quote|comment|rewrite|restore|revert|consider|investigate|evaluate"
    r"|benchmark against)\b",
    _I,
)


# Words of a command that changes something, and the verbs with which a sentence asks for it.
_CHANGES = lazy_pattern(
    r"\s(?:install|add|apply|create|delete|remove|enable|disable|set|init|push|deploy|restart|stop|start|upgrade|update"
    r"|reset|drain|reload|patch|scale|rollout)\b|^(?:sudo\s+)?(?:chmod|chown|rm|mkdir|cp|mv|ln|dd|mkfs\S*|modprobe|rmmod"
    r"|reboot|useradd|usermod)\b",
    _I,
)
_IMPERATIVE = lazy_pattern(
    r"^\W*(?:please\s+|then\s+|now\s+|next,?\s+|first,?\s+|also\s+|finally,?\s+)*"
    r"(?:run|execute|use|install|add|apply|create|delete|remove|enable|disable|set|initiali[sz]e|init|push|deploy"
    r"|restart|stop|start|upgrade|update|reset|drain|reload|patch|scale|roll|make|change|copy|move|link|load|unload"
    r"|reboot|put|build|pull|clean|configure|prepare|register|generate|write|switch|turn|allow|grant|mount|unmount)\b",
    _I,
)


# What stands before a command and says nothing of it: "✅", "[P1]", "(5 min)", "1.2.3"; but not a sign that warns.
_DECORATION = re.compile(
    r"(?:\s|[^\w\s\ue000⚠☠❌🚫⛔🛑✗✘❗‼()\[\]`\"“”/|=<>≥≤→-]|\[[A-Z]{0,3}\d{1,3}\]|\d+(?:\.\d+)*[.)]?"
    r"|\[(?:must|required|critical|blocker|high|medium|low|auto)\]"
    r"|\(\s*~?\d+\s*(?:s|sec|min|m|h|hours?|minutes?)\s*\))+",
    _I,
)


def role_of(sentence: Sentence, index: int, code: Code, earlier: Role | None) -> Role:
    """The role of a code; `earlier` is that of the code before it in the same sentence."""
    nature = code.nature
    if nature in (Nature.PATH, Nature.FLAGS):
        return Role.NONE
    before, between, after = sentence.before(index), sentence.between(index), sentence.until_next(index)
    inside = _bracket(before)
    clause = between if inside is None else inside
    clause = _ADVERBS.sub("", clause)
    direct = _RUN_VERB.search(clause) or _GERUND.search(clause)
    if nature in (Nature.OTHER, Nature.PERHAPS, Nature.PROGRAM):
        return _role_of_doubtful(code, sentence, index, clause, after, bool(direct), earlier)
    if nature is Nature.SCRIPT and _is_possessed(after):
        return Role.MENTION
    if direct or _INSTRUMENT.search(clause):
        return _unless_possessed(after)
    if _VALUE_LABEL.search(clause):
        return Role.UNCLEAR
    is_first = inside is None and not index
    if (is_first and not clause.strip(' ,;.()"“”')) or (is_first and _DECORATION.fullmatch(before)):
        return _alone(code, after)
    if inside is not None and not inside.strip():
        if _CHANGES.search(code.text) and not _IMPERATIVE.match(before):
            return Role.UNCLEAR  # "NLTK is installed (`pip install nltk`)"
        return Role.RUN if nature is Nature.COMMAND else _bracketed_script(before)
    if _LABEL_END.search(clause):
        if nature is Nature.SCRIPT and _MENTION_VERB.match(clause):
            return Role.MENTION
        return Role.RUN
    if (
        re.fullmatch(
            r"[\s,;&+]*(?:and|then|and then|followed by|afterwards|next|,|;|\+|&|plus|as well as"
            r"|\W)*[\s,]*",
            clause,
            _I,
        )
        and earlier
    ):
        return earlier if earlier is not Role.NONE else Role.UNCLEAR
    if _CHECK_VERB.search(clause):
        if nature is Nature.SCRIPT:
            return Role.RUN if _OUTCOME.match(after) else Role.MENTION
        return Role.RUN
    if _OUTPUT_OF.search(clause):
        return Role.RUN if _KEEP_OUTPUT.search(clause) and nature is Nature.COMMAND else Role.UNCLEAR
    if nature is Nature.SCRIPT or _MENTION_VERB.match(before) or (_MENTION_VERB.match(clause.lstrip(" ,;")) and index):
        return Role.MENTION
    if re.search(r"\b(?:and|then)\s*$", clause, _I) and index and earlier is Role.RUN:
        return Role.RUN
    return Role.UNCLEAR


# "Run `main` tests": the code names something that is run, and is not a program.
_RUN_NOUN = lazy_pattern(
    r"^\s*(?:branch|tests?|suite|mode|jobs?|target|profile|workflow|pipeline|stage|tasks?|benchmarks?|container|image"
    r"|service|script|playbook|model|config\w*|role|and\s+[a-z]+\s+tests?|on\s+(?:every|each|all)\s+(?:commit|push|pr))\b",
    _I,
)


def _role_of_doubtful(
    code: Code, sentence: Sentence, index: int, clause: str, after: str, direct: bool, earlier: Role | None
) -> Role:
    """The role of a span that does not look like a command by itself: it is one only where a verb says "run"."""
    nature = code.nature
    whole = sentence.text.strip(" .,;:()") == MARK
    if nature is Nature.PERHAPS:
        if direct or (whole and sentence.kind != "quote"):
            return Role.RUN
        if _SAYS.search(clause) or _VALUE_LABEL.search(clause):
            return Role.NONE
        return (
            Role.UNCLEAR
            if _LABEL_END.search(clause) or _INSTRUMENT.search(clause) or not clause.strip(" (")
            else Role.NONE
        )
    if nature is Nature.OTHER and re.fullmatch(r"[a-z][a-z0-9_.+-]*", code.text):
        runs = re.search(r"\b(?:run|execute|invoke)\s*:?\s*$", clause, _I) and not _RUN_NOUN.match(after)
        if runs:
            return Role.RUN
        in_list = re.fullmatch(r"\s*(?:,|/|\+|&|and|,\s*and)\s*", sentence.between(index)) if index else None
        return Role.UNCLEAR if in_list and earlier is Role.RUN else Role.NONE
    if nature is Nature.PROGRAM:
        return (
            Role.RUN
            if direct and not re.match(r"^\s*(?:version|\d|>=|≥|as\b|for\b|to\b|in\b)", after, _I)
            else Role.NONE
        )
    return Role.NONE


# "`uname -r` >= 5.15", "`ping …` has 0 % loss", "`nvidia-smi nvlink -e` all counters zero": what it must show.
_MUST_SHOW = lazy_pattern(
    r"^\s*(?:(?:is|are|must be|should be)\s+)?(?:(?:[<>≤≥=!]=?|=>|≈|±)\s*\S"
    r"|(?:at (?:least|most)|(?:no )?(?:less|more|fewer|greater|higher|lower) than|free of|within)\s+\S)"
    r"|^\s*(?:has|have|shows|with)\s+(?:\d|zero|no|exactly|only|at)\b"
    r"|^\s*(?:all|each|every|both)\s[\w ]{0,30}?(?:[<>≤≥=]|\b(?:zero|ok|ready|running|up|active|idle|healthy|passed"
    r"|enabled|disabled|clean)\b)",
    _I,
)


def _alone(code: Code, after: str) -> Role:
    """The role of a code span at the start of its sentence."""
    nature = code.nature
    if nature is Nature.COMMAND and _MUST_SHOW.match(after) and not _CHANGES.search(code.text):
        return Role.RUN
    if not after.strip(" .,;:!)") or re.match(
        r"^\s*(?:[—–:,;(/&+→]|--?|->|and\b|then\b|from\b|in\b|on\b|with\b|twice\b|for\b|again\b|once\b|\d)", after, _I
    ):
        return (
            Role.RUN
            if nature is Nature.COMMAND or not after.strip(" .") or re.match(r"^\s*(?:and|then|,|—|–|:|\()", after, _I)
            else Role.UNCLEAR
        )
    if _OUTCOME.match(after):
        return Role.RUN
    if _ATTRIBUTE.match(after):
        return Role.MENTION
    return Role.UNCLEAR


def _bracketed_script(before: str) -> Role:
    """The role of the mere path of a script in brackets: "Drain the node (`drain.sh`)"."""
    return Role.MENTION if _MENTION_VERB.match(before) else Role.UNCLEAR


def _bracket(before: str) -> str | None:
    """The text since the last open bracket; None if none is open."""
    depth = 0
    for at in range(len(before) - 1, -1, -1):
        if before[at] in ")）]":
            depth += 1
        elif before[at] in "(（[":
            if not depth:
                return before[at + 1 :]
            depth -= 1
    return None


def _is_possessed(after: str) -> bool:
    """Whether the words behind a script speak of the file: "`check.py`'s exit codes", "`check.py` wrote"."""
    return (
        re.match(
            r"^(?:['’]s\b|\s*(?:to (?:the|our|your)|into|executable|is|are|was|once|wrote|leaves|writes"
            r"|under version)\b)",
            after,
            _I,
        )
        is not None
    )


def _unless_possessed(after: str) -> Role:
    return Role.MENTION if re.match(r"^['’]s\b", after) else Role.RUN
