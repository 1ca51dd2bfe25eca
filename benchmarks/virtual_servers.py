"""Servers in virtual time that are not like the model of the rate search: each trial is served request by request.

Its verdict comes from `judge_trial`, as a real one's does. The true rate of a server is the one at which half of its
trials hold, undisturbed and warm: `true_rate` measures it by many trials, without the search.
"""

import math
import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heapify, heappop, heappush

from llmval_runners.load_test.generator import Arrival, Lengths, arrival_times
from llmval_runners.load_test.load_flags import MAX_TRIALS, WIDEST
from llmval_runners.load_test.metrics import Slo
from llmval_runners.load_test.rate_search import Search
from llmval_runners.load_test.rate_trial import HOLDS, NextTrial, SearchConfig, Trial, judge_trial
from llmval_runners.load_test.result import Measured

WARM_S = 1e6  # a clock at which every server is warm and no longer disturbed
MIN_GOODPUT = 0.99
_SEEDS_APART = 100_000  # between searches


@dataclass(slots=True)
class Served:
    """A request and its answer; it was sent when it was due. No token: it was rejected at once."""

    index: int
    intended_s: float
    tokens: int
    token_times: "array[float]" = field(default_factory=lambda: array("d"))  # the first and the last
    error: str = ""
    input_tokens: int | None = 1

    @property
    def dispatch_s(self) -> float:
        return self.intended_s

    @property
    def received_tokens(self) -> int:
        return self.tokens if self.token_times else 0

    @property
    def first_token_s(self) -> float | None:
        return self.token_times[0] if self.token_times else None

    @property
    def last_token_s(self) -> float | None:
        return self.token_times[-1] if self.token_times else None

    @property
    def failed_s(self) -> float | None:
        return None if self.token_times else self.intended_s

    @property
    def done(self) -> bool:
        return bool(self.token_times)


# From the arrivals, the time at which the first is due on the server's own clock, and a source of chance, to answers.
Serve = Callable[[Sequence[Arrival], float, random.Random], list[Served]]


@dataclass(frozen=True, slots=True)
class Server:
    """A server, the service level asked of it, and the load of its trials. `near_qps`: where `true_rate` looks."""

    name: str
    serve: Serve
    slo: Slo
    near_qps: float
    trial_s: float = 20.0
    prompt: str = "64"
    output: str = "16"
    burstiness: float = 1.0


def run_trial(server: Server, planned: NextTrial, clock_s: float) -> tuple[Trial, float]:
    """(the trial, the server's clock after it)."""
    source = random.Random(f"load {planned.seed} {planned.qps}")
    lengths = Lengths.parse(server.prompt), Lengths.parse(server.output)
    times = arrival_times(planned.qps, server.trial_s, server.burstiness, planned.seed)
    arrivals = [Arrival(index, time, *(one.draw(source) for one in lengths)) for index, time in enumerate(times)]
    sent = server.serve(arrivals, clock_s, random.Random(f"server {planned.seed} {planned.qps}"))
    ended = max(server.trial_s, *(one.token_times[-1] for one in sent if one.done), 0.0)
    return judge_trial([Measured(sent, arrivals, ended)], server.slo, MIN_GOODPUT, planned), clock_s + ended


def share_that_holds(server: Server, qps: float, trials: int, first_seed: int = 10**6) -> float:
    """The share of `trials` trials at this rate that hold, each on a warm server."""
    plans = [NextTrial(1, qps, "bracket", first_seed + index) for index in range(trials)]
    return sum(run_trial(server, plan, WARM_S)[0].verdict == HOLDS for plan in plans) / trials


def true_rate(server: Server, trials: int = 200) -> float:
    """The rate at which half of the trials hold, by bisection."""
    low, high = server.near_qps / 4, server.near_qps * 4
    while high > low * 1.003:
        middle = math.sqrt(low * high)
        if share_that_holds(server, middle, trials) >= 0.5:
            low = middle
        else:
            high = middle
    return math.sqrt(low * high)


def search_of(server: Server, seed: int) -> Search:
    """A whole search, on a server that is new when it begins."""
    clock_s, search = 0.0, Search(
        SearchConfig(
            server.near_qps / 10, None, 0.05, WIDEST, MIN_GOODPUT, server.trial_s, _SEEDS_APART * seed, MAX_TRIALS, 0.95
        )
    )  # fmt: skip
    while (planned := search.next()) is not None:
        trial, clock_s = run_trial(server, planned, clock_s)
        search.record(trial)
    return search


def _queue(
    arrivals: Sequence[Arrival], clock_s: float, source: random.Random, *,
    seconds: Callable[[Arrival, float, random.Random], float], places: int = 1, most: int | None = None,
    stalls: Sequence[tuple[float, float]] = (),
) -> list[Served]:  # fmt: skip
    """Requests in the order of arrival at `places` workers; the first token comes after the service.

    `seconds` of service also gets the server's clock. Over `most` requests in the server the next is rejected. In a
    stall (begin, end; on the server's clock) no service begins.
    """
    free = [0.0] * places
    heapify(free)
    inside: list[float] = []
    answers = []
    for one in arrivals:
        answer = Served(one.index, one.intended_s, one.output_tokens)
        answers.append(answer)
        while inside and inside[0] <= one.intended_s:
            heappop(inside)
        if most is not None and len(inside) >= most:
            answer.error = "503"
            continue
        begin = max(heappop(free), one.intended_s)
        for stall, until in stalls:
            if stall <= clock_s + begin < until:
                begin = until - clock_s
        end = begin + seconds(one, clock_s + begin, source)
        heappush(free, end)
        heappush(inside, end)
        answer.token_times.extend((end, end + 0.001 * (one.output_tokens - 1)))
    return answers


def _token_bucket(
    arrivals: Sequence[Arrival], clock_s: float, source: random.Random, *, qps: float, burst: float
) -> list[Served]:
    """A proxy that rejects what is above its rate, after a burst."""
    tokens, last, answers = burst, 0.0, []
    for one in arrivals:
        tokens = min(burst, tokens + (one.intended_s - last) * qps)
        last = one.intended_s
        answer = Served(one.index, one.intended_s, one.output_tokens)
        answers.append(answer)
        if tokens < 1:
            answer.error = "429"
            continue
        tokens -= 1
        first = one.intended_s + 0.02
        answer.token_times.extend((first, first + 0.01 * (one.output_tokens - 1)))
    return answers


def _batching(
    arrivals: Sequence[Arrival], clock_s: float, source: random.Random, *, base_s: float = 0.008,
    each_s: float = 0.0004, prompt_s: float = 25e-6, chunk: int = 2048, batch: int = 48,
) -> list[Served]:  # fmt: skip
    """Continuous batching with chunked prefill: a step computes a token of each running request and a chunk of prompts.

    A step takes `base_s`, `each_s` for each running request and `prompt_s` for each token of a prompt.
    """
    answers = [Served(one.index, one.intended_s, one.output_tokens) for one in arrivals]
    waiting: Iterator[Arrival] = iter(arrivals)
    following = next(waiting, None)
    prompts: list[list[int]] = []  # [index, tokens left], in the order of arrival
    running: list[tuple[int, int]] = []  # (step of the last token, index), a heap
    now, step = 0.0, 0
    while following is not None or prompts or running:
        if not prompts and not running and following is not None:
            now = max(now, following.intended_s)
        while following is not None and following.intended_s <= now and len(prompts) + len(running) < batch:
            prompts.append([following.index, following.input_tokens])
            following = next(waiting, None)
        left, begun = chunk, []
        while prompts and left:
            taken = min(left, prompts[0][1])
            prompts[0][1] -= taken
            left -= taken
            if not prompts[0][1]:
                begun.append(prompts.pop(0)[0])
        step += 1
        now += base_s + each_s * len(running) + prompt_s * (chunk - left)
        while running and running[0][0] <= step:
            answers[heappop(running)[1]].token_times.append(now)
        for index in begun:
            answers[index].token_times.append(now)
            if answers[index].tokens == 1:
                answers[index].token_times.append(now)
            else:
                heappush(running, (step + answers[index].tokens - 1, index))
    return answers


def _constant(one: Arrival, clock_s: float, source: random.Random) -> float:
    return 0.02


def _bursty(one: Arrival, clock_s: float, source: random.Random) -> float:
    """Most requests are fast, and one of twenty takes twenty times as long (mean 0.02 s)."""
    return 0.2 if source.random() < 0.05 else 0.01053


def _by_output(one: Arrival, clock_s: float, source: random.Random) -> float:
    return 0.004 + 0.001 * one.output_tokens


def _warming(one: Arrival, clock_s: float, source: random.Random) -> float:
    """30 % slower at first; that decays over 100 s."""
    return 0.02 * (1 + 0.3 * math.exp(-clock_s / 100))


def _drifting(one: Arrival, clock_s: float, source: random.Random) -> float:
    """Slower by a tenth, for good, after 150 s: a GPU that has become warm."""
    return 0.02 * (1.1 if clock_s > 150 else 1.0)


def _periodic(one: Arrival, clock_s: float, source: random.Random) -> float:
    """Half as fast for 5 s of every 60 s."""
    return 0.04 if clock_s < WARM_S and clock_s % 60 < 5 else 0.02


TTFT = Slo(ttft_ms=300)
SERVERS = (
    Server("constant service", partial(_queue, seconds=_constant), TTFT, 47),
    Server("equal gaps, constant service", partial(_queue, seconds=_constant), TTFT, 47, burstiness=math.inf),
    Server("bursty arrivals (shape 0.25)", partial(_queue, seconds=_constant), TTFT, 40, burstiness=0.25),
    Server("bursty service", partial(_queue, seconds=_bursty, places=4), Slo(ttft_ms=500), 180, trial_s=10),
    Server("heavy-tailed lengths", partial(_queue, seconds=_by_output, places=4), Slo(ttft_ms=2000), 60,
           output="lognormal:24:1.5:2000"),
    Server("batching, long prompts", _batching, Slo(ttft_ms=1000, tpot_ms=60), 12, prompt="lognormal:1024:0.8:8192",
           output="uniform:16:64"),
    Server("rejects above a rate", partial(_token_bucket, qps=50, burst=20), TTFT, 50),
    Server("admits 16 requests", partial(_queue, seconds=_constant, most=16), Slo(ttft_ms=1000), 47),
    Server("loose level, short trials", partial(_queue, seconds=_constant), Slo(ttft_ms=5000), 52, trial_s=10),
    Server("warms up by 30 %", partial(_queue, seconds=_warming), TTFT, 47),
    Server("slower by 10 % after 150 s", partial(_queue, seconds=_drifting), TTFT, 43),
    Server("one stall of 30 s", partial(_queue, seconds=_constant, stalls=[(100, 130)]), TTFT, 47),
    Server("slow for 5 of 60 s", partial(_queue, seconds=_periodic), TTFT, 47),
)  # fmt: skip
