"""The gates of a load test, recomputed from its request records; the file's own "valid" is not trusted."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.argv import value_of
from llmval_tui.actions.command.several_nodes import ranks_asked, tensor_parallel_asked
from llmval_tui.actions.judges.load_test_result import LoadResult, metrics_of, read_result
from llmval_tui.actions.judges.rate_search import (
    MAX_DELAY_P99_MS,
    MAX_TTFT_SLOPE,
    MIN_ACHIEVED,
    search_gates,
    search_metrics,
    search_sentence,
    undecided,
)
from llmval_tui.actions.request_records import Record, percentile_ms, ttft_growth
from llmval_tui.runs.records import SEVERITY, Artifact, Gate, Outcome
from llmval_tui.runs.store import Run

FIND_MAX = "--find-max-qps"
_KV_DTYPES = {"fp8": "float8_e4m3fn"}  # name in the flag -> name in PyTorch
MAX_PROMPT_DIFFERENCE = 0.05  # of the prompt tokens that were asked for
_SLO_VALUES: dict[str, Callable[[Record], float | None]] = {
    "ttft_ms": lambda record: record.ttft_sched_s,
    "tpot_ms": lambda record: record.tpot_s,
    "e2e_ms": lambda record: record.e2e_sched_s,
}
_ROUNDING_S = 2e-6  # the records are rounded to whole microseconds


def judge_load_test(run: Run, artifact: Artifact) -> Judged:
    """Gates, metrics and a sentence for one load test's result."""
    result = read_result(run.workspace / artifact.path)
    if result is None:
        gate = Gate(
            "result",
            Outcome.INVALID,
            "not readable",
            "a load test's result",
            f"{artifact.path} is missing or not in the format",
        )
        return [gate], {}, "no result to judge"
    metrics = metrics_of(result) | (search_metrics(result.search) if result.search is not None else {})
    gates = [
        _worst(result, _generator_rate),
        _worst(result, _schedule_delay),
        _failed(result),
        _kept_up(result) if result.search is None else undecided(result.search, _kept_up(result)),
        _order(result),
        _sums(result),
        _runner_checks(result),
        *(search_gates(result, result.search) if result.search is not None else _slos(result)),
        *_as_asked(run, artifact, result),
    ]
    found = f"{search_sentence(result.search)}; there " if result.search is not None else ""
    return gates, metrics, found + _sentence(metrics)


def _verdict(good: bool, otherwise: Outcome) -> Outcome:
    return Outcome.PASS if good else otherwise


def _worst(result: LoadResult, gate_of: Callable[[LoadResult], Gate]) -> Gate:
    """The gate of the replica that does worst: one overloaded replica overloads all that stand behind one front end."""
    gates = [(gate_of(part), part) for part in result.replicas]
    gate, part = min(gates, key=lambda pair: SEVERITY.index(pair[0].outcome))  # the first of the worst
    if len(gates) == 1:
        return gate
    if gate.outcome is Outcome.PASS:
        return replace(gate, measured=f"on each of {len(gates)} replicas; {part.name}: {gate.measured}")
    return replace(gate, measured=f"{part.name}: {gate.measured}")


def _generator_rate(result: LoadResult) -> Gate:
    name, bound = "generator rate", f"at least {MIN_ACHIEVED:.0%} of the offered rate was sent"
    offered, achieved = result.offered_qps, result.achieved_qps
    if not offered or achieved is None:
        return Gate(name, Outcome.INVALID, "unknown", bound, "fewer than two requests were sent")
    share = achieved / offered
    return Gate(
        name,
        _verdict(share >= MIN_ACHIEVED, Outcome.INVALID),
        f"sent {achieved:.2f} of {offered:.2f} requests/s, {share:.1%}",
        bound,
        ""
        if share >= MIN_ACHIEVED
        else "the load generator was too slow, so the figures describe it instead of the node",
    )


def _schedule_delay(result: LoadResult) -> Gate:
    late = percentile_ms([record.dispatch_s - record.intended_s for record in result.records], 99)
    good = late is not None and late <= MAX_DELAY_P99_MS
    measured = "unknown" if late is None else f"p99 {late:,.1f} ms after arrival"
    return Gate("schedule delay", _verdict(good, Outcome.INVALID), measured, f"p99 ≤ {MAX_DELAY_P99_MS:g} ms")


def _failed(result: LoadResult) -> Gate:
    failed = [record for record in result.records if not record.done]
    reason = next((record.error for record in failed if record.error), "") or ""
    measured = f"{len(failed)} of {len(result.records)}"
    good = not failed and bool(result.records)
    return Gate(
        "failed requests",
        _verdict(good, Outcome.FAIL),
        measured,
        "no failed request, at least one request",
        reason[:200],
    )


def _kept_up(result: LoadResult) -> Gate:
    """Whether the node kept up with the offered load; this needs no service level (see `ttft_growth`)."""
    return _worst(result, _kept_up_alone)


def _kept_up_alone(result: LoadResult) -> Gate:
    name, bound = "kept up", f"TTFT from arrival grows by at most {MAX_TTFT_SLOPE:g} s per second of load"
    growth = ttft_growth(result.records, result.duration_s)
    if growth is None:
        reason = "fewer than 8 requests show no trend"
        return Gate(name, Outcome.INCONCLUSIVE, f"{len(result.records)} requests", bound, reason)
    good = growth.slope <= MAX_TTFT_SLOPE
    measured = growth.words
    served = (result.offered_qps or 0.0) / (1 + max(growth.slope, 0.0))
    reason = "" if good else f"the queue grew all the time: the node serves about {served:.1f} requests/s of this load"
    return Gate(name, _verdict(good, Outcome.FAIL), measured, bound, reason)


def _order(result: LoadResult) -> Gate:
    """s ≤ d ≤ f ≤ e in every record (so TTFT_sched ≥ TTFT); otherwise the clock or the records are wrong."""
    wrong = 0
    for record in result.records:
        times = [record.intended_s, record.dispatch_s, record.first_s, record.last_s]
        known = [time for time in times if time is not None]
        wrong += any(later < earlier - _ROUNDING_S for earlier, later in pairwise(known))
    return Gate(
        "order of times",
        _verdict(wrong == 0, Outcome.INVALID),
        f"{wrong} of {len(result.records)} records out of order",
        "arrival ≤ dispatch ≤ first token ≤ last token in every record (so TTFT_sched ≥ TTFT)",
    )


def _sums(result: LoadResult) -> Gate:
    """The totals in the file against its records."""
    done = result.done
    own = {
        "num_prompts": len(result.records),
        "completed": len(done),
        "failed": len(result.records) - len(done),
        "total_output_tokens": sum(record.output_tokens for record in done),
    }
    wrong = [
        f"{key} {result.flat.get(key)}, records {value}" for key, value in own.items() if result.flat.get(key) != value
    ]
    measured = "; ".join(wrong) or f"{own['total_output_tokens']} output tokens in {len(done)} requests"
    return Gate("totals", _verdict(not wrong, Outcome.INVALID), measured, "every total equals the sum of the records")


def _runner_checks(result: LoadResult) -> Gate:
    """The problems that the runner reports. Only it knows of requests that it never sent."""
    reported = result.ours.get("invalid_reasons")
    reasons = [str(reason) for reason in reported] if isinstance(reported, list) else ["the result has no such list"]
    if result.ours.get("partial"):
        reasons.append("the run ended early")
    measured = "; ".join(reasons) or "no problem"
    return Gate(
        "runner's own checks", _verdict(not reasons, Outcome.INVALID), measured, "the runner reports no problem"
    )


def _slos(result: LoadResult) -> list[Gate]:
    """A gate for the p99 of each service level with a limit, over all requests. One that failed misses every limit."""
    slo = result.ours.get("slo") or {}
    return [_worst(result, partial(_slo, name=name)) for name in _SLO_VALUES if slo.get(name) is not None]


def _slo(result: LoadResult, name: str) -> Gate:
    limit = result.ours["slo"][name]
    seconds = [_SLO_VALUES[name](record) for record in result.done]
    failed = len(result.records) - len(result.done)
    p99 = percentile_ms([*seconds, *[math.inf] * failed], 99)
    measured = "unknown" if p99 is None else f"p99 {p99:.2f} ms"
    if p99 is not None and math.isinf(p99):
        measured = f"{failed} of {len(result.records)} requests failed"
    good = p99 is not None and p99 <= limit
    return Gate(f"SLO {name.removesuffix('_ms')}", _verdict(good, Outcome.FAIL), measured, f"p99 ≤ {limit:g} ms")


def _as_asked(run: Run, artifact: Artifact, result: LoadResult) -> list[Gate]:
    """The run against its command: a runner that silently falls back fails here."""
    command = next(
        (command for command in run.intent.commands if any(artifact.path in word for word in command.argv)),
        run.intent.commands[0],
    )
    words = tuple(command.argv)
    asked = {
        "tensor_parallel": tensor_parallel_asked(words, result.identity),
        "fp8_mode": value_of(words, "--fp8-mode"),
        "attention_backend": value_of(words, "--attention-backend"),
        "compile_mode": value_of(words, "--compile-mode"),
        "device": value_of(words, "--device"),
        "model": value_of(words, "--model"),
        "api": value_of(words, "--api"),
        "kv_dtype": _KV_DTYPES.get(value_of(words, "--kv-dtype") or "", value_of(words, "--kv-dtype")),
    }
    stated = {key: value for key, value in asked.items() if value not in (None, "auto", "gpu")}
    identity = result.identity
    other = [
        f"{key} {identity.get(key)} instead of {value}"
        for key, value in stated.items()
        if str(identity.get(key)) != value
    ]
    if (ranks := ranks_asked(words)) is not None and ranks.isdecimal() and result.gpus not in (0, int(ranks)):
        other.append(f"{result.gpus} ranks in all instead of {ranks}")
    other += _other_load(words, result)
    if (FIND_MAX in words) != (result.search is not None):
        other.append(f"{'no' if FIND_MAX in words else 'a'} search for the highest rate")
    ran = ", ".join(f"{key} {identity.get(key)}" for key in stated)
    if server := identity.get("server"):
        ran = ", ".join(part for part in (ran, f"at {server.get('url')}") if part)
    return [
        Gate("ran as asked", _verdict(not other, Outcome.FAIL), "; ".join(other) or ran, "it ran as the command asks")
    ]


def _other_load(words: tuple[str, ...], result: LoadResult) -> list[str]:
    """Differences in rate or duration between the command and the run; a search finds its own rate."""
    workload = result.ours.get("workload") or {}
    numbers = {"--target-qps": "target_qps", "--duration": "duration_s"} if result.search is None else {}
    found = [
        f"{key} {workload.get(key)} instead of {asked}"
        for flag, key in numbers.items()
        if (asked := value_of(words, flag)) is not None and not _equal(asked, workload.get(key))
    ]
    return found + _other_prompts(result)


def _other_prompts(result: LoadResult) -> list[str]:
    """Prompts that the server counts as another load than the one that was asked for."""
    prompts = result.ours.get("prompt_tokens") or {}
    asked, counted = prompts.get("asked"), prompts.get("counted_by_the_server")
    if not asked or counted is None or abs(counted - asked) <= MAX_PROMPT_DIFFERENCE * asked:
        return []
    return [f"{counted:,} prompt tokens by the server's count instead of {asked:,}"]


def _equal(asked: str, ran: object) -> bool:
    try:
        return float(asked) == ran
    except ValueError:
        return False


def _sentence(metrics: dict[str, float | None]) -> str:
    def show(name: str, digits: int = 1) -> str:
        value = metrics.get(name)
        return "unknown" if value is None else f"{value:.{digits}f}"

    return (
        f"{show('completed_qps', 2)} of {show('offered_qps', 2)} requests/s completed, "
        f"{show('output_tokens_per_s')} output tokens/s, TTFT p50 {show('ttft_sched_p50_ms')} ms, "
        f"p99 {show('ttft_sched_p99_ms')} ms from arrival, TPOT p50 {show('tpot_p50_ms', 2)} ms"
    )
