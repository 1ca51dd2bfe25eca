"""The process of `openai_load_test.py`."""

from typing import NoReturn

from llmval_runners.openai_client.options import OpenAiOptions, parse
from llmval_runners.process.events import EventLog
from llmval_runners.process.rank_main import Program, Rank, rank_main


def main(argv: list[str]) -> NoReturn:
    """Run the load test and exit with the code of `options.EXIT_CODES`."""

    def make(options: OpenAiOptions, events: EventLog, rank: Rank) -> Program:
        from llmval_runners.openai_client.session import OpenAiLoadTest

        return OpenAiLoadTest(options, events, rank)

    rank_main(lambda: parse(argv), make)
