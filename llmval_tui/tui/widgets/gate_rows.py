"""The gates of a verdict as a table: outcome, gate, measured, asked; as short lines where the pane is narrow."""

from collections.abc import Sequence
from itertools import zip_longest

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import fit, fit_middle, wrap
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.text_rows import paragraph

LEAST_NAME = 28  # more where the pane is wide
LONGEST_MEASURED = 36
LEAST_ASKED = 24


def gate_rows(gates: Sequence[Gate], width: int, glyphs: Glyphs) -> list[Row]:
    """Each gate; the reason of one that did not pass below it."""
    if not gates:
        return []
    word = max(cell_len(OUTCOME_SIGNS[gate.outcome].word) for gate in gates)
    longest = max(cell_len(clean_line(str(gate.measured))) for gate in gates)
    beside = 3 + word + 2 + 2 + min(LONGEST_MEASURED, max(longest, len("measured"))) + 3 + LEAST_ASKED
    name = min(max(LEAST_NAME, width - beside), max(cell_len(clean_line(gate.name)) for gate in gates))
    lead = 3 + word + 2 + name + 2
    measured = min(LONGEST_MEASURED, max(longest, len("measured")), (width - lead) // 2)
    asked = width - lead - measured - 3
    columns = asked >= LEAST_ASKED
    rows = [row()]
    if columns:
        rows.append(row((" " * lead + fit("measured", measured + 2) + "asked", "muted")))
    for gate in gates:
        sign = OUTCOME_SIGNS[gate.outcome]
        head = (
            (f" {glyphs.sign(sign)} {fit(sign.word, word)}  ", sign.role),
            (fit_middle(clean_line(gate.name), name, glyphs.ellipsis) + "  ", "title"),
        )
        if columns:
            left, right = wrap(clean_line(str(gate.measured)), measured), wrap(clean_line(str(gate.bound)), asked)
            lines = [(fit(a or "", measured + 2), b or "") for a, b in zip_longest(left, right)]
        else:
            text = clean_line(f"{gate.measured}  (asked: {gate.bound})")
            lines = [(line, "") for line in wrap(text, max(16, width - lead - 1))]
        for index, (first, second) in enumerate(lines):
            start = head if not index else ((" " * lead, "text"),)
            rows.append(row(*start, (first, "text"), (second, "muted")))
        if gate.reason and gate.outcome is not Outcome.PASS:
            rows += paragraph(gate.reason, sign.role, width, 5)
    return rows
