"""Copying through the terminal: OSC 52 reaches the clipboard of the machine one sits at, over SSH too."""

import base64
from collections.abc import Mapping


def osc52(text: str, environment: Mapping[str, str]) -> str:
    """The sequence that asks the terminal to take `text` into its clipboard.

    Inside tmux it is sent both plainly (taken with `set-clipboard on`) and wrapped (passed on to the outer terminal
    with `allow-passthrough on`); a tmux that knows neither ignores it.
    """
    plain = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
    if not environment.get("TMUX"):
        return plain
    return plain + "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\"
