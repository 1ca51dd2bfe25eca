"""Writes its artifact and prints escape sequences: `python ok.py --output-json PATH`."""

import pathlib
import sys

path = pathlib.Path(sys.argv[-1])
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text('{"value": 1}')
print("\x1b[31m[/red] done\x1b[0m")
