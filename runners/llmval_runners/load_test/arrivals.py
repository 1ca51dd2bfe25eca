"""When requests arrive and how long they are: everything drawn before the clock starts, from one seed."""

import math
import random
from dataclasses import dataclass

from llmval_runners.process.errors import Refused


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of token counts: `fixed:N`, `uniform:LOW:HIGH` or `lognormal:MEDIAN:SIGMA:MAX`; all at least 1."""

    kind: str
    low: float
    high: float = 0.0
    most: int = 0

    @classmethod
    def parse(cls, text: str) -> "Lengths":
        """Read `512`, `fixed:512`, `uniform:512:1024` or `lognormal:512:0.6:4096`; raises Refused otherwise."""
        kind, *numbers = text.split(":") if ":" in text else ["fixed", text]
        try:
            match kind, numbers:
                case "fixed", [count]:
                    found = cls("fixed", int(count), int(count), int(count))
                case "uniform", [low, high]:
                    found = cls("uniform", int(low), int(high), int(high))
                case "lognormal", [median, sigma, most]:
                    found = cls("lognormal", float(median), float(sigma), int(most))
                case _:
                    raise ValueError
        except ValueError:
            raise Refused(
                f"{text!r} is not a length distribution: pass 512, uniform:512:1024 or lognormal:MEDIAN:SIGMA:MAX."
            ) from None
        ordered = found.low <= found.most and (found.kind != "lognormal" or found.high >= 0)
        if found.low < 1 or not ordered or not math.isfinite(found.high):
            raise Refused(f"{text!r} has lengths out of order or below 1: pass the smallest first, from 1 up.")
        return found

    def draw(self, source: random.Random) -> int:
        if self.kind == "uniform":
            return source.randint(int(self.low), int(self.high))
        if self.kind == "lognormal":
            return min(self.most, max(1, round(source.lognormvariate(math.log(self.low), self.high))))
        return int(self.low)

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"fixed:{int(self.low)}"
        return (
            f"uniform:{int(self.low)}:{int(self.high)}"
            if self.kind == "uniform"
            else f"lognormal:{self.low:g}:{self.high:g}:{self.most}"
        )


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of the schedule: when it is due (seconds after the window opens) and its lengths in tokens."""

    index: int
    intended_s: float
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a window offers: drawn from `seed` before its clock starts."""

    arrivals: list[Arrival]
    warmup: list[Arrival]
    target_qps: float
    duration_s: float
    seed: int


def arrival_times(rate: float, duration_s: float, burstiness: float, seed: int) -> list[float]:
    """Absolute deadlines in seconds, the first at 0: round(rate · duration) of them.

    Gaps are gamma-distributed with shape = burstiness and mean 1/rate; burstiness 1 is the exponential gap of a Poisson
    process, above 1 is more regular, below 1 more bursty (as vLLM's `--burstiness`). They are then stretched so that
    the last of N deadlines lies at (N−1)/rate: the offered rate by MLPerf LoadGen's formula, (N−1)/last, is exactly the
    rate asked for, and two seeds offer equal load. For exponential gaps this is the Poisson process given its count.

    Raises:
        Refused: fewer than two requests, or gaps that are all 0.
    """
    count = round(rate * duration_s)
    if count < 2:
        raise Refused(
            f"{rate:g} requests a second for {duration_s:g} s make fewer than 2 requests, and a rate needs 2: "
            "pass a longer --duration."
        )
    source = random.Random(f"arrivals {seed}")
    total, times = 0.0, [0.0]
    for _ in range(count - 1):
        total += source.gammavariate(burstiness, 1 / burstiness)
        times.append(total)
    if not total:
        raise Refused(f"a burstiness of {burstiness:g} leaves no time between the requests: pass 0.01 or more.")
    stretch = (count - 1) / rate / total
    return [time * stretch for time in times]


def schedule(times: list[float], prompt: Lengths, output: Lengths, seed: int) -> list[Arrival]:
    """Give each deadline its prompt and output length. The lengths do not depend on rate or burstiness."""
    source = random.Random(f"lengths {seed}")
    return [Arrival(index, time, prompt.draw(source), output.draw(source)) for index, time in enumerate(times)]
