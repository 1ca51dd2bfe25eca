"""Secrets whose name stands elsewhere: at the head of a column, before a list or an object, in a list of words.

`llmval_tui/foundation/` and `runners/llmval_runners/process/` have the same file, as `redaction.py` says.
"""

import re

from .secret_names import NUMBER, is_value, looks_secret, rank_of

LONGEST = 100_000  # bytes of a table or of an object that are looked at
Span = tuple[int, int]

_COLUMN = re.compile(
    rb"(?:pass|passwd|password|passphrase|pwd|secret|token|key|pin|credential)s?(?:\\*[\"']|[`*_])?[ ]{0,40}"
    rb"(?:[,;|\t]|\\+t|[ ][ ]\S|\r?\n|\\+r?\\*n)"
)
_CELL_NAME = re.compile(rb"^[A-Za-z][\w .()/-]{0,40}$")
_LAST_WORD = re.compile(rb"[A-Za-z][\w-]{0,40}$")
_BACKSLASHES = re.compile(rb"\\+(?=n)")
_CELLS = {
    b",": re.compile(rb"[^,\"]*\"[^\"]*\"[^,]*|[^,]+|(?<=,)(?=,|\Z)"),
    b";": re.compile(rb"[^;\"]*\"[^\"]*\"[^;]*|[^;]+|(?<=;)(?=;|\Z)"),
    b"|": re.compile(rb"[^|]+"),
    b"\t": re.compile(rb"[^\t]+|(?<=\t)(?=\t|\Z)"),
    b"  ": re.compile(rb"\S+(?:[ ]\S+)*"),
}
_RULE = re.compile(rb"^[\s|:+=-]+$")  # the line below the head of a table
_PROSE = re.compile(rb",[ ]|\":[ ]|[{(]\s*\Z")  # a sentence, JSON or code, and not a table of commas
_KEY_OF_JSON = re.compile(rb"[\"']\s*(?::|,[ ])\s*[\"']")
_QUOTED_HEAD = re.compile(rb'"[ ]*,"')
_BEFORE_HEAD = re.compile(rb"[\"'`>;(\[{=]|[:,][ ]")
_EDGE = b" \t\r\"'\\`*_"


def spans_in_tables(data: bytes, lower: bytes) -> list[Span]:
    """The cells below a head that names a secret; separated by `,`, `;`, `|`, tabs or two blanks.

    A table may be a string of JSON: its lines end with `\\n` then, at any depth.
    """
    spans: list[Span] = []
    at = 0
    while (found := _COLUMN.search(lower, at)) is not None:
        at = found.end() - 1
        table = _Table.at(data, found.start())
        if table is not None:
            cells, end = table.secret_cells()
            spans += cells
            at = max(at, end)
        else:  # the rest of a line that is not a head is not one either
            line_end = lower.find(b"\n", at, at + 2000)
            at = line_end if line_end >= 0 else at + 2000
    return spans


class _Table:
    """A table, from the end of its head on."""

    def __init__(self, data: bytes, body: int, ending: re.Pattern[bytes], separator: bytes, ranks: list[int]) -> None:
        self.data, self.body, self.ending = data, body, ending
        self.separator, self.ranks = separator, ranks

    @classmethod
    def at(cls, data: bytes, place: int) -> "_Table | None":
        """The table that has a head with `place` in it, or None."""
        real = data.find(b"\n", place, place + 4000)
        escaped = _BACKSLASHES.search(data, place, real if real >= 0 else place + 4000)
        depth = len(escaped[0]) if escaped is not None else 0
        if escaped is None and real < 0:
            return None
        end = escaped.start() if escaped is not None else real
        newline = rb"\\" * depth + b"n" if depth else b"\n"
        before = [match.end() for match in re.compile(newline).finditer(data, max(0, place - 4000), place)]
        line_start = before[-1] if before else max(0, place - 4000, data.rfind(b"\n", 0, place) + 1)
        line = _plain(data[line_start:end])
        for separator in (b"\t", b"|", b";", b",", b"  "):
            if separator in line and (ranks := _ranks(line, separator)):
                # A string of JSON ends at a quote with fewer backslashes than its own ends of lines have.
                quote = rb"|(?<!\\)\\{0," + str(depth - 1).encode() + rb"}[\"']" if depth else b""
                width = len(newline.replace(rb"\\", b"\\"))
                return cls(data, end + width, re.compile(newline + quote), separator, ranks)
        return None

    def secret_cells(self) -> tuple[list[Span], int]:
        spans: list[Span] = []
        at, limit = self.body, min(len(self.data), self.body + LONGEST)
        while at < limit:
            found = self.ending.search(self.data, at, limit)
            end = found.start() if found is not None else limit
            line = _plain(self.data[at:end])
            if not _RULE.match(line):
                cells = _cells(line, self.separator)
                if not 0 <= len(cells) - len(self.ranks) <= 1 or (self.separator == b"," and _PROSE.search(line)):
                    break
                for rank, (start, stop) in zip(reversed(self.ranks), reversed(cells), strict=False):
                    value = line[start:stop]
                    if rank and is_value(value) and self._is_secret(rank, value):
                        spans.append((at + start, at + stop))
            at = end + (len(found[0]) if found is not None else 1)
            if found is None or not found[0].endswith((b"n", b"\n")):
                break
        return spans, at

    def _is_secret(self, rank: int, value: bytes) -> bool:
        """People write words and sentences into tables of `|` and of blanks: a value there must look like a secret."""
        if self.separator in (b"|", b"  "):
            return looks_secret(value) and b" " not in value
        return looks_secret(value) or (rank == 2 and not NUMBER.match(value))


def _plain(line: bytes) -> bytes:
    """The line with tabs and quotes in place of JSON's escapes, at the same offsets."""
    if b"\\" not in line:
        return line
    return re.sub(rb"\\+([t\"r])", lambda match: (b"\t" if match[1] == b"t" else b'"').ljust(len(match[0])), line)


def _cells(line: bytes, separator: bytes) -> list[Span]:
    """Start and end of each cell without its quotes and blanks."""
    if separator == b"|":
        line = line.rstrip().removesuffix(b"|")
    out: list[Span] = []
    for match in _CELLS[separator].finditer(line):
        start, end = match.span()
        while start < end and line[start : start + 1] in _EDGE:
            start += 1
        while start < end and line[end - 1 : end] in _EDGE:
            end -= 1
        if separator != b"|" or out or start < end:
            out.append((start, end))
    return out


def _ranks(line: bytes, separator: bytes) -> list[int]:
    """Of each column the rank of its name, counted from the last one; empty if this line is not a head of a table.

    A word of a log or a key of JSON may stand before the first column.
    """
    ranks: list[int] = []
    own = _KEY_OF_JSON.split(line)[-1]  # without what stands before the string of JSON that the table is in
    own = own.rpartition(b'"')[2] if own.count(b'"') % 2 else own
    if separator == b"," and not _QUOTED_HEAD.search(own):
        own = _BEFORE_HEAD.split(own)[-1]  # `printf 'user,password`, <td>user,password
    if separator == b"," and _PROSE.search(own):
        return []
    for start, end in reversed(_cells(own, separator)):
        cell = own[start:end]
        whole = _CELL_NAME.match(cell) is not None
        name = cell if whole else (found[0] if (found := _LAST_WORD.search(cell)) is not None else b"")
        if not name or (not whole and separator == b"  "):
            break
        ranks.insert(0, rank_of(re.sub(rb"[^A-Za-z0-9]+", b"_", name).decode("ascii")))
        if not whole:
            break
    return ranks if len(ranks) > 1 and any(ranks) else []


# -- "passwords": {"me": "X"}, "api_keys": ["X", "Y"] -----------------------------------------------------------------
_OPENED = re.compile(
    rb"(?:pass|passwd|password|passphrase|pwd|secret|token|key|credential|cred|auth)s?\\*[\"']\s{0,3}:\s{0,3}([\[{])"
)
_STRING = re.compile(rb"(?P<quote>\\*[\"'])(?P<value>.*?)(?P=quote)(?P<colon>\s*:)?|(?P<open>[\[{])|(?P<close>[\]}])")
_NAME_BEFORE = re.compile(rb"[A-Za-z0-9_.-]{1,64}$")
_ABOUT = re.compile(
    r"(?i)^(?:secret_?)?(?:names?|user(?:_?name)?|login|e?mail|ur[il]|endpoint|host|hostname|port|types?|kind|path|file|ids?|region|"
    r"namespace|description|schema|ref|source|scope|items|title|example)$"
)


def spans_in_objects(data: bytes, lower: bytes) -> list[Span]:
    """The values of a list or an object whose name says that they are secrets; not those of keys that describe them."""
    spans: list[Span] = []
    scanned = 0  # an object within one that was looked through is not looked through again
    for opened in _OPENED.finditer(lower):
        before = _NAME_BEFORE.search(data, max(0, opened.start() - 64), opened.start())
        start = before.start() if before is not None else opened.start()
        word = re.match(rb"[A-Za-z0-9_.-]+", data[start : opened.end()])
        rank = rank_of(word[0].decode("ascii")) if word is not None else 0
        in_list = opened[1] == b"["
        # "tokens": ["the", "cat"] are words, and "auth": {"type": "basic"} is a setting: their values must look secret.
        if not rank or opened.start() < scanned:
            continue
        key, depth, place, end = "", 1, opened.end(), min(len(data), opened.end() + LONGEST)
        while depth and (match := _STRING.search(data, place, end)) is not None:
            place = match.end()
            depth += (match["open"] is not None) - (match["close"] is not None)
            value = match["value"]
            if match["colon"] is not None:
                key = value.decode("ascii", "replace")
            elif value is None or not is_value(value) or NUMBER.match(value) or _ABOUT.match(key):
                continue
            elif looks_secret(value) or (rank == 2 and in_list and not key):
                spans.append(match.span("value"))
        scanned = place
    return spans


# -- ["mysql", "-pX"] -------------------------------------------------------------------------------------------------
_BETWEEN_WORDS = re.compile(rb"\\{0,7}[\"'](?:,\s{0,40}(?:\\+n\s{0,40})?[bu]?| a\d{1,4}=)\\{0,7}[\"']")


_FLAG = re.compile(rb"[\"']-{1,2}[A-Za-z]")
_AROUND = 2000  # bytes before and after a flag


def command_lines(data: bytes) -> list[tuple[int, bytes, list[Span]]]:
    """The lists of words with a flag in the data: where each starts, the words with blanks between, and these blanks.

    The blanks stand in place of quotes and commas, so that offsets stay.
    """
    windows: list[list[int]] = []
    for flag in _FLAG.finditer(data):
        before = data[max(0, flag.start() - 60) : flag.start()].rstrip(b" \t\r\n\\bun")
        if before.endswith((b",", b"=")):
            start, end = max(0, flag.start() - _AROUND), flag.start() + _AROUND
            if windows and start <= windows[-1][1]:
                windows[-1][1] = end
            else:
                windows.append([start, end])
    out = []
    for start, end in windows:
        part = data[start:end]
        between = [match.span() for match in _BETWEEN_WORDS.finditer(part)]
        out.append((start, _BETWEEN_WORDS.sub(lambda match: b" " * len(match[0]), part), between))
    return out
