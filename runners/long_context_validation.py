"""Predicts and measures memory, time and accuracy of long contexts: `python long_context_validation.py --help`."""

import sys

from llmval_runners.long_context.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
