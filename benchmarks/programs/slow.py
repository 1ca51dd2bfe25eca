"""Runs for a while, then writes its artifact: `python slow.py [--seconds S] --output PATH`."""

import pathlib
import sys
import time

pathlib.Path("started").touch()
time.sleep(float(sys.argv[2]) if sys.argv[1] == "--seconds" else 6)
pathlib.Path(sys.argv[-1]).write_text("it went on")
