"""Comparisons with numbers in a clause: "p99 TTFT < 200 ms", "at least 200 TiB", "83 °C or lower", "8 以上"."""

import re
from dataclasses import dataclass

from llmval_tui.actions.criteria.units import NUMBER_TEXT, UNIT_TEXT, WORD_NUMBERS, number_of, suffix_named, unit_named
from llmval_tui.foundation.lazy_pattern import lazy_pattern

# Each row: words, and the comparison that they state between the value and the bound. The first match counts.
_BEFORE: tuple[tuple[str, str], ...] = (
    (r"<=|=<|≤|⩽", "<="),
    (r">=|=>|≥|⩾", ">="),
    (r"!=|≠|<>", "!="),
    (r"==?", "=="),
    (r"(?<![-=])<", "<"),
    (r"(?<![-=])>", ">"),
    ((r"(?:not|never|cannot|\w+n['’]t)(?: \w+)? (?:exceed\w*|surpass\w*|(?:go(?:es)?|be|is|rise|rises|climb\w*"
      r"|get)? ?(?:above|over|beyond|past)"
      r"|(?:be )?(?:higher|more|greater|larger|hotter|longer|slower) than)"), "<="),
    ((r"(?:not|never|cannot|\w+n['’]t)(?: \w+)? (?:(?:fall|falls|drop|drops|go|goes|sink|dip|be|is|get)? ?"
      r"(?:below|under|beneath)"
      r"|(?:be )?(?:lower|less|smaller|fewer|slower) than)"), ">="),
    ((r"no (?:more|greater|higher|larger|longer|later|hotter) than|not (?:more|greater|higher|longer|above"
      r"|over) than"
      r"|at (?:the )?most|at max(?:imum)?|not (?:above|over)|maximum(?: of)?|max(?: of)?|up to a maximum of"
      r"|capped at|<≈"), "<="),
    ((r"no (?:less|fewer|lower|smaller|worse) than|not (?:less|fewer|lower) than|at (?:the )?least|at min(?:imum)?"
      r"|not (?:below|under)|minimum(?: of)?|min(?: of)?|a floor of"), ">="),
    (r"(?:greater|more|higher|larger) than or equal(?: to)?|greater or equal(?: to)?", ">="),
    (r"(?:less|lower|smaller|fewer) than or equal(?: to)?|less or equal(?: to)?", "<="),
    (r"(?:less|fewer|lower|smaller|shorter|faster|cooler|quicker) than|below|under|beneath|short of", "<"),
    ((r"(?:more|greater|higher|larger|longer|better|bigger) than|above|exceed(?:s|ed|ing)?|over|beyond"
      r"|surpass(?:es)?|tops"), ">"),
    (r"within", "<="),
    (r"equal(?:s)?(?: to)?|exactly", "=="),
    # German
    (r"nicht (?:mehr|höher|größer|länger|wärmer) als|höchstens|maximal|nicht über|bis zu", "<="),
    (r"nicht (?:weniger|kleiner|niedriger) als|mindestens|wenigstens|minimal|nicht unter", ">="),
    (r"(?:weniger|kleiner|niedriger|kürzer|schneller) als|unter", "<"),
    (r"(?:mehr|größer|höher|länger) als|über", ">"),
    # French, Spanish, Portuguese, Italian, Dutch
    ((r"pas plus de|au plus|au maximum|no más de|como máximo|a lo sumo|no máximo|al massimo|hoogstens"
      r"|ten hoogste|não mais de"), "<="),
    ((r"pas moins de|au moins|au minimum|no menos de|al menos|por lo menos|como mínimo|pelo menos|no mínimo|almeno"
      r"|minstens|ten minste|não menos de"), ">="),
    (r"moins de|inférieure? à|menos de|menor (?:que|a)|inferior a|meno di|inferiore a|minder dan|lager dan", "<"),
    ((r"plus de|supérieure? à|más de|mayor (?:que|a)|superior a|mais de|maior que|più di|superiore a|meer dan"
      r"|hoger dan"), ">"),
    # Russian, Chinese
    (r"не более|не больше|не выше|максимум|不超过|不超過|不高于|不高於|不大于|最多|至多", "<="),
    (r"не менее|не меньше|не ниже|минимум|不低于|不低於|不少于|不少於|不小于|至少|最少", ">="),
    (r"менее|меньше|ниже|小于|小於|低于|低於|少于", "<"),
    (r"более|больше|выше|大于|大於|高于|高於|超过|超過", ">"),
)  # fmt: skip
_AFTER: tuple[tuple[str, str], ...] = (
    ((r"\s*(?:or|and|oder|und|ou|o)\s+(?:more|better|higher|above|greater|larger|up|over|mehr|besser|höher|plus"
      r"|más)\b"), ">="),
    ((r"\s*(?:or|and|oder|und|ou|o)\s+(?:less|lower|below|fewer|smaller|under|cooler|faster|quicker|weniger"
      r"|niedriger"
      r"|schneller|moins|menos)\b"), "<="),
    (r"\+(?!\d)|\s*(?:(?:at|as a)\s+)?(?:minimum|min\b|at least)|\s*이상|\s*(?:個)?以上", ">="),
    (r"\s*(?:(?:at|as a)\s+)?(?:maximum|max\b|at most)|\s*이하|\s*以下|\s*以内", "<="),
    (r"\s*미만|\s*未満|\s*以内", "<"),
    (r"\s*초과|\s*を?超|\s*より大き", ">"),
)  # fmt: skip
_TURNED = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}  # what must hold if the condition fails
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}  # the bound stands on the left
_LETTER = r"[A-Za-zÀ-ɏ]"
_VALUE = rf"(?P<number>{NUMBER_TEXT})(?:\s?(?P<unit>{UNIT_TEXT}(?:\s+per second)?))?"
_FIRST = lazy_pattern(
    "|".join(
        rf"(?P<b{index}>(?:(?<!{_LETTER})(?:{words})(?!{_LETTER})|(?:{words})(?<!\w)))"
        for index, (words, _) in enumerate(_BEFORE)
    ),
    re.IGNORECASE,
)
_FILLERS = r"\s*(?:(?:a|an|the|or|total of|about|roughly|approximately|around|version|about the|ca|von|de|auf)\s+)*"
_THEN_VALUE = lazy_pattern(rf"{_FILLERS}(?:[$€]?){_VALUE}", re.IGNORECASE)
_LOWER = lazy_pattern(rf"\s*{_VALUE}\s*(?P<sign><=|≤|<)\s*(?P<name>[A-Za-z][\w .%-]*?)\s*(?=[<≤])", re.IGNORECASE)
_LAST = lazy_pattern("|".join(f"(?P<a{index}>{words})" for index, (words, _) in enumerate(_AFTER)), re.IGNORECASE)
_VALUE_ALONE = lazy_pattern(rf"(?<![\w.,])(?:{_VALUE})", re.IGNORECASE)
_RANGE = lazy_pattern(
    rf"\b(?:between|zwischen|entre|from|von"
    rf"|range(?: of)?)\s+(?P<low>{NUMBER_TEXT})\s*(?P<lowunit>{UNIT_TEXT})?\s*(?:…|to|bis|à|a|-|–)\s*"
    rf"(?P<number>{NUMBER_TEXT})(?:\s?(?P<unit>{UNIT_TEXT}))?",
    re.IGNORECASE,
)
_SHARE_OF = lazy_pattern(
    rf"(?:within|±|\+/-)\s*(?P<share>{NUMBER_TEXT})\s*(?:%|percent)\s+(?:of|around|from)\s+{_VALUE}", re.IGNORECASE
)
_PLUS_MINUS = lazy_pattern(
    rf"{_VALUE}\s*(?:±|\+/-|\+-)\s*(?P<share>{NUMBER_TEXT})\s?(?P<shareunit>%|percent|{UNIT_TEXT})?", re.IGNORECASE
)
_ANY_NUMBER = lazy_pattern(rf"\d|\b(?:{'|'.join(WORD_NUMBERS)})\b", re.IGNORECASE)
_UNIT = lazy_pattern(rf"\s?(?P<unit>{UNIT_TEXT})")
# "≥ 90 % of peak", "± 3", and a value with which a clause begins: "380–400 Gb/s".
_SIGNED = lazy_pattern(rf"(?:[<>≤≥⩽⩾≈]=?|[!=]=|±|\+/-)\s*(?:{NUMBER_TEXT})", re.IGNORECASE)
_BEGINS = lazy_pattern(
    rf"\W*(?:about\s+|around\s+|roughly\s+|approx\.?\s+|ca\.?\s+|up to\s+)?(?:{NUMBER_TEXT})"
    rf"(?:\s*(?:-|–|—|…|to)\s*(?:{NUMBER_TEXT}))?\s?(?P<unit>{UNIT_TEXT}(?:\s+per second)?)",
    re.IGNORECASE,
)
_TOLERANCE = lazy_pattern(rf"\bwithin\s+(?:{NUMBER_TEXT})\s*(?:%|percent)\s+of\b", re.IGNORECASE)
# "Fans 5000–12000 RPM"
_RANGE_ALONE = lazy_pattern(
    rf"(?<![\w.,-])(?:{NUMBER_TEXT})\s*(?:-|–|—|…|\.\.+)\s*(?:{NUMBER_TEXT})\s?(?P<unit>{UNIT_TEXT})", re.IGNORECASE
)
# Units of what a run is started with as often as of what it must show.
_INPUTS = ("time", "bytes", "count", "ratio", "requests per second")
# Words between a preposition and a number that say how long or on what something runs, not what must hold.
_SPAN = lazy_pattern(r"(?:over|under|above|within)$", re.IGNORECASE)
_SPAN_UNITS = lazy_pattern(
    r"(?:seconds?|secs?|s|minutes?|min|hours?|h|days?|runs?|iterations?|steps?|samples?|trials?|streams?"
    r"|clients?|users?"
    r"|processes|threads|ranks|tcp|ib|rdma|roce|ethernet|gbe|nodes?|gpus?)",
    re.IGNORECASE,
)
_STATES = lazy_pattern(
    r"(?<![\w-])(?:is|are|be|been|stays?|remains?|keeps?|holds?|was|were|well|just|back|goes|go|rises?|falls?|drops?"
    r"|drop|latency"
    r"|p\d\d[\d.]*|time|takes?|finish(?:es)?|completes?|done|in|than|temperature|power|usage|bandwidth|error"
    r"|loss|rate)"
    r"\s*(?:\w+\s+)?$",
    re.IGNORECASE,
)  # fmt: skip
# Before the comparison: what the run needs, or how it is started; not what it must show.
_PRECONDITION = lazy_pattern(
    r"\b(?:requires?|needs?|use|using|set|setting|choose|pick|allow|reserve|book|wait(?:ing)?|sleep|give it"
    r"|leave it"
    r"|takes? up to|on (?:a|an|any|every|each|one) (?:node|machine|host|box|server|system|instance) with"
    r"|(?:run|start|launch|execute|call)(?:\s+it)?(?:\s+[\ue000-\ue0ff])?\s+(?:with|on|over|under|for))\b"
    r"[^\ue000-\ue0ff]*$|\b(?:benötigt|braucht)\b[^\ue000-\ue0ff]*$",
    re.IGNORECASE,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison in a clause: the value that the words before and after it name, against a bound."""

    comparison: str
    bound: float
    unit: str | None
    before: str  # the words that may name the value
    after: str


def states_a_value(clause: str) -> bool:
    """Whether a clause states a value that it demands, also where `comparisons_in` cannot read which."""
    signed = _SIGNED.search(clause)
    if signed and not _PRECONDITION.search(clause[: signed.start()]):
        return True
    if any(
        (found := unit_named(one["unit"])) is not None and found.dimension not in _INPUTS
        for one in _RANGE_ALONE.finditer(clause)
    ):
        return True
    begins = _BEGINS.match(clause)
    unit = unit_named(begins["unit"]) if begins else None
    return unit is not None and unit.dimension not in _INPUTS


def states_more(clause: str, read: int) -> bool:
    """Whether a clause states more values than the `read` ones: "≥ 0.85 within 2 % of the reference"."""
    return len(_SIGNED.findall(clause)) + len(_TOLERANCE.findall(clause)) > read


def turned(comparison: str) -> str:
    """The comparison that must hold if the opposite one is a fault: "fails if p99 > 200 ms"."""
    return _TURNED[comparison]


def comparisons_in(clause: str) -> list[Comparison]:
    """The comparisons that a clause states, usually none or one; a range gives two."""
    if not _ANY_NUMBER.search(clause):  # most clauses have none, and the tables below cost time
        return []
    if share := _SHARE_OF.search(clause):
        number, part = number_of(share["number"]), number_of(share["share"])
        if number is not None and part is not None:
            return [
                _made(sign, number * factor, share, clause)
                for sign, factor in ((">=", 1 - part / 100), ("<=", 1 + part / 100))
            ]
    if around := _PLUS_MINUS.search(clause):
        return _around(around, clause)
    if found := _RANGE.search(clause):
        low, high = number_of(found["low"]), number_of(found["number"])
        before = clause[: found.start()]
        if low is not None and high is not None and low <= high and (found["unit"] or _STATES.search(before + " ")):
            return [_made(">=", low, found, clause), _made("<=", high, found, clause)]
    for match in _FIRST.finditer(clause):
        value = _THEN_VALUE.match(clause, match.end())
        if value is None or _PRECONDITION.search(clause[: match.start()]):
            continue
        sign = next(_BEFORE[int(name[1:])][1] for name, text in match.groupdict().items() if text)
        if _SPAN.search(match[0]) and not _STATES.search(clause[: match.start()]):
            noun = value["unit"] or next(iter(clause[value.end() :].split()), "")
            if _SPAN_UNITS.fullmatch(noun) or (match[0].lower() != "under" and not value["unit"]):
                continue
        number = number_of(value["number"])
        if number is None or (value["unit"] in ("%", "percent") and re.match(r"\s*of\b", clause[value.end() :])):
            continue
        if _contradicts(sign, clause, value):
            return []
        left = _VALUE_ALONE.match(clause.strip()) if len(match[0]) <= 2 else None
        if left and not clause[left.end() : match.start()].strip():
            continue
        # "5 GB/s < bw < 7 GB/s": the words between both signs name the value.
        lower = _LOWER.match(clause)
        if lower is not None and lower.end() == match.start() and lower["sign"][0] in "<≤" and sign[0] == "<":
            bound, unit = _scaled(number_of(lower["number"]) or 0.0, lower["unit"] or value["unit"])
            at_least = Comparison(">=" if lower["sign"] in ("<=", "≤") else ">", bound, unit, lower["name"], "")
            bound, unit = _scaled(number, value["unit"])
            return [at_least, Comparison(sign, bound, unit, lower["name"], "")]
        is_noun = value["unit"] and unit_named(value["unit"]) is None and suffix_named(value["unit"]) is None
        rest = clause[value.end("number") if is_noun else value.end() :]
        return [_made(sign, number, value, clause, start=match.start()), *comparisons_in(rest)]
    if mirrored := _mirrored(clause):
        return [mirrored]
    for value in _VALUE_ALONE.finditer(clause):
        after = _LAST.match(clause, value.end())
        number = number_of(value["number"])
        text, unit = value, value["unit"]
        if after is None and unit and unit_named(unit) is None:  # "18 or more", where the first word looks like a unit
            after = _LAST.match(clause, value.end("number"))
            unit = None if after else unit
        if after is None:  # "18 links or more"
            noun = lazy_pattern(r"\s*[A-Za-z][\w-]*").match(clause, value.end())
            after = _LAST.match(clause, noun.end()) if noun else None
        if after is None or number is None or _PRECONDITION.search(clause[: value.start()]):
            continue
        sign = next(_AFTER[int(name[1:])][1] for name, found_text in after.groupdict().items() if found_text)
        if after[0] == "+" and (plus := _UNIT.match(clause, after.end())):  # "400+ GB/s"
            text, unit = plus, plus["unit"]
        return [_made(sign, number, text, clause, start=value.start(), end=after.end(), unit=unit)]
    return []


def _contradicts(sign: str, clause: str, value: re.Match[str]) -> bool:
    """Whether the words behind a number turn its comparison: "≥ 10 or less"."""
    after = _LAST.match(clause, value.end())
    if after is None and value["unit"] and unit_named(value["unit"]) is None:  # the first word looks like a unit
        after = _LAST.match(clause, value.end("number"))
    if after is None:
        return False
    other = next(_AFTER[int(name[1:])][1] for name, text in after.groupdict().items() if text)
    return sign[:1] in "<>" and sign[:1] != other[:1]


def _around(found: re.Match[str], clause: str) -> list[Comparison]:
    """ "0.75 ± 0.01", "3,000 tok/s ± 5 %"; a tolerance in another unit than the value's gives none."""
    number, part = number_of(found["number"]), number_of(found["share"])
    unit, of = found["unit"], found["shareunit"]
    if number is None or part is None or (of and of != unit and of not in ("%", "percent")):
        return []
    width = number * part / 100 if of in ("%", "percent") and unit not in ("%", "percent") else part
    unit = unit or (of if of not in ("%", "percent") else None)
    return [
        _made(sign, bound, found, clause, unit=unit) for sign, bound in ((">=", number - width), ("<=", number + width))
    ]


def _mirrored(clause: str) -> Comparison | None:
    """A comparison with the bound on its left: "200 ms > p99 TTFT"."""
    match = re.match(
        rf"\s*{_VALUE}\s*(?P<sign><=|>=|≤|≥|<|>)\s*(?P<name>[A-Za-z]\S*(?:\s+\S+){{0,3}})\s*$", clause, re.I
    )
    number = number_of(match["number"]) if match else None
    if match is None or number is None:
        return None
    sign = _MIRRORED[{"≤": "<=", "≥": ">="}.get(match["sign"], match["sign"])]
    bound, unit = _scaled(number, match["unit"])
    return Comparison(sign, bound, unit, match["name"], "")


def _made(
    sign: str,
    number: float,
    value: "re.Match[str]",
    clause: str,
    *,
    start: int | None = None,
    end: int | None = None,
    unit: str | None = "",
) -> Comparison:
    bound, name = _scaled(number, value["unit"] if unit == "" else unit)
    before = clause[: value.start() if start is None else start]
    after = clause[max(value.end(), end or 0) :]
    if unit == "" and value["unit"] and name is None and suffix_named(value["unit"]) is None:
        after = f"{value['unit']} {after}"
    return Comparison(sign, round(bound, 12), name, before, after)


def _scaled(number: float, unit: str | None) -> tuple[float, str | None]:
    """The bound and its unit: `1.2 M` is 1,200,000; a noun ("retries") is kept as the unit of a count."""
    if unit is None:
        return number, None
    if unit_named(unit) is not None:
        return number, unit
    if factor := suffix_named(unit):
        return number * factor, None
    return (number, unit) if not _STOP.fullmatch(unit) else (number, None)


_STOP = lazy_pattern(
    r"or|and|within|of|on|in|at|per|for|from|with|to|the|a|an|after|before|during|when|if|by|over|under|than|each"
    r"|every|all|is|as"
    r"|are|while|but|once|total|available|free|left|used|better|more|less|expected|minimum|maximum|max|min|und"
    r"|oder|auf|bei"
    r"|steht|pro|je",
    re.IGNORECASE,
)
