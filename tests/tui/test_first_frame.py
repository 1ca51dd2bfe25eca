"""What the first frame takes for granted of Rich and of Textual, which are not there yet when it is drawn."""

import io
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import cells as rich_cells
from rich.color import Color, ColorSystem

from llmval_tui.foundation.paths import bundled
from llmval_tui.terminal import cell_width as cells
from llmval_tui.tui import opening
from llmval_tui.tui.data.workspace_view import FirstLook, propose
from llmval_tui.tui.data.workspace_view import Workspace as Looker
from llmval_tui.tui.drawing.compositor import codes
from llmval_tui.tui.drawing.theme_files import GROUNDS, ROLES, find_theme, read_theme
from llmval_tui.tui.drawing.theme_styles import parse_look
from llmval_tui.tui.geometry import list_place
from llmval_tui.tui.ink import Colours, Ink, Unsure, colours, eight_bit
from llmval_tui.tui.settings import Settings
from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import Make, ready

THEMES = sorted(bundled("themes").glob("*.toml"))
SYSTEMS: dict[Colours, ColorSystem] = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
}


@pytest.mark.parametrize("many", SYSTEMS)
@pytest.mark.parametrize("path", THEMES, ids=[path.stem for path in THEMES])
def test_every_style_is_the_one_that_rich_makes(path: Path, many: Colours) -> None:
    ink, look = Ink(read_theme(path), many), parse_look(path)
    for role in ROLES:
        for ground in GROUNDS:
            parts = [part for part in codes(look.style(role, ground), SYSTEMS[many]) if part]
            assert ink.style(role, ground) == f"\x1b[{';'.join(['0', *parts])}m"


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_of_256_is_the_one_that_rich_takes(rgb: tuple[int, int, int]) -> None:
    assert eight_bit(rgb) == Color.from_rgb(*rgb).downgrade(ColorSystem.EIGHT_BIT).number


@pytest.mark.parametrize("style", ["bold color(9)", "on #102030", "not bold", "grey37", "link https://x", "u #ffffff"])
def test_a_style_that_only_rich_understands_is_not_guessed(tmp_path: Path, style: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text((bundled("themes") / "dark.toml").read_text().replace('code = "#b8d8e8"', f'code = "{style}"'))
    parse_look(own)
    with pytest.raises(Unsure):
        Ink(read_theme(own), "truecolor")


@pytest.mark.parametrize(
    "environment",
    [{}, {"TERM": "xterm"}, {"TERM": "kitty"}, {"TERM": "xterm-kitty"}, {"TERM": "tmux-256color"},
     {"TERM": "linux-16color"}, {"TERM": "xterm", "COLORTERM": "24bit"}, {"TERM": "x-256COLOR", "COLORTERM": "yes"}],
    ids=str,
)  # fmt: skip
def test_the_number_of_colours_is_the_one_that_rich_finds(environment: dict[str, str]) -> None:
    console = import_module("rich.console").Console(file=io.StringIO(), force_terminal=True, _environ=environment)
    assert {"standard": "16"}.get(console.color_system, console.color_system) == colours(environment)


def test_the_theme_is_the_one_that_the_dashboard_wears(dashboard: Make) -> None:
    for name, environment in (("light", {}), (None, {"NO_COLOR": "1"}), (None, {})):
        look = dashboard(theme=name, environment=environment).look
        assert read_theme(find_theme(name, environment)).roles == look.roles


def test_what_is_counted_without_rich_has_one_cell_each_in_every_version_of_unicode() -> None:
    versions = import_module("rich._unicode_data").VERSIONS
    for character in (chr(code) for first, last in cells._RANGES for code in range(first, last + 1)):
        for version in versions:
            assert rich_cells.get_character_cell_size(character, version) == 1, (hex(ord(character)), version)


@given(st.text("ab –…✓❯電\u0301\u200d\ufe0f❤", max_size=12), st.integers(0, 14))
def test_texts_are_measured_and_cut_as_rich_does_it(text: str, total: int) -> None:
    assert cells.cell_len(text) == rich_cells.cell_len(text)
    assert cells.set_cell_size(text, total) == rich_cells.set_cell_size(text, total)


async def test_the_list_is_where_the_style_sheet_puts_it(dashboard: Make) -> None:
    async with dashboard().run_test(size=(80, 24)) as pilot:
        app = await ready(pilot)
        for columns, rows in ((40, 5), (79, 24), (99, 30), (100, 30), (111, 24), (112, 24), (150, 50), (177, 50),
                              (178, 50), (181, 50), (300, 90)):  # fmt: skip
            await pilot.resize_terminal(columns, rows)
            await pilot.pause()
            place, steps = list_place(columns, rows), app.main._steps.region
            assert place is not None
            assert (steps.x, steps.y, *steps.size) == (0, place.top, place.width, place.height), (columns, rows)
            assert app.main._title.region.y == place.top - 1 and app.main._title.size.width == place.width
            assert app.main.query_one("#left").region.width == place.width + place.divided


def test_there_is_no_frame_without_a_look(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.StringIO):
        def fileno(self) -> int:
            return 1

    monkeypatch.setattr(opening, "terminal", lambda: (Stream(), Stream()))
    monkeypatch.setattr("os.get_terminal_size", lambda _: (120, 40))
    monkeypatch.setattr(opening, "LOOK_S", 0.01)
    settings = Settings(workspace.root, workspace.checklist, environment={"TERM": "xterm"})
    first = FirstLook(Looker(settings, propose))
    monkeypatch.setattr(first, "join", lambda _: None)  # a disk that does not answer
    with opening.show_at_once(settings, first) as held:
        assert held is None
