"""Numbers, times and text formatted for people. A missing value is `n/a`, never 0."""

from datetime import UTC, datetime

from llmval_tui.terminal.cell_width import cell_len, set_cell_size

NOT_AVAILABLE = "n/a"


def number(value: float | None, digits: int = 3) -> str:
    """A number with about `digits` significant digits and thousands separators: `0.52`, `28.1`, `14,960`."""
    if value is None or value != value:  # NaN too
        return NOT_AVAILABLE
    size = abs(value)
    if size >= 99.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - (2 if size >= 9.995 else 1))}f}"


def gib(value: float | None) -> str:
    """Bytes as GiB, without the unit."""
    if value is None:
        return NOT_AVAILABLE
    return f"{value / 2**30:.0f}" if value >= 1000 * 2**30 else f"{value / 2**30:.1f}"


def size(value: float | None) -> str:
    """Bytes with a binary unit: `512 B`, `3.4 MiB`."""
    if value is None:
        return NOT_AVAILABLE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def duration(seconds: float | None) -> str:
    """A time span: `0.4 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `4 d 3 h`."""
    if seconds is None or seconds < 0:
        return NOT_AVAILABLE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def age(seconds: float) -> str:
    """A rounded age that does not flicker: `now`, `5 s`, `3 min`, `2 h`."""
    if seconds < 2:
        return "now"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 86400 else f"{seconds / 86400:.0f} d"


def short_age(seconds: float | None) -> str:
    """An age in at most four cells: `now`, `5m`, `2h`, `3d`; "" if it is unknown."""
    if seconds is None:
        return ""
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m"
    return f"{seconds // 3600:.0f}h" if seconds < 86400 else f"{min(seconds // 86400, 999):.0f}d"


def took(seconds: float | None) -> str:
    """A time span as a clock in at most six cells: `0:07`, `18:20`, `2:03 h`; "" if it is unknown."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h" if whole < 36_000 else f"{min(whole // 3600, 9999)} h"


def parse_utc(text: str | None) -> datetime | None:
    """The time of a record (`2026-01-02T03:04:05Z`) in UTC; None if the text is not a time."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in exactly `width` cells: cut with an ellipsis, or padded with spaces."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length == width:
        return text
    if length < width:
        return text + " " * (width - length)
    return set_cell_size(text, width - 1) + ellipsis if width > 1 else ellipsis[:width]


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in at most `width` cells."""
    return text if cell_len(text) <= width else fit(text, width, ellipsis)


def fit_middle(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` in exactly `width` cells, cut in the middle: the ends of a path are its important parts."""
    length = cell_len(text)
    if length <= width or width < 3:
        return fit(text, width, ellipsis)
    tail = text
    while cell_len(tail) > (width - 1) // 2:
        tail = tail[1:]
    return set_cell_size(text, width - 1 - cell_len(tail)) + ellipsis + tail


def hard_wrap(text: str, width: int) -> list[str]:
    """`text` in pieces of at most `width` cells, all spaces kept: for text that is compared letter by letter."""
    pieces: list[str] = []
    while cell_len(text) > width > 1:
        head = set_cell_size(text, width)
        head = head if text.startswith(head) else head[:-1]  # `head` may end in a space for half of a wide character
        pieces.append(head)
        text = text[len(head) :]
    return [*pieces, text]


def _head(word: str, room: int, *, part: bool) -> str:
    """The beginning of a word that fits into `room` cells and ends where the word has parts. If it has none there:
    "" where a `part` of a line is all the room, else as much as fits."""
    whole = set_cell_size(word, room).rstrip()
    for signs, least in (("/", 2), (",;:=&", room // 3), ("-_", room // 3)):
        end = max(whole.rfind(sign) for sign in signs) + 1
        if end >= max(2, least) and whole[:end].strip(signs):
            return whole[:end]
    return "" if part else whole


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` cells, broken at spaces; only a word that is too long is broken itself: a path
    after a `/`, another word after a sign between its parts, if there is one."""
    width = max(width, 8)
    lines: list[str] = []
    line = ""
    for word in text.split():
        while cell_len(word) > width:
            room = width - cell_len(line) - (1 if line else 0)
            if room < 8:
                lines.append(line)
                line, room = "", width
            head = _head(word, room, part=bool(line))
            lines.append(f"{line} {head}".rstrip() if line else head)
            line, word = "", word[len(head) :]
        if not line:
            line = word
        elif cell_len(line) + 1 + cell_len(word) <= width:
            line = f"{line} {word}"
        else:
            lines.append(line)
            line = word
    if line or not lines:
        lines.append(line)
    return lines
