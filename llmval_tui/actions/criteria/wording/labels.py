"""Facts in an item that no verb announces: "4/4 GPUs", "Rate: 400", "errors 0", "link is Gen5 x16", "PASSED"."""

import re
from collections.abc import Iterator

from llmval_tui.actions.criteria.wording.prose import COMMAND, LITERAL

_I = re.IGNORECASE
_BREAKS = "\n:;\ue000-\ue0ff"
_WORDS = rf"(?:[^{_BREAKS}.]|\.(?=\d))"  # of one label  # at most 60 in a row: the time must not grow with the text
_TO_COMMAND = rf"[\W_]{{0,3}}(?:[:(]|\s[-–—]+\s|→)\s*{COMMAND}"
_START = r"(?:^|(?<=[.;]\s)|(?<=\s[-–—]\s))\W*"
# Words with which a label asks or introduces, so that its verb states no fact.
_NO_FACT = (
    r"(?:if|when|whenever|where|run|make|ensure|what|which|who|how|whether|why|once|until|while|this|these|that|those"
    r"|here|there|it|check|see|test|find|follow(?:ing|s)?|command|step|goal|purpose|idea)"
)
_SHOUTED = (
    r"(?:PASS(?:ED)?|FULL|OK|UP|ACTIVE|INACTIVE|ENABLED|DISABLED|ONLINE|OPTIMAL|HEALTHY|READY|RUNNING|GOOD|CLEAN|GREEN"
    r"|ON|OFF)"
)
_STATES = (
    r"(?:enabled|disabled|on|off|active|inactive|none|yes|no|up|down|running|ready|healthy|passed|true|false|unlimited"
    r"|permissive|enforcing|optimal|zero|empty)"
)
_SHAPES = (
    # "4/4 GPUs", "6 of 6 PSUs present", "3/3 pass"
    re.compile(
        rf"(?<![\w./-])(?<!step )(?<!part )(?<!phase )(?<!page )(?<!day )"
        rf"(?P<outcome>(?P<n>\d+)\s*(?:/|of|out of)\s*(?P=n)"
        rf"(?![\w./-])[^{_BREAKS}().,]*)",
        _I,
    ),
    # "State: Active", "Rate = 400"
    re.compile(
        r"\b(?P<outcome>(?:state|status|rate|speed|width|mode|health|count|mtu|governor|generation|gen|gres|errors?)\s*[:=]"
        r"\s*(?!(?:check|see|verify|test|query|show|print|measure|use|run|with|via|from|by)\b)[A-Za-z\d][\w.+-]*)"
        rf"(?=\s*(?:[,;).(\n]|$|[–—]|{COMMAND}))",
        _I,
    ),
    # "SELinux: disabled (`getenforce`)", "NPS=1, SMT=off"
    re.compile(
        rf"(?P<outcome>\b[A-Za-z][\w -]{{0,40}}[:=]\s*{_STATES}\b[^{_BREAKS}.,()]{{0,20}})"
        rf"(?=\s*(?:[,;).(\n]|$|[–—-]|{COMMAND}))",
        _I,
    ),
    # "Memory 143771 MiB on each GPU: `…`"
    re.compile(
        rf"{_START}(?P<outcome>{_WORDS}{{0,60}}?(?<!\bto )(?<!\bat )(?<!\bwith )(?<!\bof )\b\d[\d.,]*\s?"
        rf"(?:[KMGT]i?[Bb](?:it)?(?:/s|ps)?"
        rf"|W|°C|MHz|%|T?FLOP\S*)\W{_WORDS}{{0,60}}\b(?:each|every|all|both|per)\b{_WORDS}{{0,60}}){_TO_COMMAND}",
        _I,
    ),
    # "symbol errors 0: `…`"
    re.compile(
        rf"{_START}(?P<outcome>(?:[^{_BREAKS}.]*\s)?(?!(?:steps|times|runs|passes|items|phases|hours|days|levels|series)\b)"
        rf"[a-z]{{3,}}s\s+\d[\d.,]*){_TO_COMMAND}",
        _I,
    ),
    # "PCIe link is Gen5 x16 on every GPU: `…`", "Persistence mode is Enabled → `…`"
    re.compile(
        rf"{_START}(?P<outcome>(?!{_WORDS}{{0,60}}\b{_NO_FACT}\b){_WORDS}{{0,60}}?\w\W+(?:is|are|has|have|equals?|stays?|remains?)\s"
        rf"{_WORDS}{{0,60}}?\w[^\w{_BREAKS}]*){_TO_COMMAND}",
        _I,
    ),
    # "Nobody logged in: `who`", "Clock within 1 s of UTC: `date`", "Clocks locked at 1980 MHz: `…`"
    re.compile(
        rf"{_START}(?P<outcome>(?:(?:nobody|no one|nothing|only (?:one|a single|\d+))\b{_WORDS}{{0,60}}"
        rf"|{_WORDS}{{0,60}}?\bwithin\s+\d[\d.,]*\s?\S+\s+of\b{_WORDS}{{0,60}}"
        rf"|{_WORDS}{{0,60}}?\b(?:locked|fixed|capped|limited|pinned)\s+(?:at|to)\s+\d{_WORDS}{{0,60}})){_TO_COMMAND}",
        _I,
    ),
    # "`systemctl --failed`: none", "`dmesg` w/o errors", "`nvidia-smi -L` {8}"
    re.compile(
        rf"{COMMAND}[\s)*_,]*(?:[:–—-]+\s*)?(?P<outcome>(?:none|nothing|nobody|no one|quiet|silent|empty|clean|normal"
        rf"|only (?!on|if|when|for|in|once|after|needed|as)\w+"
        rf"|(?:w/o|without)\s+(?:any\s+)?(?:errors?|failures?|warnings?))"
        rf"(?![\w-])[^{_BREAKS}().,]*)",
        _I,
    ),
    re.compile(rf"{COMMAND}\s*\{{(?P<outcome>[^{{}}\n]+)\}}"),
    # "SMART overall-health PASSED `…`"
    re.compile(rf"(?P<outcome>[^{_BREAKS}.()]{{0,60}}\b{_SHOUTED})\W{{0,4}}{COMMAND}"),
    # "`memtester 1G 1` all `ok`"
    re.compile(rf"{COMMAND}[\s)*_,]*(?P<outcome>(?:all|each|every|only|both)\s+{LITERAL})", _I),
)
# Commands that print one value: a word in brackets behind them is that value, "`cat /sys/…/governor` (performance)".
_ONE_VALUE = re.compile(r"^(?:sudo\s+)?(?:cat\s+/(?:sys|proc)/\S+$|sysctl\b|getenforce\b|systemctl\s+(?:is-\w|show))")
_IN_BRACKETS = re.compile(rf"(?P<command>{COMMAND})[\s*_]*\((?P<outcome>[\w.+-]+)\)")


def stated_facts(text: str) -> Iterator[re.Match[str]]:
    """What the marked text states beside its commands, in the group `outcome`."""
    for pattern in _SHAPES:
        yield from pattern.finditer(text)


def values_in_brackets(text: str) -> Iterator[re.Match[str]]:
    """A single word in brackets behind a command, in the group `outcome`."""
    yield from _IN_BRACKETS.finditer(text)


def prints_one_value(command: str) -> bool:
    """Whether a command is known to print one value and nothing else."""
    return _ONE_VALUE.search(command) is not None
