import sys

from llmval_runners.tracing.capture import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
