import os
import sys

if "LLMVAL_BUNDLE" in os.environ:
    # The bundle's cache is its own. Images with PYTHONDONTWRITEBYTECODE would compile for a second at each start.
    sys.dont_write_bytecode = False

from llmval_tui.cli import main

raise SystemExit(main())
