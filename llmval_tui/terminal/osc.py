"""Reaching the machine one sits at, over SSH too: its clipboard (OSC 52) and its notifications (OSC 9)."""

import base64
from collections.abc import Mapping

from llmval_tui.foundation.text import clean_line


def osc52(text: str, environment: Mapping[str, str]) -> str:
    """The sequence that asks the terminal to take `text` into its clipboard.

    Inside tmux it is sent both plainly (taken with `set-clipboard on`) and wrapped (passed on to the outer terminal
    with `allow-passthrough on`); a tmux that knows neither ignores it.
    """
    plain = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
    return plain + _for_outer(plain) if environment.get("TMUX") else plain


def osc9(text: str, environment: Mapping[str, str]) -> str:
    """The sequence that asks the terminal for a desktop notification (iTerm2's OSC 9, which others took over).

    A tmux passes it on to the outer terminal with `allow-passthrough on`.
    """
    plain = f"\x1b]9;{clean_line(text)}\x07"
    return _for_outer(plain) if environment.get("TMUX") else plain


def _for_outer(sequence: str) -> str:
    """A sequence that tmux hands to the terminal it runs in."""
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
