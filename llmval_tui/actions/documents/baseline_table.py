"""The baseline tables between two markers of a document: read and rewritten."""

import math
import re
from dataclasses import dataclass

from llmval_tui.actions.documents.marker_block import newline_of, span_between, with_markers
from llmval_tui.foundation.errors import Refused

BEGIN, END = "<!-- llmval:baseline:begin -->", "<!-- llmval:baseline:end -->"
NOT_COMPARED = ("date", "host", "run", "artifact", "sha256", "runs")
_PAIR = re.compile(r"`([a-z0-9_]+)=([^`]*)`")
_NOTHING_YET = "Not measured yet."


@dataclass(frozen=True, slots=True)
class Metric:
    """One row; `direction` is the better one, `higher` or `lower`."""

    name: str
    direction: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """One configuration: a name for people, its identity and its rows."""

    name: str
    identity: dict[str, str]
    metrics: tuple[Metric, ...]

    @property
    def compared(self) -> dict[str, str]:
        """The part of the identity that must agree in two runs to compare them."""
        return {key: value for key, value in self.identity.items() if key not in NOT_COMPARED}

    def lines(self) -> list[str]:
        """The configuration as Markdown."""
        pairs = " ".join(f"`{key}={plain(value)}`" for key, value in self.identity.items())
        rows = [f"| {row.name} | {row.direction} | {decimal(row.value)} | {row.unit} |" for row in self.metrics]
        table = ["| metric | direction | value | unit |", "|---|---|---|---|", *rows]
        return [f"### {self.name}", "", f"- {pairs}", "", *table, ""]


def plain(value: str) -> str:
    """A value for the identity line, without blanks, backticks and line breaks."""
    return re.sub(r"[\s`|]+", "-", value.strip()) or "-"


def decimal(value: float) -> str:
    """A plain decimal number with at least four significant digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def read_baselines(text: str, document: str) -> list[Baseline]:
    """The configurations between the markers; [] if the document has no markers.

    Raises:
        Refused: the markers do not pair up, or a configuration is not in the format; the message names it.
    """
    span = span_between(text, BEGIN, END, document)
    if span is None:
        return []
    return [_read(chunk, document) for chunk in _chunks(text[slice(*span)])[1:]]


def with_baseline(text: str, new: Baseline, document: str) -> str:
    """The document with `new` in place of the configuration with the same identity, or after the others.

    Every byte outside the markers stays.
    """
    text, (start, end) = with_markers(text, BEGIN, END, "## Baselines of this node", document)
    newline = newline_of(text)
    first, *chunks = _chunks(text[start:end])
    kept = [line for line in first.splitlines() if line.strip() and not line.startswith(_NOTHING_YET)]
    mine = newline.join(new.lines())
    blocks = [chunk.replace("\r\n", "\n").rstrip("\n").replace("\n", newline) + newline for chunk in chunks]
    same = [index for index, chunk in enumerate(chunks) if _read(chunk, document).compared == new.compared]
    if same:
        blocks[same[0]] = mine
    else:
        blocks.append(mine)
    head = "".join(line + newline for line in kept) + (newline if kept else "")
    inner = newline + head + newline.join(blocks)
    return text[:start] + inner + text[end:]


def _chunks(inner: str) -> list[str]:
    """The text before the first configuration, then each configuration from its heading on."""
    return re.split(r"^(?=### )", inner, flags=re.MULTILINE)


def _read(chunk: str, document: str) -> Baseline:
    lines = [line.strip() for line in chunk.splitlines()]
    name = lines[0].removeprefix("### ").strip()
    identity = next((dict(_PAIR.findall(line)) for line in lines if line.startswith("- `")), None)
    if not identity:
        raise Refused(f"{document}: the baseline “{name}” has no identity line (- `model=…` …): complete or remove it.")
    rows = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if len(cells) != 4 or cells[0] == "metric" or set(cells[0]) <= set("-: "):
            continue
        try:
            value = float(cells[2])
        except ValueError:
            value = math.nan
        if cells[1] not in ("higher", "lower") or not math.isfinite(value):
            raise Refused(
                f"{document}: in the baseline “{name}”, the row “{line}” is not metric, direction, value, unit."
            )
        rows.append(Metric(cells[0], cells[1], value, cells[3]))
    if not rows:
        raise Refused(f"{document}: the baseline “{name}” has no rows: complete or remove it.")
    return Baseline(name, identity, tuple(rows))
