"""Says what the engine makes of a checkpoint, without loading it: `python checkpoint_check.py DIR`."""

import sys

from llmval_runners.engine.checkpoint.report import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
