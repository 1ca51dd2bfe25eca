"""Named ranges of the engine's work on a profiler's timeline: prefill, decode step, collectives.

Without a profiler, `mark` returns one shared context that does nothing. A CUDA graph replays kernels, not the ranges in
which they were captured. So a captured step is one range around its replay, and its collectives are recognised by their
kernels' names. A step that runs eagerly has a range for each collective.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

PREFILL, DECODE, MIXED = "prefill", "decode step", "prefill and decode"
ALL_REDUCE, ALL_GATHER, PLAN = "all-reduce", "all-gather", "plan broadcast"
NAMES = (PREFILL, DECODE, MIXED, ALL_REDUCE, ALL_GATHER, PLAN)

_NO_RANGE = nullcontext()
_open: Callable[[str], AbstractContextManager[object]] | None = None


def use(opener: Callable[[str], AbstractContextManager[object]] | None) -> None:
    """Open ranges with `opener` from now on: `torch.cuda.nvtx.range` or `torch.profiler.record_function`; None: off."""
    global _open
    _open = opener


def mark(name: str) -> AbstractContextManager[object]:
    """A range called `name` around a `with` block, while a profiler is attached."""
    # First, so that compiled code does not depend on `_open`: changing it would recompile.
    if torch.compiler.is_compiling() or _open is None:
        return _NO_RANGE
    return _open(name)


def step_name(*, decodes: bool, prefills: bool) -> str:
    """The range's name for a step with decodes, prompt chunks, or both."""
    return MIXED if decodes and prefills else PREFILL if prefills else DECODE
