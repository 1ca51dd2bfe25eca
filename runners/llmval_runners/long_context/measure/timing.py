"""Timing of one length: prompts are prefilled chunk by chunk, then decode steps run on the whole batch."""

import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from llmval_runners.long_context.engine_adapter import Context, Sequences
from llmval_runners.long_context.measure.energy import EnergyMeter
from llmval_runners.measure.device_clock import Mark, mark

IN_FLIGHT = 2  # chunks: the device never waits for the host, and a stop takes two chunks at most


class Interrupted(Exception):
    """The run received SIGINT, SIGTERM or SIGHUP."""


@dataclass(slots=True)
class RunControl:
    """Stops the work on request, and records how far it is. Both functions are called between chunks and steps."""

    stopped: Callable[[], bool]
    progress: Callable[[str, int, int], None]  # the kind of work, tokens done, tokens in all
    where: str = "nothing"  # the present work, for the record of a failure

    def begin(self, where: str) -> None:
        """Enter the next piece of work. Raises Interrupted if the run should stop."""
        if self.stopped():
            raise Interrupted
        self.where = where


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds on this rank. Every rank does the same work."""

    prefill_s: float
    ttft_s: float  # from the start of the first chunk until the first sampled token is on the host
    steps_s: list[float] = field(repr=False)
    decode_wall_s: float  # all steps, including the wait for the last token
    prefill_joules: tuple[float | None, str | None] = (None, None)
    decode_joules: tuple[float | None, str | None] = (None, None)

    def decode_json(self) -> dict[str, float]:
        return {
            "step_ms": 1000 * median(self.steps_s),
            "step_min_ms": 1000 * min(self.steps_s),
            "step_max_ms": 1000 * max(self.steps_s),
            "step_p90_ms": 1000 * percentile(self.steps_s, 90),
            "step_p99_ms": 1000 * percentile(self.steps_s, 99),
            "wall_step_ms": 1000 * self.decode_wall_s / len(self.steps_s),
            "steps": len(self.steps_s),
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear interpolation between closest ranks (NumPy's default)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = math.floor(place)
    return ordered[low] + (ordered[min(low + 1, len(ordered) - 1)] - ordered[low]) * (place - low)


def prompts(batch: int, length: int, vocab: int, seed: int) -> Sequences:
    """Uniformly random token ids, the same on every rank and for every precision. No two prompts share a prefix."""
    return [random.Random(f"{seed} {length} {row}").choices(range(vocab), k=length) for row in range(batch)]


def chunks(length: int, chunk: int) -> Iterator[tuple[int, int]]:
    """(start, count) of each chunk of a prompt."""
    for start in range(0, length, chunk):
        yield start, min(chunk, length - start)


def prefill(context: Context, sequences: Sequences, control: RunControl, what: str) -> tuple[Mark, Mark, float]:
    """Prefill every prompt. Returns the marks before and after, and the seconds to the first prompt's token."""
    total, done, first = sum(map(len, sequences)), 0, 0.0
    waiting: deque[tuple[Mark, int]] = deque()
    began = time.perf_counter()
    start = mark(context.device)

    def wait_for_oldest() -> None:
        reached, tokens = waiting.popleft()
        reached.wait()
        control.progress(what, tokens, total)

    for row, tokens in enumerate(sequences):
        for at, count in chunks(len(tokens), context.setup.chunk):
            control.begin(f"{what}: prompt {row + 1}, tokens {at} to {at + count}")
            last = at + count == len(tokens)
            sampled = context.prefill(row, at, tokens[at : at + count], last)
            done += count
            waiting.append((mark(context.device), done))
            if last and row == 0:
                list(sampled)
                first = time.perf_counter() - began
            if len(waiting) > IN_FLIGHT:
                wait_for_oldest()
    end = mark(context.device)
    while waiting:
        wait_for_oldest()
    end.wait()
    return start, end, first


def decode(context: Context, length: int, steps: int, control: RunControl, what: str) -> tuple[list[float], float]:
    """Seconds of each step on the device, and of all steps on the host's clock."""
    began = time.perf_counter()
    marks, sampled = [mark(context.device)], None
    for step in range(steps):
        control.begin(f"{what}: step {step + 1}, position {length + step}")
        sampled = context.decode(length + step)
        marks.append(mark(context.device))
        if step >= IN_FLIGHT:
            marks[step - IN_FLIGHT].wait()
    if sampled is not None:
        list(sampled)
    marks[-1].wait()
    wall = time.perf_counter() - began
    control.progress(what, steps, steps)
    return [later.seconds_since(earlier) for earlier, later in pairwise(marks)], wall


def time_length(
    context: Context,
    sequences: Sequences,
    energy: EnergyMeter,
    control: RunControl,
    enter_phase: Callable[[str], None],
    one_layer_warm_up: bool,
) -> Timing:
    """Run once as a warm-up, which compiles the kernels and plans of these lengths; then measure.

    After a warm-up of one layer only, clocks and temperature are those of a GPU that has just begun to work.
    """
    length, steps = len(sequences[0]), context.setup.decode_tokens
    enter_phase("warmup")
    with context.first_layer_alone() if one_layer_warm_up else nullcontext():
        prefill(context, sequences, control, "warmup")
    decode(context, length, min(steps, 4), control, "warmup decode")
    enter_phase("prefill")
    energy.begin()
    start, end, first = prefill(context, sequences, control, "prefill")
    prefill_joules = energy.end()
    enter_phase("decode")
    energy.begin()
    step_seconds, wall = decode(context, length, steps, control, "decode")
    return Timing(end.seconds_since(start), first, step_seconds, wall, prefill_joules, energy.end())


def probe(context: Context, length: int, seed: int, control: RunControl) -> None:
    """Run the last chunk of each prompt and one decode step: the peak memory of the whole length in a short time.

    The cache before the chunk holds zeros. Memory depends on lengths, never on values.
    """
    count = min(context.setup.chunk, length)
    for row, tokens in enumerate(prompts(context.setup.batch, count, context.setup.shape.vocab, seed)):
        control.begin(f"probe: prompt {row + 1}, tokens {length - count} to {length}")
        list(context.prefill(row, length - count, tokens, True))
    decode(context, length, 1, control, "probe decode")
