"""Keys that arrive in one piece over a slow line: each acts on the result of the one before it."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from textual import events
from textual._xterm_parser import XTermParser
from textual.screen import Screen
from textual.widgets import Input

from llmval_tui.foundation.errors import ExitCode
from llmval_tui.tui import app as application
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.key_queue import KeyQueue, split_escape
from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.screens.dialog import Dialog, DialogTitle
from llmval_tui.tui.screens.palette import Palette
from llmval_tui.tui.screens.start_dialog import StartDialog
from llmval_tui.tui.screens.text_dialog import TextDialog
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import WIDE, Make, dialog_opens, ready, text_of, toasts_of, until


def burst(app: Dashboard, *keys: str | tuple[str, str]) -> None:
    """All keys at once; a key that is not its own name is given with its character."""
    for key in keys:
        name, character = key if isinstance(key, tuple) else (key, key if len(key) == 1 else None)
        app.post_message(events.Key(name, character))


def shows_screen(app: Dashboard, kind: type[Screen[Any]]) -> bool:
    return isinstance(app.screen, kind)


SLASH = ("slash", "/")


async def test_text_typed_after_a_slash_is_not_an_action(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, SLASH, *"cycle", SLASH)
        await until(pilot, lambda: app.main.state.filter == "cycle/", "the filter")
        assert app.screen is app.main and commands.calls == []
        burst(app, "enter", SLASH, "x", "enter", "j")
        await until(pilot, lambda: app.main.state.filter == "cycle/x" and app.main.pane == "list", "the list")
        await until(pilot, lambda: len(app.main.query("Prompt")) == 0, "the end of the prompt")


async def test_an_answer_typed_ahead_answers_the_question(dashboard: Make, commands: Any) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "j", "c", "y")
        await until(pilot, lambda: commands.calls, "the run")
        assert commands.calls == [("run", ["1.2"], False, True, None, False)]
        await until(pilot, lambda: app.screen is app.main)


async def test_a_key_pressed_twice_opens_one_dialog(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        kinds: tuple[tuple[Any, type[Screen[Any]]], ...] = (("c", Dialog), (("colon", ":"), Palette))
        for key, kind in kinds:
            burst(app, key, key)
            await until(pilot, partial(shows_screen, app, kind), str(key))
            await pilot.pause(0.2)
            assert len(app.screen_stack) == 2
            burst(app, "escape")
            await until(pilot, lambda: app.screen is app.main)


async def test_text_typed_ahead_goes_into_the_opened_field(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "t", *"text")
        await until(pilot, lambda: isinstance(app.screen, TextDialog) and app.screen.query_one(Input).value == "text")


async def test_esc_and_a_letter_in_one_piece_are_not_an_answer(dashboard: Make, commands: Any) -> None:
    async with dashboard(keys={"run": (("alt+r", "alt+r"),)}).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("c")
        await dialog_opens(pilot)
        app.post_message(events.Key("alt+y", "y"))  # as Textual reads ESC y
        await until(pilot, lambda: "clipboard" in toasts_of(app), "what y means on the screen below")
        assert app.screen is app.main and commands.calls == []
        app.post_message(events.Key("alt+r", "r"))  # a key that the operator has set
        await dialog_opens(pilot, "the question")


@pytest.mark.parametrize(
    ("sent", "name", "character"),
    [("2", "2", "2"), ("-", "minus", "-"), ("?", "question_mark", "?"), (" ", "space", " "), ("]", None, "]")],
)
def test_esc_and_a_digit_or_a_sign_in_one_piece_are_two_keys(sent: str, name: str | None, character: str) -> None:
    keys = [key for key in XTermParser().feed(f"\x1b{sent}j") if isinstance(key, events.Key)]
    name = name or "right_square_bracket"
    told = [(one.key, one.character) for key in keys for one in split_escape(key, Keymap({}))]
    assert told == [("escape", "\x1b"), (name, character), ("j", "j")]
    alt = f"alt+{name}"
    assert [one.key for one in split_escape(keys[0], Keymap({"run": ((alt, alt),)}))] == [alt]


def test_sequences_of_the_terminal_stay_whole() -> None:
    (up,) = (key for key in XTermParser().feed("\x1b[A") if isinstance(key, events.Key))
    assert up.key == "up" and split_escape(up, Keymap({})) == [up]


async def test_no_key_waits_for_a_key_that_only_scrolls(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []

    async def settled(self: KeyQueue, target: object) -> None:
        waited.append(target)

    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        monkeypatch.setattr(KeyQueue, "_wait", settled)
        burst(app, "j", "j", "k", "pagedown", "G", "g", "down", "down")
        await until(pilot, lambda: app.main.state.step is not None and app.main.state.step.number == "1.2")
        assert waited == []  # else each row passed over would be drawn
        burst(app, "2")
        await until(pilot, lambda: len(waited) == 1)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Keeps dialogs from getting their items until it is set: files that are slow to answer."""
    gate = threading.Event()
    items = StartDialog.items

    async def late(self: StartDialog) -> Any:
        while not gate.is_set():  # no thread, which would outlive a test that fails
            await asyncio.sleep(0.01)
        return await items(self)

    monkeypatch.setattr(StartDialog, "items", late)
    monkeypatch.setattr("llmval_tui.tui.key_queue.SLOW_S", 0)  # at once, before the key can have done anything
    yield gate
    gate.set()


async def test_a_key_waits_for_its_dialog_however_long_that_takes(
    dashboard: Make, commands: Any, held: threading.Event
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "j", "c", "y")
        await until(pilot, lambda: "Esc gives it up" in toasts_of(app), "what it waits for")
        await pilot.pause(0.2)
        assert commands.calls == [] and "clipboard" not in toasts_of(app), "y is not a key of the list"
        held.set()
        await until(pilot, lambda: commands.calls, "the run")


@pytest.mark.parametrize("early", [True, False], ids=["typed at once", "typed later"])
async def test_esc_gives_up_a_dialog_whose_files_do_not_answer(
    dashboard: Make, commands: Any, held: threading.Event, early: bool
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "j", "c", "y", *(["escape", "2"] if early else []))
        if not early:
            await until(pilot, lambda: "Esc gives it up" in toasts_of(app), "what it waits for")
            burst(app, "escape", "2")
        await until(pilot, lambda: app.main.pane == "log", "the key behind Esc")
        held.set()
        await pilot.pause(0.2)
        assert app.screen is app.main and commands.calls == [], "it opens no more"
        burst(app, "c")
        await dialog_opens(pilot)


async def test_ctrl_c_asks_whether_to_quit_while_files_do_not_answer(dashboard: Make, held: threading.Event) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "j", "c", "j", "j", "ctrl+c")
        await dialog_opens(pilot, "the question")
        assert "Quit?" in text_of(app.screen.query_one(DialogTitle))
        held.set()
        burst(app, "escape")
        await until(pilot, lambda: app.screen is app.main, "the answer")


async def test_closing_while_keys_wait_for_a_dialog_is_no_error(dashboard: Make, held: threading.Event) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, "j", "c", "y")
        await until(pilot, lambda: "Esc gives it up" in toasts_of(app), "what it waits for")
        task = app._key_queue._task
    assert task is not None
    await asyncio.wait([task])
    assert task.exception() is None


def test_an_internal_error_gives_an_exit_code_and_says_that_runs_go_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(self: Dashboard, **_: object) -> None:
        self._return_code = 1  # as Textual leaves it after an exception

    monkeypatch.setattr(Dashboard, "run", breaks)
    monkeypatch.setattr("llmval_tui.tui.gc_control.pause_gc", lambda: None)
    assert application.run(LaunchSettings(workspace.root, workspace.checklist)) == ExitCode.FAILED
    assert "llmval attach" in capsys.readouterr().err


async def test_a_long_text_is_inserted_in_one_piece(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    inserted: list[str] = []
    insert = Input.insert_text_at_cursor

    def counted(line: Input, text: str) -> None:
        inserted.append(text)
        insert(line, text)

    monkeypatch.setattr(Input, "insert_text_at_cursor", counted)
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        burst(app, SLASH)
        await until(pilot, lambda: len(app.main.query("Prompt")) == 1, "the prompt")
        burst(app, *"abcdefghij" * 100, "enter")
        await until(pilot, lambda: app.main.state.filter == "abcdefghij" * 100, "the filter")
        assert len(inserted) <= 20
