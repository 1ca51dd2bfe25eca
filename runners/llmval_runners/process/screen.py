"""The layout of a runner's last screen: verdict, labelled rows, tables; at most 80 columns wide."""

import textwrap
from collections.abc import Sequence

WIDTH = 80
LABEL = 20
_CELL = 12


class Screen:
    """Collects the lines. Every runner builds its screen from its record, so a partial record has one too."""

    def __init__(self, verdict: str) -> None:
        """`verdict`: the word with its reason; it comes first."""
        self._lines = [*wrapped("", verdict), ""]

    def row(self, label: str, *parts: str | None) -> None:
        """A labelled row of parts, wrapped if it is too long. None is left out; without any part it says n/a."""
        found = [part for part in parts if part]
        self._lines += wrapped(f"{label:{LABEL}}", "; ".join(found) or "n/a")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
        """Columns of figures under a title, each row with its own label; narrower cells if there are many columns."""
        if not rows:
            return
        cell = min(_CELL, (WIDTH - LABEL) // max(len(columns), 1))
        label = max(LABEL, min(WIDTH - cell * len(columns), max(len(name) + 3 for name, _ in rows)))
        self._lines.append(f"{title:{label}}" + "".join(f"{name:>{cell}}" for name in columns))
        self._lines += [
            f"  {name:{label - 2}}" + "".join(f"{value:>{cell}}" for value in values) for name, values in rows
        ]

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._lines)


def wrapped(label: str, text: str) -> list[str]:
    """The text after a label, in lines of at most `WIDTH` columns. A path is never broken, so it can be copied."""
    indent = " " * len(label)
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return lines or [label.rstrip()]


def figure(value: float | None, digits: int = 2) -> str:
    """The number with thousands separators; n/a if it is unknown."""
    if value is None:
        return "n/a"
    return f"{value:,.{digits}f}".replace("-0.00", "0.00") if value else f"{0:.{digits}f}"


def share(value: float | None) -> str:
    """A share from 0 to 1 in percent; n/a if it is unknown."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def gib(count: float | None) -> str:
    """Bytes in GiB, or in MiB below a tenth of a GiB; n/a if unknown."""
    if count is None:
        return "n/a"
    return f"{count / 2**30:,.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:,.2f} MiB"


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
