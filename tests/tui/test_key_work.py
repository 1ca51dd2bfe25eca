"""What a key to another pane makes Textual do, in counts: each was once done several times, and delayed its frame."""

from typing import Any

import pytest
from textual import events
from textual._compositor import Compositor
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump

from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.log_reader import LogRequest
from llmval_tui.tui.data.watcher import SnapshotTaken
from llmval_tui.tui.key_queue import _drained
from llmval_tui.tui.textual_private import is_idle
from llmval_tui.tui.widgets.step_list import StepList
from tests.helpers.tui_builder import Workspace
from tests.helpers.tui_pilot import WIDE, Make, drained_press, ready, text_of, until


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[object]:
    """The objects whose method is called from now on."""
    called: list[object] = []
    real = getattr(owner, name)

    def count(self: object, *args: Any, **named: Any) -> Any:
        called.append(self)
        return real(self, *args, **named)

    monkeypatch.setattr(owner, name, count)
    return called


async def switched(pilot: Any, app: Dashboard, key: str, pane: str) -> None:
    """Another pane is shown and the key has taken effect."""
    await drained_press(pilot, key)
    await until(pilot, lambda: app.main.shown == pane and not app._key_queue.busy, pane)
    await pilot.pause()


async def test_a_key_to_another_pane_lays_out_once_and_computes_no_styles(
    dashboard: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await switched(pilot, app, "2", "log")
        layouts = counted(monkeypatch, Compositor, "_arrange_root")
        styles = counted(monkeypatch, App, "update_styles")
        await switched(pilot, app, "1", "run")
        assert (len(layouts), len(styles)) == (1, 0)


async def test_a_key_of_a_pane_is_no_message_to_each_ancestor(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await switched(pilot, app, "2", "log")
        told: list[MessagePump] = []
        real = MessagePump._dispatch_message

        async def count(self: MessagePump, message: Message) -> None:
            if isinstance(message, events.Key):
                told.append(self)
            await real(self, message)

        monkeypatch.setattr(MessagePump, "_dispatch_message", count)
        await switched(pilot, app, "1", "run")
        assert told == [app]
        await drained_press(pilot, "f12")
        assert app.focused in told, "a key that is bound to nothing goes the usual way"


async def test_a_key_does_not_wait_for_idle_widgets(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        await switched(pilot, app, "2", "log")
        chain = [app.focused, *app.main.log_pane.ancestors]
        await until(pilot, lambda: all(one is not None and is_idle(one) for one in chain), "the end of all messages")
        asked = counted(monkeypatch, MessagePump, "call_later")
        await _drained(app.main.log_pane)
        assert asked == []
        app.main.tabs.call_later(app.main.tabs.repaint)
        assert not is_idle(app.main.tabs)
        asked.clear()
        await _drained(app.main.tabs)
        assert asked[:1] == [app.main.tabs] and is_idle(app.main.tabs)


async def test_the_focus_is_told_to_the_screen_alone(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        told: list[object] = []
        real = MessagePump._dispatch_message

        async def count(self: MessagePump, message: Message) -> None:
            if isinstance(message, events.DescendantFocus | events.DescendantBlur):
                told.append(self)
            await real(self, message)

        monkeypatch.setattr(MessagePump, "_dispatch_message", count)
        await switched(pilot, app, "2", "log")
        await until(pilot, lambda: told.count(app.main) == 2, "both messages")
        assert set(told) <= {app.main, app}


async def test_the_list_is_built_once_for_a_snapshot(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        built = counted(monkeypatch, StepList, "rows")
        app.main.on_snapshot_taken(SnapshotTaken(app.main.state.snapshot))
        assert len(built) == 1


async def test_a_log_that_is_shown_again_is_not_requested_again(workspace: Workspace, dashboard: Make) -> None:
    log = workspace.run("1.2") / "logs" / "main.stdout.log"
    log.write_text("a line\n")
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        pane = app.main.log_pane
        await drained_press(pilot, "j")
        await switched(pilot, app, "2", "log")
        await until(pilot, lambda: "a line" in text_of(pane), "the log")
        asked: list[LogRequest] = []
        send = pane._send

        def noted(request: LogRequest) -> None:
            asked.append(request)
            send(request)

        pane._send = noted
        await switched(pilot, app, "1", "run")
        await switched(pilot, app, "2", "log")
        assert asked == []
        with log.open("a") as out:
            out.write("a later line\n")
        await until(pilot, lambda: "a later line" in text_of(pane), "the new line")
        await pilot.resize_terminal(WIDE[0], WIDE[1] - 5)
        await until(pilot, lambda: asked, "a request for fewer lines")
