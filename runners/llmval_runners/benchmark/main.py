"""The process of `engine_benchmark.py`. If --tensor-parallel-gpus is above 1, plain Python starts torchrun."""

import sys
from pathlib import Path
from typing import NoReturn

from llmval_runners.benchmark.options import BenchmarkOptions, parse
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.launch_ranks import launch
from llmval_runners.process.rank_main import Program, Rank, rank_main


def main(argv: list[str]) -> NoReturn:
    """Run the engine benchmark and exit with the code of `options.EXIT_CODES`."""
    here = Rank.of_this_process()

    def parse_for_ranks() -> BenchmarkOptions:
        options = parse(argv)
        gpus = options.tensor_parallel_gpus
        if gpus is not None and gpus > 1 and not here.under_torchrun:
            sys.exit(launch(argv, gpus, Path(sys.argv[0]).resolve()))
        if gpus is not None and gpus != here.world_size:
            raise Refused(
                f"torchrun started {here.world_size} ranks and --tensor-parallel-gpus is {gpus}: make them "
                "equal, or start this with plain Python, which starts torchrun itself."
            )
        return options

    def make(options: BenchmarkOptions, events: EventLog, rank: Rank) -> Program:
        from llmval_runners.benchmark.benchmark import Benchmark

        return Benchmark(options, events, rank)

    rank_main(parse_for_ranks, make)
