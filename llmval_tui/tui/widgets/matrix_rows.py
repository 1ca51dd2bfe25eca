"""The bandwidths between the GPUs as a matrix of cells, and the collectives at their largest sizes."""

from collections.abc import Sequence

from llmval_tui.actions.pair_matrix import Pair, PairMatrix
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import NOT_AVAILABLE, fit, size
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.text_rows import heading, paragraph

_LABEL = 7  # columns of a rank's name
_CELL = 8  # columns of one bandwidth with its sign
_MOST_RANKS = 16  # of a matrix; with more, the slowest pairs are listed
_LISTED = 10
_NAME = 18


def matrix_rows(matrix: PairMatrix, width: int, glyphs: Glyphs) -> list[Row]:
    """The collectives, then the matrix from the row's rank to the column's."""
    rows = collective_rows(matrix, width, glyphs)
    if not matrix.rates:
        return rows
    rows += _heading("From GPU to GPU", f"{matrix.method}, one way, GB/s", width, glyphs)
    shown = matrix.ranks if len(matrix.ranks) <= _MOST_RANKS else ()
    rows += _bands(matrix, shown, width, glyphs) if shown else _slowest(matrix, width, glyphs)
    if matrix.slow_names:
        sign = OUTCOME_SIGNS[Outcome.FAIL]
        named = ", ".join(matrix.slow_names[:6]) + (" and more" if len(matrix.slow_names) > 6 else "")
        rows += paragraph(f"{glyphs.sign(sign)} slower than the others: {named}", sign.role, width)
    line = f"line rate {matrix.line_gb_per_s:g} GB/s" if matrix.line_gb_per_s else "line rate unknown"
    typical = f"typical {matrix.typical:.1f} GB/s" if matrix.typical is not None else f"typical {NOT_AVAILABLE}"
    return [*rows, *paragraph(f"{typical}; {line}", "muted", width)]


def collective_rows(matrix: PairMatrix, width: int, glyphs: Glyphs) -> list[Row]:
    """One row for each collective, at its largest size."""
    if not matrix.collectives:
        return []
    rows = _heading("Collectives", "busbw at the largest size", width, glyphs)
    for one in matrix.collectives:
        digits = ",.1f" if one.busbw_gb_per_s is None or one.busbw_gb_per_s >= 1 else ".2g"  # small is not zero
        busbw = NOT_AVAILABLE if one.busbw_gb_per_s is None else f"{one.busbw_gb_per_s:{digits}} GB/s"
        figures = f"{busbw:>12}  {size(one.bytes):>9}  {one.time_us:,.1f} µs"
        name = one.operation.replace("_", "-")
        rows.append(row((fit(f" {name}", _NAME), "muted"), (fit(figures, width - _NAME).rstrip(), "text")))
    return rows


def _heading(title: str, note: str, width: int, glyphs: Glyphs) -> list[Row]:
    """A heading, without its note in a narrow pane."""
    return heading(title, width, glyphs, note if cell_len(title) + cell_len(note) + 6 <= width else "")


def _bands(matrix: PairMatrix, ranks: Sequence[int], width: int, glyphs: Glyphs) -> list[Row]:
    """The matrix; in a narrow pane its columns are split into several bands."""
    across = max(1, (width - _LABEL - 1) // _CELL)
    rows: list[Row] = []
    for start in range(0, len(ranks), across):
        columns = ranks[start : start + across]
        titles = "".join(f"{rank:>{_CELL - 1}} " for rank in columns)
        rows.append(row((fit(" from", _LABEL), "muted"), (titles, "muted")))
        for one in ranks:
            spans: list[Span] = [(fit(f" {one:>4}", _LABEL), "title")]
            spans += [_cell(matrix, (one, other), glyphs) for other in columns]
            rows.append(row(*spans))
    return rows


def _cell(matrix: PairMatrix, pair: Pair, glyphs: Glyphs) -> Span:
    """A bandwidth; a slow one has a sign, so that it is seen without colours too."""
    if pair[0] == pair[1]:
        return f"{glyphs.dash:>{_CELL - 1}} ", "muted"
    rate = matrix.rates.get(pair)
    if rate is None:
        return f"{NOT_AVAILABLE:>{_CELL - 1}} ", "muted"
    text = f"{rate:,.1f}" if rate < 1000 else f"{rate:,.0f}"
    sign = OUTCOME_SIGNS[Outcome.FAIL]
    slow = pair in matrix.slow
    return f"{text:>{_CELL - 1}}{glyphs.sign(sign) if slow else ' '}", sign.role if slow else "text"


def _slowest(matrix: PairMatrix, width: int, glyphs: Glyphs) -> list[Row]:
    known = sum(rate is not None for rate in matrix.rates.values())
    rows = paragraph(f"{known} of {len(matrix.rates)} pairs measured; the slowest:", "muted", width)
    for pair in matrix.slowest(_LISTED):
        text, role = _cell(matrix, pair, glyphs)
        rows.append(row((fit(f" {pair[0]:>4} to {pair[1]:<4}", _NAME), "title"), (text, role)))
    return rows
