"""The flags that every load test has: the offered load, the service level, and the search for the highest rate."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmval_runners.load_test.metrics import LEAST_REQUESTS, Slo
from llmval_runners.process.arguments import count, natural, positive, share
from llmval_runners.process.errors import Refused

MAX_TRIALS, LEAST_TRIALS, LEAST_PRECISION = 40, 8, 0.005
# Close to the highest rate the bursts of Poisson arrivals decide each trial: 40 trials of a queue with constant service
# give 0.1 to 0.2 (docs/results/h200-x2-2026-11-29).
WIDEST = 0.2


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The search for the highest rate. Rates in requests/s; `precision`, `widest`: relative; `min_goodput`: 0 to 1."""

    max_qps: float | None
    precision: float
    widest: float
    min_goodput: float
    max_trials: int
    confidence: float


def add_load_flags(root: argparse.ArgumentParser, prompt_default: str, output_default: str) -> None:
    """The offered load. The defaults of the lengths are words for the help."""
    load = root.add_argument_group("load")
    load.add_argument("--duration", type=positive, default=60.0, metavar="S", help="seconds of arrivals (default 60)")
    load.add_argument("--target-qps", type=positive, default=4.0, metavar="RATE", help="requests/s (default 4)")
    load.add_argument(
        "--burstiness",
        type=_burstiness,
        default=1.0,
        metavar="SHAPE",
        help="shape of the gamma-distributed gaps; 1 is Poisson (default); `constant`: equal gaps",
    )
    lengths = "512, uniform:512:1024 or lognormal:MEDIAN:SIGMA:MAX"
    load.add_argument("--prompt-len", metavar="DIST", help=f"tokens: {lengths} (default {prompt_default})")
    load.add_argument("--output-len", metavar="DIST", help=f"tokens, likewise (default {output_default})")
    load.add_argument(
        "--warmup", type=natural, default=4, metavar="N", help="requests run before the window opens (default 4)"
    )
    load.add_argument(
        "--drain-timeout",
        type=positive,
        default=60.0,
        metavar="S",
        help="longest wait for the last answers (default 60)",
    )
    load.add_argument(
        "--max-in-flight", type=count, metavar="N", help="cap on requests in flight (default none: open loop)"
    )
    load.add_argument("--temperature", type=_temperature, default=0.0, help="0 is greedy (default)")
    load.add_argument("--seed", type=natural, default=0)


def add_search_flags(root: argparse.ArgumentParser) -> None:
    """The search for the highest rate."""
    search = root.add_argument_group("search for the highest rate that holds the service level (needs a --slo-…)")
    search.add_argument(
        "--find-max-qps",
        action="store_true",
        help="instead of one window: trials from --target-qps up, doubled, then where they tell most; a trial that "
        "fails against expectation is repeated, and the interval that holds the rate is reported",
    )
    search.add_argument(
        "--trial-duration", type=positive, metavar="S", help="seconds of arrivals of each trial (default: --duration)"
    )
    search.add_argument(
        "--max-qps", type=positive, metavar="RATE", help="highest rate to try (default: until a rate does not hold)"
    )
    search.add_argument(
        "--precision",
        type=share,
        metavar="SHARE",
        help="end when the interval that holds the highest rate is at most this wide, from 0.005 (default 0.05; after "
        f"the last trial an interval of {WIDEST:g} is enough, if --precision is not given)",
    )
    search.add_argument(
        "--confidence", type=share, metavar="SHARE", help="that the interval holds the rate, below 1 (default 0.95)"
    )
    search.add_argument(
        "--max-trials", type=count, metavar="N", help=f"end with a wider interval after N trials (default {MAX_TRIALS})"
    )
    search.add_argument(
        "--min-goodput", type=share, metavar="SHARE", help="share of requests that must keep every limit (default 0.99)"
    )


def add_slo_flags(root: argparse.ArgumentParser) -> None:
    """The service level."""
    slo = root.add_argument_group("service level (a request that keeps all counts as goodput)")
    slo.add_argument("--slo-ttft-ms", type=positive, metavar="MS", help="first token, from the intended arrival")
    slo.add_argument(
        "--slo-tpot-ms", type=positive, metavar="MS", help="a request's mean time per token after the first"
    )
    slo.add_argument("--slo-e2e-ms", type=positive, metavar="MS", help="last token, from the intended arrival")


def slo_of(found: argparse.Namespace) -> Slo:
    """The limits of the parsed flags."""
    return Slo(found.slo_ttft_ms, found.slo_tpot_ms, found.slo_e2e_ms)


def duration_of(found: argparse.Namespace) -> float:
    """Seconds of arrivals of one window."""
    seconds: float = (found.find_max_qps and found.trial_duration) or found.duration
    return seconds


def search_of(found: argparse.Namespace, slo: Slo) -> SearchOptions | None:
    """The search that the parsed flags ask for, if any.

    Raises:
        Refused: flags that need another one, or a first rate that gives too few requests.
    """
    if not found.find_max_qps:
        flags = {"--trial-duration": found.trial_duration, "--max-qps": found.max_qps}
        flags |= {"--precision": found.precision, "--min-goodput": found.min_goodput}
        flags |= {"--confidence": found.confidence, "--max-trials": found.max_trials}
        if given := [flag for flag, value in flags.items() if value is not None]:
            raise Refused(
                f"{given[0]} is for the search for the highest rate: pass --find-max-qps too, or leave it out."
            )
        return None
    if not slo.stated:
        raise Refused(
            "--find-max-qps looks for the highest rate that holds a service level: pass --slo-ttft-ms, --slo-tpot-ms "
            "or --slo-e2e-ms."
        )
    if found.max_qps is not None and found.max_qps < found.target_qps:
        raise Refused(
            f"--max-qps {found.max_qps:g} is below --target-qps {found.target_qps:g}, where the search begins: "
            "pass a lower --target-qps."
        )
    duration = duration_of(found)
    if found.target_qps * duration < LEAST_REQUESTS:
        raise Refused(
            f"{found.target_qps:g} requests/s for {duration:g} s are fewer than {LEAST_REQUESTS} "
            "requests, too few to see whether a queue grows: pass a longer --trial-duration or a higher --target-qps."
        )
    if found.precision is not None and found.precision < LEAST_PRECISION:
        raise Refused(
            f"--precision {found.precision:g} is finer than a search can be: pass {LEAST_PRECISION:g} or more."
        )
    if found.confidence is not None and not 0.5 <= found.confidence < 1:
        raise Refused(f"--confidence {found.confidence:g} is not from 0.5 to below 1: pass one such as 0.95.")
    if found.max_trials is not None and found.max_trials < LEAST_TRIALS:
        raise Refused(f"--max-trials {found.max_trials} are too few to find a rate: pass {LEAST_TRIALS} or more.")
    return SearchOptions(
        found.max_qps,
        0.05 if found.precision is None else found.precision,
        WIDEST if found.precision is None else found.precision,
        0.99 if found.min_goodput is None else found.min_goodput,
        MAX_TRIALS if found.max_trials is None else found.max_trials,
        0.95 if found.confidence is None else found.confidence,
    )


def recorded_burstiness(burstiness: float) -> float | None:
    """The burstiness in a record; None for constant gaps, because JSON has no infinity."""
    return None if math.isinf(burstiness) else burstiness


def burstiness_in(workload: Mapping[str, Any]) -> float:
    """The burstiness of a record's workload."""
    found: float | None = workload["burstiness"]
    return math.inf if found is None else found


def _burstiness(text: str) -> float:
    return math.inf if text == "constant" else positive(text)


def _temperature(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"a temperature of {text} is not possible")
    return value
