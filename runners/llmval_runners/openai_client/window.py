"""One open-loop window on a server: warm-up, requests at their absolute deadlines, the wait for the last answers.

The event loop sends and reads. If it is too slow for the load, requests go out late, and the schedule delay shows it.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from llmval_runners.load_test.generator import Arrival, Load
from llmval_runners.load_test.metrics import LiveMetrics, Slo
from llmval_runners.load_test.result import Measured
from llmval_runners.openai_client import answer
from llmval_runners.openai_client.answer import ServerRequest, StreamedAnswer
from llmval_runners.openai_client.connection import Connections
from llmval_runners.openai_client.prompts import Bodies
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog

REPORT_S = 0.5


class ServerWindow:
    """Measures one load. Its requests are in `sent`."""

    def __init__(
        self,
        connections: Connections,
        bodies: Bodies,
        load: Load,
        events: EventLog,
        *,
        path: str,
        clean: Callable[[str], str],
        request_timeout_s: float,
        drain_timeout_s: float,
        max_in_flight: int | None,
        early_end: bool = False,
        label: str | None = None,
    ) -> None:
        """`path` of the endpoint; `clean` removes secrets from a text; `early_end` as of `StreamedAnswer`."""
        self.load = load
        self.sent: list[ServerRequest] = []
        self._connections, self._bodies, self._events = connections, bodies, events
        self._path, self._clean, self._early_end, self._label = path, clean, early_end, label
        self._request_timeout_s, self._drain_timeout_s = request_timeout_s, drain_timeout_s
        self._slots = asyncio.Semaphore(max_in_flight) if max_in_flight else None
        self._live = LiveMetrics([arrival.intended_s for arrival in load.arrivals])
        self._open: dict[StreamedAnswer, None] = {}
        self._origin = 0.0
        self._ended_s: float | None = None
        self._all_sent = False
        self._completed = self._failed = self._missed = self._most_open = 0
        self._slo: Slo | None = None
        self._changed = asyncio.Event()

    @property
    def now(self) -> float:
        """Seconds since the window opened, at most until its end; 0 before it opened."""
        if self._ended_s is not None:
            return self._ended_s
        return time.perf_counter() - self._origin if self._origin else 0.0

    @property
    def own_failures(self) -> int:
        """The requests that failed in this process, not in the server."""
        return sum(request.kind == answer.CLIENT for request in self.sent)

    @property
    def own_failure(self) -> str:
        return next((request.error for request in self.sent if request.kind == answer.CLIENT), "")

    async def warm_up(self) -> None:
        """Run the warm-up requests to their end, without recording them.

        Raises:
            Refused: all fail. If only some do, so will some of the window, where they are counted.
        """
        total = len(self.load.warmup)
        if not total:
            return
        self._events.phase("warmup", f"{total} requests, not measured")
        requests = []
        for arrival in self.load.warmup:
            body = self._bodies.body(arrival, self.load.seed + 1)
            requests.append(self._send(arrival, body, time.perf_counter(), self._note_warm_up))
        while self._open:
            self._events.progress(total - len(self._open), total, "requests", self._label)
            await self._wait(REPORT_S)
            self._time_out()
        if all(request.error for request in requests):
            raise Refused(f"all {total} warm-up requests failed, the first with: {requests[0].error}.")

    async def measure(self, slo: Slo | None = None, misses: int = 0) -> None:
        """Offer the load and wait for the answers, at most until the drain timeout.

        With `slo`, the wait ends as soon as more than `misses` requests have missed it: the verdict is then known.
        """
        offer = f"{len(self.load.arrivals)} requests at {self.load.target_qps:.4g} per second"
        self._events.phase("measure", f"{self._label}: {offer}" if self._label else offer)
        self._slo = slo
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection of 100,000 open requests would stop the clock of all of them
        self._origin = time.perf_counter()
        generator = asyncio.get_running_loop().create_task(self._generate())
        try:
            await self._until_the_end(misses, generator)
        finally:
            generator.cancel()
            self._finish()
            gc.enable()
            gc.unfreeze()

    def _finish(self) -> None:
        self._ended_s = self.now
        waited = max(self._ended_s - self.load.duration_s, 0)
        for open_answer in list(self._open):
            open_answer.fail(answer.CANCELLED, f"not finished {waited:.3g} s after the window closed")

    async def _until_the_end(self, misses: int, generator: "asyncio.Task[None]") -> None:
        reported, draining = 0.0, False
        while not (self._all_sent and not self._open):
            await self._wait(REPORT_S)
            now = self.now
            if generator.done() and not self._all_sent:
                generator.result()  # raises what ended it
            if not draining and self._all_sent and now > self.load.duration_s:
                draining = True
                self._events.phase("drain", "the last requests")
            if now - reported >= REPORT_S:
                reported = now
                self._time_out()
                self._report(now, draining)
            if now > self.load.duration_s + self._drain_timeout_s or (draining and self._missed > misses):
                break
        self._report(self.now, draining)

    def measured(self, ended_early: str | None = None) -> Measured:
        """The measurement until the last answer. `ended_early` is the reason if the window was cut short."""
        for request in self.sent:
            if not request.ended:
                request.ended, request.kind = True, answer.CANCELLED
                request.error = ended_early or "not finished"
        return Measured(self.sent, self.load.arrivals, self._duration_s(ended_early), ended_early, self._extras())

    def _duration_s(self, ended_early: str | None) -> float:
        if ended_early or not all(request.done for request in self.sent):
            last = self.now
        else:
            last = max((request.token_times[-1] for request in self.sent), default=self.now)
        if ended_early:
            return last
        return max(last, self.load.duration_s, len(self.load.arrivals) / self.load.target_qps)

    def _extras(self) -> dict[str, Any]:
        kinds = Counter(request.kind for request in self.sent if request.error)
        reasons = Counter(request.finish_reason for request in self.sent if request.done)
        done = [request for request in self.sent if request.done]
        counted = [r for r in done if r.prompt_tokens is not None and r.asked_input_tokens is not None]
        asked, told = (
            sum(r.asked_input_tokens or 0 for r in counted),
            sum(r.prompt_tokens or 0 for r in counted),
        )
        chunks = sum(len(request.token_times) for request in done)
        tokens = sum(request.received_tokens or 0 for request in done)
        return {
            "failures": dict(sorted(kinds.items())),
            "finish_reasons": {str(reason): count for reason, count in sorted(reasons.items(), key=str)},
            "prompt_tokens": {
                "asked": asked if counted else None,
                "counted_by_the_server": told if counted else None,
                "requests_that_differ": sum(r.prompt_tokens != r.asked_input_tokens for r in counted),
            },
            "chunks": {"count": chunks, "tokens_per_chunk": tokens / chunks if chunks else None},
            "connections": {
                "opened": self._connections.opened,
                "sent_again": self._connections.resent,
                "most_in_flight": self._most_open,
            },
        }

    async def _generate(self) -> None:
        for arrival in self.load.arrivals:
            body = self._bodies.body(arrival, self.load.seed)
            if self._slots is not None:
                await self._slots.acquire()
            while (early := self._origin + arrival.intended_s - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            self.sent.append(self._send(arrival, body, self._origin, self._note))
        self._all_sent = True
        self._changed.set()

    def _send(
        self, arrival: Arrival, body: bytes, origin: float, ended: Callable[[StreamedAnswer], None]
    ) -> ServerRequest:
        request = ServerRequest(
            arrival.index, self._bodies.input_tokens(arrival), self._bodies.output_tokens(arrival), arrival.intended_s
        )
        sent = StreamedAnswer(
            request, origin, first=self._note_first, ended=ended, clean=self._clean, early_end=self._early_end
        )
        self._open[sent] = None
        self._most_open = max(self._most_open, len(self._open))
        sent.sent_at = time.perf_counter()
        request.dispatch_s = sent.sent_at - origin
        self._connections.send(sent, "POST", self._path, body)
        return request

    def _note_first(self, request: ServerRequest, now: float) -> None:
        self._live.first_token(now, request)

    def _note_warm_up(self, sent: StreamedAnswer) -> None:
        self._open.pop(sent, None)
        self._connections.cancel(sent)
        if not self._open:
            self._changed.set()

    def _note(self, sent: StreamedAnswer) -> None:
        self._open.pop(sent, None)
        self._connections.cancel(sent)  # of a failed one; a whole answer has left its connection
        request = sent.request
        now = self.now
        if request.done:
            self._completed += 1
            self._live.ended(now, request)
            self._live.tokens(now, request.received_tokens or 0)
        else:
            self._failed += 1
        self._missed += self._slo is not None and not (request.done and self._slo.met(request))
        if self._slots is not None:
            self._slots.release()
        if self._all_sent and not self._open:
            self._changed.set()

    def _time_out(self) -> None:
        """Fail what is in flight for too long. The open requests are in the order of their dispatch."""
        now = time.perf_counter()
        for sent in list(self._open):
            if now - sent.sent_at <= self._request_timeout_s:
                return
            sent.fail(answer.TIMEOUT, f"no whole answer within {self._request_timeout_s:g} s (--request-timeout)")

    async def _wait(self, seconds: float) -> None:
        """Until something has changed that may end the window, or for some seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _report(self, now: float, draining: bool) -> None:
        if draining:
            self._events.progress(self._completed, len(self.load.arrivals), "requests", self._label)
        else:
            duration = self.load.duration_s
            self._events.progress(min(now, duration), duration, "s", self._label)
        in_flight: dict[str, float | None] = {"in_flight": len(self._open), "failed_requests": self._failed}
        self._events.metrics(self._live.snapshot(now, self.sent) | in_flight)
