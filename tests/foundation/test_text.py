"""Nothing that a run prints reaches the terminal as anything but text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.foundation.text import clean_line


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0;2\x1b\\sixel", "sixel"),
        ("\x1b]52;c;c3RlYWw=", ""),  # an unfinished clipboard write
        ("\x1bc reset", " reset"),
        ("\x9b2Jcleared", "cleared"),
        ("10%\r50%\r100%", "100%"),
        ("a\tb", "a   b"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("bell\x07 back\x08space \x00nul", "bell backspace nul"),
        ("[/red] [bold]", "[/red] [bold]"),
        ("größe – 日本語 🙂", "größe – 日本語 🙂"),
    ],
)
def test_cleaned(raw: str, shown: str) -> None:
    assert clean_line(raw) == shown


@given(st.text())
def test_never_a_control_character(text: str) -> None:
    cleaned = clean_line(text)
    assert all(ord(character) >= 0x20 and not 0x7F <= ord(character) <= 0x9F for character in cleaned)
    assert clean_line(cleaned) == cleaned
