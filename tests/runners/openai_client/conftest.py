"""A load test and the mock that it loads, in one event loop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from llmval_runners.openai_client import probe
from llmval_runners.openai_client.options import parse
from llmval_runners.openai_client.session import OpenAiLoadTest
from llmval_runners.process.events import EventLog
from llmval_runners.process.rank_main import Rank

from tests.helpers.openai_mock import Behaviour, Mock

QUICK = [
    "--duration",
    "0.5",
    "--target-qps",
    "40",
    "--output-len",
    "4",
    "--prompt-len",
    "uniform:20:40",
    "--warmup",
    "1",
]
ALONE = Rank(0, 1, 0, 1, under_torchrun=False)
Start = Callable[..., Awaitable[tuple[Mock, str]]]


@pytest.fixture(autouse=True)
def _quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BETWEEN_S", 0.0)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a mock that behaves so; returns it with its URL."""
    mocks = []

    async def begin(**behaviour: Any) -> tuple[Mock, str]:
        mock = Mock(Behaviour(**behaviour))
        mocks.append(mock)
        return mock, await mock.start()

    yield begin
    for mock in mocks:
        await mock.stop()


async def run(url: str, *flags: str) -> OpenAiLoadTest:
    """Run a load test in this loop, without its signals."""
    test = OpenAiLoadTest(parse(["--url", url, *flags]), EventLog(1), ALONE)
    await test._work()
    return test


async def load(url: str, *flags: str) -> dict[str, Any]:
    """The record of a quick load test."""
    return (await run(url, *QUICK, *flags))._result(None)
