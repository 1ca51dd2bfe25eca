"""The verdict of a load test: one word with its reason, and the exit code.

The rules are those of the dashboard's judge (`llmval_tui/actions/judges/load_test.py`), which computes them again from
the records; a test holds the two together.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llmval_runners.load_test import metrics
from llmval_runners.load_test.metrics import LEAST_REQUESTS, MAX_TTFT_SLOPE, Slo
from llmval_runners.load_test.sent_request import SentRequest
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, UNDECIDED_EXIT
from llmval_runners.process.verdict import Verdict
from llmval_runners.process.verdict import ended_early as of_early_end

GOOD, BAD, UNDECIDED = GOOD_EXIT, FAILED_EXIT, UNDECIDED_EXIT

_WORST_FIRST = ("ended early", "overloaded", "failed", "invalid", "inconclusive", "ok")
MOST_NAMED = 3
# The outcome of a search -> word and exit code.
_SEARCHES = {
    "found": ("ok", GOOD),
    "imprecise": ("inconclusive", UNDECIDED),
    "lowest_fails": ("not found", BAD),
    "unconfirmed": ("not found", UNDECIDED),
    "cap_holds": ("inconclusive", UNDECIDED),
    "generator_limited": ("inconclusive", UNDECIDED),
    "interrupted": ("ended early", UNDECIDED),
}


def verdict_of(
    sent: Sequence[SentRequest],
    ended_s: float,
    offered_qps: float | None,
    slo: Slo,
    invalid_reasons: Sequence[str],
    ended_early: str | None = None,
) -> Verdict:
    """Judge one window of `ended_s` seconds. The first rule that applies decides:

    ended early; not a measurement; the queue grew; requests that did not finish; a service
    level that its p99 misses; too few requests to see a trend; else ok.
    """
    if ended_early:
        return of_early_end(ended_early)
    if invalid_reasons:
        return Verdict("invalid", "; ".join(invalid_reasons), UNDECIDED)
    slope = metrics.ttft_slope(sent, ended_s)
    unfinished = [request for request in sent if not request.done]
    if slope is not None and slope > MAX_TTFT_SLOPE:
        grew = f"the queue grew: TTFT from schedule rose by {slope:.2f} s per second of load"
        if unfinished:
            grew += f"; {_share(unfinished, sent)} did not finish"
        elif offered_qps:
            grew += f"; about {offered_qps / (1 + slope):,.1f} of {offered_qps:,.1f} requests/s get a first token"
        return Verdict("overloaded", grew, BAD)
    if unfinished:
        return Verdict(
            "failed", f"{_share(unfinished, sent)} did not finish ({unfinished[0].error or 'no answer'})", BAD
        )
    if sent and (missed := missed_levels(sent, slo)):
        return Verdict("failed", "; ".join(missed), BAD)
    if slope is None:
        return Verdict("inconclusive", f"fewer than {LEAST_REQUESTS} requests show no trend of the queue", UNDECIDED)
    return Verdict("ok", "every request was answered, and the queue did not grow", GOOD)


def of_search(search: dict[str, Any]) -> Verdict:
    """The verdict of a search, by its outcome."""
    word, code = _SEARCHES[search["outcome"]]
    return Verdict(word, search["sentence"], code)


def worst_of(found: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The verdict of several replicas, by name: that of the worst one, with the names of all that have it."""
    if len(found) == 1:
        return found[0][1]
    worst = min((verdict for _, verdict in found), key=lambda verdict: _WORST_FIRST.index(verdict.word))
    same = [(name, verdict) for name, verdict in found if verdict.word == worst.word]
    if worst.word == "ok":
        return Verdict("ok", f"on each of {len(found)} replicas {worst.reason}", GOOD)
    return Verdict(worst.word, named([(name, verdict.reason) for name, verdict in same]), worst.exit_code)


def named(reasons: Sequence[tuple[str, str]]) -> str:
    """The reasons of several replicas with their names; a few of them, because a fleet may have hundreds."""
    more = f"; and {len(reasons) - MOST_NAMED} more replicas" if len(reasons) > MOST_NAMED else ""
    return "; ".join(f"{name}: {reason}" if name else reason for name, reason in reasons[:MOST_NAMED]) + more


def missed_levels(sent: Sequence[SentRequest], slo: Slo) -> list[str]:
    """The service levels whose p99 over all sent requests is above the limit. A request that failed misses all."""
    found = []
    for name, limit in asdict(slo).items():
        if limit is None:
            continue
        p99 = metrics.percentile(
            [1e3 * value for request in sent if (value := slo_value(request, name)) is not None], 99
        )
        if p99 is None or p99 > limit:
            level = name.removesuffix("_ms").upper()
            measured = "no value" if p99 is None else f"p99 {p99:.1f} ms"
            if p99 is not None and math.isinf(p99):
                measured = "over 1 % of the requests failed"
            found.append(f"service level {level}: {measured}, limit {limit:g} ms")
    return found


def slo_value(request: SentRequest, name: str) -> float | None:
    """What the limit `name` of an Slo is compared with, in seconds; infinite if the request failed.

    TTFT and E2E count from the intended arrival. A single token has no TPOT: None.
    """
    if not request.done:
        return math.inf
    late = request.dispatch_s - request.intended_s
    if name == "tpot_ms":
        return metrics.tpot(request)
    return late + (metrics.ttft(request) if name == "ttft_ms" else metrics.e2e(request))


def _share(some: Sequence[SentRequest], every: Sequence[SentRequest]) -> str:
    return f"{len(some):,} of {len(every):,} requests"
