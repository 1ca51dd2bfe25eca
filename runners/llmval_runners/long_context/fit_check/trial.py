"""One combination, really tried: weights, cache, graphs, prompt, decode steps; where memory ran out, and the peak."""

from dataclasses import dataclass

import torch
from llmval_runners.engine import te_linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.weights import random_weights
from llmval_runners.long_context import failure
from llmval_runners.long_context.engine_adapter import Context, Weights, release
from llmval_runners.long_context.fit_check.cases import Case
from llmval_runners.long_context.fit_check.memory_cap import GRANULE, small_card
from llmval_runners.long_context.measure.timing import Report, decode, prefill, prompts

SPARE = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rank saw. `out_of_memory` is where memory ran out; None: it ran to its end."""

    out_of_memory: str | None
    message: str | None
    peak_bytes: int


def run(case: Case, parallel: Parallel, report: Report) -> Outcome:
    """Try it, and leave the device as it was found. Raises what is no lack of memory."""
    with small_card(parallel.device, case.free_bytes) as card:
        error = _tried(case, parallel, report)
        outcome = Outcome(None if error is None else report.where, error, card.peak)
    clean(parallel.device)
    return outcome


def _tried(case: Case, parallel: Parallel, report: Report) -> str | None:
    """None, or the first line of the allocator's words. Returning frees what the failed frames held."""
    try:
        _work(case, parallel, report)
    except (RuntimeError, MemoryError) as error:
        cause: BaseException | None = error
        while cause is not None and not failure.is_out_of_memory(cause):
            cause = cause.__context__  # leaving a graph's capture can fail too, and hide why it was left
        if cause is None:
            raise
        return (str(cause).splitlines() or [type(cause).__name__])[0]
    return None


@torch.inference_mode()
def _work(case: Case, parallel: Parallel, report: Report) -> None:
    setup, vocab = case.setup, case.setup.shape.vocab
    report.at("the weights")
    weights = Weights(setup, random_weights(case.index, parallel.device), parallel)
    report.at("the KV cache, its executor and its decode graphs")
    context = Context(weights, case.length, setup.backend)
    prefill(context, prompts(setup.batch, case.length, vocab, case.index), report, "prefill")
    decode(context, case.length, setup.decode_tokens, report, "decode")


def clean(device: torch.device) -> None:
    """Give back all that nothing needs any more, cycles of references and the products' workspaces included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        te_linear.forget_workspace()
        torch._C._cuda_clearCublasWorkspaces()  # all are a part of every combination, so each must take them
    release(device)


def whole_card(parallel: Parallel) -> int:
    """Bytes that are free, in whole blocks, on the fullest rank; of each rank itself where it is alone."""
    clean(parallel.device)
    return parallel.smallest(torch.cuda.mem_get_info(parallel.device)[0] // GRANULE * GRANULE - SPARE)
