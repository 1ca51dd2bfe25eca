"""The process of `inference_server_load_test.py`."""

from typing import NoReturn

from llmval_runners.load_test.options import LoadTestOptions, parse
from llmval_runners.process.events import EventLog
from llmval_runners.process.placement import Placement
from llmval_runners.process.rank_main import Program, Rank, rank_main


def main(argv: list[str]) -> NoReturn:
    """Run the load test and exit with the code of `options.EXIT_CODES`."""

    def make(options: LoadTestOptions, events: EventLog, _: Rank) -> Program:
        from llmval_runners.load_test.session import LoadTest

        return LoadTest(options, events, Placement.of_this_process(options.tensor_parallel_size))

    rank_main(lambda: parse(argv), make)
