"""Load test of an LLM engine on this node: `torchrun --nproc_per_node=8 …/inference_server_load_test.py --help`."""

import sys

from llmval_runners.load_test.main import main

if __name__ == "__main__":
    main(sys.argv[1:])
