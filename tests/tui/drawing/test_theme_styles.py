"""Themes: every bundled one is readable, and a broken one is refused with a message."""

from pathlib import Path

import pytest
from rich.console import Console

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled
from llmval_tui.tui.drawing.theme_files import BACKGROUNDS, ROLES, has_sixteen_colours
from llmval_tui.tui.drawing.theme_styles import load_theme, parse_theme
from tests.helpers.theme_contrast import contrast, contrast_problems

THEMES = sorted(bundled("themes").glob("*.toml"))


@pytest.mark.parametrize("path", THEMES, ids=[path.stem for path in THEMES])
def test_every_bundled_theme_is_readable(path: Path) -> None:
    styled_theme = parse_theme(path)
    assert contrast_problems(styled_theme) == []
    for role in ROLES:
        for background in BACKGROUNDS:
            styled_theme.style(role, background)
    styled_theme.to_textual()


def test_the_five_themes_are_there() -> None:
    assert {path.stem for path in THEMES} >= {"dark", "light", "contrast", "ansi", "mono"}


def test_contrast_follows_wcag() -> None:
    # The lightest grey on white that passes 4.5:1, after WebAIM's contrast checker: #767676 has 4.54:1.
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


def test_a_theme_with_low_contrast_is_reported_with_the_pair(tmp_path: Path) -> None:
    faint = tmp_path / "faint.toml"
    faint.write_text((bundled("themes") / "dark.toml").read_text().replace("#a9b4bf", "#3a4450"))
    problems = contrast_problems(parse_theme(faint))
    assert any(line.startswith("muted on screen has a contrast of 1.") for line in problems)


def test_mono_uses_no_colour() -> None:
    styled_theme = load_theme("mono", {})
    for role in ROLES:
        for background in BACKGROUNDS:
            style = styled_theme.style(role, background)
            assert all(colour is None or colour.is_default for colour in (style.color, style.bgcolor))


def test_no_color_takes_the_theme_without_colours() -> None:
    assert load_theme(None, {"NO_COLOR": "1"}).name == "mono"
    assert load_theme("dark", {"NO_COLOR": "1"}).name == "dark"
    assert load_theme(None, {}).name == "dark"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"TERM": "xterm-16color"}, "ansi"),
        ({"TERM": "screen"}, "ansi"),
        ({"TERM": "linux"}, "ansi"),
        ({"TERM": "xterm-16color", "NO_COLOR": "1"}, "mono"),
        ({"TERM": "xterm-16color", "COLORTERM": "truecolor"}, "dark"),
        ({"TERM": "tmux-256color"}, "dark"),
        ({"TERM": "xterm-kitty"}, "dark"),
        ({"TERM": "dumb"}, "dark"),
    ],
)
def test_a_terminal_of_sixteen_colours_has_the_theme_of_sixteen(environment: dict[str, str], name: str) -> None:
    assert load_theme(None, environment).name == name
    assert load_theme("light", environment).name == "light"
    console = Console(force_terminal=True, _environ=environment)
    sent = console.color_system == "standard"
    assert has_sixteen_colours(environment) is sent, "by the same rule as Rich"


def test_the_operators_own_theme_wins(tmp_path: Path) -> None:
    folder = tmp_path / "llmval" / "themes"
    folder.mkdir(parents=True)
    (folder / "dark.toml").write_text((bundled("themes") / "light.toml").read_text())
    assert load_theme("dark", {"XDG_CONFIG_HOME": str(tmp_path)}).kind == "light"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('kind = "dark"', 'kind = "neon"', "kind 'neon'"),
        ('muted = "#a9b4bf"', "", "lacks muted"),
        ('muted = "#a9b4bf"', 'muted = "no such colour"', "roles.muted"),
        ("[roles]", "[roles", "cannot be read"),
    ],
)
def test_a_broken_theme_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text((bundled("themes") / "dark.toml").read_text().replace(old, new))
    with pytest.raises(Refused, match=said):
        parse_theme(broken)


def test_an_unknown_theme_is_refused_with_the_existing_ones() -> None:
    with pytest.raises(Refused, match=r"choose one of .*dark.*mono"):
        load_theme("neon", {})
