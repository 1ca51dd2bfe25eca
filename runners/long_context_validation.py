"""What a context length costs in memory, time and accuracy: `python runners/long_context_validation.py --help`."""

import sys

from llmval_runners.long_context.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
