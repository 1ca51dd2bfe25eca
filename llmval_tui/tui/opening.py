"""Whether the list can be shown before there is a screen, and showing it."""

import os
from contextlib import AbstractContextManager, nullcontext

from llmval_tui.terminal.glyphs import glyphs
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.workspace_view import FirstLook
from llmval_tui.tui.drawing.theme_files import find_theme, read_theme
from llmval_tui.tui.first_frame import first_frame
from llmval_tui.tui.geometry import list_place
from llmval_tui.tui.held import HeldTerminal, terminal
from llmval_tui.tui.ink import Ink, Unsure, colours
from llmval_tui.tui.settings import Settings

LOOK_S = 0.2  # that the first look may take; with a slower disk the screen is imported meanwhile, and nothing shown


def show_at_once(settings: Settings, first: FirstLook) -> AbstractContextManager[HeldTerminal | None]:
    """The terminal with the list on it; None where it cannot be told how Textual would draw it there.

    Raises:
        Refused: there is no such theme, or it cannot be read; said before the screen is taken over.
    """
    theme = read_theme(find_theme(settings.theme, settings.environment))
    streams = terminal()
    # Textual takes a size from these two, but not for all that it does.
    if streams is None or settings.replay is not None or {"COLUMNS", "LINES"} & settings.environment.keys():
        return nullcontext()
    keyboard, screen = streams
    columns, rows = os.get_terminal_size(screen.fileno())
    place = list_place(columns, rows)
    if place is None:
        return nullcontext()
    try:
        ink = Ink(theme, colours(settings.environment))
    except Unsure:
        return nullcontext()
    first.join(LOOK_S)
    if first.view is None or first.view.checklist is None:
        return nullcontext()
    state = ScreenState(settings)
    state.take(first.view)
    picture = first_frame(state, glyphs(settings.ascii, settings.charts), ink, columns, place)
    return HeldTerminal(keyboard, screen, picture)
