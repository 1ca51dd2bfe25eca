"""What every load generator's result is judged by: requests asked, completed and failed; the rate; the latencies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from llmval_tui.actions.request_records import Record, percentile, ttft_growth
from llmval_tui.actions.tools.load.agreement import Claim, claims_gate, order_gate
from llmval_tui.actions.tools.model import Metric, ToolResult
from llmval_tui.runs.records import Gate, Outcome

FAILED_GATE = "failed requests"  # its bound is 0, unless the item states another
FAILURE_METRICS = ("requests.failed", "requests.failed_share", "requests.completed_share")
MIN_ACHIEVED = 0.95  # of the offered rate
MAX_TTFT_SLOPE = 0.1  # s per s of load, as for llmval's own load test
LATENCIES = ("ttft", "e2e", "tpot", "itl")
STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")


@dataclass(frozen=True, slots=True)
class LoadFacts:
    """A load generator's result in common terms; None: the result does not say."""

    tool: str
    asked: int | None = None  # requests
    completed: int | None = None
    failed: int | None = None
    unfinished: int | None = None  # sent, but ended by the tool before their answer was complete
    error: str = ""  # the error of one failed request
    offered_qps: float | None = None  # the constant rate that was asked for; None: closed loop or another profile
    duration_s: float | None = None
    closed_loop: int | None = None  # requests in flight, where the next one starts when one ends
    limit: str = ""  # the flag that limits the requests in flight beside a rate
    late: str = ""  # why the recorded arrivals may be later than the intended ones
    records: list[Record] | None = None  # records of the requests of the measured phase
    no_latency: str = ""  # why no latency is judged, and the flag to add; "" if there are records
    streamed: bool = True  # False: an answer came as a whole, so it has no first token
    itl_s: list[float] | None = None  # between two chunks or tokens
    reported_ttft_p99_ms: float | None = None  # as the tool itself says
    throughput: dict[str, Metric] = field(default_factory=dict)
    extra: dict[str, Metric] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    timed: bool = False  # a result of this tool always has a duration
    answers: int | None = None  # tokens of all answers; None: unknown, or answers of this kind have none


def load_result(facts: LoadFacts, gates: Sequence[Gate] = ()) -> ToolResult:
    """The gates, metrics and sentence of a load generator's result; `gates` are the reader's own, shown first."""
    found = [*gates, _failed(facts), _completed(facts)]
    metrics = _metrics(facts)
    own = (
        _records_agree(facts),
        claims_gate(facts.claims),
        order_gate(facts.records or []) if facts.streamed else None,
        _offered(facts),
        _kept_up(facts),
        _figures(facts, metrics),
        _answers(facts),
    )
    found += [gate for gate in own if gate is not None]
    return ToolResult(found, metrics, _sentence(facts, metrics))


def _failed(facts: LoadFacts) -> Gate:
    bound = "0 failed requests"
    if facts.failed is None:
        reason = f"the result of {facts.tool} does not say"
        return Gate(FAILED_GATE, Outcome.INCONCLUSIVE, "unknown", bound, reason)
    total = facts.failed + (facts.completed or 0) + (facts.unfinished or 0)
    share = f" ({facts.failed / total:.0%})" if facts.failed else ""
    outcome = Outcome.PASS if facts.failed == 0 else Outcome.FAIL
    return Gate(FAILED_GATE, outcome, f"{facts.failed} of {total}{share}", bound, facts.error[:200])


def _completed(facts: LoadFacts) -> Gate:
    """Whether every request that was asked for ended, well or not: failed ones have their own gate."""
    name = "completed requests"
    bound = f"{facts.asked} requests ended" if facts.asked is not None else "at least one request completed"
    if facts.completed is None:
        return Gate(name, Outcome.INCONCLUSIVE, "unknown", bound, f"the result of {facts.tool} does not say")
    ended = facts.completed + (facts.failed or 0)
    measured = f"{facts.completed} completed"
    if facts.unfinished:
        measured += f", {facts.unfinished} cut off by the tool"
    if facts.completed == 0:
        return Gate(name, Outcome.FAIL, measured, bound, "no request completed")
    if facts.asked is not None and ended < facts.asked:
        reason = f"{facts.asked - ended} of the requests that the command asks for did not end"
        return Gate(name, Outcome.FAIL, measured, bound, reason)
    return Gate(name, Outcome.PASS, measured, bound)


def _records_agree(facts: LoadFacts) -> Gate | None:
    """The requests in the file against its own totals."""
    if facts.records is None or facts.completed is None:
        return None
    done = sum(record.done for record in facts.records)
    good = done == facts.completed
    reason = "" if good else "the file contradicts itself, so its figures are not valid"
    measured = f"{done} completed requests listed, {facts.completed} counted"
    return Gate("totals", Outcome.PASS if good else Outcome.INVALID, measured, "both numbers are equal", reason)


def _offered(facts: LoadFacts) -> Gate | None:
    """Whether the requests were sent at the rate that the command asks for; None without such a rate."""
    offered = facts.offered_qps
    if not offered:
        return None
    name, bound = "achieved rate", f"at least {MIN_ACHIEVED:.0%} of the offered {offered:g} requests/s"
    if facts.records is None:
        return _offered_by_total(facts, name, bound)
    arrivals = sorted(record.intended_s for record in facts.records)
    sent = sorted(record.dispatch_s for record in facts.records)
    planned, achieved = _rate(arrivals), _rate(sent)
    if planned is None or achieved is None:
        return Gate(name, Outcome.INCONCLUSIVE, f"{len(sent)} requests", bound, "fewer than two requests have no rate")
    measured = f"{achieved:.2f} requests/s sent"
    # Poisson arrivals: the rate of N of them scatters by 1/√N.
    too_few = planned < offered * (1 - max(1 - MIN_ACHIEVED, 3 / len(arrivals) ** 0.5))
    if facts.late and planned < MIN_ACHIEVED * offered:
        outcome = Outcome.FAIL if too_few else Outcome.INCONCLUSIVE
        return Gate(name, outcome, measured, bound, f"{facts.limit} held requests back, because the server was slow")
    if too_few:
        reason = f"the load generator planned only {planned:.2f} requests/s: it was too slow, or ran another load"
        return Gate(name, Outcome.INVALID, measured, bound, reason)
    if achieved >= MIN_ACHIEVED * min(planned, offered):
        return Gate(name, Outcome.PASS, f"{measured} of {planned:.2f} planned", bound)
    if facts.limit:
        reason = f"{facts.limit} held requests back, because the server took only {achieved:.2f} requests/s"
        return Gate(name, Outcome.FAIL, measured, bound, reason)
    reason = "the load generator sent the requests late, so the figures describe it instead of the server"
    return Gate(name, Outcome.INVALID, measured, bound, reason)


def _offered_by_total(facts: LoadFacts, name: str, bound: str) -> Gate:
    """Without the time of each request: the completed requests over the whole duration, which ends after the last."""
    if not facts.completed or not facts.duration_s:
        return Gate(name, Outcome.INCONCLUSIVE, "unknown", bound, facts.no_latency)
    achieved = (facts.completed + (facts.failed or 0)) / facts.duration_s
    measured = f"{achieved:.2f} requests/s completed over {facts.duration_s:.1f} s"
    if achieved >= MIN_ACHIEVED * (facts.offered_qps or 0.0):
        return Gate(name, Outcome.PASS, measured, bound)
    reason = f"it is not known whether the requests were sent in time: {facts.no_latency}"
    return Gate(name, Outcome.INCONCLUSIVE, measured, bound, reason)


def _kept_up(facts: LoadFacts) -> Gate | None:
    """Whether the server kept up with an offered rate; None in a closed loop, where the load follows the server."""
    if facts.records is None or not facts.offered_qps or facts.late:
        return None
    growth = ttft_growth([record for record in facts.records if record.done])
    if growth is None:
        return None
    good = growth.slope <= MAX_TTFT_SLOPE
    measured = growth.words
    bound = f"TTFT from the intended arrival grows by at most {MAX_TTFT_SLOPE:g} s per second of load"
    reason = "" if good else "the queue grew all the time: the server does not take this load"
    return Gate("kept up", Outcome.PASS if good else Outcome.FAIL, measured, bound, reason)


def _figures(facts: LoadFacts, metrics: dict[str, Metric]) -> Gate | None:
    """A result that counts completed requests and has no rate and no latency measured nothing."""
    if facts.timed and facts.completed and not (facts.duration_s and facts.duration_s > 0):
        measured = "no duration" if facts.duration_s is None else f"a duration of {facts.duration_s:g} s"
        reason = "the result has no rate without it, and whatever wrote it did not end as it should"
        return Gate("figures", Outcome.INCONCLUSIVE, measured, "a duration", reason)
    if not facts.completed or any(m.value is not None for m in metrics.values() if m.unit not in ("requests", "%")):
        return None
    reason = facts.no_latency or f"the result of {facts.tool} has neither a duration nor latencies"
    return Gate("figures", Outcome.INCONCLUSIVE, "no rate and no latency", "at least one of them", reason)


def _answers(facts: LoadFacts) -> Gate | None:
    """A server that answers every request with nothing is fast."""
    if not facts.completed or facts.answers is None or facts.answers > 0:
        return None
    reason = "every answer is empty: the rate and the latencies are not those of generated tokens"
    return Gate("answers", Outcome.INCONCLUSIVE, "0 tokens", "at least one token", reason)


def _rate(times: Sequence[float]) -> float | None:
    """Requests per second of ascending times, without the open interval after the last (MLPerf LoadGen)."""
    if len(times) < 2 or times[-1] <= times[0]:
        return None
    return (len(times) - 1) / (times[-1] - times[0])


def _metrics(facts: LoadFacts) -> dict[str, Metric]:
    def requests(value: int | None) -> Metric:
        return Metric(value, "requests", "" if value is not None else f"the result of {facts.tool} does not say")

    total = None if facts.completed is None else facts.completed + (facts.failed or 0) + (facts.unfinished or 0)
    found = {
        "requests.completed": requests(facts.completed),
        "requests.failed": requests(facts.failed),
        "requests.total": requests(total),
    }
    if total and facts.failed is not None and facts.completed is not None:
        found["requests.failed_share"] = Metric(100 * facts.failed / total, "%")
        found["requests.completed_share"] = Metric(100 * facts.completed / total, "%")
    found |= facts.throughput
    if facts.records is not None and facts.offered_qps and (rate := _rate(sorted(r.dispatch_s for r in facts.records))):
        found["sent_rate"] = Metric(rate, "requests/s")
    return found | facts.extra | _latencies(facts)


def _latencies(facts: LoadFacts) -> dict[str, Metric]:
    """Statistics of the completed requests in ms, from the intended arrival (in a closed loop: from the dispatch)."""
    values: dict[str, list[float]] = {}
    if facts.records is not None and not facts.no_latency:
        done = [record for record in facts.records if record.done]
        values = {
            "ttft": [record.ttft_sched_s for record in done if record.ttft_sched_s is not None],
            "e2e": [record.e2e_sched_s for record in done if record.e2e_sched_s is not None],
            "tpot": [record.tpot_s for record in done if record.tpot_s is not None],
        }
        if facts.itl_s is not None:
            values["itl"] = facts.itl_s
    if not facts.streamed:
        values = {"e2e": values.get("e2e", [])}
    found: dict[str, Metric] = {}
    for name in LATENCIES:
        if values.get(name):
            found |= {f"{name}.{key}": value for key, value in statistics_ms(values[name]).items()}
        else:
            reason = facts.no_latency or "no completed request has one"
            if not facts.streamed and name != "e2e":
                reason = "the answers were not streamed, so they have no first token"
            found |= {f"{name}.{key}": Metric(None, "ms", reason) for key in STATISTICS}
    return found


def statistics_ms(seconds: Sequence[float]) -> dict[str, Metric]:
    """Mean, percentiles and maximum in ms of some seconds; the list is not empty."""
    ordered = sorted(seconds)
    percentiles = {f"p{percent}": percentile(ordered, percent) for percent in (50, 90, 95, 99)}
    values = {"mean": fmean(ordered), **percentiles, "max": ordered[-1]}
    return {name: Metric(1e3 * value, "ms") for name, value in values.items()}


def _sentence(facts: LoadFacts, metrics: dict[str, Metric]) -> str:
    parts = [f"{facts.tool}: {'unknown' if facts.completed is None else facts.completed} requests completed"]
    parts.append(f"{'unknown' if facts.failed is None else facts.failed} failed")
    for name, unit in (("request_throughput", "requests/s"), ("output_throughput", "output tokens/s")):
        value = metrics.get(name)
        if value is not None and value.value is not None:
            parts.append(f"{value.value:.2f} {unit}")
    p99 = metrics["ttft.p99"].value
    if p99 is not None:
        start = "dispatch, a closed loop" if facts.closed_loop else "the intended arrival"
        text = f"TTFT p99 {p99:.0f} ms from {start}"
        reported = facts.reported_ttft_p99_ms
        if reported is not None and abs(reported - p99) > 0.02 * max(p99, 1.0):
            text += f" (the tool reports {reported:.0f} ms)"
        parts.append(text)
    elif facts.no_latency:
        parts.append(f"latencies are not judged: {facts.no_latency}")
    return ", ".join(parts)
