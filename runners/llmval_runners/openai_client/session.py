"""The load test of a server from start to end."""

from llmval_runners.openai_client.options import OpenAiOptions
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog
from llmval_runners.process.rank_main import Program, Rank


def OpenAiLoadTest(options: OpenAiOptions, events: EventLog, rank: Rank) -> Program:
    raise Refused("the client is not finished yet: its flags are.")
