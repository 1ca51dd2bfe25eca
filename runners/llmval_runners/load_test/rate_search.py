"""The highest rate that holds the service level: which trial comes next, and what the trials together say.

Rates double from the first one until a trial does not hold, or a cap is reached; then the geometric middle of the
highest rate that held and the lowest that did not is tried, until the two are as close as asked. All these trials draw
the same lengths and gaps, so that they differ by their rate alone. The rate found is then tried again with another
seed: one that holds by the luck of one draw takes its place as the upper bound, and the search goes on below it.
"""

import math
from dataclasses import dataclass
from typing import Any

from llmval_runners.load_test.trial import FAILS, HOLDS, Trial

GROWTH = 2.0
CONFIRMATIONS = 4  # each moves the bound down by about the precision

FOUND, CAP, GENERATOR, LOWEST_FAILS, UNCONFIRMED, INTERRUPTED = (
    "found",
    "cap_holds",
    "generator_limited",
    "lowest_fails",
    "unconfirmed",
    "interrupted",
)


@dataclass(frozen=True, slots=True)
class Planned:
    """The next trial: its rate in requests/s, what it is for (`bracket`, `bisect`, `confirm`), and its seed."""

    number: int
    qps: float
    purpose: str
    seed: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of the search; rates in requests/s, `precision` relative, `min_goodput` a share of 1."""

    first_qps: float
    max_qps: float | None
    precision: float
    min_goodput: float
    trial_s: float
    seed: int


class Search:
    """Give each trial that `next` plans to `took`, until `next` is None."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.trials: list[Trial] = []
        self.lower: float | None = None  # the highest rate that held, below everything that did not
        self.upper: float | None = None  # the lowest rate that did not hold
        self.outcome = INTERRUPTED  # until there is another
        self._held: list[float] = []
        self._confirmations = 0

    def next(self) -> Planned | None:
        """The next trial; None once the outcome is known."""
        if self.outcome != INTERRUPTED:
            return None
        qps, purpose = self._choose()
        seed = self.asked.seed + (1 + self._confirmations if purpose == "confirm" else 0)
        return Planned(len(self.trials) + 1, qps, purpose, seed)

    def took(self, trial: Trial) -> None:
        """Account for the trial that was planned last."""
        self.trials.append(trial)
        held = trial.verdict == HOLDS
        if trial.purpose == "confirm":
            self._confirmations += 1
            if held:
                self.outcome = self._confirmed()
                return
        if held:
            self._held.append(trial.target_qps)
        else:
            self.upper = trial.target_qps
            self._held = [qps for qps in self._held if qps < self.upper]
        self.lower = max(self._held, default=None)
        if self.lower is None:
            self.outcome = LOWEST_FAILS if trial.verdict == FAILS else GENERATOR
        elif self._confirmations >= CONFIRMATIONS:
            self.outcome = UNCONFIRMED

    @property
    def max_qps(self) -> float | None:
        """The highest rate that held twice; None where none did."""
        last = self.trials[-1] if self.trials else None
        return last.target_qps if last and last.purpose == "confirm" and last.verdict == HOLDS else None

    def _choose(self) -> tuple[float, str]:
        asked, lower, upper = self.asked, self.lower, self.upper
        if lower is None:
            return asked.first_qps, "bracket"
        if upper is not None:
            return (math.sqrt(lower * upper), "bisect") if upper > lower * (1 + asked.precision) else (lower, "confirm")
        if asked.max_qps is not None and lower >= asked.max_qps:
            return lower, "confirm"
        return min(lower * GROWTH, asked.max_qps or math.inf), "bracket"

    def _confirmed(self) -> str:
        if self.upper is None:
            return CAP
        bound = [trial.verdict for trial in self.trials if trial.target_qps == self.upper]
        return FOUND if FAILS in bound else GENERATOR

    def record(self) -> dict[str, Any]:
        """The search as the result has it."""
        asked = self.asked
        return {
            "outcome": self.outcome,
            "sentence": self.sentence(),
            "max_qps": self.max_qps,
            "lowest_not_held_qps": self.upper,
            "first_qps": asked.first_qps,
            "cap_qps": asked.max_qps,
            "precision": asked.precision,
            "min_goodput": asked.min_goodput,
            "trial_duration_s": asked.trial_s,
            "trials": [trial.as_json() for trial in self.trials],
        }

    def sentence(self) -> str:
        """What was found, for people."""
        bound = next((t for t in reversed(self.trials) if t.target_qps == self.upper and t.verdict != HOLDS), None)
        above = f"{bound.target_qps:.4g} requests/s does not hold: {bound.reason}" if bound else ""
        best = f"the highest rate that holds the service level is {self.max_qps or 0:.4g} requests/s"
        match self.outcome:
            case "found":
                return f"{best}, confirmed with another seed; {above}"
            case "cap_holds":
                cap = f"even the cap of {self.max_qps or 0:.4g} requests/s holds"
                return f"{cap}, so no upper bound was found: raise --max-qps"
            case "generator_limited" if self.max_qps is not None:
                return f"{best} that this generator can offer; above it, the generator is the limit ({above})"
            case "generator_limited":
                return f"nothing is known of the node, for the generator was the limit at the lowest rate ({above})"
            case "lowest_fails":
                return f"even the lowest rate does not hold ({above}): pass a lower --target-qps"
            case "unconfirmed":
                return (
                    f"no rate held with {CONFIRMATIONS} other seeds in turn ({above}): pass a longer --trial-duration"
                )
        best_so_far = f"{self.lower:.4g} requests/s held" if self.lower is not None else "no rate had held"
        return f"the search ended early, after {len(self.trials)} trials; {best_so_far} by then"
