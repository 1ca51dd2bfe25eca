"""Helpers that drive the dashboard in tests: waiting for threads, reading the screen."""

import asyncio
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from textual import events
from textual.css.query import NoMatches
from textual.keys import _get_unicode_name_from_key
from textual.pilot import Pilot

from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.screens.dialog import Dialog, DialogBody
from llmval_tui.tui.widgets.row_widget import RowWidget

Make = Callable[..., Dashboard]
WIDE = (120, 40)


async def until(pilot: Pilot[Any], true: Callable[[], object], what: str = "it") -> None:
    """Wait for an effect of a thread. A dialog that is open and has no widgets yet is one that is to come."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(NoMatches):
            if true():
                return
        await pilot.pause(0.02)
    raise AssertionError(f"{what} did not come")


async def ready(pilot: Pilot[Any]) -> Dashboard:
    app = pilot.app
    assert isinstance(app, Dashboard)
    await until(pilot, lambda: app.main.state.detail is not None, "the first picture")
    app.main.complete()  # on a busy machine the other panes come later, and a test would see only the first
    await pilot.pause()
    return app


async def dialog_opens(pilot: Pilot[Any], what: str = "the dialog") -> None:
    """Wait until a dialog is open and drawn: its screen is there before its text."""

    def drawn() -> bool:
        screen = pilot.app.screen
        return isinstance(screen, Dialog) and any(text_of(one).strip() for one in screen.query(DialogBody))

    await until(pilot, drawn, what)
    await pilot.pause()


async def drained_press(pilot: Pilot[Any], key: str) -> None:
    """Press a key and wait until every widget has handled what it had then.

    `Pilot.press` waits until the process uses hardly any CPU, which takes 40 ms on an idle machine, and much longer
    beside other work.
    """
    app = pilot.app
    assert isinstance(app, Dashboard)
    event = events.Key(key, character_of(key))
    event.set_sender(app)
    app.post_message(event)
    taken = asyncio.Event()
    app.call_later(taken.set)
    await taken.wait()
    while app._key_queue.busy:
        await asyncio.sleep(0.001)
    await pilot._wait_for_screen()


def character_of(key: str) -> str | None:
    """The character of a key by Textual's name, as a terminal sends it."""
    if len(key) == 1:
        return key
    try:
        return unicodedata.lookup(_get_unicode_name_from_key(key))
    except KeyError:
        return None


def text_of(widget: RowWidget) -> str:
    return widget.plain_text()


def toasts_of(app: Dashboard) -> str:
    """All messages since the start, each in one line."""
    return "\n".join(notice.text for notice in app.main.state.messages.all)


def body(app: Dashboard) -> str:
    return text_of(app.screen.query_one(DialogBody))
