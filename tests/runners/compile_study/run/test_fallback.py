"""The fallbacks of `smart`: one after the other, only if every rank failed, and always with the reason."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed as dist
from llmval_runners.compile_study.run import compiling
from llmval_runners.compile_study.run.compiling import first_call
from llmval_runners.compile_study.run.figures import compile_figures, reset_figures
from llmval_runners.compile_study.run.workload import Block, Dimensions, Prefill, random_model
from torch._C._distributed_c10d import HashStore

SIZES = Dimensions(layers=4, hidden=32, heads=2, kv_heads=1, head_dim=16, ffn=64, vocab=64, ranks=1)
TOKENS = torch.arange(8)[None]


@pytest.fixture
def model() -> Iterator[Prefill]:
    reset_figures()
    with torch.no_grad():
        yield random_model(SIZES, torch.device("cpu"), torch.float32, 0, 0, None)


def run(model: Prefill, backend: Any, mode: str = "smart") -> tuple[torch.Tensor, dict[str, Any]]:
    out, _, ran = first_call(model, mode, backend, lambda: model(TOKENS))
    return out, ran


def test_smart_compiles_one_block_for_all_layers_and_default_the_whole(model: Prefill) -> None:
    eager = model(TOKENS)
    out, ran = run(model, "aot_eager")
    assert ran == {"compiled": "one repeated block, fullgraph", "fallback": None}
    figures = compile_figures()
    assert (figures["graphs"], figures["recompilations"], figures["graph_breaks"]) == (1, 0, 0)
    torch.testing.assert_close(out, eager)


def test_a_graph_break_makes_smart_fall_back_to_blocks_with_breaks(
    model: Prefill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(_: Block, x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x

    eager = model(TOKENS)
    monkeypatch.setattr(Block, "reduce", breaking)
    out, ran = run(model, "aot_eager")
    assert ran["compiled"] == "blocks with graph breaks"
    assert ran["fallback"].startswith("one repeated block, fullgraph failed with Unsupported: ")
    assert compile_figures()["graph_breaks"] > 0
    torch.testing.assert_close(out, eager)


def test_if_a_backend_fails_the_model_runs_eagerly_and_the_reason_is_recorded(model: Prefill) -> None:
    def failing(*_: Any) -> Any:
        raise ValueError("no such kernel")

    eager = model(TOKENS)
    out, ran = run(model, failing)
    assert ran["compiled"] == "nothing: eager" and "blocks with graph breaks failed with" in ran["fallback"]
    assert "no such kernel" in ran["fallback"]
    torch.testing.assert_close(out, eager)
    with pytest.raises(Exception, match="no such kernel"):  # another mode's failure is the finding itself
        run(random_model(SIZES, torch.device("cpu"), torch.float32, 0, 0, None), failing, mode="default")


def test_a_rank_that_fails_alone_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    monkeypatch.setattr(compiling, "ALL_FAILED_S", 0.5)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    ranks = iter((0, 0, 1))
    monkeypatch.setattr(dist, "get_rank", lambda: next(ranks))
    assert not compiling._all_failed(2), "the other rank is inside of the model's own collective"
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(compiling._all_failed, (1, 1)))
