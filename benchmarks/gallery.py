"""`python -m benchmarks.gallery [FOLDER]`: writes one picture per theme (default: docs/images/themes).

All data is made up and always the same, so that the pictures differ only in the theme.
"""

import argparse
import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from benchmarks.picture import portable
from llmval_tui.actions.api import Context, Proposal
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.records import Outcome, State
from llmval_tui.tui.app import Dashboard
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.data.workspace_view import Workspace, propose
from llmval_tui.tui.settings import LaunchSettings
from tests.helpers import tui_builder as builder

THEMES = ("dark", "light", "contrast", "ansi", "mono")
SIZE = (110, 30)


def proposed(context: Context) -> Proposal:
    """The proposal of a step as on a node where llmval is in /usr/local: the same picture from every checkout."""
    made, here = propose(context), str(bundled("runners"))
    commands = (replace(one, display=one.display.replace(here, "/usr/local/runners")) for one in made.commands)
    return replace(made, commands=tuple(commands))


async def take(theme: str, out: Path) -> None:
    """Take the picture: a running load test, and a checklist with finished steps."""
    with tempfile.TemporaryDirectory() as name:
        workspace = builder.Workspace(Path(name))
        (workspace.run("1.2") / "events.jsonl").write_bytes(builder.load_events(142))
        ended = [("1.1", Outcome.FAIL), ("1.3", Outcome.PASS), ("2.1", Outcome.INVALID)]
        for number, outcome in ended:
            run_id = f"20260101T000000Z-{number}-aaaaaa"
            workspace.run(number, run_id=run_id, state=State.FINISHED, verdict=builder.verdict(outcome))
        settings = LaunchSettings(workspace.root, workspace.checklist, theme=theme)
        state = ScreenState(settings, now=lambda: builder.T0 + 142.4)
        app = Dashboard(settings, state=state, workspace=Workspace(settings, proposed), live=False)
        async with app.run_test(size=SIZE) as pilot:
            app.main.post_message(SamplesTaken("live", [builder.sample(second) for second in range(143)]))
            await pilot.press("j", "1")
            await pilot.pause(1.5)
            out.write_text(portable(app.export_screenshot(title=f"llmval --theme {theme}")))


def main() -> None:
    """Take the pictures of all themes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/images/themes"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        with (
            patch("platform.node", lambda: "node-7"),
            patch("llmval_tui.tui.widgets.bars.driver_version", lambda: "580.159.04"),
        ):
            asyncio.run(take(theme, folder / f"{theme}.svg"))


if __name__ == "__main__":
    main()
