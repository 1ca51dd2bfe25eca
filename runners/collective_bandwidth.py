"""Measures collectives and every pair of GPUs, and names the slow ones: `python collective_bandwidth.py --help`."""

import sys

from llmval_runners.collective.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
