"""The load of a window and its open-loop generator.

Arrival times and lengths are drawn from one seed before the clock starts. The generator has its own thread, which sends
each request when it is due, even if the answers are slow.
"""

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmval_runners.engine.request import Request
from llmval_runners.process.errors import Refused

MOST_REQUESTS = 5_000_000  # about 10 kB each, with the prompt and the times of 1000 tokens


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of token counts: `fixed:N`, `uniform:LOW:HIGH` or `lognormal:MEDIAN:SIGMA:MAX`; all at least 1."""

    kind: str
    low: float
    high: float = 0.0
    most: int = 0

    @classmethod
    def parse(cls, text: str) -> "Lengths":
        """Read `512`, `fixed:512`, `uniform:512:1024` or `lognormal:512:0.6:4096`; raises Refused otherwise."""
        kind, *numbers = text.split(":") if ":" in text else ["fixed", text]
        try:
            match kind, numbers:
                case "fixed", [count]:
                    found = cls("fixed", int(count), int(count), int(count))
                case "uniform", [low, high]:
                    found = cls("uniform", int(low), int(high), int(high))
                case "lognormal", [median, sigma, most]:
                    found = cls("lognormal", float(median), float(sigma), int(most))
                case _:
                    raise ValueError
        except ValueError:
            raise Refused(
                f"{text!r} is not a length distribution: pass 512, uniform:512:1024 or lognormal:MEDIAN:SIGMA:MAX."
            ) from None
        ordered = found.low <= found.most and (found.kind != "lognormal" or found.high >= 0)
        if found.low < 1 or not ordered or not math.isfinite(found.high):
            raise Refused(f"{text!r} has lengths out of order or below 1: pass the smallest first, from 1 up.")
        return found

    def draw(self, source: random.Random) -> int:
        if self.kind == "uniform":
            return source.randint(int(self.low), int(self.high))
        if self.kind == "lognormal":
            return min(self.most, max(1, round(source.lognormvariate(math.log(self.low), self.high))))
        return int(self.low)

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"fixed:{int(self.low)}"
        return (
            f"uniform:{int(self.low)}:{int(self.high)}"
            if self.kind == "uniform"
            else f"lognormal:{self.low:g}:{self.high:g}:{self.most}"
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the schedule: when it is due (seconds after the window opens) and its lengths in tokens."""

    index: int
    intended_s: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of a window, drawn from `seed` before its clock starts."""

    arrivals: list[Arrival]
    warmup: list[Arrival]
    target_qps: float
    duration_s: float
    seed: int


def arrival_times(rate: float, duration_s: float, burstiness: float, seed: int) -> list[float]:
    """round(rate · duration) absolute deadlines in seconds; the first is 0.

    Gaps are gamma-distributed with shape = burstiness and mean 1/rate; burstiness 1 is the exponential gap of a Poisson
    process, above 1 is more regular, below 1 more bursty (as vLLM's `--burstiness`). An infinite one makes all gaps
    equal. They are then stretched so that the last of N deadlines is (N−1)/rate. MLPerf LoadGen's offered rate,
    (N−1)/last, is then exactly `rate`, and two seeds offer equal load. With exponential gaps this is a
    Poisson process conditioned on its count.

    Raises:
        Refused: fewer than two requests, too many to hold in memory, or gaps that are all 0.
    """
    if rate * duration_s > MOST_REQUESTS:
        raise Refused(
            f"{rate:g} requests/s for {duration_s:g} s are {rate * duration_s:,.0f} requests, and a test holds all of "
            f"them in memory, so it takes at most {MOST_REQUESTS:,}: pass a shorter --duration or a lower --target-qps."
        )
    count = round(rate * duration_s)
    if count < 2:
        raise Refused(
            f"{rate:g} requests/s for {duration_s:g} s are fewer than 2 requests, and a rate needs 2: "
            "pass a longer --duration."
        )
    if math.isinf(burstiness):
        return [index / rate for index in range(count)]
    source = random.Random(f"arrivals {seed}")
    total, times = 0.0, [0.0]
    for _ in range(count - 1):
        total += source.gammavariate(burstiness, 1 / burstiness)
        times.append(total)
    if not total:
        raise Refused(f"a burstiness of {burstiness:g} leaves no time between the requests: pass 0.01 or more.")
    stretch = (count - 1) / rate / total
    return [time * stretch for time in times]


def schedule(times: list[float], prompt: Lengths, output: Lengths, seed: int) -> list[Arrival]:
    """Give each deadline its prompt and output length. The lengths do not depend on rate or burstiness."""
    source = random.Random(f"lengths {seed}")
    return [Arrival(index, time, prompt.draw(source), output.draw(source)) for index, time in enumerate(times)]


def prompt_tokens(seed: int, index: int, count: int, vocab: int) -> list[int]:
    """Random token ids [count] below `vocab`. They depend only on seed and request index, not on the rate."""
    return random.Random(f"prompt {seed} {index}").choices(range(vocab), k=count)


class LoadGenerator:
    """Sends `arrivals` to `submit` at their absolute deadlines; a late request does not delay the later ones.

    By default there is no cap on requests in flight, because a cap hides queueing (coordinated omission). With a cap, a
    request waits here until an earlier one ends, and its schedule delay includes the wait.
    """

    def __init__(
        self,
        arrivals: list[Arrival],
        submit: Callable[[Request], None],
        *,
        seed: int,
        vocab: int,
        max_in_flight: int | None = None,
    ) -> None:
        self.arrivals = arrivals
        self.sent: list[Request] = []
        self.origin_ns = 0
        self.finished = threading.Event()
        self._submit = submit
        self._seed = seed
        self._vocab = vocab
        self._stop = threading.Event()
        self._slots = threading.Semaphore(max_in_flight) if max_in_flight else None
        self._thread = threading.Thread(target=self._run, name="load generator", daemon=True)

    def start(self) -> None:
        """Open the window: deadlines count from this moment."""
        self.origin_ns = time.perf_counter_ns()
        self._thread.start()

    def now(self) -> float:
        """Seconds since the window opened."""
        return (time.perf_counter_ns() - self.origin_ns) / 1e9

    def answered(self) -> None:
        """Note that a request ended. It only matters with a cap on requests in flight."""
        if self._slots is not None:
            self._slots.release()

    def stop(self) -> None:
        """Send nothing more and wait for the thread."""
        self._stop.set()
        if self._slots is not None:
            self._slots.release()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        for arrival in self.arrivals:
            prompt = prompt_tokens(self._seed, arrival.index, arrival.input_tokens, self._vocab)
            request = Request(arrival.index, prompt, arrival.output_tokens, arrival.intended_s)
            if self._slots is not None:
                self._slots.acquire()
            while not self._stop.is_set() and (early := arrival.intended_s - self.now()) > 0:
                self._stop.wait(early)
            if self._stop.is_set():
                return
            request.dispatch_s = self.now()
            self.sent.append(request)
            self._submit(request)
        self.finished.set()
