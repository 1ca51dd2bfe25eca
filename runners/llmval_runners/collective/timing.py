"""The time of one call of a collective: eager, or in a CUDA graph, by CUDA events (on a CPU the host's clock).

Before each timing one call runs untimed: it aligns the ranks, which otherwise wait for the last one inside the timing.
A graph holds all calls of a timing and is replayed twice; the first replay aligns the ranks and hides the launch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median

import torch
from llmval_runners.measure.device_clock import mark

LONGEST_S = 0.5  # of one timing
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call: per repeat the slowest rank's mean over the calls; over the repeats median, least and most.

    `mean_s` has the ranks' mean in place of the slowest, which is what nccl-tests reports by default (`-a 1`).
    """

    median_s: float
    least_s: float
    most_s: float
    mean_s: float
    iterations: int


def iterations_for(call_s: float, most: int) -> int:
    """The number of calls in a timing: `most`, or fewer where they would take longer than `LONGEST_S`."""
    return most if call_s <= 0 else max(min(FEWEST, most), min(most, int(LONGEST_S / call_s)))


def eager(call: Callable[[], None], device: torch.device, iterations: int) -> float:
    """Seconds of one call, the mean of `iterations` calls."""
    call()
    start = mark(device)
    for _ in range(iterations):
        call()
    end = mark(device)
    end.wait()
    return end.seconds_since(start) / iterations


def capture(call: Callable[[], None], calls: int) -> torch.cuda.CUDAGraph:
    """A graph of `calls` calls. The call must have run before, so that buffers and connections exist."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    # NCCL's watchdog thread asks for events of earlier work while this thread captures.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(calls):
            call()
    return graph


def replayed(graph: torch.cuda.CUDAGraph, device: torch.device, iterations: int) -> float:
    """Seconds of one of the `iterations` calls in the graph."""
    graph.replay()
    start = mark(device)
    graph.replay()
    end = mark(device)
    end.wait()
    return end.seconds_since(start) / iterations


def over_ranks(by_rank: list[list[float]], iterations: int) -> Timing:
    """The timing of a group from each rank's seconds per repeat: [ranks][repeats]."""
    repeats = list(zip(*by_rank, strict=True))
    slowest = [max(one) for one in repeats]
    return Timing(median(slowest), min(slowest), max(slowest), median(fmean(one) for one in repeats), iterations)
