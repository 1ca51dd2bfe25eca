"""When garbage is collected; in a process of its own, for what is set here holds for all of a process."""

import subprocess
import sys

from tests.helpers.tui_builder import Workspace

CHILD = """
import gc, sys, time
from pathlib import Path
from llmval_tui.tui import app
from llmval_tui.tui.settings import Settings

opened = app.Dashboard.run

def run(self, **options):
    print("opens", gc.isenabled())
    before = gc.get_freeze_count()
    deadline = time.monotonic() + 15

    def look():
        if gc.isenabled() or time.monotonic() > deadline:
            print("stands", gc.isenabled(), gc.get_freeze_count() > before)
            self.exit()

    self.call_later(self.set_interval, 0.05, look)
    return opened(self, headless=True, **options)

app.SETTLED_S = 0.1
app.Dashboard.run = run
sys.exit(app.run(Settings(Path(sys.argv[1]), Path(sys.argv[2]))))
"""


def test_garbage_is_not_collected_while_the_dashboard_opens_and_is_once_it_stands(workspace: Workspace) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(workspace.root), str(workspace.checklist)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert "opens False" in told and "stands True True" in told, done.stdout + done.stderr
