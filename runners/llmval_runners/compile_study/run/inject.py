"""Hangs made on purpose, so that the watchdog can be proved on the host it will be used on.

Each hangs inside torch's own code path (Dynamo's interpreter, Inductor's scheduler, its worker pool, its benchmark of a
kernel), so that stacks look as they would; only the innermost frame is ours.
"""

import os
import signal
import time
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch.processes import descendants


def install(kind: str, study: Any, model: Any) -> None:
    """Arrange for this rank to hang at `kind`'s place. `study` is the rank's `_Study`, `model` its `Prefill`."""
    if kind == "dynamo_sleep":
        from torch._dynamo.symbolic_convert import InstructionTranslatorBase

        InstructionTranslatorBase.step = lambda self: _sleep()
    elif kind == "codegen_loop":
        from torch._inductor.scheduler import Scheduler

        Scheduler.codegen = lambda self: _spin()
    elif kind == "stopped_worker":
        from torch._inductor import config
        from torch._inductor.async_compile import AsyncCompile

        config.compile_threads = max(2, config.compile_threads or 2)
        config.worker_start_method = "subprocess"
        wait = AsyncCompile.wait
        AsyncCompile.wait = lambda self, scope: wait(
            self, {**scope, "injected": _job_of_stopped_workers(AsyncCompile.process_pool())}
        )
    elif kind == "endless_autotune":
        from torch._inductor import config
        from torch._inductor.select_algorithm import ExternKernelCaller

        config.max_autotune = True
        config.freezing = True  # on CPU there is a choice of kernels only for weights known to be constant
        ExternKernelCaller.benchmark = lambda self, *args, out: _sleep()
    elif kind == "skipped_collective":
        _skip_last_reduce(study, model.blocks[-1])
    elif kind != "blocked_read":
        raise ValueError(kind)


def blocked_read(layout: Layout) -> None:
    """Read a file that never comes, as from a mount that is gone: a named pipe without a writer."""
    path = layout.watch / "shard-that-never-comes"
    os.mkfifo(path)
    path.read_bytes()


def _sleep() -> None:
    while True:
        time.sleep(3600)


def _spin() -> None:
    while True:
        pass


def _job_of_stopped_workers(pool: Any) -> Any:
    """The future of a job that Inductor's workers will not do, because they are stopped."""
    pool.submit(os.getpid).result()  # the workers are up
    for process in descendants(os.getpid()):
        if process.compile_worker and not process.compiler:
            os.kill(process.pid, signal.SIGSTOP)
    return pool.submit(os.getpid)


def _skip_last_reduce(study: Any, block: Any) -> None:
    """Leave out the last all-reduce of one eager step.

    The next ones pair up with the wrong partners, and only the end hangs.
    """
    reduce, calls = block.reduce, 0

    def skipping(x: Any) -> Any:
        nonlocal calls
        if study.heart.phase == "eager" and study.heart.step == 1:
            calls += 1
            if calls == 2:
                return x
        return reduce(x)

    block.reduce = skipping
