"""Text in lines: words and paths are broken where they have parts."""

import pytest

from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import wrap

COMMAND = "torchrun /opt/llmval/runners/inference_server_load_test.py --output-json artifacts/inference/full_mesh.json"


@pytest.mark.parametrize("width", range(8, 120))
def test_every_line_fits_and_nothing_is_lost(width: int) -> None:
    for text in (COMMAND, "/" * 50, "a" * 200, "ä/" * 60, "漢字" * 30, "x --a=" + "b," * 60, "///usr/lib " + "-" * 90):
        lines = wrap(text, width)
        assert max(map(cell_len, lines)) <= width
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert all(lines)


@pytest.mark.parametrize("width", range(30, 60))
def test_a_path_is_broken_after_a_slash_and_not_inside_a_name(width: int) -> None:
    lines = wrap(COMMAND, width)
    assert sum("inference_server_load_test.py" in line for line in lines) == 1
    assert sum("full_mesh.json" in line for line in lines) == 1


def test_a_word_without_parts_begins_a_line_of_its_own() -> None:
    assert wrap("SHA-256 " + "a" * 24, 16) == ["SHA-256", "a" * 16, "a" * 8]
    assert wrap("use --flags=one,two,three,four,five", 20) == ["use --flags=one,two,", "three,four,five"]
