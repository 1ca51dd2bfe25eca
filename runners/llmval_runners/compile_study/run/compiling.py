"""The ways to compile. `smart` compiles the one block that repeats, and says why where it could not."""

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

AGREE_S = 30.0


def apply(model: Prefill, mode: str, backend: str) -> None:
    """Set the model to compile at its next call: whole, or for `smart` block by block.

    All blocks share one code object and, with parameters as graph inputs (`inline_inbuilt_nn_modules`, torch's
    default), one set of guards: the first compiles, the others find its code. So the cost is that of one layer, not of
    all.
    """
    if mode == "smart":
        _blocks(model, fullgraph=True, dynamic=False, backend=backend)
    elif backend == "inductor":
        model.compile(mode=mode)
    else:
        model.compile(backend=backend)  # modes are Inductor's


def first_call(
    model: Prefill, mode: str, backend: str, call: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, float, dict[str, Any]]:
    """Compile and run once: output, seconds, and what ran (`compiled`: what of the model, `fallback`: why not more).

    Only `smart` falls back, and only where every rank failed alike; otherwise the failure is the finding and is raised.
    """
    apply(model, mode, backend)
    began = time.monotonic()
    if mode != "smart":
        return call(), time.monotonic() - began, {"compiled": "whole model", "fallback": None}
    ran = {"compiled": "one repeated block, fullgraph", "fallback": None}
    weaker: list[tuple[str, Callable[[], None]]] = [
        ("blocks with graph breaks", lambda: _blocks(model, fullgraph=False, dynamic=False, backend=backend)),
        ("nothing: eager", lambda: _uncompiled(model)),
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


def _blocks(model: Prefill, **settings: Any) -> None:
    for block in model.blocks:
        block.compile(**settings)


def _uncompiled(model: Prefill) -> None:
    modules: list[nn.Module] = [model, *model.blocks]
    for module in modules:
        module._compiled_call_impl = None


def _all_failed(attempt: int) -> bool:
    """Whether every rank failed here.

    Over the store: a collective would wait for a rank that is inside the model's own.
    """
    if not dist.is_initialized():
        return True
    store = dist.distributed_c10d._get_default_store()
    store.set(f"llmval/failed/{attempt}/{dist.get_rank()}", "1")
    try:
        store.wait(
            [f"llmval/failed/{attempt}/{rank}" for rank in range(dist.get_world_size())], timedelta(seconds=AGREE_S)
        )
    except (dist.DistStoreError, RuntimeError):
        return False
    return True
