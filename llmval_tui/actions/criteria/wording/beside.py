"""Outcomes that stand beside a command without a verb: "→ exists", "— all 5 pods ready", "(63 pass)", "0% loss"."""

import re
from collections.abc import Iterator

from llmval_tui.actions.criteria.units import WORD_NUMBERS
from llmval_tui.actions.criteria.wording.prose import COMMAND, LITERAL
from llmval_tui.actions.criteria.wording.text_claims import NOUNS

_I = re.IGNORECASE
# What a sign behind a command announces: "→ exists", "- connects to the database", "— new errors?".
_BEHIND = rf"{COMMAND}[\s)\]*_,]*"
_ANNOUNCED = (
    re.compile(rf"{_BEHIND}(?:→|->|=>)\s*(?P<outcome>[^\n.;]+)"),
    re.compile(
        rf"{_BEHIND}\s[-–—]+\s+(?P<outcome>(?:it\s+)?(?:connects?|shows?|returns?|prints?|reports?|lists?|creates?"
        rf"|builds?"
        rf"|generates?|produces?|loads?|opens?|starts?|displays?|matches|responds?|finds?|contains?|gives?"
        rf"|writes?)\b[^\n.;]*)",
        _I,
    ),
    re.compile(
        rf"{_BEHIND}\s[-–—]+\s+(?P<outcome>(?:is|are|does|do|did|has|have|was|were|can|any|all|no"
        rf"|new)\b[^\n.;?？]*[?？])",
        _I,
    ),
)
_STATES = (
    r"(?:ready|running|bound|healthy|up|green|visible|present|listed|enabled|disabled|active|loaded|available|installed"
    r"|synced|succeeded|completed|ok|clean|passed|passing|zero|idle|reachable|mounted|trained|attached|detected|registered)"
)
_SHOWN_BEHIND = (
    # "— all 5 pods `1/1 Running`", "— 4 replicas, `min=1` each", "(63 pass, 10 ignored)"
    re.compile(rf"{_BEHIND}\s*(?:[-–—:]+\s+)(?P<outcome>[^\n.;]*?{LITERAL}[^\n.;]*)", _I),
    re.compile(rf"{_BEHIND}\s*(?:[-–—:]+\s+)(?P<outcome>[^\n.;]*\b{_STATES})\W*$", _I),
    re.compile(
        rf"{COMMAND}[^\n.;()]{{0,30}}\((?P<outcome>\d+\s+(?:pass|passed|passing|fail|failed|failures?|skipped|ignored"
        r"|errors?|warnings?|ok|tests?|suites?)\b[^()\n]*)\)",
        _I,
    ),
    # "; target 10 GB/s"
    re.compile(
        r"\b(?P<outcome>(?:target|goal|want(?:ed|s)?|desired"
        r"|aim(?:ing)? for|expect(?:ed|ing)?|spec(?:ified)?|reference|nominal(?:ly)?"
        r"|should be"
        r"|ought to be)\b[^\n;]*?\d[^\n;]*)",
        _I,
    ),
    # "JAX recognizes the GPU: `…`"
    re.compile(
        rf"^\W*(?P<outcome>[^\n:;.]*\b(?:recogni[sz]es|detects|sees|shows|reports|lists|supports"
        rf"|resolves)\b[^\n:;.]*):\s*{COMMAND}",
        _I,
    ),
)
# Facts that a label in front of a command states.
_FACTS = (
    # "All links up: `…`", "MIG off (`…`)", "8 GPUs visible: `…`"
    re.compile(
        rf"(?:^|(?<=[.;]\s))\W*(?P<outcome>(?![^\n:;.]*\b(?:if|when|run|make|ensure)\b)[^\n:;.\ue000-\ue0ff]*"
        rf"\b(?:{_STATES}|on|off))\W{{0,3}}(?:[:(]|\s[-–—]+\s|→|->)\s*{COMMAND}",
        _I,
    ),
    # "8 GPUs: `…`", "Driver 580.95.05: `…`", "Power cap 700 W: `…`"
    re.compile(
        rf"(?:^|(?<=[.;]\s))\W*(?P<outcome>(?:[^\n:;.\d\ue000-\ue0ff]*?\s)?(?<!\bon )(?<!\bover )(?<!\bacross )"
        rf"(?<!\bwith )(?<!\bfor )(?<!\busing )(?<!\bat )(?<!\bto )"
        rf"(?:(?:\d+|{'|'.join(WORD_NUMBERS)})\s*(?:x\s|×\s)?(?:{NOUNS})|\d+(?:\.\d+){{2,}}[\w.+-]*"
        rf"|(?:\d[\d.,]*)\s?(?:[KMGT]i?[Bb](?:it)?(?:/s|ps)|W|°C|MHz|%|T?FLOP\S*)))\W{{0,3}}"
        rf"(?:[:(]|\s[-–—]+\s|→|->)\s*{COMMAND}",
        _I,
    ),
)
# "`systemctl is-active x` → active", "`nproc` == 192", "`getenforce` = `Permissive`": the whole of what is printed.
_PRINTED_WORD = re.compile(
    rf"{COMMAND}[\s)\]*_,]*(?:→|->|=>|==?)\s*(?P<what>{LITERAL}|\d+(?:\.\d+)?|active|inactive|enabled|disabled"
    r"|running|unlimited|true|false|yes|no|on|off|permissive|enforcing)\W*$",
    _I,
)
# Values behind a command: "`ibstat`: State Active, Rate 400", "`ping -c 9 peer` 0% loss", "`nvlink -s` (26 GB/s each)".
_VALUES_BEHIND = (
    re.compile(rf"{COMMAND}[\s)\]*_,]*(?::|[-–—]+|=|→)\s+(?P<outcome>(?:[^\n;.]|\.(?=\d))*)"),
    re.compile(rf"{COMMAND}\s+(?P<outcome>\d(?:[^\n;.]|\.(?=\d))*)"),
    re.compile(rf"{COMMAND}\s*\((?P<outcome>[^()\n]*)\)"),
)
# Numbers that say how long or how often something runs, or where to read more.
_NO_VALUE = re.compile(
    r"(?:about |ca\.? |~ ?|≈ ?)?\b\d[\d.,]*\s?(?:-|–|to)?\s?\d*\s?(?:s|secs?|seconds?|min|mins|minutes?|h|hrs?"
    r"|hours?|days?"
    r"|weeks?|times|x|loops?|iterations?|iters|steps?|runs?|passes|clients?|streams?|threads?)\b|#\d+|\b(?:step"
    r"|item|section"
    r"|chapter|page|issue|ticket|v|since|until|by|on|in|port|phase|part|layer|level|round|day|week|night)\s?\d[\d.:/-]*"
    r"|\b\d{4}-\d\d(?:-\d\d)?\b|\d(?:st|nd|rd|th)\b",
    _I,
)
PREREQUISITE = re.compile(
    r"^\W*(?:needs?|requires?|takes?|uses?|see|as in|like|for|with|on|from|in|same|or|and|then|not|optional|only"
    r"|default"
    r"|if|when|after|before|because|since|writes?|logs?|averaged?|repeat(?:ed)?|about|ca|up to|installs?|downloads?"
    r"|starts?|runs?|covers?)\b",
    _I,
)


def announced(text: str) -> Iterator[re.Match[str]]:
    """What the marked text announces of its commands, in the group `outcome`."""
    for pattern in (*_ANNOUNCED, *_SHOWN_BEHIND):
        yield from pattern.finditer(text)


def facts(text: str) -> Iterator[re.Match[str]]:
    """What the label in front of a command states, in the group `outcome`."""
    for pattern in _FACTS:
        yield from pattern.finditer(text)


def printed_words(text: str) -> Iterator[re.Match[str]]:
    """The one word or number that a command must print, in the group `what`."""
    yield from _PRINTED_WORD.finditer(text)


def values(text: str) -> Iterator[re.Match[str]]:
    """The values behind commands in the marked text, in the group `outcome`."""
    for pattern in _VALUES_BEHIND:
        for match in pattern.finditer(text):
            rest = re.sub(rf"{LITERAL}|{COMMAND}", " ", match["outcome"])
            another = re.search(COMMAND, match["outcome"])
            if not another and not PREREQUISITE.match(rest) and re.search(r"\d", _NO_VALUE.sub(" ", rest)):
                yield match
