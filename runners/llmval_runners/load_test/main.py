"""The process of `inference_server_load_test.py`."""

from typing import NoReturn

from llmval_runners.load_test.options import LoadTestOptions, parse
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.placement import Placement
from llmval_runners.process.rank_main import Program, Rank, rank_main


def main(argv: list[str]) -> NoReturn:
    """Run the load test and exit with the code of `options.EXIT_CODES`."""

    def make(options: LoadTestOptions, events: EventLog, _: Rank) -> Program:
        from llmval_runners.engine.replicas import Replicas
        from llmval_runners.load_test.session import LoadTest

        place = Placement.of_this_process(options.tensor_parallel_size)
        try:
            return LoadTest(options, events, place)
        except Refused as refusal:
            Replicas(place).refuse(str(refusal))
            raise

    rank_main(lambda: parse(argv), make)
