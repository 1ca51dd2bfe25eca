"""The compile modes. `smart` compiles the one block that repeats, and records why if that fails."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from llmval_runners.compile_study.bundle.finish import headline
from llmval_runners.compile_study.run.figures import reset_figures
from llmval_runners.compile_study.run.workload import Prefill
from torch import nn

ALL_FAILED_S = 30.0


def apply(model: Prefill, mode: str, backend: str) -> None:
    """Make the model compile at its next call: as a whole, or block by block for `smart`.

    All blocks share one code object. Parameters are graph inputs (`inline_inbuilt_nn_modules`, torch's default), so
    the blocks also share one set of guards: the first block compiles, and the others reuse its code. The cost is that
    of one layer.
    """
    if mode == "smart":
        _compile_blocks(model, fullgraph=True, dynamic=False, backend=backend)
    elif backend == "inductor":
        model.compile(mode=mode)
    else:
        model.compile(backend=backend)  # only Inductor has modes


def first_call(
    model: Prefill, mode: str, backend: str, call: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, float, dict[str, Any]]:
    """Compile and run once. Returns the output, the seconds, and what was compiled (`fallback`: why not more).

    Only `smart` falls back, and only if every rank failed. Otherwise the failure is the finding, and is raised.
    """
    apply(model, mode, backend)
    began = time.monotonic()
    if mode != "smart":
        return call(), time.monotonic() - began, {"compiled": "whole model", "fallback": None}
    ran: dict[str, Any] = {"compiled": "one repeated block, fullgraph", "fallback": None}
    weaker: list[tuple[str, Callable[[], None]]] = [
        ("blocks with graph breaks", lambda: _compile_blocks(model, fullgraph=False, dynamic=False, backend=backend)),
        ("nothing: eager", lambda: _uncompile(model)),
    ]
    while True:
        try:
            return call(), time.monotonic() - began, ran
        except Exception as error:  # Dynamo and Inductor raise many kinds
            reason = f"{type(error).__name__}: {headline(str(error), 300)}"
            if not weaker or not _all_failed(len(weaker)):
                raise
            reset_figures()
            what, fall_back = weaker.pop(0)
            fall_back()
            ran = {"compiled": what, "fallback": f"{ran['compiled']} failed with {reason}"}
            began = time.monotonic()


def _compile_blocks(model: Prefill, **settings: Any) -> None:
    for block in model.blocks:
        block.compile(**settings)


def _uncompile(model: Prefill) -> None:
    modules: list[nn.Module] = [model, *model.blocks]
    for module in modules:
        module._compiled_call_impl = None


def _all_failed(attempt: int) -> bool:
    """Whether every rank failed at this attempt.

    The ranks agree through the store. A collective would pair up with one of the model's own on another rank.
    """
    if not dist.is_initialized():
        return True
    store = dist.distributed_c10d._get_default_store()
    store.set(f"llmval/failed/{attempt}/{dist.get_rank()}", "1")
    try:
        store.wait(
            [f"llmval/failed/{attempt}/{rank}" for rank in range(dist.get_world_size())],
            timedelta(seconds=ALL_FAILED_S),
        )
    except (dist.DistStoreError, RuntimeError):
        return False
    return True
