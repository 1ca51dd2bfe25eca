"""A sweep that is killed while it writes the result of its seventh cell: `python -m … FOLDER`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from llmval_runners.power.grid import Cell
from llmval_runners.power.store import Store
from pytest import MonkeyPatch

from tests.runners.power.test_sweep import quick, sweep_of

if __name__ == "__main__":
    ran: list[str] = []
    quick(MonkeyPatch(), ran=ran)
    save = Store.save

    def save_or_die(self: Store, cell: Cell, record: dict[str, Any]) -> Path:
        if len(ran) == 7:  # half written, as after a kill in the middle of a write
            (self.folder / ".torn").write_text('{"schema": 1, "ki')
            os.kill(os.getpid(), signal.SIGKILL)
        return save(self, cell, record)

    Store.save = save_or_die  # type: ignore[method-assign]  # the point of this program
    sweep_of(Path(sys.argv[1]), "--seed", "5").run()
