"""Hangs on purpose, to test the watchdog on the host that will use it.

Each hangs inside torch's own code (Dynamo's interpreter, Inductor's scheduler, its worker pool, its kernel benchmark).
The stacks therefore look as in a real hang; only the innermost frame is ours.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.run.workload import Block, Prefill
from llmval_runners.compile_study.watch.heartbeat import Heartbeat
from llmval_runners.compile_study.watch.processes import descendants

TICK_S = 0.2


class _Progress(threading.Thread):
    """Shows progress until the hang is in place, so that a slow machine's compile is not taken for the stall.

    It counts an event in Dynamo's own counters, which the heartbeat reads.
    """

    def __init__(self) -> None:
        super().__init__(name="progress until the hang", daemon=True)
        self._in_place = threading.Event()

    def run(self) -> None:
        from torch._dynamo.utils import counters

        while not self._in_place.wait(TICK_S):
            counters["llmval"]["before_the_hang"] += 1

    def stop(self) -> None:
        self._in_place.set()
        self.join()


def install(kind: str, heartbeat: Heartbeat, model: Prefill) -> None:
    """Make this rank hang at the place that `kind` names."""
    if kind == "blocked_read":  # `blocked_read` below, before there is a model
        return
    if kind == "skipped_collective":
        _skip_last_reduce(heartbeat, cast(Block, model.blocks[-1]))
        return
    progress = _Progress()
    _INSTALL[kind](progress)
    progress.start()


def blocked_read(layout: Layout) -> None:
    """Read a file that never arrives, as from a lost mount: a named pipe without a writer."""
    path = layout.watch / "shard-that-never-comes"
    os.mkfifo(path)
    path.read_bytes()


def _dynamo_sleep(progress: _Progress) -> None:
    from torch._dynamo.symbolic_convert import InstructionTranslatorBase

    _replace(InstructionTranslatorBase, "step", lambda self: _sleep(progress))


def _codegen_loop(progress: _Progress) -> None:
    from torch._inductor.scheduler import Scheduler

    _replace(Scheduler, "codegen", lambda self: _spin(progress))


def _stopped_worker(progress: _Progress) -> None:
    from torch._inductor import config
    from torch._inductor.async_compile import AsyncCompile

    config.compile_threads = max(2, config.compile_threads or 2)
    config.worker_start_method = "subprocess"
    wait = AsyncCompile.wait

    def wait_for_stopped(self: AsyncCompile, scope: dict[str, Any]) -> None:
        job = _job_of_stopped_workers(AsyncCompile.process_pool())
        progress.stop()
        wait(self, {**scope, "injected": job})

    _replace(AsyncCompile, "wait", wait_for_stopped)


def _endless_autotune(progress: _Progress) -> None:
    from torch._inductor import config
    from torch._inductor.select_algorithm import ExternKernelCaller

    config.max_autotune = True
    config.freezing = True  # on a CPU, Inductor chooses between kernels only for constant weights
    _replace(ExternKernelCaller, "benchmark", lambda self, *args, out: _sleep(progress))


_INSTALL: dict[str, Callable[[_Progress], None]] = {
    "dynamo_sleep": _dynamo_sleep,
    "codegen_loop": _codegen_loop,
    "stopped_worker": _stopped_worker,
    "endless_autotune": _endless_autotune,
}


def _replace(owner: object, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


def _sleep(progress: _Progress) -> None:
    progress.stop()
    while True:
        time.sleep(3600)


def _spin(progress: _Progress) -> None:
    progress.stop()
    while True:
        pass


def _job_of_stopped_workers(pool: Any) -> Any:
    """The future of a job that Inductor's workers never do, because they are stopped."""
    pool.submit(os.getpid).result()  # waits until the workers run
    for process in descendants(os.getpid()):
        if process.compile_worker and not process.compiler:
            os.kill(process.pid, signal.SIGSTOP)
    return pool.submit(os.getpid)


def _skip_last_reduce(heartbeat: Heartbeat, block: Block) -> None:
    """Skip the last all-reduce of one eager step.

    The later ones pair up with the wrong partners, so only the end hangs.
    """
    reduce, calls = block.reduce, 0

    def skipping(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        if heartbeat.phase == "eager" and heartbeat.step == 1:
            calls += 1
            if calls == 2:
                return x
        return reduce(x)

    _replace(block, "reduce", skipping)
