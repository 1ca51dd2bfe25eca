"""Finds out if torch.compile hangs on this node, and where: `python runners/torch_compile_repro.py --help`."""

import sys

from llmval_runners.compile_study.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
