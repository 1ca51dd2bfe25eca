"""Every private name of Textual that the dashboard uses. Read this file again with each new version of Textual."""

import string
from typing import cast

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual._compositor import ChopsUpdate, Compositor
from textual.app import App
from textual.binding import BindingsMap
from textual.dom import DOMNode
from textual.keys import _character_to_key as character_to_key
from textual.message_pump import MessagePump
from textual.notifications import Notification
from textual.screen import Screen

__all__ = [
    "ESC_CODES",
    "ChopsUpdate",
    "Compositor",
    "ToastApp",
    "bindings_of",
    "character_to_key",
    "parent_of",
    "set_compositor",
    "write_to_terminal",
]

# A terminal sends Alt and a key as Esc and the key in one piece, and so does a slow line for two keys. Textual turns
# Esc with a digit or a sign into the sign of a Mac's keyboard (`™`), or drops the Esc. Here it gives a private-use
# character instead, so that `key_queue` can tell such keys: config.toml may bind them, and otherwise they are two keys.
# `[` is left out, because the terminal's own sequences begin with Esc and `[`.
ESC_CODES = {chr(0xE000 + ord(sign)): sign for sign in string.digits + string.punctuation + " " if sign != "["}
cast("dict[str, object]", ANSI_SEQUENCES_KEYS).update({f"\x1b{sign}": private for private, sign in ESC_CODES.items()})


class ToastApp(App[int]):
    """An application that decides which toasts are shown, and when."""

    def prepare_toasts(self) -> bool:
        """Called before toasts are shown, also on a screen that has just come up. False: show none now."""
        return True

    def toasts(self) -> list[Notification]:
        """The toasts that have not expired, oldest first."""
        return list(self._notifications)

    def drop_toast(self, toast: Notification) -> None:
        self._unnotify(toast, refresh=False)

    def _refresh_notifications(self) -> None:
        if self._screen_stack and self.prepare_toasts():
            super()._refresh_notifications()


def write_to_terminal(app: App[int], sequence: str) -> None:
    """Send a control sequence that Textual has no method for."""
    if app._driver is not None:
        app._driver.write(sequence)


def set_compositor(screen: Screen[None], compositor: Compositor) -> None:
    screen._compositor = compositor


def bindings_of(node: DOMNode) -> BindingsMap:
    return node._bindings


def parent_of(pump: MessagePump) -> MessagePump | None:
    return pump._parent
