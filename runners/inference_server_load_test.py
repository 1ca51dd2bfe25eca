"""Load test of an LLM engine on this node: `torchrun --nproc_per_node=8 …/inference_server_load_test.py --help`."""

import sys

from llmval_runners.process.rank_main import run_load_test

if __name__ == "__main__":
    run_load_test(sys.argv[1:])
