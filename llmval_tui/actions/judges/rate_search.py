"""The gates of a search for the highest rate that holds a service level, recomputed from its trials."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmval_tui.actions.judges.load_test_result import LoadResult, good_requests
from llmval_tui.actions.judges.rate_posterior import posterior_of
from llmval_tui.runs.records import Gate, Outcome

MIN_ACHIEVED = 0.95  # of the offered rate; below it, the generator is the limit
MAX_DELAY_P99_MS = 500.0
MAX_TTFT_SLOPE = 0.1  # of a node that serves 91 % of the load

# The outcomes whose last window describes the node at the service level. With any other outcome the last trial may have
# failed by construction: the search continued, or ended, because of it.
_DECIDED = ("found", "lowest_fails")
# The meaning of the other outcomes for the node.
_OTHERWISE = {
    "cap_holds": (Outcome.INCONCLUSIVE, "no upper bound was found below the cap: pass a higher --max-qps"),
    "generator_limited": (Outcome.INCONCLUSIVE, "the load generator was the limit, not the node"),
    "imprecise": (
        Outcome.INCONCLUSIVE,
        "the interval is too wide: quieten the host, or pass more --max-trials",
    ),
    "unconfirmed": (Outcome.INCONCLUSIVE, "no rate was confirmed: pass a longer --trial-duration"),
    "lowest_fails": (Outcome.FAIL, "even the lowest rate does not hold the service level: pass a lower --target-qps"),
    "interrupted": (Outcome.INCONCLUSIVE, "the search ended early"),
}


def search_gates(result: LoadResult, search: Mapping[str, Any]) -> list[Gate]:
    """The gates on the trials. The records of the result belong to the last trial, which confirms the rate."""
    try:
        return [_highest(search), _consistent(result, search), undecided(search, _attained(result, search))]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        why = f"the search's record is incomplete ({type(error).__name__}: {error})"
        return [Gate("highest rate", Outcome.INVALID, "not readable", "a search with its trials", why)]


def undecided(search: Mapping[str, Any], gate: Gate) -> Gate:
    """A gate on the last window. If the search decided nothing, a failure there is inconclusive."""
    if gate.outcome is not Outcome.FAIL or search.get("outcome") in _DECIDED:
        return gate
    return replace(gate, outcome=Outcome.INCONCLUSIVE, reason="the last trial of a search that found no highest rate")


def search_metrics(search: Mapping[str, Any]) -> dict[str, float | None]:
    """`max_qps` (None if not found), the lowest rate that did not hold, and the number of trials."""
    return {
        "max_qps": search.get("max_qps"),
        "lowest_not_held_qps": search.get("lowest_not_held_qps"),
        "search_trials": float(len(search.get("trials") or [])),
    }


def search_sentence(search: Mapping[str, Any]) -> str:
    """The result of the search in one sentence."""
    found = search.get("max_qps")
    if found is None:
        return f"no highest rate was found in {len(search.get('trials') or [])} trials"
    above = search.get("lowest_not_held_qps")
    bound = f"{above:.4g} does not" if above is not None else "no higher rate was tried"
    interval = search.get("interval_qps")
    between = f" ({interval[0]:.4g} to {interval[1]:.4g}, {search['confidence']:.0%} confidence)" if interval else ""
    return f"{found:.4g} requests/s hold the service level{between}, {bound}"


def _highest(search: Mapping[str, Any]) -> Gate:
    widest = search.get("widest", search["precision"])
    bound = f"an interval of at most {widest:.0%} that holds the highest rate, by repeated trials"
    name, interval = "highest rate", search.get("interval_qps")
    if "interval_qps" not in search:
        reason = "an earlier release measured it, which believed single trials: measure again"
        return Gate(name, Outcome.INCONCLUSIVE, search_sentence(search), bound, reason)
    if search["outcome"] != "found":
        outcome, reason = _OTHERWISE[search["outcome"]]
        return Gate(name, outcome, search_sentence(search), bound, reason)
    # The rate found, which held in the last trial, is part of the interval, and does not count for its width.
    low = max(interval[0], _trials_interval(search)[0]) if interval is not None else 0.0
    close = interval is not None and interval[1] <= low * (1 + widest) * (1 + 1e-6)
    reason = "" if close else "the interval is wider than that"
    return Gate(name, Outcome.PASS if close else Outcome.INVALID, search_sentence(search), bound, reason)


def _consistent(result: LoadResult, search: Mapping[str, Any]) -> Gate:
    """The verdict of every trial against its own figures, and the result against the trials."""
    wrong = []
    trials = search["trials"]
    for trial in trials:
        verdict = _verdict(trial, search["min_goodput"], _slope_limit(search))
        if verdict != trial["verdict"]:
            wrong.append(f"trial {trial['number']} says {trial['verdict']}, its figures say {verdict}")
    if "interval_qps" in search:
        wrong += _wrong_interval(search, trials)
    if (found := search["max_qps"]) is not None:
        last = trials[-1]
        if (last["target_qps"], last["purpose"], last["verdict"]) != (found, "confirm", "holds"):
            wrong.append(f"the last trial does not confirm {found:.4g} requests/s")
        offered = result.offered_qps
        if offered is None or abs(offered - found) > 0.01 * found:
            wrong.append(f"the requests were offered at {offered or 0:.4g} requests/s, not at the rate found")
    outcome = Outcome.INVALID if wrong else Outcome.PASS
    return Gate("trials", outcome, "; ".join(wrong) or f"{len(trials)} trials agree", "verdicts agree with the figures")


def _wrong_interval(search: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the trials say against the interval: it is computed again from their verdicts."""
    interval, wrong = search["interval_qps"], []
    if len({trial["seed"] for trial in trials}) < len(trials):
        wrong.append("two trials have the same seed, so they are not independent")
    if not {"holds", "fails"} <= {trial["verdict"] for trial in trials}:
        return [
            *wrong,
            *(["an interval without a trial that held and one that failed"] if interval is not None else []),
        ]
    own = _trials_interval(search)
    with_found = (min(own[0], search["max_qps"] or own[0]), own[1])  # an earlier release left the rate found out
    if interval is None or not (_same(interval, with_found) or _same(interval, own)):
        wrong.append(f"the trials give an interval of {own[0]:.4g} to {own[1]:.4g} requests/s")
    if search["outcome"] == "found" and own[1] <= own[0] * (1 + search["precision"]) * (1 + 1e-6):
        high = [trial for trial in trials if trial["purpose"] == "upper" and trial["verdict"] == "fails"]
        if not high:
            wrong.append("the upper end was not tested again")
    return wrong


def _trials_interval(search: Mapping[str, Any]) -> tuple[float, float]:
    """The interval that the verdicts of the trials give."""
    valid = [(one["target_qps"], one["verdict"] == "holds") for one in search["trials"] if one["verdict"] != "invalid"]
    return posterior_of(search["first_qps"], search["precision"], valid).interval(search["confidence"])


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a / b - 1) <= 1e-6 for a, b in zip(one, other, strict=True))


def _slope_limit(search: Mapping[str, Any]) -> float:
    """A record may state a stricter limit, and an earlier release states none."""
    return min(MAX_TTFT_SLOPE, float(search.get("max_ttft_slope", MAX_TTFT_SLOPE)))


def _verdict(trial: Mapping[str, Any], min_goodput: float, slope_limit: float) -> str:
    """Of several replicas each one must hold."""
    found = {_verdict_alone(part, min_goodput, slope_limit) for part in trial.get("replicas") or [trial]}
    return next(verdict for verdict in ("invalid", "fails", "holds") if verdict in found)


def _verdict_alone(trial: Mapping[str, Any], min_goodput: float, slope_limit: float) -> str:
    offered, achieved, late = trial["offered_qps"], trial["achieved_qps"], trial["schedule_delay"]["p99_ms"]
    if not offered or achieved is None or achieved < MIN_ACHIEVED * offered or late is None or late > MAX_DELAY_P99_MS:
        return "invalid"
    slope = trial["ttft_slope"]
    held = trial["goodput_share"] >= min_goodput and slope is not None and slope <= slope_limit
    return "holds" if held else "fails"


def _attained(result: LoadResult, search: Mapping[str, Any]) -> Gate:
    share = float(search["min_goodput"])
    good, count = good_requests(result), len(result.records)
    measured = f"{good} of {count} requests" + (f", {good / count:.1%}" if count else "")
    held = all(part.records and good_requests(part) >= share * len(part.records) for part in result.replicas)
    if not held and result.name != (lost := _least_attained(result)).name:
        measured = f"{lost.name}: {good_requests(lost)} of {len(lost.records)} requests"
    return Gate("SLO attainment", Outcome.PASS if held else Outcome.FAIL, measured, f"{share:.1%} meet every limit")


def _least_attained(result: LoadResult) -> LoadResult:
    return min(result.replicas, key=lambda part: good_requests(part) / max(len(part.records), 1))
