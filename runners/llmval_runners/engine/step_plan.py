"""One step of the engine as rank 0 decided it, and its form on the wire: flat integers behind their count.

The receivers must know how much comes. So a plan goes out as a head of one fixed size, which holds any step that only
decodes, and whatever does not fit follows in a second broadcast. It holds no token that the model itself produced:
those stay in the runner's buffer on the device. So rank 0 can decide and send step n+1 while the device still works at
step n, and an engine without host synchronisation needs no other plan than this one.
"""

from dataclasses import dataclass, field

import torch

STEP, IDLE, STOP, TRACE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Admit:
    """A new sequence takes a row of the batch and its pages."""

    row: int
    pages: list[int]


@dataclass(frozen=True, slots=True)
class Prefill:
    """A chunk of a prompt, tokens start … start + len(tokens); `last` chunks give the first output token."""

    row: int
    start: int
    tokens: list[int]
    last: bool


@dataclass(frozen=True, slots=True)
class Decode:
    """One token of a running sequence: the row's last sampled token, at `position`."""

    row: int
    position: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What every rank does next. `code`: of a STOP the exit code to end with, of a TRACE 1 to start and 0 to end it."""

    kind: int = STEP
    admits: list[Admit] = field(default_factory=list)
    decodes: list[Decode] = field(default_factory=list)
    prefills: list[Prefill] = field(default_factory=list)
    code: int = 0

    def encode(self) -> torch.Tensor:
        """Flat int64 [values], the first of which is their count."""
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
        """Read back what `encode` made; what is behind the count is left alone."""
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


def head_for(max_batch: int) -> int:
    """Values of a plan's head: as many as a step has in which all rows decode and nothing else happens."""
    return 6 + max_batch * 2
