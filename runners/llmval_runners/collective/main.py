"""The process of `collective_bandwidth.py`. Plain Python starts torchrun with a rank for every GPU of this node."""

import sys
from pathlib import Path
from typing import NoReturn

from llmval_runners.collective.baseline import check_files
from llmval_runners.collective.options import CollectiveOptions, parse
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.launch_ranks import launch
from llmval_runners.process.rank_main import Program, Rank, rank_main

CPU_RANKS = 2


def main(argv: list[str]) -> NoReturn:
    """Measure, and exit with the code of `options.EXIT_CODES`."""
    here = Rank.of_this_process()

    def parse_for_ranks() -> CollectiveOptions:
        options = parse(argv)
        if not here.under_torchrun:
            check_files(options)  # before torchrun starts
            ranks = _ranks(options)
            if ranks > 1:
                sys.exit(launch(argv, ranks, Path(sys.argv[0]).resolve()))
            return options
        local = here.local_world_size
        if options.nproc_per_node is not None and options.nproc_per_node != local:
            raise Refused(
                f"torchrun started {local} ranks on this node and --nproc-per-node is {options.nproc_per_node}: make "
                "them equal, or leave the flag out under torchrun."
            )
        return options

    def make(options: CollectiveOptions, events: EventLog, rank: Rank) -> Program:
        from llmval_runners.collective.session import CollectiveTest

        return CollectiveTest(options, events, rank)

    rank_main(parse_for_ranks, make)


def _ranks(options: CollectiveOptions) -> int:
    """The ranks that plain Python starts. Raises Refused for more ranks than GPUs, before torchrun starts them."""
    if options.device == "cpu":
        return options.nproc_per_node or CPU_RANKS
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not gpus and options.device == "cuda":
        raise Refused("torch finds no CUDA device here: pass --device cpu, or check the driver with nvidia-smi.")
    if gpus and options.nproc_per_node is not None and options.nproc_per_node > gpus:
        raise Refused(
            f"{options.nproc_per_node} ranks need {options.nproc_per_node} GPUs, and {gpus} can be used: pass "
            f"--nproc-per-node {gpus} or fewer."
        )
    return options.nproc_per_node or gpus or CPU_RANKS
