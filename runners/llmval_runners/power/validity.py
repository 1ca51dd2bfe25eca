"""The rules that make a phase's figures valid. Each has a measured value, a bound and a reason."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from llmval_runners.measure.limits import SLOWED_DOWN

MIN_WINDOW_S = 10.0
BASELINE_WINDOW_S = 60.0
MIN_WARMUP_S = 5.0
MIN_TRIALS = 3
MAX_CV_PERCENT = 2.0
MAX_DISAGREEMENT_PERCENT = 5.0
MIN_UTILISATION_PERCENT = 70.0
MIN_KNOWN_SHARE = 0.9  # of a window's readings: the missing ones may be those that would have made it invalid
FORBIDDEN_THROTTLING = SLOWED_DOWN  # a software power cap is recorded but allowed


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. If `ok` is False, the figures are invalid; if it is True, `reason` is empty."""

    name: str
    measured: float | str | None
    bound: str
    ok: bool
    reason: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def cv_percent(values: Sequence[float]) -> float | None:
    """Coefficient of variation: sample standard deviation / mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    return 100 * stdev(values) / mean if mean > 0 else float("inf")


def judge(trials: list[dict[str, Any]], *, warmup_s: float, energy_missing: str | None, finite: bool) -> list[Rule]:
    """Apply the rules to the trials of a phase (as recorded by `phase.py`).

    `energy_missing` is the reason if there is no energy. One failed rule, "energy", then replaces those that need it.
    """
    shortest = min(trial["window_s"] for trial in trials)
    not_finite = "" if finite else "the model's output has NaN or infinite values, which change the power draw"
    rules = [
        _at_least("window_s", shortest, MIN_WINDOW_S, "below {bound:g} s it is too short for the counter's steps"),
        _at_least("warmup_s", warmup_s, MIN_WARMUP_S, "clocks and temperature need {bound:g} s of load to settle"),
        _at_least("trials", float(len(trials)), float(MIN_TRIALS), "fewer than {bound:g} trials do not show variation"),
        _variation(trials),
        _rule("output_finite", "yes" if finite else "no", "yes", not_finite),
    ]
    if energy_missing is not None:
        return [*rules, _rule("energy", "not available", "available", f"energy is not available: {energy_missing}")]
    return [*rules, _agreement(trials), _utilisation(trials), _throttling(trials)]


def reasons(rules: list[Rule]) -> list[str]:
    return [rule.reason for rule in rules if not rule.ok]


def _rule(name: str, measured: float | str | None, bound: str, reason: str) -> Rule:
    """A rule that is broken if there is a reason."""
    return Rule(name, measured, bound, not reason, reason)


def _at_least(name: str, measured: float, bound: float, why: str) -> Rule:
    reason = "" if measured >= bound else f"{name} is {measured:.4g}: {why.format(bound=bound)}"
    return _rule(name, measured, f"≥ {bound:g}", reason)


def _variation(trials: list[dict[str, Any]]) -> Rule:
    """The larger variation of tokens/s and (if there is energy) tokens/J."""
    bound = f"≤ {MAX_CV_PERCENT:g}"
    found = {}
    for key in ("tokens_per_s", "tokens_per_joule"):
        values = [trial[key] for trial in trials if trial[key] is not None]
        if (value := cv_percent(values)) is not None:
            found[key] = value
    if not found:
        return _rule("cv_percent", None, bound, "one trial has no coefficient of variation")
    worst = max(found, key=lambda key: found[key])
    reason = ""
    if not found[worst] <= MAX_CV_PERCENT:
        reason = f"{worst} varies by {found[worst]:.2f} % between trials, more than {MAX_CV_PERCENT:g} %"
    return _rule("cv_percent", found[worst], bound, reason)


def _agreement(trials: list[dict[str, Any]]) -> Rule:
    name, bound = "disagreement_percent", f"≤ {MAX_DISAGREEMENT_PERCENT:g}"
    values = [trial[name] for trial in trials]
    if any(value is None for value in values):
        return _rule(name, None, bound, "power could not be read, so the energy counter has no cross-check")
    worst, reason = max(values), ""
    if not worst <= MAX_DISAGREEMENT_PERCENT:
        reason = (
            f"energy counter and integrated power differ by {worst:.1f} %, more than {MAX_DISAGREEMENT_PERCENT:g} %"
        )
    return _rule(name, worst, bound, reason)


def _utilisation(trials: list[dict[str, Any]]) -> Rule:
    name, bound = "utilisation_percent", f"> {MIN_UTILISATION_PERCENT:g}"
    values = [gpu[name] for trial in trials for gpu in trial["gpus"]]
    if any(value is None for value in values):
        return _rule(name, None, bound, "GPU utilisation could not be read")
    worst, reason = min(values), ""
    if not worst > MIN_UTILISATION_PERCENT:
        reason = f"GPU utilisation was {worst:.0f} %, not above {MIN_UTILISATION_PERCENT:g} %: the host kept it waiting"
    elif sparse := _sparse(trials, name):
        reason = f"GPU utilisation is {sparse}"
    return _rule(name, worst, bound, reason)


def _throttling(trials: list[dict[str, Any]]) -> Rule:
    name, bound = "throttling", "none thermal, no power brake"
    shares = [gpu["throttle_share"] for trial in trials for gpu in trial["gpus"]]
    if any(share is None for share in shares):
        return _rule(name, None, bound, "throttle reasons could not be read")
    found = {
        reason: max(share.get(reason, 0.0) for share in shares)
        for reason in FORBIDDEN_THROTTLING
        if any(reason in share for share in shares)
    }
    if not found and (sparse := _sparse(trials, "throttle_share")):
        return _rule(name, sparse, bound, f"throttle reasons are {sparse}")
    text = ", ".join(f"{reason} in {100 * share:.0f} % of the samples" for reason, share in found.items())
    return _rule(name, text or "none", bound, f"the GPU throttled: {text}" if found else "")


def _sparse(trials: list[dict[str, Any]], name: str) -> str:
    """Describe the GPU and trial with the fewest known readings; "" if there are enough.

    Older records have no such count and are judged without it.
    """
    counts = [(gpu["known"][name], gpu["samples"]) for trial in trials for gpu in trial["gpus"] if "known" in gpu]
    known, total = min(counts, key=lambda count: count[0] / count[1], default=(1, 1))
    return "" if known >= MIN_KNOWN_SHARE * total else f"known in {known} of {total} readings, fewer than 90 %"
