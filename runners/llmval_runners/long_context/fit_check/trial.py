"""Runs one combination: weights, cache, graphs, prompts, decode steps. Reports the peak, or where memory ran out."""

from dataclasses import dataclass

import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.weights import random_weights
from llmval_runners.long_context import failure
from llmval_runners.long_context.engine_adapter import Context, Weights, release
from llmval_runners.long_context.fit_check.cases import Case
from llmval_runners.long_context.fit_check.memory_cap import GRANULE, memory_cap
from llmval_runners.long_context.measure.timing import RunControl, decode, prefill, prompts

SPARE = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome on one rank. `out_of_memory` is the work during which memory ran out; None if it ran to its end."""

    out_of_memory: str | None
    message: str | None
    peak_bytes: int


def run(case: Case, parallel: Parallel, control: RunControl) -> Outcome:
    """Run the combination, and free everything again. Raises any error except running out of memory."""
    with memory_cap(parallel.device, case.free_bytes) as cap:
        error = _memory_error(case, parallel, control)
        outcome = Outcome(None if error is None else control.where, error, cap.peak)
    free_everything(parallel.device)
    return outcome


def _memory_error(case: Case, parallel: Parallel, control: RunControl) -> str | None:
    """None, or the first line of the allocator's message. Returning frees the tensors in the failed frames."""
    try:
        _work(case, parallel, control)
    except (RuntimeError, MemoryError) as error:
        cause: BaseException | None = error
        while cause is not None and not failure.is_out_of_memory(cause):
            cause = cause.__context__  # ending a graph capture can fail too, which hides the first error
        if cause is None:
            raise
        return (str(cause).splitlines() or [type(cause).__name__])[0]
    return None


@torch.inference_mode()
def _work(case: Case, parallel: Parallel, control: RunControl) -> None:
    setup, vocab = case.setup, case.setup.shape.vocab
    control.begin("the weights")
    weights = Weights(setup, random_weights(case.index, parallel.device), parallel)
    control.begin("the KV cache, its executor and its decode graphs")
    context = Context(weights, case.length, setup.backend)
    prefill(context, prompts(setup.batch, case.length, vocab, case.index), control, "prefill")
    decode(context, case.length, setup.decode_tokens, control, "decode")


def free_everything(device: torch.device) -> None:
    """Free all unused memory, including reference cycles and cuBLAS workspaces."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        fp8.free_workspace()
        torch._C._cuda_clearCublasWorkspaces()  # every combination must allocate its own, since predictions count them
    release(device)


def whole_device(parallel: Parallel) -> int:
    """Free bytes of the fullest rank, in whole blocks."""
    free_everything(parallel.device)
    return parallel.min_over_ranks(torch.cuda.mem_get_info(parallel.device)[0] // GRANULE * GRANULE - SPARE)
