"""Says that it has started, then waits for a file `go`: `python slow.py --output PATH`."""

import pathlib
import sys
import time

pathlib.Path("started").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
pathlib.Path(sys.argv[-1]).write_text("slow")
