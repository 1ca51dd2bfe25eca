"""What is reported of a search for the highest rate: its record, its outcome in one sentence, and each trial."""

import math
from typing import Any

from llmval_runners.load_test.rate_search import SAME_RATE, Search
from llmval_runners.load_test.rate_trial import HOLDS, MAX_SLOPE, Trial
from llmval_runners.process.events import EventLog

BUSY_PERCENT = 10.0  # of the host's CPU for other processes; more is named as noise
STOLEN_PERCENT = 1.0


def search_record(search: Search) -> dict[str, Any]:
    """The search in the form of the result."""
    config, interval = search.config, search.interval
    return {
        "outcome": search.outcome,
        "sentence": sentence(search),
        "max_qps": search.max_qps,
        "interval_qps": None if interval is None else list(interval),
        "confidence": config.confidence,
        "disturbed_share": search.disturbed,
        "noise": noise(search),
        "lowest_not_held_qps": search.lowest_not_held_qps,
        "first_qps": config.first_qps,
        "cap_qps": config.max_qps,
        "precision": config.precision,
        "max_ttft_slope": MAX_SLOPE,
        "widest": config.widest,
        "max_trials": config.max_trials,
        "min_goodput": config.min_goodput,
        "trial_duration_s": config.trial_s,
        "trials": [trial.as_json() for trial in search.trials],
    }


def noise(search: Search) -> str:
    """What disturbed the trials: outcomes that contradict the interval, and the load of the host meanwhile."""
    interval = search.interval
    low, high = interval if interval is not None else (search.held_qps or 0.0, math.inf)
    below = [trial for trial in search.trials if trial.verdict != HOLDS and trial.target_qps < low * (1 - SAME_RATE)]
    over = [trial for trial in search.trials if trial.verdict == HOLDS and trial.target_qps > high * (1 + SAME_RATE)]
    count = len(search.trials)
    parts = []
    if below:
        parts.append(f"{len(below)} of {count} trials failed at rates that hold")
    if over:
        parts.append(f"{len(over)} of {count} held above the interval")
    if mixed := [rate for rate, held, failed, _ in search.rates() if held and failed]:
        span = f"{mixed[0]:.4g}" + (f" to {mixed[-1]:.4g}" if len(mixed) > 1 else "")
        parts.append(f"at {span} requests/s some trials held and others failed")
    readings = [trial.host for trial in search.trials if trial.host is not None]
    for key, least, words in (
        ("other_cpu_percent", BUSY_PERCENT, "of its CPU served other processes"),
        ("stolen_percent", STOLEN_PERCENT, "of its CPU was taken by the hypervisor"),
    ):
        values = [value for reading in readings if (value := reading[key]) is not None]
        if values and max(values) >= least:
            parts.append(f"up to {max(values):.0f} % {words}")
    return "; ".join(parts) or "quiet: no trial contradicts the others"


def _surely(search: Search) -> str:
    """The highest rate below which no trial failed."""
    failed = min((rate for rate, _, failed, _ in search.rates() if failed), default=math.inf)
    best = max((rate for rate, held, _, _ in search.rates() if held and rate < failed), default=None)
    return f"; all trials up to {best:.4g} requests/s held" if best is not None else ""


def sentence(search: Search) -> str:
    """The outcome in one sentence."""
    bad = next(
        (t for t in reversed(search.trials) if t.verdict != HOLDS and t.target_qps > (search.max_qps or 0)), None
    )
    above = f"{bad.target_qps:.4g} requests/s does not hold: {bad.reason}" if bad else ""
    best = f"the highest rate that holds the service level is {search.max_qps or 0:.4g} requests/s"
    confidence, interval = f"{search.config.confidence:.0%}", search.interval
    between = "" if interval is None else f"between {interval[0]:.4g} and {interval[1]:.4g} requests/s"
    match search.outcome:
        case "found":
            return f"{best}; with {confidence} confidence it lies {between}; {above}"
        case "imprecise":
            return (
                f"{search.max_qps or 0:.4g} requests/s held, and with {confidence} confidence the highest rate lies "
                f"{between}: after {len(search.trials)} trials that is wider than the {search.config.widest:.0%} "
                f"allowed ({noise(search)}): pass a longer --trial-duration or more --max-trials, or quieten the "
                "host"
            )
        case "cap_holds":
            cap = f"even the cap of {search.max_qps or 0:.4g} requests/s holds"
            return f"{cap}, so no upper bound was found: raise --max-qps"
        case "generator_limited" if search.max_qps is not None:
            return f"{best} that this generator can offer; above it, the generator is the limit ({above})"
        case "generator_limited":
            return f"the generator was the limit at the lowest rate ({above}), so nothing is known about the node"
        case "lowest_fails":
            return f"even the lowest rate does not hold ({above}): pass a lower --target-qps"
        case "unconfirmed":
            return (
                f"no rate was confirmed in {len(search.trials)} trials{_surely(search)} ({noise(search)}): pass a "
                "longer --trial-duration or more --max-trials, or quieten the host"
            )
    best_so_far = f"{search.held_qps:.4g} requests/s held" if search.held_qps is not None else "no rate had held"
    return f"the search ended early, after {len(search.trials)} trials; {best_so_far} by then"


def report_trial(events: EventLog, search: Search, trial: Trial) -> None:
    """Report a trial to the dashboard and the terminal."""
    events.metrics(
        {
            "trial_qps": trial.target_qps,
            "trial_goodput_percent": 100 * trial.goodput_share,
            "trial_ttft_sched_p99_ms": trial.ttft_sched["p99_ms"],
            "highest_held_qps": search.held_qps,
        }
    )
    events.say(
        f"trial {trial.number} ({trial.purpose}): {trial.target_qps:.4g} requests/s, "
        f"{trial.goodput_share:.1%} kept the service level: {trial.verdict}"
        + (f" ({trial.reason})" if trial.reason else "")
    )
