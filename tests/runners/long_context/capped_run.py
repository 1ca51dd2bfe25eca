"""Runs the long-context runner with a limit of CPU memory: `python capped_run.py BYTES FLAGS…`."""

import sys

import torch
from llmval_runners.long_context.fit_check.memory_cap import CappedCpu
from llmval_runners.long_context.main import main

if __name__ == "__main__":
    with CappedCpu(torch.device("cpu"), int(sys.argv[1])):
        main(sys.argv[2:])
