"""The matrix of the pairs: every cell is shown, slow ones have a sign, and no row is wider than the pane."""

from typing import Any

import pytest

from llmval_tui.actions.pair_matrix import matrix_of
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.glyphs import ASCII, UNICODE
from llmval_tui.tui.widgets.matrix_rows import matrix_rows
from tests.helpers.collective_records import record_of


def lines(record: dict[str, Any], width: int, glyphs: Any = UNICODE) -> list[str]:
    return [one.plain for one in matrix_rows(matrix_of(record), width, glyphs)]


def throttled(ranks: int = 8) -> dict[str, Any]:
    return record_of(ranks, rate=lambda cell: 0.8 if (cell.source, cell.target) == (3, 5) else 1.0)


@pytest.mark.parametrize("width", [38, 60, 80, 120])
def test_no_row_is_wider_than_the_pane(width: int) -> None:
    for record in (record_of(2), throttled(), throttled(20), record_of(1)):
        assert max(cell_len(line) for line in lines(record, width)) <= width


def test_every_pair_has_its_cell_and_the_slow_one_a_sign() -> None:
    shown = lines(throttled(), 80)
    cells = [line for line in shown if line.startswith("    ") and "–" in line]
    assert len(cells) == 8
    assert all(line.count(".") == 7 for line in cells)
    assert [line.count("✗") for line in cells] == [0, 0, 0, 1, 0, 0, 0, 0]
    assert cells[3].split("✗")[0].split()[-1].startswith("30"), "3→5: 80 % of 378"
    assert any("slower than the others: pair 3→5" in line for line in shown)
    assert any(line.strip().startswith("typical 37") and "line rate 450 GB/s" in line for line in shown)


def test_a_narrow_pane_splits_the_columns_into_bands() -> None:
    shown = lines(throttled(), 40)
    assert len([line for line in shown if line.startswith(" from")]) == 2
    assert sum(line.count(".") for line in shown if line.startswith("    ") and line.strip()[0].isdigit()) == 56


def test_ascii_has_a_sign_too() -> None:
    assert any("!" in line and "slower" in line for line in lines(throttled(), 80, ASCII))


def test_many_gpus_show_the_slowest_pairs() -> None:
    shown = lines(throttled(20), 80)
    assert any("380 of 380 pairs measured; the slowest:" in line for line in shown)
    listed = [line for line in shown if " to " in line and "GPU" not in line]
    assert len(listed) == 10
    assert listed[0].split()[:3] == ["3", "to", "5"]


def test_a_slow_gpu_marks_its_whole_row() -> None:
    record = record_of(8, rate=lambda cell: 0.9 if cell.source == 2 else 1.0)
    marked = [line.count("✗") for line in lines(record, 80) if line.startswith("    ") and "–" in line]
    assert marked == [0, 0, 7, 0, 0, 0, 0, 0]


def test_before_the_pairs_only_the_collectives_are_shown() -> None:
    record = record_of(4)
    record["pairs"] = {"cells": [], "compared": []}
    shown = lines(record, 80)
    assert any("all-reduce" in line and "360.0 GB/s" in line for line in shown)
    assert not any("From GPU to GPU" in line for line in shown)
