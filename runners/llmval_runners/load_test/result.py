"""The result JSON: vLLM's flat benchmark keys, which other tools can read, and one object `llmval` with our data.

Flat keys as `vllm bench serve --save-result --save-detailed` writes them (lists in seconds, statistics in ms).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmval_runners.load_test import metrics
from llmval_runners.load_test.generator import Arrival
from llmval_runners.load_test.metrics import Rates, Slo
from llmval_runners.load_test.sent_request import SentRequest
from llmval_runners.load_test.verdict import UNDECIDED, verdict_of
from llmval_runners.process.verdict import Verdict

SCHEMA_VERSION = 1
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
    extras: dict[str, Any] = field(default_factory=dict)  # `queue`, `memory` and `energy` of the record


def load_test_result(
    measured: Measured,
    identity: dict[str, Any],
    workload: dict[str, Any],
    cache: dict[str, Any],
    slo: Slo,
    search: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The whole record of a load test; schema in `docs/schemas/load_test.schema.json`.

    For a search it is the record of the last trial's window, with all trials under `search`.
    """
    sent, duration = sorted(measured.sent, key=lambda request: request.dispatch_s), measured.duration_s
    done = [request for request in sent if request.done]
    last = measured.arrivals[-1].intended_s if measured.arrivals else 0.0
    due = None
    if measured.ended_early:
        due = max(len(sent), sum(arrival.intended_s <= duration for arrival in measured.arrivals))
    rates = Rates.of(sent, len(measured.arrivals), last, duration, slo, due)
    reasons = metrics.invalid_reasons(sent, len(measured.arrivals), rates)
    if measured.ended_early:
        reasons.insert(0, measured.ended_early)
    verdict = verdict_of(sent, duration, rates.offered_qps, slo, reasons, measured.ended_early, search)
    return {
        **_flat(sent, done, duration, rates, identity, workload),
        "llmval": {
            "schema": SCHEMA_VERSION,
            "kind": "load_test",
            "valid": not reasons,
            "invalid_reasons": reasons,
            "partial": measured.ended_early is not None,
            "verdict": verdict.as_json(),
            "identity": identity,
            "workload": workload,
            "rates": asdict(rates),
            "slo": asdict(slo),
            "slo_attainment": sum(map(slo.met, done)) / len(sent) if slo.stated and sent else None,
            "ttft_slope": metrics.ttft_slope(sent, duration),
            "kv_cache": cache,
            **measured.extras,
            "schedule_delay": metrics.percentiles([r.dispatch_s - r.intended_s for r in sent]),
            "ttft_sched": metrics.percentiles([r.token_times[0] - r.intended_s for r in done]),
            "e2e_sched": metrics.percentiles([r.token_times[-1] - r.intended_s for r in done]),
            **({"search": search} if search is not None else {}),
            "requests": [_record(request) for request in sent],
        },
    }


def mark_invalid(record: dict[str, Any], reason: str) -> None:
    """Add a reason why the measurement does not count."""
    ours = record["llmval"]
    ours |= {"valid": False, "invalid_reasons": [*ours["invalid_reasons"], reason]}
    if not ours["partial"]:
        ours["verdict"] = Verdict("invalid", "; ".join(ours["invalid_reasons"]), UNDECIDED).as_json()


def _flat(
    sent: Sequence[SentRequest],
    done: Sequence[SentRequest],
    duration: float,
    rates: Rates,
    identity: dict[str, Any],
    workload: dict[str, Any],
) -> dict[str, Any]:
    inputs, outputs = sum(r.input_tokens or 0 for r in done), sum(r.received_tokens or 0 for r in done)
    per_second, in_flight = metrics.peaks(sent)

    def rate(count: int) -> float | None:
        return count / duration if duration > 0 else None

    gaps = [metrics.gaps(request) for request in sent]
    pooled = [gap for request, found in zip(sent, gaps, strict=True) if request.done for gap in found]
    return {
        "date": datetime.now(UTC).strftime("%Y%m%d-%H%M%S"),
        "backend": identity.get("backend", "llmval"),
        "model_id": identity["model"],
        "tokenizer_id": identity["tokenizer"],
        "num_prompts": len(sent),
        "request_rate": workload["target_qps"],
        "burstiness": workload["burstiness"],
        "max_concurrency": workload["max_in_flight"],
        "duration": duration,
        "completed": len(done),
        "failed": len(sent) - len(done),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": rates.completed_qps,
        "request_goodput": rates.goodput_qps,
        "output_throughput": rate(outputs),
        "total_token_throughput": rate(inputs + outputs),
        "max_output_tokens_per_s": per_second,
        "max_concurrent_requests": in_flight,
        **metrics.summary([metrics.ttft(request) for request in done], "ttft"),
        **metrics.summary([value for request in done if (value := metrics.tpot(request)) is not None], "tpot"),
        **metrics.summary(pooled, "itl"),
        **metrics.summary([metrics.e2e(request) for request in done], "e2el"),
        "input_lens": [request.input_tokens for request in sent],
        "output_lens": [request.received_tokens for request in sent],
        "ttfts": [_us(metrics.ttft(request)) if request.token_times else None for request in sent],
        "itls": [[round(gap, 6) for gap in found] for found in gaps],
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
