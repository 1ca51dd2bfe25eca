"""What two ranks have in common, and what each has of its own: with random weights no output would show it."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from llmval_runners.engine import loader as executor
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.config import configure
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.engine.weights import build, random_weights
from llmval_runners.load_test.options import parse

from tests.helpers.own_process import run
from tests.helpers.two_ranks import together

CPU = torch.device("cpu")
TINY = SHAPES["tiny"]
BATCH = 8


def check_draws(draw: Callable[[int], list[list[int]]], vocab: int) -> None:
    """`draw(seed)`: what each of two ranks drew where every token is as likely. With the same noise on both, every draw
    would be a tie, and one rank's slice of the vocabulary would win them all.
    """
    first, second = draw(3)
    assert first == second, "the ranks would go on with other tokens"
    low = sum(token < vocab // 2 for token in first)
    assert len(first) / 4 < low < len(first) * 3 / 4, "each rank draws for its own slice, with noise of its own"
    assert draw(3)[0] == first != draw(4)[0]


def test_ranks_draw_the_same_tokens_with_noise_of_their_own() -> None:
    def draw(seed: int) -> list[list[int]]:
        def rank(parallel: Parallel) -> list[int]:
            model = build(TINY, random_weights(0, CPU), parallel, torch.float32)
            model.head.weight.zero_()
            cache = PagedKVCache(TINY, tensor_parallel=2, pages=BATCH, page_size=8, dtype=torch.float32, device=CPU)
            runner = CpuExecutor(
                model, cache, reference_attention("sdpa"), max_batch=BATCH, max_pages=1, temperature=0.7, seed=seed
            )
            admits = [Admit(row, [row]) for row in range(BATCH)]
            drawn = runner.execute(StepPlan(admits=admits, prefills=[Prefill(r, 0, [r], True) for r in range(BATCH)]))
            for position in range(1, 8):
                drawn += runner.execute(StepPlan(decodes=[Decode(row, position) for row in range(BATCH)]))
            return drawn

        return together(rank)

    check_draws(draw, TINY.vocab)


_ON_A_GPU = """
from types import SimpleNamespace
import torch
import no_triton
from llmval_runners.engine.gpu import executor as gpu_runner
from two_ranks import together

class Begun(Exception):
    pass

def begun(runner, batch):
    raise Begun(runner)

gpu_runner.CompiledGpuDecoder, gpu_runner.DecodeGraph = lambda compiled: None, begun

def draw(seed):
    def rank(parallel):
        model = SimpleNamespace(parallel=parallel, embedding=torch.empty(1))
        cache, attention = SimpleNamespace(padding_page=0), SimpleNamespace(decode_sizes=[])
        try:
            gpu_runner.GpuExecutor(
                model, cache, attention, max_batch=64, max_pages=1, temperature=0.7, seed=seed, compiled=object()
            )
        except Begun as made:
            return made.args[0].sample(torch.zeros(64, VOCAB // 2), torch.arange(64)).tolist()
    return together(rank)

print([draw(3), draw(3), draw(4)])
"""


def test_so_do_those_on_gpus() -> None:
    """The same of the GPU's runner, up to where it needs one: its noise and its draws are torch's on any device."""
    again = iter(json.loads(run(f"VOCAB = {TINY.vocab}\n{_ON_A_GPU}")))
    check_draws(lambda seed: next(again), TINY.vocab)


@pytest.mark.parametrize("own", [(9, 7), (7, 9)])
def test_every_rank_has_as_many_pages_as_the_one_with_the_least_memory(own: tuple[int, int]) -> None:
    """Rank 0 hands out pages of its own cache, and the others write where it says."""
    options = parse(["--model", "tiny", "--device", "cpu", "--duration", "9"])

    def rank(parallel: Parallel) -> int:
        config = configure(options, world_size=2, local_rank=parallel.rank)
        config = replace(config, kv_tokens=own[parallel.rank] * config.page_size)
        return executor.load(config, random_weights(0, CPU), parallel).cache.pages

    assert together(rank) == [7, 7]
