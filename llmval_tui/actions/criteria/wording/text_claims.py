"""Demands on the text that a run prints: "prints nothing", "reports `OK`", "no errors", "all 8 GPUs listed"."""

import re

from llmval_tui.actions.criteria.model import Criterion, StatedBy
from llmval_tui.actions.criteria.units import NUMBER_TEXT, number_of
from llmval_tui.actions.criteria.wording.prose import LITERAL, Marked
from llmval_tui.foundation.lazy_pattern import lazy_pattern

_I = re.IGNORECASE
_SAYS = (
    r"(?:prints?|printed|says?|shows?|shown|showing|reports?|reported|gives?|returns?|returned|outputs?"
    r"|displays?|contains?|containing"
    r"|includes?|reads?|lists?|answers?(?: with)?|responds?(?: with)?|replies(?: with)?|yields?|equals?"
    r"|expect(?:s|ed)?|look for"
    r"|looking for|wait for|see|logs?|ergibt|zeigt|meldet|liefert|enthält|muestra|affiche)"
)
_IS = r"(?:is|are|be|was|were|stays?|remains?|becomes?|=|ist|sind)"
_NOT = r"(?:not|never|n't|no longer|cannot)"
_EACH = lazy_pattern(r"\b(?:on|for|in|of|from)\s+(?:every|each|all|both)\b|\bper\b|\beverywhere\b", _I)
# "All pods are `Running`": one line with the word is not enough.
_OF_ALL = lazy_pattern(r"\b(?:all|every|each|both|are)\b", _I)
_EMPTY = lazy_pattern(
    r"\b(?:prints?|shows?|reports?|returns?|outputs?|gives?|lists?|produces?|displays?|finds?|says?|yields?"
    r"|liefert|zeigt|logs?)\s+(?:back\s+)?"
    r"(?:nothing|none|no output|no lines?|nichts|an empty (?:list|string|line|result|output))\b(?!\s+(?:but"
    r"|except|is|about|other))"
    rf"|\b{_IS}\s+(?:empty|silent|quiet|blank|leer)\b|\bno output\b|\bempty output\b|\boutput\W+(?:empty"
    rf"|none)\b|\b(?:stays?|remains?)\s+(?:empty|silent|quiet)\b"
    r"|\bgibt nichts aus\b|空である|何も(?:表示|出力)されない|出力(?:が|は)(?:空|ない)|输出为空|没有输出",
    _I,
)
_NOT_EMPTY = lazy_pattern(rf"\b{_NOT}\s+(?:be\s+)?empty\b|\bnon-empty\b|\bprints? (?:something|anything)\b", _I)
_LAST_LINE = lazy_pattern(r"\b(?:last|final) line\b", _I)
_ENDS = lazy_pattern(
    rf"\b(?:ends?|ending|finish(?:es)?|terminates?|endet)\s+(?:with|in|on|mit)\s+\W*(?P<what>{LITERAL})", _I
)
_BEGINS = lazy_pattern(rf"\b(?:begins?|starts?|beginnt|opens?)\s+(?:with|mit)\s+\W*(?P<what>{LITERAL})", _I)
_FORBIDDEN = tuple(
    lazy_pattern(pattern, _I)
    for pattern in (
        rf"\bneither\b[^\ue100-\uefff;]{{0,20}}?(?P<what>{LITERAL})",
        rf"\b{_NOT}\b\s*(?:be\s+)?(?:\w+\s+){{0,2}}?{_SAYS}\s+(?:\w+\s+){{0,3}}?(?P<what>{LITERAL})",
        rf"\b(?:doesn.t|don.t|mustn.t|shouldn.t)\s+{_SAYS}\s+(?:\w+\s+){{0,3}}?(?P<what>{LITERAL})",
        (
            rf"\b(?:nothing|nobody|none|neither"
            rf"|no\s+[\w -]{{1,60}}?)\s(?:[^\ue100-\uefff;]{{0,60}}?)(?P<what>{LITERAL})"
        ),
        (
            rf"(?P<what>{LITERAL})\s+(?:\w+\s+){{0,2}}?(?:(?:does|do|must|should|may|can)\s+not|never|doesn.t"
            rf"|mustn.t)\s+(?:\w+\s+)?(?:appear|occur|show|be|come|turn)"
        ),
        rf"\b(?:free of|without(?: any)?|no|zero|absence of|never)\s+(?P<what>{LITERAL})",
        rf"\b{_IS}\s+(?:{_NOT})\s+(?P<what>{LITERAL})",
    )
)
_REQUIRED = tuple(
    lazy_pattern(pattern, _I)
    for pattern in (
        (
            rf"\b{_SAYS}\b(?:\s+(?:a|an|the|just|only|exactly|back|as|that|for|line|lines|text|message|string|word"
            rf"|words|value|status|state|out"
            rf"|output|something|like|it|\ue000|[\ue000-\ue0ff]|:))*[\s:]+(?P<what>{LITERAL})"
        ),
        (
            rf"\b(?P<metric>[\w][\w .-]{{0,40}}?)\s+(?:must\s+|should\s+|has to\s+)?{_IS}\s+"
            rf"(?:(?:all|actually|now|still|really|indeed|correctly)\s+)?(?:set to\s+|in state\s+|at\s+|named\s+"
            rf"|called\s+|reported as\s+|listed as\s+|marked(?: as)?\s+)?(?P<what>{LITERAL})"
        ),
        (
            rf"\b(?P<metric>status|state|mode|result|verdict|output|answer|health|value|summary"
            rf"|ausgabe)\b\W*(?P<what>{LITERAL})"
        ),
        rf"(?P<named>{LITERAL})\s+(?:{_IS}|auf|steht auf)\s+(?P<what>{LITERAL})",
        (
            rf"(?P<what>{LITERAL})\s+(?:must|should|has to)?\s*(?:appears?|shows? up|is (?:shown|printed|reported"
            rf"|listed|there|present|in the output)|be (?:shown|printed|reported|listed|there|present))"
        ),
        rf"(?P<what>{LITERAL})\s*(?:と(?:表示|出力)|が(?:表示|出力)|を?返)",
    )
)
_STANDS_ON = lazy_pattern(rf"(?P<named>{LITERAL})\s+auf\s+(?P<what>[\w.]+|{LITERAL})\s+steht", _I)
NOUNS = (
    r"gpus?|links?|hcas?|nics?|nodes?|ranks?|devices?|disks?|drives?|pods?|ports?|rails?|dimms?|processes"
    r"|workers?|switches|nvmes?"
    r"|cores?|sockets?|partitions?|entries|rows|lines?|replicas?|instances?|adapters?|lanes?|mounts?|slots?"
    r"|volumes?|cards?|hosts?"
)
_COUNTED = lazy_pattern(
    rf"\b(?:all|the|exactly|every one of)\s+(?:the\s+)?(?P<n>{NUMBER_TEXT})\s+(?P<noun>{NOUNS})\b(?:\s+(?:are"
    rf"|is|be|were|must|should|get))*"
    r"\s*(?:be\s+)?(?:listed|shown|visible|present|reported|appear\w*|detected|seen|found|enumerated|there"
    r"|in the list|show up|show|come up)\b"
    rf"|\b{_SAYS[:-1]}|finds?|detects?|sees|has)\s+(?:all\s+(?:the\s+)?|exactly\s+"
    rf"|the\s+)?(?P<n2>{NUMBER_TEXT})\s+(?P<noun2>{NOUNS})\b(?!\s+or\b)",
    _I,
)
_NONE_OF = lazy_pattern(
    r"\b(?P<how>no|zero|without(?: any)?|0|not a single|free of)\s+(?!(?:more|less|fewer|greater|higher|longer"
    r"|later|lower|worse)\b)(?P<noun>(?:new\s+|other\s+|further\s+)?"
    r"(?:(?:[\w-]+\s+){0,2}?(?:errors?|failures?|warnings?|xids?|timeouts?|time-outs?|retries|retransmi\w+"
    r"|drops?|ooms?|out-of-memory|crash(?:es)?"
    r"|hangs?|mismatch(?:es)?|throttling|throttles?|tracebacks?|exceptions?|nans?|leaks?"
    r"|corruptions?|segfaults?"
    r"|stalls?|deadlocks?|violations?|alerts?|vulnerabilit(?:y|ies)|panics?|complaints?|losses|mce|aer|flaps?"
    r"|replays?|conflicts?|faults?|rejects?)"
    r"|(?:failed|failing|dropped|lost|wrong|missing|bad|broken|unhealthy|uncorrectable|uncorrected|degraded"
    r"|remapped|pending|incomplete|rejected"
    r"|skipped|stuck|corrupt(?:ed)?|invalid)\s+[\w-]+))\b",
    _I,
)
_SHOWS_NO = lazy_pattern(
    rf"\b{_SAYS}\s+(?:no|zero)\s+(?P<noun>[\w-]+)(?=\s*$|\s+(?:at all|in|on|for|from|since|after|during|any)\b)", _I
)
_VALUE = lazy_pattern(
    rf"\b(?:prints?|says?|shows?|reports?|returns?|outputs?|reads?|gives?|{_IS}|yields?|equals?)\s+(?:back\s+"
    rf"|only\s+|just\s+|exactly\s+)?"
    rf"(?P<n>v?(?:{NUMBER_TEXT}|\d+(?:\.\d+){{2,}}))(?=\s*$|\s+(?:on|for|in|everywhere|per|and|at)\b|[.,;)])",
    _I,
)
_SHOUTED = lazy_pattern(
    r"\b(?i:prints?|says?|shows?|reports?|returns?|outputs?|reads?|ends with|look for"
    r"|expect)\s+(?P<w>[A-Z][A-Z_]+)(?=\W*$|\s+(?:for|on|in|at|everywhere|and|per|after|before|again|only)\b)"
)
_AUF = lazy_pattern(rf"(?P<named>{LITERAL}|[\w ]{{2,30}}?)\s+auf\s+(?P<what>\d[\w.]*)\s+steht", _I)
_PATH_LIKE = lazy_pattern(
    r"-.*|[\w.~$-]*/[\w./~$*-]*|[\w./-]+\.(?:md|json|txt|log|ya?ml|toml|csv|sh|py|cfg|conf|xml|html|so|tar|gz)"
)
_NOT_OUTPUT = lazy_pattern(
    r"\b(?:branch|file|folder|directory|script|tool|command|package|name|tag|port|flag|default|variable"
    r"|image)\b",
    _I,
)
_VERSION = r"(?P<v>\d+(?:\.\d+)+[\w.+-]*)"
_OF_VERSION = r"(?:version|v|release|driver|cuda|nccl|firmware)?\s*"
_VERSIONED = (
    r"(?:version|driver|release|firmware|kernel|cuda|cudnn|nccl|ofed|python|torch|pytorch|vllm|glibc|dcgm|docker|helm"
    r"|kubernetes|slurm)"
)
_NEWER = tuple(
    lazy_pattern(pattern, _I)
    for pattern in (
        rf"{_VERSION}\s*(?:or|and|oder)\s+(?:newer|later|higher|above|greater|up|neuer|höher|more recent)",
        (rf"(?:>=|≥|at least|min(?:imum)?(?: version)?|not older than|no older than"
        rf"|mindestens)\s*{_OF_VERSION}(?P<v>\d+(?:\.\d+){{2,}}[\w.+-]*)"),
        (rf"(?:>=|≥|at least|min(?:imum)?|not older than|no older than|mindestens|newer than"
        rf"|later than)\s+version\s+{_VERSION}"),
        (rf"\b{_VERSIONED}\b[^\d]{{0,24}}(?:>=|≥|at least|newer than"
        rf"|mindestens)\s*{_VERSION}(?![\d%]|\s*(?:ms|s|GB|W|%))"),
        rf"\b{_VERSIONED}\s+(?:(?:is|of|must be|should be)\s+)?(?P<v>\d+(?:\.\d+)+)\s?\+(?![\w/])",
        rf"(?:not older than|no older than|newer than)\s+{_VERSION}",
    )
)  # fmt: skip
# Commands whose output is a version: "`sinfo --version` at least 23.02" compares no decimal numbers.
_PRINTS_VERSION = lazy_pattern(
    r"(?:^|\s)(?:--version|-V|version)(?:\s|$)|^(?:sudo\s+)?uname\s+-r\b|--query-gpu=driver_version\b(?!,)"
    r"|^(?:sudo\s+)?cat\s+/sys/module/\w+/version$"
)
_BOUND = lazy_pattern(
    r"(?:(?:>=|≥|at least|min(?:imum)?|not older than|no older than|mindestens|au moins|不低于|至少)\s*"
    r"(?:version\s+)?v?(?P<v>\d+(?:\.\d+)*)"
    r"|(?<![\w.])v?(?P<or>\d+(?:\.\d+)*)\s?(?:\+|(?:or|and|oder|ou)\s+(?:newer|later|higher|above|greater|up|neuer|höher)\b))"
    r"(?=\s*(?:$|[,;.)\ue000-\ue0ff]|(?:on|for|in|via|everywhere)\b))",
    _I,
)


def version_claim(words: Marked, clause: str) -> Criterion | None:
    """ "`0.11.0` or newer", "NCCL version >= 2.27.3"; also "at least 550" of a command that prints a version."""
    at = words.command_near(clause)
    prints_it = at is not None and at < len(words.commands) and _PRINTS_VERSION.search(words.commands[at])
    if prints_it and (match := _BOUND.search(clause)):
        return _text(words, clause, "version >=", match["v"] or match["or"])
    for pattern in _NEWER:
        if match := pattern.search(clause):
            return _text(words, clause, "version >=", match["v"].rstrip(".,"))
    return None


def text_claim(words: Marked, clause: str) -> Criterion | None:
    """The demand of a clause on the printed text; None if it states none that can be read."""
    if _NOT_EMPTY.search(clause):
        return _text(words, clause, "not empty", None)
    if _EMPTY.search(clause):
        return _text(words, clause, "empty", None)
    if match := _found(_FORBIDDEN, words, clause):
        return _text(words, clause, "not contains", words.literal(match["what"]))
    if match := _STANDS_ON.search(clause) or _AUF.search(clause):
        what = match["what"]
        return _text(words, clause, "contains", words.literal(what) if re.fullmatch(LITERAL, what) else what)
    for pattern, comparison in ((_ENDS, "ends with"), (_BEGINS, "begins with")):
        if match := _found((pattern,), words, clause):
            return _text(words, clause, comparison, words.literal(match["what"]))
    if _LAST_LINE.search(clause) and (literals := re.findall(LITERAL, clause)):
        return _text(words, clause, "last line contains", words.literal(literals[-1]))
    if match := _found(_REQUIRED, words, clause):
        comparison = "==" if _EACH.search(clause) else "contains"
        if comparison == "contains" and _OF_ALL.search(clause[: match.start("what")]):
            comparison = "each line contains"
        return _text(words, clause, comparison, words.literal(match["what"]))
    if match := _COUNTED.search(clause):
        return _counted(words, clause, match["n"] or match["n2"], match["noun"] or match["noun2"])
    if match := _NONE_OF.search(clause) or _SHOWS_NO.search(clause):
        return _none_of(words, clause, match)
    if (match := _VALUE.search(clause)) and not re.search(r"\b(?:exit|return)\w* (?:code|status)|\brc\b", clause, _I):
        number = number_of(match["n"])
        return _text(words, clause, "==", number if number is not None else match["n"])
    if match := _SHOUTED.search(clause):
        is_forbidden = re.search(rf"(?:\b{_NOT}|n['’]t)\W+(?:\w+\W+)?$", clause[: match.start()], _I)
        return _text(words, clause, "not contains" if is_forbidden else "contains", match["w"])
    return None


def is_path(text: str) -> bool:
    """Whether a quoted text is a file, a folder or a flag, and no output."""
    return _PATH_LIKE.fullmatch(text) is not None


def _found(patterns: tuple[re.Pattern[str], ...], words: Marked, clause: str) -> re.Match[str] | None:
    """The first match whose quoted text can be output, so no path, file name or flag."""
    for pattern in patterns:
        for match in pattern.finditer(clause):
            named = "metric" in match.groupdict() and match["metric"] and _NOT_OUTPUT.search(match["metric"])
            if not named and not is_path(words.literal(match["what"])):
                return match
    return None


def _counted(words: Marked, clause: str, number: str, noun: str) -> Criterion:
    return Criterion(
        words.plain(clause),
        StatedBy.WORDS,
        "output",
        "==",
        number_of(number),
        noun,
        metric=noun,
        which="count",
        command=words.command_near(clause),
    )


def _none_of(words: Marked, clause: str, match: re.Match[str]) -> Criterion | None:
    noun = match["noun"]
    command = words.command_near(clause)
    how = match.groupdict().get("how") or "no"
    if how.lower() in ("zero", "0") and not re.search(r"\bxid", noun, _I):
        *_, unit = noun.split()
        return Criterion(
            words.plain(clause), StatedBy.WORDS, "output", "==", 0.0, unit, metric=noun, which="all", command=command
        )
    if re.match(r"(?:need|changes?|matter|longer|problem|further|one|other)$", noun, _I):
        return None
    word = re.sub(
        r"(?<=error)s$|(?<=failure)s$|(?<=warning)s$|(?<=xid)s$|(?<=timeout)s$|(?<=oom)s$|(?<=[a-rt-z])s$",
        "",
        noun,
        flags=_I,
    )
    return Criterion(
        words.plain(clause),
        StatedBy.WORDS,
        "output",
        "not contains",
        word,
        metric=noun,
        ignore_case=True,
        command=command,
    )


def _text(words: Marked, clause: str, comparison: str, bound: str | float | None) -> Criterion:
    return Criterion(
        words.plain(clause),
        StatedBy.WORDS,
        "stdout" if comparison in ("empty", "not empty", "==", "each line contains") else "output",
        comparison,
        bound,
        which="all",
        command=words.command_near(clause),
    )
