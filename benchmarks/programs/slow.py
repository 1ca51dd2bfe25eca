"""Runs for six seconds, then writes its artifact: `python slow.py --output PATH`."""

import pathlib
import sys
import time

pathlib.Path("started").touch()
time.sleep(6)
pathlib.Path(sys.argv[-1]).write_text("it went on")
