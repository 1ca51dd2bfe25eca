"""Named ranges of the engine's work on a profiler's timeline: prefill, decode step, collectives.

Off, which is how every untraced run has it, `mark` hands out one shared context that does nothing. A CUDA graph
replays kernels and not the ranges in which they were captured, so a captured step is one range around its replay, and
the collectives inside it are told by their kernels' names. Only a step that runs eagerly has a range for each.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

PREFILL, DECODE, TOGETHER = "prefill", "decode step", "prefill and decode"
ALL_REDUCE, ALL_GATHER, PLAN = "all-reduce", "all-gather", "plan broadcast"
NAMES = (PREFILL, DECODE, TOGETHER, ALL_REDUCE, ALL_GATHER, PLAN)

_NOTHING = nullcontext()
_open: Callable[[str], AbstractContextManager[object]] | None = None


def use(opener: Callable[[str], AbstractContextManager[object]] | None) -> None:
    """What opens a range from here on: `torch.cuda.nvtx.range`, `torch.profiler.record_function`, or None for off."""
    global _open
    _open = opener


def mark(name: str) -> AbstractContextManager[object]:
    """A range called `name` around a `with` block, while a profiler is attached."""
    # Asked first: what torch.compile traces must not depend on the switch, or turning it would compile anew.
    if torch.compiler.is_compiling() or _open is None:
        return _NOTHING
    return _open(name)


def step_name(*, decodes: bool, prefills: bool) -> str:
    """What a step that holds these is called."""
    return TOGETHER if decodes and prefills else PREFILL if prefills else DECODE
