"""Tokens per joule by precision and batch: `python runners/precision_power_sweep.py --help`."""

import sys

from llmval_runners.power.main import run_sweep

if __name__ == "__main__":
    run_sweep(sys.argv[1:])
