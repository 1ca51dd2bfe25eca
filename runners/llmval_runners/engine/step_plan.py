"""The plan of one engine step, decided by rank 0, and its wire format: a count followed by flat integers.

Receivers must know the size of a broadcast beforehand. So a plan is sent as a head of fixed size, which holds any step
that only decodes; the remainder, if any, follows in a second broadcast. A plan contains no sampled tokens: these stay
in the executors' buffers on the devices. So rank 0 can decide and send step n+1 while the device still computes step n.
"""

from dataclasses import dataclass, field

import torch

STEP, IDLE, STOP, TRACE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Admit:
    """A new sequence gets a row of the batch, and its pages."""

    row: int
    pages: list[int]


@dataclass(frozen=True, slots=True)
class Prefill:
    """A chunk of a prompt, at positions start … start + len(tokens). The `last` chunk yields the first output token."""

    row: int
    start: int
    tokens: list[int]
    last: bool


@dataclass(frozen=True, slots=True)
class Decode:
    """The next token of a running sequence; the input is the row's last sampled token, at `position`."""

    row: int
    position: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The next step of every rank. `code` is the exit code of a STOP; for a TRACE, 1 starts it and 0 ends it."""

    kind: int = STEP
    admits: list[Admit] = field(default_factory=list)
    decodes: list[Decode] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    code: int = 0

    def encode(self) -> torch.Tensor:
        """Flat int64 [values]; the first value is their count."""
        flat = [0, self.kind, self.code, len(self.admits), len(self.decodes), len(self.prefills)]
        for admit in self.admits:
            flat += [admit.row, len(admit.pages), *admit.pages]
        for decode in self.decodes:
            flat += [decode.row, decode.position]
        for prefill in self.prefills:
            flat += [prefill.row, prefill.start, len(prefill.tokens), *prefill.tokens, int(prefill.last)]
        flat[0] = len(flat)
        return torch.tensor(flat, dtype=torch.int64)

    @classmethod
    def decode(cls, wire: torch.Tensor) -> "StepPlan":
        """Inverse of `encode`. Ignores values after the count."""
        count, *rest = wire.tolist()
        values = iter(rest[: count - 1])
        kind, code, admits, decodes, prefills = (next(values) for _ in range(5))

        def take(count: int) -> list[int]:
            return [next(values) for _ in range(count)]

        return cls(
            kind,
            [Admit(next(values), take(next(values))) for _ in range(admits)],
            [Decode(next(values), next(values)) for _ in range(decodes)],
            [Prefill(next(values), next(values), take(next(values)), bool(next(values))) for _ in range(prefills)],
            code,
        )


def head_size(max_batch: int) -> int:
    """The number of values in a plan's head: enough for a step in which all rows decode."""
    return 6 + max_batch * 2
