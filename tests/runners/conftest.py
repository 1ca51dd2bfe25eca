"""A small engine in one process, for tests."""

from collections.abc import Callable

import pytest
import torch
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.engine import Engine, PlanChannel
from llmval_runners.engine.kv_cache import PageAllocator, PagedKVCache
from llmval_runners.engine.model import Decoder
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.weights import build, random_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Decoder:
    return build(SHAPES["tiny"], random_weights(0, CPU), Parallel(CPU), torch.float32)


MakeEngine = Callable[..., Engine]


@pytest.fixture
def make_engine(tiny: Decoder) -> MakeEngine:
    def make(
        backend: str = "sdpa", *, pages: int = 32, page_size: int = 8, max_batch: int = 8, chunk: int = 24
    ) -> Engine:
        cache = PagedKVCache(
            tiny.shape, tensor_parallel=1, pages=pages, page_size=page_size, dtype=torch.float32, device=CPU
        )
        executor = CpuExecutor(tiny, cache, reference_attention(backend), max_batch=max_batch, max_pages=pages)
        scheduler = Scheduler(
            tiny.shape, PageAllocator(pages, page_size), max_batch=max_batch, chunk=chunk, element_bytes=4
        )
        return Engine(PlanChannel(executor, max_batch=max_batch), scheduler)

    return make
