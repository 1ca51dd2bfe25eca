"""Measures the engine and the best rates of the device, in one table: `python engine_benchmark.py --help`."""

import sys

from llmval_runners.benchmark.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
