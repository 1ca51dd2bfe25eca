"""The open-loop window on a server, in virtual time, whose steps are binary fractions: every time is exact."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llmval_runners.load_test.generator import Arrival, Load
from llmval_runners.load_test.metrics import Slo
from llmval_runners.load_test.result import load_test_result
from llmval_runners.openai_client import answer as answer_module
from llmval_runners.openai_client import window as window_module
from llmval_runners.openai_client.answer import StreamedAnswer
from llmval_runners.openai_client.options import parse
from llmval_runners.openai_client.prompts import Bodies
from llmval_runners.openai_client.window import ServerWindow
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog

from tests.helpers.runners.virtual_loop import run

GAP_S = 0.125


def chunk(**more: object) -> bytes:
    return f"data: {json.dumps({'choices': [{'text': ' a'}]} | more)}\n\n".encode()


class Server:
    """Takes the place of the connections: answers by the clock of the loop."""

    def __init__(self, serve: Callable[["Server", StreamedAnswer, dict], object]) -> None:
        self.opened = self.resent = 0
        self.got: list[tuple[float, dict]] = []
        self.given_up: list[int] = []
        self._serve = serve

    def send(self, exchange: StreamedAnswer, method: str, path: str, body: bytes) -> None:
        value = json.loads(body)
        self.got.append((asyncio.get_running_loop().time(), value))
        self._serve(self, exchange, value)

    def cancel(self, exchange: StreamedAnswer) -> None:
        if not exchange.request.done:
            self.given_up.append(exchange.request.index)

    def answer(self, exchange: StreamedAnswer, *times: float, tokens: int | None = None) -> None:
        """Chunks after these seconds, and the end with the last one."""
        loop = asyncio.get_running_loop()
        exchange.headers(200, {"content-type": "text/event-stream"})

        def give(last: bool) -> None:
            exchange.now = loop.time()
            exchange.body(chunk())
            if last:
                usage = {"prompt_tokens": 5, "completion_tokens": tokens or len(times)}
                exchange.body(chunk(choices=[], usage=usage) + b"data: [DONE]\n\n")
                exchange.end()

        for number, after in enumerate(times, 1):
            loop.call_later(after, give, number == len(times))


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(perf_counter=lambda: asyncio.get_running_loop().time())
    for module in (window_module, answer_module):
        monkeypatch.setattr(module, "time", clock)


def load(count: int, gap: float = GAP_S, output: int = 3, warmup: int = 0) -> Load:
    warm = [Arrival(i, 0.0, 5, output) for i in range(warmup)]
    return Load([Arrival(i, i * gap, 5, output) for i in range(count)], warm, 1 / gap, count * gap, 0)


def window(server: Server, offered: Load, events: EventLog | None = None, **named: Any) -> ServerWindow:
    options = parse(["--url", "http://x"])
    bodies = Bodies(options.server, "m", prompt_format="ids", vocab=100)
    settings: dict[str, Any] = {"request_timeout_s": 1e4, "drain_timeout_s": 1e3, "max_in_flight": None} | named
    return ServerWindow(server, bodies, offered, events or EventLog(1), path="/v1/completions", clean=str, **settings)  # type: ignore[arg-type]


def measured(server: Server, offered: Load, *given: object, **named: Any) -> ServerWindow:
    async def work() -> ServerWindow:
        made = window(server, offered, **named)
        await made.measure(*given)  # type: ignore[arg-type]
        return made

    return run(work())


def steady(*times: float) -> Callable[[Server, StreamedAnswer, dict], object]:
    return lambda server, exchange, _: server.answer(exchange, *times)


def test_requests_go_out_when_due_however_slow_the_answers_are() -> None:
    found = measured(Server(steady(8, 16, 32)), load(8))
    assert [request.dispatch_s for request in found.sent] == [index * GAP_S for index in range(8)]
    assert [list(request.token_times) for request in found.sent] == [
        [i * GAP_S + 8, i * GAP_S + 16, i * GAP_S + 32] for i in range(8)
    ]
    assert (found.now, found.measured().duration_s) == (32.875, 32.875)
    assert found.measured().extras["connections"]["most_in_flight"] == 8


@pytest.mark.parametrize(
    ("cap", "sent"), [(1, [0, 2, 4, 6, 8]), (2, [0, 0.125, 2, 2.125, 4]), (5, [0, 0.125, 0.25, 0.375, 0.5])]
)
def test_with_a_cap_the_wait_for_a_place_shows_as_lateness(cap: int, sent: list[float]) -> None:
    found = measured(Server(steady(1, 1.5, 2)), load(5), max_in_flight=cap)
    assert [request.dispatch_s for request in found.sent] == sent
    assert [request.intended_s for request in found.sent] == [index * GAP_S for index in range(5)]
    assert all(request.done for request in found.sent)


def test_a_late_request_is_told_as_late_and_does_not_shift_those_after_it() -> None:
    def serve(server: Server, exchange: StreamedAnswer, _: dict) -> None:
        server.answer(exchange, 1, 2, 3)
        if exchange.request.index == 2:
            asyncio.get_running_loop().now += 1.0  # type: ignore[attr-defined]  # somebody else had the core

    found = measured(Server(serve), load(10, 0.25))
    assert [request.dispatch_s for request in found.sent] == [0, 0.25, 0.5, 1.5, 1.5, 1.5, 1.5, 1.75, 2.0, 2.25]


def test_the_wait_for_the_last_answers_ends_and_what_is_open_is_given_up() -> None:
    server = Server(
        lambda server, exchange, _: server.answer(exchange, 1, *([2] if exchange.request.index else [99]), 99.5)
    )
    found = measured(server, load(4, output=3), drain_timeout_s=2.0)
    assert 2.5 < found.now <= 3.0
    assert {request.kind for request in found.sent} == {"cancelled"} and server.given_up == [0, 1, 2, 3]
    assert found.sent[0].error == f"not finished {found.now - 0.5:.3g} s after the window closed"
    assert found.measured().duration_s == found.now


def test_a_request_over_its_limit_has_failed_and_the_others_go_on() -> None:
    server = Server(lambda server, exchange, _: server.answer(exchange, 1, 2, 3 if exchange.request.index else 90))
    found = measured(server, load(4), request_timeout_s=8.0)
    assert [request.kind for request in found.sent] == ["timeout", "", "", ""]
    assert found.sent[0].error == "no whole answer within 8 s (--request-timeout)"
    assert 8 < found.now <= 9 and server.given_up == [0]


@pytest.mark.parametrize(("misses", "ended"), [(0, 5.0), (2, 6.0), (4, 8.0)])
def test_with_a_service_level_the_wait_ends_as_soon_as_the_verdict_is_known(misses: int, ended: float) -> None:
    """Answers end 4 s after their dispatch, one per second; each misses. A failed request misses too."""

    def serve(server: Server, exchange: StreamedAnswer, _: dict) -> None:
        if exchange.request.index == 0:
            exchange.fail("http_status", "HTTP 500: no")
        else:
            server.answer(exchange, 1, 2, 4)

    found = measured(Server(serve), load(5, 1.0), Slo(e2e_ms=1), misses)
    assert len(found.sent) == 5
    assert ended <= found.now <= ended + 0.5


def test_nothing_of_the_warm_up_is_kept_and_a_failed_one_is_refused() -> None:
    async def work(server: Server) -> ServerWindow:
        made = window(server, load(2, warmup=3))
        await made.warm_up()
        assert (made.sent, made.now) == ([], 0.0)
        await made.measure()
        return made

    server = Server(steady(0.25, 0.5, 1))
    found = run(work(server))
    assert [list(request.token_times) for request in found.sent] == [[0.25, 0.5, 1], [0.375, 0.625, 1.125]]
    assert len(server.got) == 5 and server.got[0][1]["prompt"] != server.got[3][1]["prompt"]
    with pytest.raises(Refused, match=r"all 3 warm-up requests failed, the first with: HTTP 500: no\."):
        run(work(Server(lambda _, exchange, __: exchange.fail("http_status", "HTTP 500: no"))))


def test_failures_are_counted_by_kind_and_are_in_no_latency() -> None:
    def serve(server: Server, exchange: StreamedAnswer, _: dict) -> None:
        if exchange.request.index % 2:
            server.answer(exchange, 1, 2, 3)
        elif exchange.request.index == 0:
            server.answer(exchange, 50, 60, tokens=2)  # truncated
        else:
            exchange.fail("cut", "the connection ended")

    found = measured(Server(serve), load(8))
    measurement = found.measured()
    assert measurement.extras["failures"] == {"cut": 3, "truncated": 1}
    identity = {"model": "m", "tokenizer": "none"}
    workload = {"target_qps": 8.0, "burstiness": 1.0, "max_in_flight": None}
    record = load_test_result([measurement], identity, workload, {}, Slo(ttft_ms=2000))
    assert (record["completed"], record["failed"], record["p99_ttft_ms"]) == (4, 4, 1000)
    assert record["llmval"]["verdict"]["word"] == "failed", "nobody waited longer and longer: the queue did not grow"
    assert [one.get("failed_s") for one in record["llmval"]["requests"]] == [
        60,
        None,
        0.25,
        None,
        0.5,
        None,
        0.75,
        None,
    ]
    assert record["llmval"]["slo_attainment"] == 0.5
    assert record["total_output_tokens"] == 12


def test_the_progress_and_the_live_figures_are_events(tmp_path: Path) -> None:
    events = EventLog(0, path=str(tmp_path / "events"))
    measured(Server(steady(1, 1.5, 2)), load(16), events=events)
    found = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [one["data"]["name"] for one in found if one["kind"] == "phase"] == ["measure", "drain"]
    live = [one["data"] for one in found if one["kind"] == "metrics"]
    assert live[1]["in_flight"] in (8, 9) and live[-1]["in_flight"] == 0 and live[-1]["failed_requests"] == 0
    assert live[-1]["ttft_p50_ms"] == 1000 and live[-1]["tpot_p50_ms"] == 500
