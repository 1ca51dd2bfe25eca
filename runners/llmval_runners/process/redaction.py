"""Finds secrets in bytes and overwrites each with as many `*`, so that lengths and offsets inside archives stay valid.

`llmval_tui/foundation/` and `runners/llmval_runners/process/` have this file, `secret_names.py`, `secret_forms.py` and
`secret_places.py` twice, because the two packages do not import each other. A test compares them: change both.
"""

import base64
import binascii
import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence

from .secret_forms import (
    ASSIGNED,
    ASSIGNED_WORD,
    BESIDE,
    ENCODED,
    IN_URL,
    LED,
    LINE_END,
    LINE_KEY,
    NAME_BYTES,
    NAME_END,
    NAMED,
    SECRET_DATA,
    SECRET_KIND,
    SECRET_VALUE,
    WHOLE,
)
from .secret_names import NUMBER, is_value, looks_secret, rank_of, secret_name
from .secret_places import command_lines, spans_in_objects, spans_in_tables

SHORTEST = 6  # a shorter value of a variable would appear in many files by chance
MASK = "******"  # in records, where the length of a secret is nobody's business
NEAR = 2000  # bytes between the kind of a Secret of Kubernetes and its data
_Match = re.Match[bytes]


def redact(data: bytes, secrets: Iterable[bytes] = ()) -> tuple[bytes, int]:
    """The data with every secret overwritten, and the number of overwritten places.

    `secrets`: values to overwrite wherever they are, as `secrets_of` finds them in an environment.
    """
    count = 0
    for secret in sorted(secrets, key=len, reverse=True):
        if secret in data:
            count += data.count(secret)
            data = data.replace(secret, b"*" * len(secret))
    lower = data.lower()  # overwriting makes no new word, so this one is good for all patterns
    shown = _without_escapes(data)
    forms: list[tuple[tuple[bytes, ...], re.Pattern[bytes], Callable[[_Match], tuple[int, int] | None]]] = [
        *((words, pattern, lambda match: match.span()) for words, pattern in WHOLE),
        *((words, pattern, _span_of_value) for words, pattern in BESIDE),
        *((words, pattern, _span_of_user_and_password) for words, pattern in ENCODED),
    ]
    for words, pattern, span_of in forms:
        if _has_one_of(words, lower):
            data, times = _overwrite(data, pattern.search, span_of, shown)
            shown = _without_escapes(data) if times else shown
            count += times
    spans = [*_spans_in_lists(data), *spans_in_tables(data, lower), *spans_in_objects(data, lower)]
    if b"secret" in lower and SECRET_KIND.search(data):
        spans += _data_of_secrets(data)
    data, times = _starred(data, spans)
    count += times
    for words, pattern in NAMED:
        if _has_one_of(words, lower):
            data, times = _overwrite(data, pattern.search, _named_span)
            count += times
    for search, span_of in ((_led_in(lower), _named_span), (_assigned_in(lower), _assigned_span)):
        data, times = _overwrite(data, search, span_of)
        count += times
    return data, count


def _span_of_value(match: _Match) -> tuple[int, int] | None:
    """Group 1, if it is more than quotes and commas."""
    return match.span(1) if _WORD.search(match[1]) else None


def _has_one_of(words: tuple[bytes, ...], lower: bytes) -> bool:
    return not words or any(word in lower for word in words)


def _without_escapes(data: bytes) -> bytes:
    """The data in which a word begins after JSON's `\\n`, `\\r` and `\\t`, at the same offsets."""
    return data.replace(b"\\n", b"\\\v").replace(b"\\r", b"\\\v").replace(b"\\t", b"\\\v")


def _assigned_in(lower: bytes) -> Callable[[bytes, int], _Match | None]:
    """The search for `ASSIGNED` in data of which this is the lower case, before anything in it was overwritten."""

    def search(data: bytes, at: int) -> _Match | None:
        while (word := ASSIGNED_WORD.search(lower, at)) is not None:
            if (match := ASSIGNED.match(data, word.start())) is not None:
                return match
            at = word.start() + 1
        return None

    return search


def _led_in(lower: bytes) -> Callable[[bytes, int], _Match | None]:
    """The search for `LED`, as `_assigned_in`."""

    def search(data: bytes, at: int) -> _Match | None:
        place = at
        while (word := ASSIGNED_WORD.search(lower, place)) is not None:
            start = word.start()
            while start > at and word.start() - start < 64 and data[start - 1] in NAME_BYTES:
                start -= 1
            start += _after_escape(data, start, word.start())
            for pattern in LED:
                if (match := pattern.match(data, start)) is not None:
                    return match
            end = NAME_END.match(data, word.end())
            place = max(word.end(), end.end() if end is not None else 0)
        return None

    return search


def redact_text(text: str, secrets: Iterable[bytes] = ()) -> str:
    """The text with every secret overwritten."""
    return redact(text.encode("utf-8", "surrogateescape"), secrets)[0].decode("utf-8", "surrogateescape")


def masked_argv(words: Sequence[str]) -> list[str]:
    """The words of a command with `MASK` for every secret: `--token X`, `--token=X`, `NAME=X`, `-u user:X`, tokens."""
    out: list[str] = []
    hidden = False
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        name, equals, value = word.partition("=")
        if hidden and not word.startswith("-"):
            out.append(MASK if is_value(word.encode("utf-8", "surrogateescape")) else word)
        elif equals and value and _hides(name, value):
            out.append(f"{name}={MASK}")
        elif before in ("-u", "--user") and ":" in word:
            out.append(f"{word.partition(':')[0]}:{MASK}")
        else:
            cleaned = redact_text(word)
            out.append(word if cleaned == word else re.sub(r"\*{4,}", MASK, cleaned))
        following = words[number + 1] if number + 1 < len(words) else ""
        flag = word.startswith("--") or (word.startswith("-") and len(word) > 4 and rank_of(word) == 2)
        hidden = flag and not equals and _hides(word, following)
    return _of_known_programs(words, out)


def _of_known_programs(words: Sequence[str], out: list[str]) -> list[str]:
    """`out` without the secrets that only the program's name gives away: `redis-cli -a X`, `mysql -pX`."""
    raw = [word.encode("utf-8", "surrogateescape") for word in words]
    whole, at = redact(b" ".join(raw))[0], 0
    for number, word in enumerate(raw):
        left = whole[at : at + len(word)]
        at += len(word) + 1
        if left != word and out[number] == words[number]:
            same = next(place for place, byte in enumerate(left) if byte != word[place])
            # To the end, because a word may hold blanks.
            out[number] = word[:same].decode("utf-8", "surrogateescape") + MASK
    return out


def _hides(name: str, value: str) -> bool:
    rank, raw = rank_of(name), value.encode("utf-8", "surrogateescape")
    if not rank or not is_value(raw.strip(b"[](){},")):  # a list that lost its quotes
        return False
    return rank == 2 or not NUMBER.match(raw)


def secrets_of(environment: Mapping[str, str]) -> tuple[set[bytes], list[str]]:
    """The values of secret variables to search for, in all encodings; and the variables whose values are too short.

    A password in a URL counts whatever the variable's name is: a log may contain it without the URL.
    """
    found: set[bytes] = set()
    short = set()
    for name, value in environment.items():
        values = {value} if secret_name(name) and value else set()
        for match in IN_URL.findall(os.fsencode(value)):
            password = os.fsdecode(match.partition(b":")[2])
            values |= {password, urllib.parse.unquote(password)}
        for secret in values:
            if len(secret) < SHORTEST or secret.strip().isdecimal():
                short.add(name)
            else:
                found |= _forms(secret)
    return found, sorted(short)


def _forms(secret: str) -> set[bytes]:
    raw = os.fsencode(secret)
    return {
        raw,
        os.fsencode(json.dumps(secret)[1:-1]),
        urllib.parse.quote_from_bytes(raw, safe="").encode(),
        os.fsencode(repr(secret)[1:-1]),
        base64.b64encode(raw).rstrip(b"="),
    }


_OUTCOMES = ("PASS", "PW", "CRED", "CREDS")  # short names that also stand for the outcome of a test, and other things
_WORD = re.compile(rb"\w")
_ESCAPED_END = re.compile(rb"\\[nrt\v]")
_KEPT = re.compile(rb"(\\u[0-9a-fA-F]{4}|\\.|[\"'\r\n])|[\s\S]")


def _stars(secret: bytes) -> bytes:
    """As many `*`, without touching what a JSON string needs: escapes, quotes and ends of lines."""
    return _KEPT.sub(lambda match: match[1] or b"*", secret)


def _overwrite(
    data: bytes,
    search: Callable[[bytes, int], _Match | None],
    span_of: Callable[[_Match], tuple[int, int] | None],
    shown: bytes = b"",
) -> tuple[bytes, int]:
    """Overwrite the span that `span_of` gives for each match; None leaves the match as it is.

    `shown`: what is searched in place of the data, with the same offsets.
    """
    spans, at = [], 0
    while (match := search(shown or data, at)) is not None:
        span = span_of(match)
        if span is not None and _stars(data[span[0] : span[1]]) != data[span[0] : span[1]]:
            spans.append(span)
        # The value of a name that is not a secret may itself hold one: --env HF_TOKEN=…
        at = _end_of_first_line(match, span) if span is not None else max(_end_of_name(match), match.start() + 1)
    return _starred(data, spans)


def _starred(data: bytes, spans: Iterable[tuple[int, int]]) -> tuple[bytes, int]:
    """The data with the spans overwritten, and how many of them that changed."""
    changed, count = bytearray(data), 0
    for start, end in spans:
        stars = _stars(data[start:end])
        count += stars != data[start:end]
        changed[start:end] = stars
    return bytes(changed), count


def _end_of_first_line(match: _Match, span: tuple[int, int]) -> int:
    """Where to go on after a secret: in JSON, a value without quotes reaches over `\\n` to the next name."""
    line_end = _ESCAPED_END.search(match.string, span[0], span[1])
    return line_end.end() if line_end is not None else match.end()


def _spans_in_lists(data: bytes) -> list[tuple[int, int]]:
    """What `BESIDE` finds in the words of a list: `["mysql", "-pX"]`."""
    spans = []
    for start, line, between in command_lines(data):
        lower = line.lower()
        for words, pattern in BESIDE:
            if words and _has_one_of(words, lower):
                for match in pattern.finditer(line):
                    begin, end = _span_of_value(match) or (0, 0)
                    for left, right in between:  # stars in place of quotes and commas would end the list
                        if left < end and begin < right:
                            spans.append((start + begin, start + max(begin, left)))
                            begin = right
                    spans.append((start + begin, start + max(begin, end)))
    return spans


def _data_of_secrets(data: bytes) -> list[tuple[int, int]]:
    """The values in the data of each Secret of Kubernetes."""
    kinds = [match.start() for match in SECRET_KIND.finditer(data)]
    spans = []
    for block in SECRET_DATA.finditer(data):
        if any(abs(block.start() - kind) < NEAR for kind in kinds):
            start, end = block.span(1 if block[1] is not None else 2)
            spans += [value.span(1) for value in SECRET_VALUE.finditer(data, start, end)]
    return spans


def _after_escape(data: bytes, start: int, word: int) -> int:
    """The letters of JSON's `\\n`, `\\r`, `\\t` or `\\u0000` that stand before the name of `word`, at `start`."""
    if data[start - 1 : start] != b"\\":
        return 0
    letters = 5 if data[start : start + 5] == b"u0000" else int(data[start : start + 1] in (b"n", b"r", b"t"))
    return letters if start + letters <= word else 0


def _end_of_name(match: _Match) -> int:
    found = NAME_END.match(match.string, match.start())
    return found.end() if found else match.start()


def _assigned_span(match: _Match) -> tuple[int, int] | None:
    """The value of a secret name, or None if the name or the value is none."""
    data, start = match.string, match.start()
    while start > 0 and match.start() - start < 64 and data[start - 1] in NAME_BYTES:
        start -= 1
    start += _after_escape(data, start, match.start())
    end = _end_of_name(match)
    name = data[start:end].decode("ascii")
    flag = name.startswith("--")
    rank = rank_of(name)
    flag = flag or (rank == 2 and len(name) > 4 and name.startswith("-"))  # -password X
    if not rank or (match["sep"] is None and not flag):
        return None
    place = "quoted" if match["quoted"] is not None else "bare"
    value, span = match[place], match.span(place)
    if not is_value(value) or (value.startswith(b"-") and (match["list"] or (flag and match["space"]))):
        return None
    if not _values_a_secret(name, rank, value, match):
        return None
    if (
        rank == 2
        and place == "bare"
        and b":" in (match["sep"] or b"")
        and LINE_KEY.search(data[max(0, start - 64) : start])
    ):
        end_of_line = LINE_END.search(data, span[0])  # an unquoted value of YAML goes to the end of its line
        return span[0], max(span[1], end_of_line.start() if end_of_line else 0)
    return span


def _named_span(match: _Match) -> tuple[int, int] | None:
    """The value of a secret name that stands beside it."""
    name, value = match["name"].decode("ascii"), match["value"]
    rank = rank_of(name)
    if not rank or not is_value(value) or NUMBER.match(value):
        return None
    sure = rank == 2 and name.upper() not in _OUTCOMES
    return match.span("value") if sure or name.isupper() or looks_secret(value) else None


def _values_a_secret(name: str, rank: int, value: bytes, match: _Match) -> bool:
    """A sure name has any value but a bare number or word in prose; a likely one needs a value that looks secret."""
    variable = name.isupper() and b"=" in (match["sep"] or b"")
    flag = name.startswith("--") and b":" not in (match["sep"] or b"")
    if (
        name.upper().lstrip("-") in _OUTCOMES
        and not flag
        and (NUMBER.match(value) or (match["quoted"] is None and not variable))
    ):
        return False  # the outcome of a test
    if rank == 2 and name.upper().endswith("PASS") and match["list"] is not None and not looks_secret(value):
        return False
    if rank == 2 and name.upper().endswith("PASS") and not variable and NUMBER.match(value):
        return False
    if rank == 2:
        prose = match["quoted"] is None and b":" in (match["sep"] or b"") and (match["sep"] or b"").endswith(b" ")
        return not (prose and (NUMBER.match(value) and len(value) < 6)) and value not in (b":", b"=", b"-")
    if variable or name.startswith("--"):
        return not NUMBER.match(value)
    return looks_secret(value)


def _span_of_user_and_password(match: _Match) -> tuple[int, int] | None:
    encoded = match[1]
    try:
        text = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return match.span(1) if b":" in text and all(32 <= byte < 127 for byte in text) else None
