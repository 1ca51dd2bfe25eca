"""A queue for keys typed ahead: each key waits until the one before it has taken effect.

Over a slow line several keys arrive in one piece. Textual gives all of them to the widget that has the focus then.
Text typed after `/` would then trigger actions of the list, and the answer to a dialog would go to the screen below it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from textual import events
from textual.app import ScreenStackError
from textual.message_pump import MessagePump
from textual.widgets import Input

from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.textual_private import ESC_CODES, character_to_key, is_idle, parent_of
from llmval_tui.tui.themed_app import ThemedApp
from llmval_tui.tui.widgets.scroll_pane import ScrollPane

SLOW_S = 2.0  # after this wait, Esc gives up the dialog that keys wait for: a disk that hangs must not block them
LEAVES = ("ctrl+c", "ctrl+q")  # they give it up as well, and then ask whether to quit


class ClickedKey(events.Key):
    """A key that was clicked in the row of the keys: it waits as a typed one, so that two clicks open one dialog."""

    def __init__(self, key: str) -> None:
        super().__init__(key, None)


class Dialogs(Protocol):
    """What prepares dialogs in threads."""

    @property
    def dialog_pending(self) -> bool:
        """Whether a dialog is being prepared."""

    def dialog_is_slow(self) -> None:
        """Say that keys wait for it."""

    def give_up_dialog(self) -> None:
        """Open it no more."""


class KeyQueue:
    """Delivers keys one after the other, however long one takes: the next one may be the answer to its dialog."""

    def __init__(
        self,
        app: ThemedApp,
        deliver: Callable[[events.Key], Awaitable[None]],
        dialogs: Dialogs,
        done: Callable[[], None],
    ) -> None:
        self._app = app
        self._deliver = deliver
        self._dialogs = dialogs
        self._done = done  # called when all keys have taken effect
        self._waiting: deque[events.Key] = deque()
        self._task: asyncio.Task[None] | None = None
        self._typed = ""  # for the line of input that has the focus
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a key has not taken effect yet."""
        return self._task is not None or bool(self._typed)

    def close(self) -> None:
        """Deliver no key any more: the application ends."""
        self._closed = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def put(self, key: events.Key) -> None:
        """Deliver the key now, or after the ones that wait."""
        for one in split_escape(key, self._app.keymap):
            await self._put(one)

    async def _put(self, key: events.Key) -> None:
        if self._closed:
            return
        if self._task is not None:
            self._waiting.append(key)
            return
        target = self._target()
        if isinstance(target, Input) and _is_text(key):
            if not self._typed:
                self._app.call_later(self._insert_typed)  # after all keys that have arrived by now
            self._typed += key.character or ""
            return
        self._insert_typed()
        await self._deliver(key)
        if not self._only_scrolls(target, key):
            # A task, because the application's own queue must go on: it executes the actions.
            self._task = asyncio.create_task(self._process(target))
        else:
            self._done()

    def _insert_typed(self) -> None:
        """Insert the typed text in one piece: a thousand characters pasted without bracketed paste take one frame."""
        text, self._typed = self._typed, ""
        target = self._target()
        if text and isinstance(target, Input):
            target.insert_text_at_cursor(text)

    async def _process(self, target: MessagePump) -> None:
        try:
            await self._wait(target)
            while self._waiting:
                target, key = self._target(), self._waiting.popleft()
                if isinstance(target, Input) and _is_text(key):
                    self._typed = key.character or ""
                    while self._waiting and _is_text(self._waiting[0]):
                        self._typed += self._waiting.popleft().character or ""
                    self._insert_typed()
                    continue
                await self._deliver(key)
                if not self._only_scrolls(target, key):
                    await self._wait(target)
        except ScreenStackError:
            pass  # the application has closed meanwhile
        finally:
            self._task = None
            self._done()

    async def _wait(self, target: MessagePump) -> None:
        """Wait until the key has been handled, and until a prompt or dialog that it opened can take the next key."""
        await _drained(target)
        await _drained(self._target())  # a prompt or a dialog opens, and the focus moves
        started, told = time.monotonic(), False
        while self._dialogs.dialog_pending:
            if time.monotonic() - started >= SLOW_S:
                if not told:
                    self._dialogs.dialog_is_slow()
                    told = True
                if self._given_up():
                    self._dialogs.give_up_dialog()
                    return
            await asyncio.sleep(0.01)
        await _drained(self._target())

    def _given_up(self) -> bool:
        """Whether Esc waits. The keys before it are dropped: they were meant for the dialog. Those after it stay."""
        keys = [one.key for one in self._waiting]
        at = next((index for index, key in enumerate(keys) if key == "escape" or key in LEAVES), None)
        if at is None:
            return False
        for _ in range(at + (keys[at] == "escape")):
            self._waiting.popleft()
        return True

    def _only_scrolls(self, target: MessagePump, key: events.Key) -> bool:
        """Whether the key only moves within a pane.

        Later keys need not wait for such a key. Holding one then skips the frames in between, which are expensive on a
        slow line.
        """
        return len(self._app.screen_stack) == 1 and isinstance(target, ScrollPane) and target.is_scroll_key(key.key)

    def _target(self) -> MessagePump:
        return self._app.focused or self._app.screen


def split_escape(key: events.Key, keymap: Keymap) -> list[events.Key]:
    """The keys of one piece of input: Alt and a key are Esc and the key, unless the keymap has that Alt key.

    Otherwise the `y` after an Esc that closes one dialog could be lost or answer another.
    """
    character = key.character
    if character in ESC_CODES:
        character = ESC_CODES[character]
        key = events.Key(f"alt+{character_to_key(character)}", character)
    elif not key.key.startswith("alt+") or not character or not character.isalnum():
        return [key]
    if any(key.key in bound.keys.split(",") for bound in (*keymap.all(), *keymap.scroll_keys())):
        return [key]
    return [events.Key("escape", "\x1b"), events.Key(character_to_key(character), character)]


def _is_text(key: events.Key) -> bool:
    return key.is_printable and bool(key.character)


async def _drained(target: MessagePump) -> None:
    """Wait until a widget and its ancestors have handled all messages that they have now."""
    pump: MessagePump | None = target
    while pump is not None:
        reached = asyncio.Event()
        if not is_idle(pump) and pump.call_later(reached.set):
            while not reached.is_set() and pump.is_running:  # a widget that is removed meanwhile never answers
                try:
                    async with asyncio.timeout(0.05):
                        await reached.wait()
                except TimeoutError:
                    continue
        pump = parent_of(pump)
