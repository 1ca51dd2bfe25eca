"""What is covered is not rendered, and what is shown is what Textual would show."""

from typing import Any

import pytest
from textual._compositor import Compositor
from textual.strip import Strip

from llmval_tui.tui.app import Dashboard
from tests.helpers.tui_pilot import Make, ready, until


def drawn(app: Dashboard, kind: type[Compositor]) -> list[list[Any]]:
    compositor = app.screen._compositor
    chops = kind._render_chops(compositor, compositor.size.region, lambda y: True)
    return [list(Strip.join(chop.values()).simplify()) for chop in chops]


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (40, 10)])
@pytest.mark.parametrize("keys", [("2",), ("3", "z"), ("slash", "a"), ("question_mark",), ("colon",), ("g",)])
async def test_the_picture_is_the_one_of_textual(dashboard: Make, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    async with dashboard().run_test(size=size) as pilot:
        app = await ready(pilot)
        await pilot.press(*keys)
        if keys[0] in ("question_mark", "colon"):
            await until(pilot, lambda: app.screen is not app.main, "the dialog")
            await pilot.pause()
        assert drawn(app, type(app.screen._compositor)) == drawn(app, Compositor)


async def test_the_containers_behind_the_panes_are_not_rendered(
    dashboard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dashboard().run_test(size=(120, 40)) as pilot:
        app = await ready(pilot)
        await pilot.press("2")
        await until(pilot, lambda: app.main.pane == "log", "the pane")
        right = app.main.query_one("#right")
        rendered: list[object] = []
        monkeypatch.setattr(right, "render_lines", rendered.append)
        drawn(app, type(app.main._compositor))
        assert not rendered
