"""When garbage is collected, and how soon threads take turns: in a process of its own, as both are settings of one."""

import subprocess
import sys
from pathlib import Path

from tests.helpers.tui_builder import Workspace

CHILD = Path(__file__).parent / "children" / "garbage.py"


def test_garbage_is_collected_only_after_the_dashboard_has_opened(workspace: Workspace) -> None:
    done = subprocess.run(
        [sys.executable, str(CHILD), str(workspace.root), str(workspace.checklist)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert "switches True" in told
    assert "opens False" in told and "stands True True" in told, done.stdout + done.stderr
