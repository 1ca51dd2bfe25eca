"""Every key in every pane, in three themes at three sizes, in 16 colours, without colour and in ASCII: nothing breaks.

One dashboard a picture presses all keys in all panes; each key of the table must be pressed at least once.
"""

import pytest

from llmval_tui.runs.records import Outcome, State
from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.keys import KEYS, PANES, SCROLL_KEYS
from llmval_tui.tui.widgets.prompt import Prompt
from llmval_tui.tui.widgets.row_widget import RowWidget
from tests.helpers.tui_builder import Workspace, load_events, sample, verdict
from tests.helpers.tui_pilot import Make, ready, text_of, until

# Keys that leave the screen for good, or stop the process.
LEAVING = ("quit", "suspend")
LOG = (
    "INFO ready\n" + "NCCL WARN late\n" * 30 + "Traceback (most recent call last):\n  File x\nValueError: y\n"
    "\x1b[31mbinary \x00\xff\n"
)


@pytest.mark.parametrize(
    ("size", "theme", "ascii_only"),
    [
        ((80, 24), "dark", False),
        ((120, 35), "light", False),
        ((160, 50), "contrast", False),
        ((120, 35), "ansi", False),
        ((160, 50), "mono", False),
        ((80, 24), "mono", True),
        ((40, 10), "dark", True),
    ],
    ids=["80x24-dark", "120x35-light", "160x50-contrast", "16-colours", "mono", "ascii", "40x10"],
)
async def test_every_key_in_every_pane(
    workspace: Workspace, dashboard: Make, size: tuple[int, int], theme: str, ascii_only: bool
) -> None:
    workspace.run("1.2", run_id="20251231T010000Z-1.2-aaaaaa", state=State.FINISHED, verdict=verdict())
    workspace.run("1.2", run_id="20260101T010000Z-1.2-bbbbbb", state=State.FINISHED, verdict=verdict(Outcome.FAIL))
    folder = workspace.run("1.2")
    (folder / "events.jsonl").write_bytes(load_events(60))
    (folder / "logs" / "main.rank0.stdout.log").write_bytes(LOG.encode("latin-1"))
    async with dashboard(theme=theme, ascii=ascii_only, readonly=True).run_test(size=size) as pilot:
        app = await ready(pilot)
        main = app.main
        main.post_message(SamplesTaken("live", [sample(second) for second in range(20)]))
        pressed = set()
        for pane in ("list", *PANES):
            for key in (*KEYS, *SCROLL_KEYS):
                if key.replay or key.id in LEAVING or (key.panes and pane not in key.panes):
                    continue
                main.focus_list() if pane == "list" else main.show_pane(pane)
                await pilot.press(key.keys.split(",")[0])
                pressed.add(key.id)
                if app.screen is not main:
                    await pilot.press("escape")
                    await until(pilot, lambda: app.screen is main, f"the end of {key.id} in {pane}")
                elif main.query(Prompt) or main.state.jump is not None:
                    await pilot.press("escape")
                    await pilot.pause()
            for widget in app.screen.query(RowWidget):
                assert not ascii_only or widget.plain_text().isascii(), f"{widget} in {pane}"
        assert pressed == {key.id for key in (*KEYS, *SCROLL_KEYS) if not key.replay} - set(LEAVING)
        main.end_notice()
        assert text_of(main.key_bar).strip() and text_of(main.header).strip()
