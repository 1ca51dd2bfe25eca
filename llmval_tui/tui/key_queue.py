"""Keys typed ahead: each waits until the one before it has done what it does.

Over a slow line several keys come in one piece. Textual gives all of them to what has the focus when they come, so that
what is typed behind `/` would be taken for actions of the list, and a dialog's answer for one of the screen below it.
"""

import asyncio
import string
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.keys import _character_to_key
from textual.message_pump import MessagePump

from llmval_tui.tui.keys import Keymap
from llmval_tui.tui.themed_app import StyledApp
from llmval_tui.tui.widgets.scroll_pane import ScrollPane

LONGEST_S = 2.0  # that a key waits for the one before it: a disk that hangs must not take the keyboard with it

# Of Esc with a digit or a sign in one piece Textual makes the sign of a Mac's keyboard (`™`), or drops the Esc. Here it
# passes on a private-use character, which `split_escape` knows. Not with `[`: a terminal's own sequences begin so.
ESC_CODES = {chr(0xE000 + ord(sign)): sign for sign in string.digits + string.punctuation + " " if sign != "["}
cast("dict[str, object]", ANSI_SEQUENCES_KEYS).update({f"\x1b{sign}": private for private, sign in ESC_CODES.items()})


class KeyQueue:
    """Holds keys back while an earlier one is at work."""

    def __init__(
        self, app: StyledApp, deliver: Callable[[events.Key], Awaitable[None]], dialog_pending: Callable[[], bool]
    ) -> None:
        self._app = app
        self._deliver = deliver
        self._dialog_pending = dialog_pending  # whether a dialog is being made ready in a thread
        self._waiting: deque[events.Key] = deque()
        self._task: asyncio.Task[None] | None = None

    async def take(self, key: events.Key) -> None:
        """Deliver the key now, or behind those that wait."""
        for one in split_escape(key, self._app.keymap):
            await self._take(one)

    async def _take(self, key: events.Key) -> None:
        if self._task is not None:
            self._waiting.append(key)
            return
        target = self._target()
        await self._deliver(key)
        if not self._moves(target, key):
            # A task, for the application's own queue has to go on: it carries out the actions.
            self._task = asyncio.create_task(self._process(target))

    async def _process(self, target: MessagePump) -> None:
        try:
            await self._settled(target)
            while self._waiting:
                target, key = self._target(), self._waiting.popleft()
                await self._deliver(key)
                if not self._moves(target, key):
                    await self._settled(target)
        finally:
            self._task = None

    async def _settled(self, target: MessagePump) -> None:
        try:
            async with asyncio.timeout(LONGEST_S):
                await self._done(target)
        except TimeoutError:
            pass  # the next key goes where it would have gone without waiting

    def _moves(self, target: MessagePump, key: events.Key) -> bool:
        """Whether the key does no more than move in a pane. None has to wait for it, so that of a held key what was
        passed over is never drawn: on a slow line each picture costs."""
        return len(self._app.screen_stack) == 1 and isinstance(target, ScrollPane) and target.moves(key.key)

    def _target(self) -> MessagePump:
        return self._app.focused or self._app.screen

    async def _done(self, target: MessagePump) -> None:
        """Wait until the key has been dealt with, and what it has put before the operator can take the next one."""
        await _drained(target)
        await _drained(self._target())  # a prompt or a dialog begins, and the focus moves
        while self._dialog_pending():
            await asyncio.sleep(0.01)
        await _drained(self._target())


def split_escape(key: events.Key, keymap: Keymap) -> list[events.Key]:
    """Esc and a key in one piece are what Alt sends, and mean that only where such a key is set: else `y` behind
    an Esc that leaves a dialog would be its answer."""
    character = key.character
    if character in ESC_CODES:
        character = ESC_CODES[character]
        key = events.Key(f"alt+{_character_to_key(character)}", character)
    elif not key.key.startswith("alt+") or not character or not character.isalnum():
        return [key]
    if any(key.key in bound.keys.split(",") for bound in (*keymap.all(), *keymap.moves())):
        return [key]
    return [events.Key("escape", "\x1b"), events.Key(_character_to_key(character), character)]


async def _drained(target: MessagePump) -> None:
    """Wait until a widget, and all that it passes a key on to, have dealt with what lies before them now."""
    pump: MessagePump | None = target
    while pump is not None:
        reached = asyncio.Event()
        if pump.call_later(reached.set):
            while not reached.is_set() and pump.is_running:  # one that is taken away meanwhile answers no more
                try:
                    async with asyncio.timeout(0.05):
                        await reached.wait()
                except TimeoutError:
                    continue
        pump = pump._parent
