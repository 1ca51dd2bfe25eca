"""The smaller update must give exactly the same screen as Textual's own."""

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from llmval_tui.tui.drawing.compositor import DiffUpdate, sgr_codes, transition

WIDTH, HEIGHT = 24, 4
STYLES = ["red on #102030", "bold #ffcc00 on #102030", "#a0b0c0", "reverse", "underline green on blue", ""]
segments = st.lists(
    st.tuples(st.text(st.sampled_from("abc█ "), min_size=1, max_size=8), st.sampled_from(STYLES)), max_size=5
)
lines = segments.map(lambda parts: Strip([Segment(t, Style.parse(s)) for t, s in parts]).adjust_cell_length(WIDTH))
screens = st.lists(lines, min_size=HEIGHT, max_size=HEIGHT)
spans = st.lists(
    st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1), st.integers(1, WIDTH)), min_size=1
).map(lambda found: sorted((y, x, min(WIDTH, x + n)) for y, x, n in found))
CONSOLE = Console(color_system="truecolor", force_terminal=True)


def cells(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    return [[tuple(screen.buffer[y][x]) for x in range(WIDTH)] for y in range(HEIGHT)]


def shown(*updates: str) -> list[list[tuple[object, ...]]]:
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.Stream(screen)
    for update in updates:
        stream.feed(update)
    return cells(screen)


def full(strips: list[Strip]) -> str:
    return "".join(f"\x1b[{y + 1};1H{strip.render(CONSOLE)}" for y, strip in enumerate(strips))


@settings(deadline=None)
@given(old=screens, new=screens, where=spans, cut=st.integers(1, WIDTH - 1))
def test_only_the_changed_spans_are_updated(
    old: list[Strip], new: list[Strip], where: list[tuple[int, int, int]], cut: int
) -> None:
    chops = [{0: strip.crop(0, cut), cut: strip.crop(cut, WIDTH)} for strip in new]
    update = DiffUpdate(chops, where, [[cut, WIDTH]] * HEIGHT).render_segments(CONSOLE)
    wanted, fresh = shown(full(old)), shown(full(new))
    for y, x1, x2 in where:
        wanted[y][x1:x2] = fresh[y][x1:x2]
    assert shown(full(old), update) == wanted


def test_only_the_difference_of_styles_is_sent() -> None:
    first = sgr_codes(Style.parse("red on blue"), ColorSystem.STANDARD)
    second = sgr_codes(Style.parse("green on blue"), ColorSystem.STANDARD)
    assert transition(("", "", ""), first) == "\x1b[31;44m"
    assert transition(first, second) == "\x1b[32m"
    assert transition(second, ("", "", "")) == "\x1b[0m"


@pytest.mark.parametrize("system", ["standard", "256", "truecolor", None])
def test_colours_are_reduced_to_those_of_the_terminal(system: str | None) -> None:
    console = Console(color_system=system, force_terminal=True)  # type: ignore[arg-type]  # names from parametrize
    strip = Strip([Segment("ab", Style.parse("#ff0000 on #000000"))])
    text = DiffUpdate([{0: strip}], [(0, 1, 2)], [[2]]).render_segments(console)
    assert text.startswith("\x1b[1;2H") and "b" in text and "a" not in text.replace("\x1b[", "")
    assert ("38;2" in text) == (system == "truecolor")
    assert ("\x1b[0m" in text) == (system is not None)
