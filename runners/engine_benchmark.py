"""The engine's figures beside the device's ceilings, in one table: `python engine_benchmark.py --help`."""

import sys

from llmval_runners.benchmark.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
