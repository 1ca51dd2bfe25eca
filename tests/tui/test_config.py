"""The settings file: the documented example is accepted, and wrong entries are refused with their line."""

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.config import ConfigFile, load_config, parse_config
from llmval_tui.console import dashboard as opening
from llmval_tui.foundation.errors import Refused
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.keys import KEYS, SCROLL_KEYS, find_conflict, key_name, read_keys
from llmval_tui.tui.screens.dialog import DialogBody
from llmval_tui.tui.settings import Keys
from tests.helpers.tui_pilot import dialog_opens, ready, until

FILE = Path("config.toml")
DOCS = Path(__file__).parents[2] / "docs" / "dashboard.md"


def documented() -> str:
    """The example of docs/dashboard.md."""
    match = re.search(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert match is not None
    return match[1]


def keys_in(text: str) -> dict[str, Keys]:
    """The changed keys of a settings file, all of it checked."""
    table = parse_config(text, FILE).keys
    return {} if table is None else read_keys(table)


def test_the_documented_example_is_accepted() -> None:
    config = parse_config(documented(), FILE)
    # It shows every setting, and every key there is.
    assert None not in [getattr(config, name) for name in ConfigFile.__dataclass_fields__]
    assert set(keys_in(documented())) == {key.id for key in (*KEYS, *SCROLL_KEYS)}


def test_the_example_shows_the_default_keys() -> None:
    changed = keys_in(documented())
    for key in (*KEYS, *SCROLL_KEYS):
        assert {name for name, _ in changed[key.id]} == set(key.keys.split(",")), key.id


def test_the_default_keys_have_no_conflict() -> None:
    everything = {key.id: tuple((name, name) for name in key.keys.split(",")) for key in (*KEYS, *SCROLL_KEYS)}
    assert find_conflict(everything) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("theme = 'dark'\ncolour = 1\n", "line 2: there is no setting 'colour'; the settings are theme, interval"),
        ("\n\ninterval = 0\n", "line 3: interval = 0 is not valid: write seconds from 0.1 to 60"),
        ("interval = true\n", "interval = true is not valid"),
        ("ascii = 'yes'\n", "line 1: ascii = 'yes' is not valid: write true or false"),
        ("preset = 'full'\n", "line 1: preset = 'full' is not valid: write 'smoke'"),
        ("charts = 'dots'\n", "line 1: charts = 'dots' is not valid: write one of blocks, braille, ascii"),
        ("theme = 'a\n", "config.toml is not TOML"),
        ("[keys]\ncomplet = 'c'\n", "line 2: there is no key 'complet'; the keys are open, complete"),
        ("[keys]\nrun = 'hyper+x'\n", "line 2: keys.run: 'hyper+x' is not a key"),
        ("[keys]\nrun = 'ctrl+c'\n", "'ctrl+c' always leaves"),
        ("[keys]\nrun = 3\n", "line 2: keys.run must be a key or a list of keys"),
        ("[keys]\nquit = ''\n", "line 2: keys.quit needs a key"),
        ("theme = 'dark'\n[keys]\nrun = 'c'\n", "line 3: keys.run = 'c' is taken by complete"),
        ("[keys]\nmove_down = 'x'\n", "line 2: keys.move_down = 'x' is taken by cancel"),
        ("[keys]\nrun = 'X'\ntick = 'X'\n", "line 2: keys.run = 'X' is taken by tick"),
        ("keys = 'vim'\n", "line 1: keys must be a table"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(Refused, match=re.escape(says)):
        keys_in(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_message(text: str) -> None:
    try:
        keys_in(text)
    except Refused as refusal:
        assert str(refusal).startswith("config.toml")


def test_keys_may_be_swapped_and_shared_between_panes() -> None:
    swapped = keys_in("[keys]\ncomplete = 'r'\nrun = 'c'\n")
    assert swapped["complete"] == (("r", "r"),)
    # `find` is for list, log and document; `shift_left` for log and document; `mark` for the list.
    assert keys_in("[keys]\nshift_left = 'space'\n")["shift_left"] == (("space", "space"),)


def test_keys_are_named_as_the_terminal_library_names_them() -> None:
    from textual.keys import _character_to_key

    for character in "abZ9?;/<>{}[]-+=_.,:'\"!@#$%^&*()|\\`~":
        assert key_name(character) == _character_to_key(character)
    assert [key_name(word) for word in ("Esc", "PgDn", "ctrl+R", "F5", " ", "two words")] == [
        "escape", "pagedown", "ctrl+r", "f5", None, None,
    ]  # fmt: skip


def test_a_missing_file_changes_nothing_and_an_unreadable_one_is_refused(tmp_path: Path) -> None:
    assert load_config({"XDG_CONFIG_HOME": str(tmp_path)}) == ConfigFile()
    (tmp_path / "llmval").mkdir()
    (tmp_path / "llmval" / "config.toml").write_bytes(b"theme = '\xff'")
    with pytest.raises(Refused, match="cannot be read"):
        load_config({"XDG_CONFIG_HOME": str(tmp_path)})


def test_the_command_line_wins_over_the_file(tmp_path: Path, workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmval_tui.console.parser import parser

    (tmp_path / "llmval").mkdir()
    (tmp_path / "llmval" / "config.toml").write_text(
        "runner_python = '/opt/py'\ntheme = 'light'\ninterval = 2\nascii = true\npreset = 'smoke'\n"
        "mouse = false\ncharts = 'braille'\nbell = true\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.stdin", Namespace(isatty=lambda: True))
    monkeypatch.setattr("sys.stdout", Namespace(isatty=lambda: True))
    seen: list[Any] = []

    def run(settings: Any, *_: Any) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr("llmval_tui.tui.app.run", run)
    place = ["open", "--workspace", str(workspace.root), "--checklist", str(workspace.checklist)]
    said = ["--theme", "mono", "--interval", "5", "--no-ascii", "--preset", "none", "--mouse", "--charts", "blocks"]
    said += ["--runner-python", "/other/py"]
    for words in ([], said):
        opening.dashboard(parser().parse_args([*place, *words]))
    file, line = seen
    assert (file.runner_python, line.runner_python) == ("/opt/py", "/other/py")
    assert (file.theme, file.interval, file.ascii, file.preset, file.mouse, file.charts, file.bell) == (
        "light", 2, True, "smoke", False, "braille", True,
    )  # fmt: skip
    assert (line.theme, line.interval, line.ascii, line.preset, line.mouse, line.charts, line.bell) == (
        "mono", 5, False, None, True, "blocks", True,
    )  # fmt: skip


async def test_a_changed_key_works_and_is_shown_and_the_old_one_does_nothing(
    dashboard: Callable[..., Dashboard], commands: Any
) -> None:
    keys = keys_in("[keys]\ncomplete = ['f5', '!']\nmove_down = 'b'\ntick = ''\nhelp = 'f1'\n")
    app = dashboard(keys=keys)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await pilot.press("j", "c", "t")
        await pilot.pause()
        assert app.main.state.step is not None and app.main.state.step.number == "1.1"
        assert app.screen is app.main
        await pilot.press("b")
        assert app.main.state.step.number == "1.2"
        footer = app.main.key_bar.plain_text()
        assert "f5 ! complete" in footer and "tick" not in footer
        await pilot.press("f1")
        await dialog_opens(pilot, "the help")
        shown = app.screen.query_one(DialogBody).plain_text()
        assert "f5 !" in shown and "Move a line down" in shown
        await pilot.press("escape", "exclamation_mark")
        await dialog_opens(pilot)
        await pilot.press("y")
        await until(pilot, lambda: commands.calls, "the run")
        assert commands.calls[0][:2] == ("run", ["1.2"])
