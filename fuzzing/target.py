"""What a fuzz target is, and how its cases are made from random numbers, from hypothesis, or from atheris's bytes."""

import atexit
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

_scratch: dict[str, Path] = {}


def scratch(name: str) -> Path:
    """A folder in memory for the files of one target; `remove_scratch` or the end of the process removes it."""
    if name not in _scratch:
        memory = Path("/dev/shm")  # thousands of small files would only wear a disk
        where = memory if os.access(memory, os.W_OK) else None
        _scratch[name] = Path(tempfile.mkdtemp(prefix=f"llmval-fuzz-{name}-", dir=where))
    return _scratch[name]


@atexit.register
def remove_scratch() -> None:
    """Remove the folders of all targets in this process."""
    while _scratch:
        shutil.rmtree(_scratch.popitem()[1], ignore_errors=True)


class Wrong(AssertionError):
    """A case in which llmval does something that it must never do."""


@dataclass(frozen=True)
class Target:
    """One reader under attack.

    `case` draws one hostile input from the random numbers that it gets, and gives it to the reader. It returns what
    became of the input, in a word. It raises `Wrong`, or whatever the reader raises against its promise.
    """

    name: str
    what: str  # for the table: the input, and what must hold
    case: Callable[[random.Random], str]
    cases: int  # of the long run
    needs: Callable[[], str | None] = lambda: None  # why it cannot run here; None if it can
    packages: tuple[str, ...] = ()  # that atheris instruments


@dataclass
class Done:
    """The outcomes of many cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)  # the first findings, with their seeds
    cases: int = 0
    failed: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        parts = ", ".join(f"{count:,} {word}" for word, count in sorted(self.outcomes.items()))
        return f"{self.cases:,} cases in {self.seconds:.0f} s: {parts}; {self.failed} wrong"


class BytesAsRandom(random.Random):
    """Random numbers from given bytes, so that a fuzzer which changes the bytes changes the case; zeros at the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        super().__init__(0)

    def seed(self, *_: object, **__: object) -> None:
        """The bytes decide."""

    def random(self) -> float:
        return self.getrandbits(53) / (1 << 53)

    def getrandbits(self, k: int, /) -> int:
        size = (k + 7) // 8
        part = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(part, "little") & ((1 << k) - 1)


def fuzz(target: Target, count: int, seed: int, *, first: int = 0) -> Done:
    """Try `count` cases; the same seed makes the same cases, whatever `first` is."""
    done = Done()
    began = time.monotonic()
    for number in range(first, first + count):
        try:
            done.outcomes[target.case(random.Random(f"{seed} {number}"))] += 1
        except KeyboardInterrupt:
            break
        except Exception as error:  # noqa: BLE001  (this is what a fuzzer looks for)
            done.failed += 1
            if done.failed <= 20:
                text = str(error) if isinstance(error, Wrong) else traceback.format_exc(limit=-4)
                done.wrong.append(f"{target.name}, seed {seed}, case {number}: {text}")
                print(done.wrong[-1], file=sys.stderr, flush=True)
        done.cases += 1
    done.seconds = time.monotonic() - began
    return done
