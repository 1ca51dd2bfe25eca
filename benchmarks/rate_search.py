"""How often the interval of a search for the highest rate is right, in virtual time and on this machine.

python -m benchmarks.rate_search [SEARCHES]       simulated hosts from quiet to noisy (default 500 searches each)
python -m benchmarks.rate_search --servers [SEARCHES]   servers that are not like the search's model, served request by
                                                  request (default 20 searches each; about half an hour of a core)
python -m benchmarks.rate_search --real [SEEDS]   seeds 0 to SEEDS − 1 (default 10): llama-3.1-8b on each GPU, or
                                                  else the tiny model on this CPU; records in artifacts/rate_search.
                                                  A seed that has a record is not measured again
"""

import json
import math
import os
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "runners"))

from llmval_runners.load_test.load_flags import WIDEST  # noqa: E402
from llmval_runners.load_test.rate_search import Search  # noqa: E402
from llmval_runners.load_test.rate_trial import FAILS, HOLDS, NextTrial, SearchConfig, Trial  # noqa: E402

from benchmarks.virtual_servers import SERVERS, search_of, true_rate  # noqa: E402

# Relative width over which trials turn from holding to failing; share of disturbed trials; trials that one disturbance
# lasts on average. The search assumes that disturbances are independent, so the last two hosts break its model.
HOSTS = (
    (0.003, 0.0, 1.0),
    (0.01, 0.0, 1.0),
    (0.02, 0.05, 1.0),
    (0.06, 0.15, 1.0),
    (0.05, 0.1, 3.0),
    (0.1, 0.3, 3.0),
)


def simulated(seed: int, width: float, disturbed: float, lasting: float = 1.0) -> tuple[float, Search]:
    """(true highest rate, the search) on a host whose trials are drawn from `seed`."""
    source = random.Random(f"{seed} {width} {disturbed} {lasting}")
    true = math.exp(source.uniform(math.log(5), math.log(500)))
    search, bad = Search(SearchConfig(4, None, 0.05, WIDEST, 0.99, 30, seed, 40, 0.95)), False
    begin = disturbed / (1 - disturbed) / lasting
    while (planned := search.next()) is not None:
        bad = (
            source.random() > 1 / lasting
            if bad and lasting > 1
            else source.random() < (begin if lasting > 1 else disturbed)
        )
        capable = 0.5 * (1 + math.erf(math.log(true / planned.qps) / width / math.sqrt(2)))
        search.record(_trial(planned, holds=not bad and source.random() < capable))
    return true, search


def _trial(planned: NextTrial, *, holds: bool) -> Trial:
    qps = planned.qps
    return Trial(
        planned.number, planned.purpose, planned.seed, qps, qps, qps, qps, None, 1.0 if holds else 0.5, 100, 100, 1.0,
        0.0, {}, {}, {}, {}, 1.0, HOLDS if holds else FAILS, "" if holds else "simulated",
    )  # fmt: skip


def coverage(searches: int) -> None:
    """Print a line for each host (see `_show`)."""
    for width, disturbed, lasting in HOSTS:
        made = [simulated(seed, width, disturbed, lasting) for seed in range(searches)]
        _show(f"width {width:.3f}, disturbed {disturbed:.0%} for {lasting:g} trials", made)


def coverage_of_servers(searches: int) -> None:
    """Print a line for each virtual server (see `_show`), in a process for each core."""
    with ProcessPoolExecutor() as pool:
        for server in SERVERS:
            true = pool.submit(true_rate, server)
            made = list(pool.map(search_of, [server] * searches, range(searches)))
            _show(f"{server.name}, true rate {true.result():.4g}", [(true.result(), search) for search in made])


def _show(name: str, made: list[tuple[float, Search]]) -> None:
    """A line: outcomes, how often the interval held the true rate, trials, width and error of the rate found."""
    bounded = [(true, search, search.interval) for true, search in made if search.interval is not None]
    right = [low <= true <= high for true, _, (low, high) in bounded]
    said = [low <= true <= high for true, search, (low, high) in bounded if search.outcome == "found"]
    errors = [search.max_qps / true - 1 for true, search in made if search.outcome == "found" and search.max_qps]
    outcomes = sorted({search.outcome for _, search in made})
    counted = ", ".join(f"{name} {sum(search.outcome == name for _, search in made)}" for name in outcomes)
    print(
        f"{name}: {counted}; interval right "
        f"{fmean(right):.1%} of {len(right)}, where found {fmean(said) if said else math.nan:.1%} of {len(said)}; "
        f"{fmean(len(search.trials) for _, search in made):.1f} trials; median width "
        f"{median(high / low - 1 for _, _, (low, high) in bounded):.1%}; found rate "
        + (f"{min(errors):+.1%} to {max(errors):+.1%} of the true one" if errors else "n/a"),
        flush=True,
    )


LOAD = {  # one search lasts about two minutes
    "cpu": "--model tiny --device cpu --slo-ttft-ms 100 --target-qps 20 --trial-duration 3 --drain-timeout 5",
    # Short requests: with many in a trial, a smaller part of the outcome is chance.
    "cuda": "--model llama-3.1-8b --device cuda --slo-ttft-ms 200 --slo-tpot-ms 40 --target-qps 180 --precision 0.1 "
    "--prompt-len uniform:64:192 --output-len 16 --trial-duration 4 --drain-timeout 20",
}


def real(seeds: int, folder: Path) -> None:
    """Search on this machine with `seeds` seeds, one at a time on each GPU or on the CPU.

    Prints each seed's rate and interval, then the spread, and how many intervals hold the rate at which the trials of
    all seeds turn; the records stay in `folder`.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    places = range(gpus) if gpus else [None]
    with ThreadPoolExecutor(len(places)) as pool:
        lanes = pool.map(
            lambda lane: [_search(seed, places[lane], folder) for seed in range(lane, seeds, len(places))],
            range(len(places)),
        )
        searches = [search for lane in lanes for search in lane]
    found = [search["max_qps"] for search in searches if search["max_qps"]]
    if not found:
        return
    middle = median(found)
    intervals = [search["interval_qps"] for search in searches if search["interval_qps"]]
    turn = turning_rate(
        [(trial["target_qps"], trial["verdict"] == HOLDS) for one in searches for trial in one["trials"]]
    )
    holding = sum(low <= turn <= high for low, high in intervals)
    print(
        f"rates that hold: median {middle:.4g}, from {min(found) / middle - 1:+.1%} to {max(found) / middle - 1:+.1%}; "
        f"the trials of all seeds turn at {turn:.4g} requests/s, which {holding} of {len(intervals)} intervals hold"
    )


def turning_rate(trials: list[tuple[float, bool]]) -> float:
    """The rate, in requests/s, with the fewest trials (rate, held) on the wrong side: failed below it or held above it.

    A search reports the lower end of its interval, so the reported rates lie below the rate that their intervals hold.
    """
    rates = sorted(rate for rate, _ in trials)
    between = [(low + high) / 2 for low, high in pairwise(rates)]
    wrong = [sum(held == (rate > turn) for rate, held in trials) for turn in between]
    return median(turn for turn, count in zip(between, wrong, strict=True) if count == min(wrong))


def _search(seed: int, gpu: int | None, folder: Path) -> dict[str, Any]:
    path = folder / f"seed-{seed}.json"
    if not path.exists():
        _measure(seed, gpu, path)
    search: dict[str, Any] = json.loads(path.read_text())["llmval"]["search"]
    interval = search["interval_qps"]
    between = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "no interval"
    print(
        f"seed {seed}: {search['outcome']}, {search['max_qps'] or math.nan:.4g}, {between}, "
        f"{len(search['trials'])} trials; {search['noise']}",
        flush=True,
    )
    return search


def _measure(seed: int, gpu: int | None, path: Path) -> None:
    flags = [*LOAD["cpu" if gpu is None else "cuda"].split(), "--seed", str(seed), "--output-json", str(path)]
    subprocess.run(
        [sys.executable, str(ROOT / "runners/inference_server_load_test.py"), "--find-max-qps", *flags, "--quiet"],
        env=os.environ | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": str(gpu)}), stdout=subprocess.DEVNULL,
        check=False,
    )  # fmt: skip


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    if "--real" in sys.argv:
        kept = Path("artifacts/rate_search")
        kept.mkdir(parents=True, exist_ok=True)
        real(numbers[0] if numbers else 10, kept)
    elif "--servers" in sys.argv:
        coverage_of_servers(numbers[0] if numbers else 20)
    else:
        coverage(numbers[0] if numbers else 500)
