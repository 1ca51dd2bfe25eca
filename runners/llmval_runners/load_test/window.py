"""One open-loop window on a running engine: warm-up, arrivals at their deadlines, drain."""

from collections.abc import Callable
from typing import Any

from llmval_runners.engine.engine import Engine
from llmval_runners.engine.request import Request
from llmval_runners.load_test.generator import Load, LoadGenerator, prompt_tokens
from llmval_runners.load_test.journal import Journal
from llmval_runners.load_test.metrics import LiveMetrics, Slo
from llmval_runners.load_test.profiler import Profiler
from llmval_runners.load_test.result import Measured
from llmval_runners.process.events import EventLog

REPORT_S = 0.5
Step = Callable[[Engine], list[tuple[Request, int, bool]]]


class MeasurementWindow:
    """Measures one load. Its requests are in `sent`."""

    def __init__(
        self,
        engine: Engine,
        load: Load,
        events: EventLog,
        step: Step,
        *,
        vocab: int,
        drain_timeout_s: float,
        max_in_flight: int | None,
        label: str | None = None,
        journal: Journal | None = None,
        journal_header: dict[str, Any] | None = None,
    ) -> None:
        """`step` advances the engine. If it raises, the window ends and keeps the measurement so far."""
        self.load = load
        self._engine, self._events, self._step = engine, events, step
        self._vocab, self._drain_timeout_s, self._label = vocab, drain_timeout_s, label
        self._generator = LoadGenerator(
            load.arrivals, engine.submit, seed=load.seed, vocab=vocab, max_in_flight=max_in_flight
        )
        self._journal = journal
        if journal is not None:
            journal.begin(journal_header or {}, self._generator.sent)
        self._live = LiveMetrics([arrival.intended_s for arrival in load.arrivals])
        self._ended_s: float | None = None
        self._completed = 0
        self._most_waiting = self._most_running = self._most_pages = 0  # sampled with the metrics
        self.steps = 0  # of the engine since the window opened

    @property
    def sent(self) -> list[Request]:
        return list(self._generator.sent)

    @property
    def now(self) -> float:
        """Seconds since the window opened, at most until its end; 0 before it opened."""
        if self._ended_s is not None:
            return self._ended_s
        return self._generator.now() if self._generator.origin_ns else 0.0

    def warm_up(self) -> None:
        """Run the warm-up requests to their end, without recording them."""
        total, done = len(self.load.warmup), 0
        if not total:
            return
        self._events.phase("warmup", f"{total} requests, not measured")
        for arrival in self.load.warmup:
            prompt = prompt_tokens(self.load.seed + 1, arrival.index, arrival.input_tokens, self._vocab)
            self._engine.submit(Request(arrival.index, prompt, arrival.output_tokens))
        while not self._engine.idle:
            done += sum(ended for *_, ended in self._step(self._engine))
            self._events.progress(done, total, "requests", self._label)

    def measure(self, slo: Slo | None = None, misses: int = 0, profiler: Profiler | None = None) -> None:
        """Offer the load and wait for the answers, at most until the drain timeout. `profiler` traces a part of it.

        With `slo`, the wait ends as soon as more than `misses` requests have missed it. The verdict is then known, and
        serving the rest of a long queue could take minutes.
        """
        engine, generator = self._engine, self._generator
        offer = f"{len(self.load.arrivals)} requests at {self.load.target_qps:.4g} per second"
        self._events.phase("measure", f"{self._label}: {offer}" if self._label else offer)
        generator.start()
        reported, missed, draining = 0.0, 0, False
        try:
            while not (generator.finished.is_set() and engine.idle):
                sampled = self._step(engine)
                now = generator.now()
                self.steps += bool(sampled)
                if profiler is not None and (on := profiler.due(now, bool(sampled))) is not None:
                    engine.trace(on)
                missed += self._take(now, sampled, slo)
                if not draining and now > self.load.duration_s and generator.finished.is_set():
                    draining = True
                    self._events.phase("drain", "the last requests")
                if now - reported >= REPORT_S:
                    reported = now
                    self._report(now, draining)
                if now > self.load.duration_s + self._drain_timeout_s or (draining and missed > misses):
                    break
        finally:
            generator.stop()
        self._ended_s = generator.now()
        if profiler is not None and profiler.cut(self._ended_s) is not None:
            engine.trace(False)
        self._report(self._ended_s, draining)
        for request in generator.sent:
            if not request.done:
                waited = max(self._ended_s - self.load.duration_s, 0)
                request.error = request.error or f"not finished {waited:.3g} s after the window closed"

    def measured(self, ended_early: str | None = None) -> Measured:
        """The measurement until the last answer. `ended_early` is the reason if the window was cut short."""
        sent = self.sent
        if ended_early:
            for request in sent:
                if not request.done:
                    request.error = request.error or ended_early
        return Measured(sent, self.load.arrivals, self._duration_s(sent, ended_early), ended_early, self._extras())

    def _duration_s(self, sent: list[Request], ended_early: str | None) -> float:
        if ended_early or not all(request.done for request in sent):
            last = self.now
        else:
            last = max((request.token_times[-1] for request in sent), default=self.now)
        if ended_early:
            return last
        return max(last, self.load.duration_s, len(self.load.arrivals) / self.load.target_qps)

    def _extras(self) -> dict[str, Any]:
        cache = self._engine.scheduler.allocator
        return {
            "queue": {
                "most_waiting": self._most_waiting,
                "most_running": self._most_running,
                "mean_wait_s": self._mean_wait_s(),
            },
            "memory": {"kv_used_percent": 100 * self._most_pages / cache.pages},
        }

    def _mean_wait_s(self) -> float | None:
        """Seconds from dispatch to a place in the batch, over the completed requests; None without any."""
        origin_ns = self._generator.origin_ns
        waits = [(one.admitted_ns - origin_ns) / 1e9 - one.dispatch_s for one in self.sent if one.done]
        return sum(waits) / len(waits) if waits and origin_ns else None

    def drain(self) -> None:
        """Drop waiting requests and let running ones end unmeasured, so that the engine is idle for the next window."""
        self._engine.drop_waiting()
        while not self._engine.idle:
            self._step(self._engine)

    def _take(self, now: float, sampled: list[tuple[Request, int, bool]], slo: Slo | None) -> int:
        """Record the tokens of a step. Returns how many of the requests that ended missed the service level."""
        missed = 0
        self._live.tokens(now, len(sampled))
        for request, token, ended in sampled:
            request.tokens.append(token)
            request.token_times.append(now)
            if len(request.token_times) == 1:
                self._live.first_token(now, request)
            if ended:
                self._completed += 1
                if self._journal is not None:
                    self._journal.ended(request)
                self._live.ended(now, request)
                self._generator.answered()
                missed += slo is not None and not slo.met(request)
        return missed

    def _report(self, now: float, draining: bool) -> None:
        if draining:
            self._events.progress(self._completed, len(self.load.arrivals), "requests", self._label)
        else:
            duration = self.load.duration_s
            self._events.progress(min(now, duration), duration, "s", self._label)
        allocator = self._engine.scheduler.allocator
        self._most_waiting = max(self._most_waiting, self._engine.queued)
        self._most_running = max(self._most_running, self._engine.scheduler.running)
        self._most_pages = max(self._most_pages, allocator.used)
        load: dict[str, float | None] = {
            "running": self._engine.scheduler.running,
            "queued": self._engine.queued,
            "kv_used_percent": 100 * allocator.used / allocator.pages,
        }
        self._events.metrics(self._live.snapshot(now, self._generator.sent) | load)
