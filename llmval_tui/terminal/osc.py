"""The clipboard (OSC 52) and notifications (OSC 9) of the operator's own machine, also over SSH."""

import base64
from collections.abc import Mapping

from llmval_tui.foundation.text import clean_line


def osc52(text: str, environment: Mapping[str, str]) -> str:
    """The escape sequence that puts `text` into the terminal's clipboard.

    Inside tmux it is sent both plain (for `set-clipboard on`) and wrapped for the outer terminal (for
    `allow-passthrough on`); other settings of tmux ignore it.
    """
    plain = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
    return plain + _for_outer(plain) if environment.get("TMUX") else plain


def osc9(text: str, environment: Mapping[str, str]) -> str:
    """The escape sequence for a desktop notification (OSC 9, from iTerm2, now in other terminals too).

    tmux passes it to the outer terminal with `allow-passthrough on`.
    """
    plain = f"\x1b]9;{clean_line(text)}\x07"
    return _for_outer(plain) if environment.get("TMUX") else plain


def _for_outer(sequence: str) -> str:
    """Wrap a sequence so that tmux passes it to its own terminal."""
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
