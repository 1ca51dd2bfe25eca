"""The engine's figures beside the device's ceilings, in one table: `python engine_benchmark.py --help`."""

import sys

from llmval_runners.process.rank_main import run_engine_benchmark

if __name__ == "__main__":
    run_engine_benchmark(sys.argv[1:])
