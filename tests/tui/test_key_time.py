"""While a key takes effect, garbage, other threads and other frames wait; afterwards they go on."""

import asyncio
import gc
import sys
from collections.abc import Iterator

import pytest

from llmval_tui.tui import app as application
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.watcher import RecorderStatus
from llmval_tui.tui.key_time import KEEP_S, SWITCH_S, YIELD_S, KeyTime
from llmval_tui.tui.screens.main import MainScreen
from tests.helpers.tui_pilot import WIDE, Make, ready, until


@pytest.fixture
def interpreter() -> Iterator[None]:
    """Both settings are those of the whole process."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    gc.enable()


def test_frames_wait_for_a_key_and_no_longer_than_they_may() -> None:
    now = [10.0]
    time = KeyTime(lambda: now[0])
    assert not time.waits
    time.arrived()
    assert time.waits
    time.took_effect()
    assert not time.waits
    time.arrived()
    now[0] += YIELD_S
    assert not time.waits


async def test_garbage_is_not_collected_while_a_key_takes_effect(interpreter: None) -> None:
    time = KeyTime()
    time.collects = True
    time.begin()
    time.begin()  # the next key, in the same time
    assert not gc.isenabled() and sys.getswitchinterval() == pytest.approx(KEEP_S)
    time.drawn()
    assert not gc.isenabled() and sys.getswitchinterval() == pytest.approx(SWITCH_S)
    while not gc.isenabled():
        await asyncio.sleep(0.01)


async def test_a_key_does_not_start_the_collection_while_the_dashboard_opens(interpreter: None) -> None:
    gc.disable()
    time = KeyTime()
    time.begin()
    time.drawn()
    assert not gc.isenabled()
    time.end()
    assert gc.isenabled()


def waiting(app: Dashboard) -> None:
    """A key has arrived, and the clock stands still until it takes effect."""
    app.key_time = KeyTime(lambda: 0.0)
    app.key_arrived()
    assert app.wait_to_draw()


@pytest.mark.parametrize("key", ["2", "j", "f12", "question_mark"])
async def test_every_key_ends_the_wait(dashboard: Make, key: str) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        waiting(app)
        await pilot.press(key)
        await until(pilot, lambda: not app.wait_to_draw(), "the end of the wait")


async def test_what_waited_for_a_key_is_drawn_after_it(dashboard: Make) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        waiting(app)
        changed = app.main._compositor._dirty_regions
        changed.add(app.main.header.region)
        app.draw_changes()
        assert changed  # noted, and not drawn
        await pilot.press("f12")  # does nothing
        await until(pilot, lambda: not changed, "the frame")


async def test_what_a_thread_has_found_waits_for_a_key(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "YIELD_S", 1e6)  # only the key may end the wait
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        shown: list[str] = []
        monkeypatch.setattr(MainScreen, "on_recorder_status", lambda self, message: shown.append(message.problem))
        waiting(app)
        for problem in ("first", "second"):
            await asyncio.to_thread(app.main.post_after_key, RecorderStatus(problem))
        await until(pilot, lambda: len(app._held) == 2, "both messages")
        assert shown == []
        await pilot.press("f12")  # does nothing
        await until(pilot, lambda: shown == ["first", "second"], "both of them, in their order")


async def test_what_a_thread_has_found_does_not_wait_for_ever(dashboard: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async with dashboard().run_test(size=WIDE) as pilot:
        app = await ready(pilot)
        shown: list[str] = []
        monkeypatch.setattr(MainScreen, "on_recorder_status", lambda self, message: shown.append(message.problem))
        waiting(app)
        app.main.post_after_key(RecorderStatus("the recorder ended"))
        await until(pilot, lambda: shown, "the message, without a key")
