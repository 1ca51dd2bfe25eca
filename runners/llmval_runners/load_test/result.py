"""The result JSON: vLLM's flat benchmark keys, which other tools can read, and one object `llmval` with our data.

Flat keys as `vllm bench serve --save-result --save-detailed` writes them (lists in seconds, statistics in ms).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmval_runners.load_test import metrics
from llmval_runners.load_test.generator import Arrival
from llmval_runners.load_test.metrics import Rates, Slo, sum_of
from llmval_runners.load_test.pooled import together
from llmval_runners.load_test.sent_request import SentRequest
from llmval_runners.load_test.verdict import UNDECIDED, of_search, verdict_of, worst_of
from llmval_runners.process.verdict import Verdict, ended_early

SCHEMA_VERSION = 1
MOST_GAPS = 5_000_000  # of several replicas; as JSON a gap has 9 bytes, and readers hold the whole record in memory
PROFILED = "a profiler ran, so the figures are not the node's"


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurement of a window. `ended_early`: the reason if the window was cut short.

    `duration_s` is the window: at least the schedule's N gaps, until the last completion, and until the wait for
    unfinished requests ended. 0: it never opened.
    """

    sent: Sequence[SentRequest]
    arrivals: list[Arrival]
    duration_s: float
    ended_early: str | None = None
    extras: dict[str, Any] = field(default_factory=dict)  # `queue`, `memory`, `energy`, `utilisation` of the record
    # If there are several replicas: `replica`, `host`, `ranks`, `device_name`, …
    replica: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`replica 1 on n2`; "" for the only one."""
        return f"replica {self.replica['replica']} on {self.replica['host']}" if self.replica else ""


@dataclass(frozen=True, slots=True)
class Judged:
    """The figures of one window that its verdict rests on."""

    measured: Measured
    sent: list[SentRequest]  # requests in the order of their dispatch
    done: list[SentRequest]
    rates: Rates
    reasons: list[str]
    slope: float | None
    verdict: Verdict

    @classmethod
    def of(cls, measured: Measured, slo: Slo) -> "Judged":
        sent, duration = sorted(measured.sent, key=lambda request: request.dispatch_s), measured.duration_s
        last = measured.arrivals[-1].intended_s if measured.arrivals else 0.0
        due = None
        if measured.ended_early:
            due = max(len(sent), sum(arrival.intended_s <= duration for arrival in measured.arrivals))
        rates = Rates.of(sent, len(measured.arrivals), last, duration, slo, due)
        reasons = metrics.invalid_reasons(sent, len(measured.arrivals), rates)
        if measured.ended_early:
            reasons.insert(0, measured.ended_early)
        verdict = verdict_of(sent, duration, rates.offered_qps, slo, reasons, measured.ended_early)
        done = [request for request in sent if request.done]
        return cls(measured, sent, done, rates, reasons, metrics.ttft_slope(sent, duration), verdict)


def load_test_result(
    windows: Sequence[Measured],
    identity: dict[str, Any],
    workload: dict[str, Any],
    cache: dict[str, Any],
    slo: Slo,
    search: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole record of a load test; schema in `docs/schemas/load_test.schema.json`.

    `windows`: one, or those of all replicas. Percentiles are of their requests together, rates add, and the worst
    window decides. Times are each window's own, so what happened at one moment on two replicas is not known.
    For a search it is the record of the last trial's window, with all trials under `search`.
    """
    judged = [Judged.of(measured, slo) for measured in windows]
    several = len(judged) > 1
    of = {id(request): one.measured.replica["replica"] for one in judged for request in one.sent} if several else {}
    sent = sorted((request for one in judged for request in one.sent), key=lambda request: request.dispatch_s)
    done = [request for request in sent if request.done]
    rates = sum_of([one.rates for one in judged])
    reasons = [f"{one.measured.name}: {reason}" if several else reason for one in judged for reason in one.reasons]
    early = any(measured.ended_early for measured in windows)
    slopes = [one.slope for one in judged if one.slope is not None]
    verdict = worst_of([(one.measured.name, one.verdict) for one in judged])
    if early:
        verdict = ended_early(next(measured.ended_early for measured in windows if measured.ended_early))
    elif search is not None:
        verdict = of_search(search)
    return {
        **_flat(judged, sent, done, rates, identity, workload),
        "llmval": {
            "schema": SCHEMA_VERSION,
            "kind": "load_test",
            "valid": not reasons,
            "invalid_reasons": reasons,
            "partial": early,
            "verdict": verdict.as_json(),
            "identity": identity,
            "workload": workload,
            "rates": asdict(rates),
            "slo": asdict(slo),
            "slo_attainment": _attained(sent, done, slo),
            "ttft_slope": max(slopes, default=None),
            "kv_cache": cache,
            **(together([(one.measured.extras, len(one.done)) for one in judged]) if several else windows[0].extras),
            **_delays(sent, done),
            **({"search": search} if search is not None else {}),
            **({"replicas": [_replica(one, slo) for one in judged]} if several else {}),
            "requests": [_record(request) | ({"replica": of[id(request)]} if several else {}) for request in sent],
        },
    }


def _attained(sent: Sequence[SentRequest], done: Sequence[SentRequest], slo: Slo) -> float | None:
    return sum(map(slo.met, done)) / len(sent) if slo.stated and sent else None


def _delays(sent: Sequence[SentRequest], done: Sequence[SentRequest]) -> dict[str, dict[str, float | None]]:
    return {
        "schedule_delay": metrics.percentiles([r.dispatch_s - r.intended_s for r in sent]),
        "ttft_sched": metrics.percentiles([r.token_times[0] - r.intended_s for r in done]),
        "e2e_sched": metrics.percentiles([r.token_times[-1] - r.intended_s for r in done]),
    }


def _replica(one: Judged, slo: Slo) -> dict[str, Any]:
    """The figures of one replica, in the words of the whole record."""
    per_second, in_flight = metrics.peaks(one.sent)
    duration = one.measured.duration_s
    outputs = sum(request.received_tokens or 0 for request in one.done)
    return {
        **one.measured.replica,
        "verdict": {"word": one.verdict.word, "reason": one.verdict.reason},
        "invalid_reasons": one.reasons,
        "duration_s": duration,
        "requests": len(one.sent),
        "completed": len(one.done),
        "rates": asdict(one.rates),
        "output_tokens_per_s": outputs / duration if duration > 0 else None,
        "max_output_tokens_per_s": per_second,
        "max_concurrent_requests": in_flight,
        "slo_attainment": _attained(one.sent, one.done, slo),
        "ttft_slope": one.slope,
        **_delays(one.sent, one.done),
        "tpot": metrics.percentiles([value for r in one.done if (value := metrics.tpot(r)) is not None]),
        **one.measured.extras,
    }


def mark_invalid(record: dict[str, Any], reason: str) -> None:
    """Add a reason why the measurement does not count."""
    ours = record["llmval"]
    ours |= {"valid": False, "invalid_reasons": [*ours["invalid_reasons"], reason]}
    if not ours["partial"]:
        ours["verdict"] = Verdict("invalid", "; ".join(ours["invalid_reasons"]), UNDECIDED).as_json()


def _flat(
    judged: Sequence[Judged],
    sent: Sequence[SentRequest],
    done: Sequence[SentRequest],
    rates: Rates,
    identity: dict[str, Any],
    workload: dict[str, Any],
) -> dict[str, Any]:
    inputs, outputs = sum(r.input_tokens or 0 for r in done), sum(r.received_tokens or 0 for r in done)
    per_second, in_flight = metrics.peaks(sent) if len(judged) == 1 else (None, None)

    def rate(count: Callable[[SentRequest], int]) -> float | None:
        seconds = [one.measured.duration_s for one in judged]
        if min(seconds) <= 0:
            return None
        return sum(sum(map(count, one.done)) / duration for one, duration in zip(judged, seconds, strict=True))

    gaps = [metrics.gaps(request) for request in sent]
    listed = len(judged) == 1 or sum(map(len, gaps)) <= MOST_GAPS
    pooled = [gap for request, found in zip(sent, gaps, strict=True) if request.done for gap in found]
    return {
        "date": datetime.now(UTC).strftime("%Y%m%d-%H%M%S"),
        "backend": identity.get("backend", "llmval"),
        "model_id": identity["model"],
        "tokenizer_id": identity["tokenizer"],
        "num_prompts": len(sent),
        "request_rate": workload["target_qps"],
        "burstiness": workload["burstiness"],
        "max_concurrency": workload["max_in_flight"] and workload["max_in_flight"] * len(judged),
        "duration": max(one.measured.duration_s for one in judged),
        "completed": len(done),
        "failed": len(sent) - len(done),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": rates.completed_qps,
        "request_goodput": rates.goodput_qps,
        "output_throughput": rate(lambda r: r.received_tokens or 0),
        "total_token_throughput": rate(lambda r: (r.input_tokens or 0) + (r.received_tokens or 0)),
        "max_output_tokens_per_s": per_second,
        "max_concurrent_requests": in_flight,
        **metrics.summary([metrics.ttft(request) for request in done], "ttft"),
        **metrics.summary([value for request in done if (value := metrics.tpot(request)) is not None], "tpot"),
        **metrics.summary(pooled, "itl"),
        **metrics.summary([metrics.e2e(request) for request in done], "e2el"),
        "input_lens": [request.input_tokens for request in sent],
        "output_lens": [request.received_tokens for request in sent],
        "ttfts": [_us(metrics.ttft(request)) if request.token_times else None for request in sent],
        "itls": [[round(gap, 6) for gap in found] for found in gaps] if listed else [],
        "start_times": [_us(request.dispatch_s) for request in sent],
        "errors": [request.error for request in sent],
    }


def _record(request: SentRequest) -> dict[str, Any]:
    return {
        "index": request.index,
        "intended_s": _us(request.intended_s),
        "dispatch_s": _us(request.dispatch_s),
        "first_token_s": _us(request.first_token_s),
        "last_token_s": _us(request.last_token_s),
        "input_tokens": request.input_tokens,
        "output_tokens": request.received_tokens,
        "error": request.error or None,
        **({"failed_s": _us(request.failed_s)} if request.failed_s is not None else {}),
    }


def _us(seconds: float | None) -> float | None:
    """Round to whole microseconds: the clock is not more precise, and the file has a third of the size."""
    return None if seconds is None else round(seconds, 6)
