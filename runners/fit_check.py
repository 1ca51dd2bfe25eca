"""Checks the memory prediction by running combinations with limited memory: `python runners/fit_check.py --help`."""

import sys

from llmval_runners.long_context.fit_check.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
