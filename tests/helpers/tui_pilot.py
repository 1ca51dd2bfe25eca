"""Helpers that drive the dashboard in tests: waiting for threads, reading the screen."""

import time
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.screens.dialog import DialogBody
from llmval_tui.tui.widgets.row_widget import RowWidget

Make = Callable[..., Dashboard]
WIDE = (120, 40)


async def until(pilot: Pilot[Any], true: Callable[[], object], what: str = "it") -> None:
    """Wait for an effect of a thread."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if true():
            return
        await pilot.pause(0.02)
    raise AssertionError(f"{what} did not come")


async def ready(pilot: Pilot[Any]) -> Dashboard:
    app = pilot.app
    assert isinstance(app, Dashboard)
    await until(pilot, lambda: app.main.state.detail is not None, "the first picture")
    await pilot.pause()
    return app


def text_of(widget: RowWidget) -> str:
    return widget.plain_text()


def toasts_of(app: Dashboard) -> str:
    """All messages since the start, each in one line."""
    return "\n".join(notice.text for notice in app.main.state.messages.all)


def body(app: Dashboard) -> str:
    return text_of(app.screen.query_one(DialogBody))
