"""The smaller updates must give exactly the screen that Textual's own would give."""

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip

from llmval_tui.tui.drawing.compositor import DiffUpdate, FullUpdate
from llmval_tui.tui.drawing.terminal_screen import TerminalScreen, _signs, cells_of
from llmval_tui.tui.textual_private import ChopsUpdate, LayoutUpdate

WIDTH, HEIGHT = 24, 4
SIZE = Size(WIDTH, HEIGHT)
STYLES = [
    "red on #102030",
    "bold #ffcc00 on #102030",
    "#a0b0c0",
    "reverse",
    "underline green on blue",
    "on #102030",
    "",
]


def screens_of(characters: str) -> st.SearchStrategy[list[Strip]]:
    texts = st.text(st.sampled_from(characters), min_size=1, max_size=12)
    segments = st.lists(st.tuples(texts, st.sampled_from(STYLES)), max_size=5)
    lines = segments.map(lambda parts: Strip([Segment(t, Style.parse(s)) for t, s in parts]).adjust_cell_length(WIDTH))
    return st.lists(lines, min_size=HEIGHT, max_size=HEIGHT)


screens = screens_of("abc█ 界é")
narrow_screens = screens_of("abc█ é")
spans = st.lists(
    st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1), st.integers(1, WIDTH)), min_size=1
).map(lambda found: sorted((y, x, min(WIDTH, x + n)) for y, x, n in found))
CONSOLE = Console(color_system="truecolor", force_terminal=True)


def terminal() -> pyte.Screen:
    screen = pyte.Screen(WIDTH, HEIGHT)
    screen.reset_mode(7 << 5)  # no line wrap, as Textual sets it
    for y in range(HEIGHT):  # the emulator erases only cells that something has written
        feed(screen, f"\x1b[{y + 1};1H{' ' * WIDTH}")
    return screen


def feed(screen: pyte.Screen, update: str) -> None:
    pyte.Stream(screen).feed(update)


def cells(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    """Every cell; the colour and the weight of a blank's letter are invisible."""
    return [[look(screen.buffer[y][x]) for x in range(WIDTH)] for y in range(HEIGHT)]


def look(cell: pyte.screens.Char) -> tuple[object, ...]:
    if cell.data == " " and not (cell.reverse or cell.underscore or cell.strikethrough):
        cell = cell._replace(fg="default", bold=False, italics=False)
    return tuple(cell)


def drawn_by_textual(strips: list[Strip]) -> list[list[tuple[object, ...]]]:
    screen = terminal()
    feed(screen, "".join(f"\x1b[{y + 1};1H{strip.render(CONSOLE)}" for y, strip in enumerate(strips)))
    return cells(screen)


def full(strips: list[Strip], remembered: TerminalScreen) -> str:
    update = LayoutUpdate([[strip] for strip in strips], Region(0, 0, WIDTH, HEIGHT))
    return FullUpdate(update, SIZE, remembered).render_segments(CONSOLE)


@pytest.mark.parametrize("erases_with_colour", [False, True])
@settings(deadline=None)
@given(old=screens, new=screens)
def test_the_second_screen_is_drawn_over_the_first(
    erases_with_colour: bool, old: list[Strip], new: list[Strip]
) -> None:
    remembered, screen = TerminalScreen(erases_with_colour=erases_with_colour), terminal()
    for strips in (old, new, new):
        feed(screen, full(strips, remembered))
        assert cells(screen) == drawn_by_textual(strips)
    assert full(new, remembered) == ""  # nothing has changed


@settings(deadline=None)
@given(old=narrow_screens, new=narrow_screens, where=spans, cut=st.integers(1, WIDTH - 1))
def test_only_the_changed_spans_are_updated(
    old: list[Strip], new: list[Strip], where: list[tuple[int, int, int]], cut: int
) -> None:
    remembered, screen = TerminalScreen(), terminal()
    feed(screen, full(old, remembered))
    mixed = [list(cells_of(strip, CONSOLE)) for strip in old]
    chops = [{0: strip.crop(0, cut), cut: strip.crop(cut, WIDTH)} for strip in new]
    for y, x1, x2 in where:
        for start, stop in ((x1, min(x2, cut)), (max(x1, cut), x2)):
            if start < stop:
                mixed[y][start:stop] = cells_of(new[y].crop(start, stop), CONSOLE)
    update = DiffUpdate(ChopsUpdate(chops, where, [[cut, WIDTH]] * HEIGHT), SIZE, remembered)
    feed(screen, update.render_segments(CONSOLE))
    expected = TerminalScreen()
    fresh = terminal()
    feed(fresh, expected.draw(SIZE, [(y, 0, row) for y, row in enumerate(mixed)]))
    assert cells(screen) == cells(fresh)


def test_a_letter_of_a_style_is_one_object_in_all_frames() -> None:
    strips = [Strip([Segment("ab c", Style.parse("red on blue"))]) for _ in range(2)]
    first, second = (cells_of(strip, CONSOLE) for strip in strips)
    assert len(first) == 4 and all(one is other for one, other in zip(first, second, strict=True))


def test_the_signs_of_charts_do_not_fill_the_memory() -> None:
    text = "".join(chr(0x2800 + number) for number in range(256))
    cells = cells_of(Strip([Segment(text, Style.parse("bold #010203"))]), CONSOLE)
    assert "".join(sign for sign, _ in cells) == text
    assert len(_signs(cells[0][1])) <= 129


def test_a_forgotten_screen_is_sent_again() -> None:
    remembered, strips = TerminalScreen(), [Strip([Segment("abc")]).adjust_cell_length(WIDTH)] * HEIGHT
    first = full(strips, remembered)
    remembered.forget()
    assert full(strips, remembered) == first
    assert not remembered.knows((WIDTH + 1, HEIGHT))


def test_a_blank_end_of_a_row_is_erased() -> None:
    blue = Style.parse("white on #000080")
    for erases_with_colour, longest in ((True, 20), (False, 40)):
        remembered = TerminalScreen(erases_with_colour=erases_with_colour)
        full([Strip([Segment("x" * WIDTH, blue)])] * HEIGHT, remembered)
        update = full([Strip([Segment("x" * WIDTH, blue)])] * 3 + [Strip([Segment("x" + " " * 23, blue)])], remembered)
        assert ("\x1b[K" in update) == erases_with_colour
        assert len(update) < longest + 30


def test_a_start_with_few_words_sends_few_bytes() -> None:
    blue = Style.parse("white on #000080")
    strips = [Strip([Segment("word" + " " * (WIDTH - 4), blue)])] * HEIGHT
    assert len(full(strips, TerminalScreen(erases_with_colour=True))) < 120


def test_each_colour_is_sent_once() -> None:
    colours = [Style.parse(f"#{index:02x}4080 on #102030") for index in range(4)]
    strips = [Strip([Segment("word  ", colour) for colour in colours]).adjust_cell_length(WIDTH)] * HEIGHT
    update = full(strips, TerminalScreen())
    assert update.count("38;2;") == len(colours)


@pytest.mark.parametrize("system", ["standard", "256", "truecolor", None])
def test_colours_are_reduced_to_those_of_the_terminal(system: str | None) -> None:
    console = Console(color_system=system, force_terminal=True)  # type: ignore[arg-type]  # names from parametrize
    strip = Strip([Segment("ab", Style.parse("#ff0000 on #000000"))])
    text = TerminalScreen().draw((2, 1), [(0, 0, cells_of(strip, console))])
    assert "ab" in text
    assert ("38;2" in text) == (system == "truecolor")
    assert ("\x1b[0m" in text.partition("ab")[2]) == (system is not None)
