"""Every key in every pane, at three sizes and on a tiny screen, in five themes, in blocks and in ASCII.

One dashboard a size presses all keys in all panes, the ones that do nothing there too. What a theme adds to a picture
is a style for each role on each background (`drawing/theme_styles.py`), so all that was drawn after any key is checked
in every theme, and every pane is really drawn in each.
"""

from typing import Any

import pytest
from rich.color import ColorType
from rich.style import Style
from textual.pilot import Pilot

from llmval_tui.runs.records import Outcome, State
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.drawing.theme_styles import load_theme
from llmval_tui.tui.keys import KEYS, PANES, SCROLL_KEYS
from llmval_tui.tui.widgets.prompt import Prompt
from llmval_tui.tui.widgets.row_widget import RowWidget
from tests.helpers.tui_builder import Workspace, load_events, sample, verdict
from tests.helpers.tui_pilot import Make, drained_press, ready, text_of, until

THEMES = ("dark", "light", "contrast", "ansi", "mono")
# Keys that leave the screen for good, or stop the process.
LEAVING = ("quit", "suspend")
LOG = (
    "INFO ready\n" + "NCCL WARN late\n" * 30 + "Traceback (most recent call last):\n  File x\nValueError: y\n"
    "\x1b[31mbinary \x00\xff\n"
)
PRESSED = [key for key in (*KEYS, *SCROLL_KEYS) if not key.replay and key.id not in LEAVING]
# `d` first: later on a filter of the runs may leave fewer than two.
NAMES = sorted(dict.fromkeys(key.keys.split(",")[0] for key in PRESSED), key=lambda name: name != "d")
BY_NAME = {name: [key for key in PRESSED if key.keys.split(",")[0] == name] for name in NAMES}


@pytest.mark.parametrize(
    ("size", "theme", "charts"),
    [
        ((80, 24), "dark", "braille"),
        ((120, 35), "light", "blocks"),
        ((160, 50), "mono", "braille"),
        ((120, 35), "contrast", "ascii"),
        ((40, 10), "ansi", "ascii"),
    ],
    ids=["80x24", "120x35-blocks", "160x50", "120x35-ascii", "40x10-ascii"],
)
async def test_every_key_in_every_pane(
    workspace: Workspace, dashboard: Make, commands: Any, size: tuple[int, int], theme: str, charts: str
) -> None:
    asking = verdict(Outcome.INCONCLUSIVE, question={"kind": "accept", "text": "Accept?", "diff": "+| 1 |"})
    workspace.run("1.1", run_id="20251231T000000Z-1.1-cccccc", state=State.FINISHED, verdict=asking)
    workspace.run("1.2", run_id="20251231T010000Z-1.2-aaaaaa", state=State.FINISHED, verdict=verdict())
    workspace.run("1.2", run_id="20260101T010000Z-1.2-bbbbbb", state=State.FINISHED, verdict=verdict(Outcome.FAIL))
    folder = workspace.run("1.2")
    (folder / "events.jsonl").write_bytes(load_events(60))
    (folder / "logs" / "main.rank0.stdout.log").write_bytes(LOG.encode("latin-1"))
    made = dashboard(theme=theme, ascii=charts == "ascii", charts=charts, interval=5.0)
    drawn: set[tuple[str, str]] = set()
    dialogs: set[str] = set()
    async with made.run_test(size=size) as pilot:
        app = await ready(pilot)
        main = app.main
        main.post_message(SamplesTaken("live", [sample(second) for second in range(20)]))
        numbers = {status.step.number: status.step.key for status in main.state.snapshot.steps}
        for pane in ("list", *PANES):
            main.state.shown_state = None
            main.state.folded.clear()
            main.steps.filter_changed()
            main.steps.go_to(numbers["1.1" if pane == "list" else "1.2"])  # has a question, has three runs
            main.selection_changed()
            await until(pilot, lambda: main.state.detail is not None, "the step")
            for name, keys in BY_NAME.items():
                if main.pane != pane:
                    main.focus_list() if pane == "list" else main.show_pane(pane)
                    await settled(pilot, app)
                before = choices(app)
                await drained_press(pilot, name)
                await settled(pilot, app)
                look_at(app, drawn, charts == "ascii")
                ids = [key.id for key in keys if not key.panes or pane in key.panes]
                works = any(app.keymap.works_in(key.action.partition("(")[0], pane) for key in keys)
                assert works or (app.screen is main and choices(app) == before), f"{name} does nothing in {pane}"
                dialogs.update(ids if app.screen is not main else ())
                while app.screen is not main or main.query(Prompt) or main.state.jump is not None:
                    await drained_press(pilot, "escape")
                    await settled(pilot, app)
            for other in (*THEMES, theme):
                main.action_theme(other)
                await settled(pilot, app)
                check_colours(app, other)
        assert {"complete", "complete_all", "run", "cancel", "tick", "answer", "options", "compare", "messages", "help",
                "palette"} <= dialogs  # fmt: skip
        main.end_notice()
        assert text_of(main.key_bar).strip() and text_of(main.header).strip()
    assert [call for call in commands.calls if call != ("settle",)] == []  # nothing is done without an answer
    for other in THEMES:
        styles = load_theme(other)
        for role, background in drawn:
            check_style(styles.style(role, background), other)


def choices(app: Dashboard) -> tuple[object, ...]:
    """What the operator has chosen, as far as keys change it."""
    main, state = app.main, app.main.state
    chosen = (state.key, state.section, state.back, state.document, set(state.marks), state.filter, state.shown_state)
    return (*chosen, state.order, set(state.folded), main.shown, main.pane, main.zoomed, len(state.messages.all))


async def settled(pilot: Pilot[Any], app: Dashboard) -> None:
    """Until what a key has started in a thread is on the screen, or waits for an answer in a dialog."""

    def done() -> bool:
        working = [worker for worker in app.workers if not worker.is_finished and worker.group != "look"]
        return not app.main.dialog_pending and (app.screen is not app.main or not working)

    if not done():
        await until(pilot, done, "the effect of a key")
    await pilot._wait_for_screen()


def look_at(app: Dashboard, drawn: set[tuple[str, str]], ascii_only: bool) -> None:
    """All rows on the screen have their width, and no sign outside ASCII if there must be none."""
    for widget in app.screen._compositor.visible_widgets:
        for line in widget.drawn_rows if isinstance(widget, RowWidget) else ():
            if widget.size.area:
                assert cell_len(line.plain.rstrip()) <= widget.size.width, f"cut in {widget}: {line.plain!r}"
            assert not ascii_only or line.plain.isascii(), f"{widget} {line.plain!r}"
            drawn.update((role, line.background) for _, role in line.spans)


def check_colours(app: Dashboard, theme: str) -> None:
    """The whole picture, as it is sent: only colours that the theme may use."""
    for strip in app.screen._compositor.render_strips():
        assert strip.cell_length == app.size.width
        for segment in strip:
            check_style(segment.style or Style(), theme)


def check_style(style: Style, theme: str) -> None:
    for colour in (style.color, style.bgcolor):
        if colour is None or colour.is_default:
            continue
        assert theme != "mono", f"{style} in a theme without colour"
        assert theme != "ansi" or colour.type is ColorType.STANDARD, f"{style} is none of the terminal's 16 colours"
