"""The process of `openai_load_test.py`."""

import importlib.util
import sys
from typing import NoReturn

from llmval_runners.openai_client.options import OpenAiOptions, parse
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.install import how_to_install
from llmval_runners.process.rank_main import Program, Rank, rank_main


def main(argv: list[str]) -> NoReturn:
    """Run the load test and exit with the code of `options.EXIT_CODES`."""

    def make(options: OpenAiOptions, events: EventLog, rank: Rank) -> Program:
        for name in ("httptools", "uvloop"):
            if importlib.util.find_spec(name) is None:
                raise Refused(
                    f"{name} is not installed for {sys.executable}: {how_to_install('httptools', 'uvloop')} "
                    "(the extra `serve`), or pass the interpreter of a vLLM installation, which has both."
                )
        from llmval_runners.openai_client.session import OpenAiLoadTest

        return OpenAiLoadTest(options, events, rank)

    rank_main(lambda: parse(argv), make)
