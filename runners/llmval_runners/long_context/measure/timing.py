"""One length, timed: prompts prefilled chunk by chunk, then decode steps of the whole batch."""

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

from llmval_runners.long_context.engine_adapter import Context, Sequences
from llmval_runners.long_context.measure.energy import Energy
from llmval_runners.measure.device_clock import Mark, mark

IN_FLIGHT = 2  # chunks: the device never waits for the host, and a stop is never more than two chunks away


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP was heard."""


@dataclass(slots=True)
class Report:
    """How the work hears of a stop and tells of its progress; both are called between chunks and steps."""

    stopped: Callable[[], bool]
    progress: Callable[[str, int, int], None]  # what, tokens done, tokens in all
    where: str = "nothing"  # what is being done, for the record of a failure
    tokens: int = 0  # in the cache

    def at(self, where: str) -> None:
        """Raises Interrupted."""
        if self.stopped():
            raise Interrupted
        self.where = where


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds, as this rank saw them. Every rank does the same work."""

    prefill_s: float
    ttft_s: float  # from the first chunk's start to the first sampled token on the host
    steps_s: list[float] = field(repr=False)
    decode_wall_s: float  # of all steps, waiting for the last token included
    prefill_joules: tuple[float | None, str | None] = (None, None)
    decode_joules: tuple[float | None, str | None] = (None, None)

    def decode_json(self) -> dict[str, float]:
        return {
            "step_ms": 1000 * median(self.steps_s),
            "step_min_ms": 1000 * min(self.steps_s),
            "step_max_ms": 1000 * max(self.steps_s),
            "wall_step_ms": 1000 * self.decode_wall_s / len(self.steps_s),
            "steps": len(self.steps_s),
        }


def prompts(batch: int, length: int, vocab: int, seed: int) -> Sequences:
    """Uniformly random token ids, the same on every rank and for every precision; no two prompts share a prefix."""
    return [random.Random(f"{seed} {length} {row}").choices(range(vocab), k=length) for row in range(batch)]


def chunks(length: int, chunk: int) -> Iterator[tuple[int, int]]:
    """(start, count) of each."""
    for start in range(0, length, chunk):
        yield start, min(chunk, length - start)


def prefill(context: Context, sequences: Sequences, report: Report, what: str) -> tuple[Mark, Mark, float, float]:
    """Prefill every prompt; the marks around it, and the host's seconds to the first and to the last prompt's token."""
    total, done, first = sum(map(len, sequences)), 0, 0.0
    waiting: deque[tuple[Mark, int]] = deque()
    began = time.perf_counter()
    start = mark(context.device)

    def passed() -> None:
        reached, tokens = waiting.popleft()
        reached.wait()
        report.tokens = tokens
        report.progress(what, tokens, total)

    for row, tokens in enumerate(sequences):
        for at, count in chunks(len(tokens), context.setup.chunk):
            report.at(f"{what}: prompt {row + 1}, tokens {at} to {at + count}")
            last = at + count == len(tokens)
            sampled = context.prefill(row, at, tokens[at : at + count], last)
            done += count
            waiting.append((mark(context.device), done))
            if last and row == 0:
                list(sampled)
                first = time.perf_counter() - began
            if len(waiting) > IN_FLIGHT:
                passed()
    end = mark(context.device)
    while waiting:
        passed()
    end.wait()
    return start, end, first, time.perf_counter() - began


def decode(context: Context, length: int, steps: int, report: Report, what: str) -> tuple[list[float], float]:
    """Seconds of each step on the device, and of all of them on the host's clock."""
    began = time.perf_counter()
    marks, sampled = [mark(context.device)], None
    for step in range(steps):
        report.at(f"{what}: step {step + 1}, position {length + step}")
        sampled = context.decode(length + step)
        marks.append(mark(context.device))
        if step >= IN_FLIGHT:
            marks[step - IN_FLIGHT].wait()
    if sampled is not None:
        list(sampled)
    marks[-1].wait()
    wall = time.perf_counter() - began
    report.progress(what, steps, steps)
    return [later.seconds_since(earlier) for earlier, later in pairwise(marks)], wall


def timed(
    context: Context, sequences: Sequences, energy: Energy, report: Report, phase: Callable[[str], None], thin: bool
) -> Timed:
    """Once through as a warm-up, which compiles kernels and plans for these very lengths; then measured.

    `thin`: the warm-up is of one layer. Clocks and temperature are then those of a GPU that has just begun to work.
    """
    length, steps = len(sequences[0]), context.setup.decode_tokens
    phase("warmup")
    with context.first_layer_alone() if thin else nullcontext():
        prefill(context, sequences, report, "warmup")
    decode(context, length, min(steps, 4), report, "warmup decode")
    phase("prefill")
    energy.begin()
    start, end, first, _ = prefill(context, sequences, report, "prefill")
    prefill_joules = energy.end()
    phase("decode")
    energy.begin()
    step_seconds, wall = decode(context, length, steps, report, "decode")
    return Timed(end.seconds_since(start), first, step_seconds, wall, prefill_joules, energy.end())


def probe(context: Context, length: int, seed: int, report: Report) -> None:
    """The last chunk of each prompt and one decode step: the same peak memory as the whole, without its quadratic time.

    What lies before the chunk in the cache is zeros: a step allocates by lengths, never by values.
    """
    count = min(context.setup.chunk, length)
    tail: Any = prompts(context.setup.batch, count, context.setup.shape.vocab, seed)
    for row, tokens in enumerate(tail):
        report.at(f"probe: prompt {row + 1}, tokens {length - count} to {length}")
        list(context.prefill(row, length - count, tokens, True))
    decode(context, length, 1, report, "probe decode")
