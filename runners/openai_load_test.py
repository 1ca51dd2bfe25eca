"""Load test of any server of the OpenAI API, over HTTP: `python …/openai_load_test.py --help`."""

import sys

from llmval_runners.openai_client.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
