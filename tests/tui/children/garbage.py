"""A dashboard without a terminal that prints whether garbage is collected: while it opens, and when it stands.

Before that it prints whether a thread that needs the interpreter gets it within a millisecond.
"""

import gc
import sys
import time
from pathlib import Path
from typing import Any

from llmval_tui.tui import app
from llmval_tui.tui.settings import LaunchSettings

dashboard: Any = app.Dashboard
open_dashboard = dashboard.run


def run(self: Any, **options: Any) -> Any:
    print("switches", sys.getswitchinterval() <= 0.001)
    print("opens", gc.isenabled())
    before = gc.get_freeze_count()
    deadline = time.monotonic() + 120

    def check() -> None:
        if gc.isenabled() or time.monotonic() > deadline:
            print("stands", gc.isenabled(), gc.get_freeze_count() > before)
            self.exit()

    self.call_later(self.set_interval, 0.05, check)
    return open_dashboard(self, headless=True, **options)


app.SETTLED_S = 0.1
dashboard.run = run
sys.exit(app.run(LaunchSettings(Path(sys.argv[1]), Path(sys.argv[2]))))
