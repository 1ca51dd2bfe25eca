"""The table of keys: help, palette, and that every key does what the table says."""

from collections.abc import Callable

import pytest
from textual import events

from llmval_tui.tui.keys import KEYS, PANES, SCROLL_KEYS
from llmval_tui.tui.screens.dialog import Choices
from llmval_tui.tui.screens.main import MainScreen
from llmval_tui.tui.screens.palette import EntryList, Palette
from llmval_tui.tui.settings import Keys
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from tests.helpers.tui_pilot import WIDE, Make, body, dialog_opens, drained_press, ready, text_of, toasts_of, until


async def test_help_shows_the_keys_of_the_pane(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("2", "question_mark")
        await dialog_opens(pilot)
        assert "Follow the end of the log" in body(app)
        await pilot.press("escape", "h", "question_mark")
        await dialog_opens(pilot)
        assert "Mark steps" in body(app) and "Follow the end" not in body(app)


@pytest.mark.parametrize(
    ("keys", "opens", "shown"),
    [({}, "question_mark", "? close"), ({"help": (("f1", "F1"),), "quit": (("Q", "Q"),)}, "f1", "F1 close")],
    ids=["as it comes", "changed"],
)
async def test_the_key_that_opens_the_help_closes_it(
    dashboard: Make, keys: dict[str, Keys], opens: str, shown: str
) -> None:
    async with dashboard(keys=keys).run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        for closes in (opens, "Q" if keys else "q", "enter", "escape"):
            await pilot.press(opens)
            await dialog_opens(pilot)
            assert shown in text_of(app.screen.query_one(Choices))
            await pilot.press("j", closes)
            await until(pilot, lambda: app.screen is app.main)


async def test_the_palette_has_every_action_and_no_other(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, Palette))
        texts = [entry.text for entry in app.screen.query_one(EntryList).offered]
        for key in KEYS:
            assert (key.help in texts) != (key.id in ("palette", "back") or key.replay)
        assert "Theme: mono" in texts
        assert "ctrl+p" not in app._bindings.key_to_bindings  # Textual's own palette quits without asking
        shown = text_of(app.screen.query_one(EntryList))
        assert "C         Complete all steps that are left" in shown
        assert "Follow the end of the log" in shown and "in Log" in shown


async def test_the_palette_runs_the_action_that_the_words_find(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        # All in one piece: Enter must not meet the list of what was typed before.
        for key in (("colon", ":"), *"pane", ("space", " "), *"lo", ("enter", "\r")):
            name, character = key if isinstance(key, tuple) else (key, key)
            app.post_message(events.Key(name, character))
        await until(pilot, lambda: app.screen is app.main and app.main.pane == "log", "the pane")
        await pilot.press("colon", *"mono", "enter")
        await until(pilot, lambda: app.styled_theme.name == "mono", "the theme")
        await pilot.press("colon", *"no such", "enter")
        await until(pilot, lambda: "no action" in text_of(app.screen.query_one(EntryList)))
        await pilot.press("escape", "colon", "down", "enter")
        await dialog_opens(pilot, "the second entry: complete")
        await pilot.press("escape", "colon", *"mark steps", "enter")
        await until(pilot, lambda: "works in the list" in toasts_of(app), "why it does nothing here")
        assert app.main.state.marks == set()


def test_every_key_is_bound_once_and_explained() -> None:
    taken: dict[tuple[str, str], str] = {}
    for key in KEYS:
        assert key.help and key.label
        for pane in key.panes or ("list", *PANES):
            for name in key.keys.split(","):
                assert (pane, name) not in taken, f"{name} is both {taken.get((pane, name))} and {key.id} in {pane}"
                taken[pane, name] = key.id


def name_and_arguments(action: str) -> tuple[str, str]:
    name, _, rest = action.partition("(")
    return name, rest.rstrip(")")


async def test_every_key_does_what_the_table_says(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, str]] = []
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        for table, owner in ((KEYS, MainScreen), (SCROLL_KEYS, ScrollPane)):
            # Panes have moves of their own (the log): each class that defines the action is watched. Most of them are
            # only imported after the first paint.
            classes = (owner, *all_subclasses(owner))
            for action in {name_and_arguments(key.action)[0] for key in table if not key.replay}:
                watched = [cls for cls in classes if f"action_{action}" in vars(cls)] or [owner]
                for cls in watched:
                    monkeypatch.setattr(cls, f"action_{action}", note_in(called, action))
        for pane in ("list", *PANES):
            if pane == "list":
                app.main.focus_list()
            else:
                app.main.show_pane(pane)
            for key in (*KEYS, *SCROLL_KEYS):
                if key.replay or (key.panes and pane not in key.panes):
                    continue
                for name in key.keys.split(","):
                    called.clear()
                    await drained_press(pilot, name)
                    await until(pilot, lambda: called, f"{name} in {pane}")
                    await pilot.pause(0)
                    assert called == [name_and_arguments(key.action)], f"{name} in {pane}"


def note_in(called: list[tuple[str, str]], action: str) -> Callable[..., None]:
    return lambda _self, *given: called.append((action, ", ".join(map(str, given))))


def all_subclasses(cls: type[object]) -> list[type[object]]:
    found: list[type[object]] = []
    for subclass in cls.__subclasses__():
        found += [subclass, *all_subclasses(subclass)]
    return found
