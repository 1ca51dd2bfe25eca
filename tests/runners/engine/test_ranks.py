"""What two ranks share and what differs between them. With random weights, no output would show a mistake."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from llmval_runners.engine import loader
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.engine.weights import build, random_weights
from llmval_runners.load_test.config import configure_load_test
from llmval_runners.load_test.options import parse
from llmval_runners.process.placement import Placement

from tests.helpers.runners.own_process import run
from tests.helpers.runners.two_ranks import together

CPU = torch.device("cpu")
TINY = SHAPES["tiny"]
BATCH = 8


def check_draws(draw: Callable[[int], list[list[int]]], vocab: int) -> None:
    """`draw(seed)`: the samples of each of two ranks, if all tokens are equally likely. With the same noise on both,
    every draw would be a tie, and one rank's slice of the vocabulary would win them all.
    """
    first, second = draw(3)
    assert first == second, "the ranks would continue with different tokens"
    low = sum(token < vocab // 2 for token in first)
    assert len(first) / 4 < low < len(first) * 3 / 4, "each rank draws for its own slice, with its own noise"
    assert draw(3)[0] == first != draw(4)[0]


def test_ranks_draw_the_same_tokens_with_their_own_noise() -> None:
    def draw(seed: int) -> list[list[int]]:
        def rank(parallel: Parallel) -> list[int]:
            model = build(TINY, random_weights(0, CPU), parallel, torch.float32)
            model.head.weight.zero_()
            cache = PagedKVCache(TINY, tensor_parallel=2, pages=BATCH, page_size=8, dtype=torch.float32, device=CPU)
            cpu_executor = CpuExecutor(
                model, cache, reference_attention("sdpa"), max_batch=BATCH, max_pages=1, temperature=0.7, seed=seed
            )
            admits = [Admit(row, [row]) for row in range(BATCH)]
            drawn = cpu_executor.execute(
                StepPlan(admits=admits, prefills=[Prefill(r, 0, [r], True) for r in range(BATCH)])
            )
            for position in range(1, 8):
                drawn += cpu_executor.execute(StepPlan(decodes=[Decode(row, position) for row in range(BATCH)]))
            return drawn

        return together(rank)

    check_draws(draw, TINY.vocab)


_ON_A_GPU = """
from types import SimpleNamespace
import torch
import no_triton
from llmval_runners.engine.gpu import executor
from two_ranks import together

class Begun(Exception):
    pass

def begun(state, batch):
    raise Begun(state)

executor.CompiledGpuDecoder, executor.DecodeGraph = lambda compiled: None, begun

def draw(seed):
    def rank(parallel):
        model = SimpleNamespace(parallel=parallel, embedding=torch.empty(1))
        cache, attention = SimpleNamespace(padding_page=0), SimpleNamespace(decode_sizes=[])
        try:
            executor.GpuExecutor(
                model, cache, attention, max_batch=64, max_pages=1, temperature=0.7, seed=seed, compiled=object()
            )
        except Begun as made:
            return made.args[0].sample(torch.zeros(64, VOCAB // 2), torch.arange(64)).tolist()
    return together(rank)

print([draw(3), draw(3), draw(4)])
"""


def test_gpu_executors_do_the_same() -> None:
    """The same for the GPU executor, up to the point at which it needs a GPU. Its sampling runs on any device."""
    again = iter(json.loads(run(f"VOCAB = {TINY.vocab}\n{_ON_A_GPU}")))
    check_draws(lambda seed: next(again), TINY.vocab)


@pytest.mark.parametrize("own", [(9, 7), (7, 9)])
def test_every_rank_has_as_many_pages_as_the_one_with_the_least_memory(own: tuple[int, int]) -> None:
    """Rank 0 allocates pages of its own cache, and the other ranks write to the same page numbers."""
    options = parse(["--model", "tiny", "--device", "cpu", "--duration", "9"])

    def rank(parallel: Parallel) -> int:
        config = configure_load_test(options, Placement(parallel.rank, 2, parallel.rank, 2, 2))[0]
        config = replace(config, kv_tokens=own[parallel.rank] * config.page_size)
        return loader.load(config, random_weights(0, CPU), parallel).cache.pages

    assert together(rank) == [7, 7]
