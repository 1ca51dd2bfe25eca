"""Cell widths counted without Rich are the ones that Rich counts."""

from importlib import import_module

from hypothesis import given
from hypothesis import strategies as st
from rich import cells as rich_cells

from llmval_tui.terminal import cell_width


def test_characters_counted_without_rich_have_one_cell_in_every_version_of_unicode() -> None:
    versions = import_module("rich._unicode_data").VERSIONS
    for character in (chr(code) for first, last in cell_width._RANGES for code in range(first, last + 1)):
        for version in versions:
            assert rich_cells.get_character_cell_size(character, version) == 1, (hex(ord(character)), version)


@given(st.text("ab –…✓❯電\u0301\u200d\ufe0f❤", max_size=12), st.integers(0, 14))
def test_texts_are_measured_and_cut_like_rich(text: str, total: int) -> None:
    assert cell_width.cell_len(text) == rich_cells.cell_len(text)
    assert cell_width.set_cell_size(text, total) == rich_cells.set_cell_size(text, total)
