"""Stalls on purpose: the program blocks in a known place of torch and stays there. Usage: stalls.py NAME READY

It writes its pid and main thread to the file READY when it is about to block. `benchmarks.stall_stacks` reads its
stack.
"""

# mypy: ignore-errors
# It replaces parts of torch.

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

READY = Path(sys.argv[2])


def about_to_block() -> None:
    found = {"pid": os.getpid(), "main_thread": threading.main_thread().ident, "torch": torch.__version__}
    READY.with_suffix(".new").write_text(json.dumps(found))
    READY.with_suffix(".new").rename(READY)


def block(*_args: Any, **_kwargs: Any) -> Any:
    about_to_block()
    while True:
        time.sleep(3600)


def small(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ w).sin() + x.sum()


X, W = torch.randn(32, 32), torch.randn(32, 32, requires_grad=True)


def compiled(**options: Any) -> None:
    torch.compile(small, **options)(X, W)


def dynamo_step() -> None:
    from torch._dynamo import symbolic_convert

    symbolic_convert.InstructionTranslatorBase.step = block
    compiled()


def dynamo_variable() -> None:
    from torch._dynamo.variables import builder

    builder.VariableBuilder._wrap = block
    compiled()


def dynamo_guards() -> None:
    from torch._dynamo import guards

    guards.CheckFunctionManager.__init__ = block
    compiled(backend="eager")


def dynamo_fake_operator() -> None:
    operator_with(fake=block)
    torch.compile(lambda x: torch.ops.stalls.slow(x) + 1)(X)


def operator_with(run: Callable[..., Any] = torch.sin, fake: Callable[..., Any] = torch.empty_like) -> None:
    torch.library.define("stalls::slow", "(Tensor x) -> Tensor")
    torch.library.impl("stalls::slow", "CPU", run)
    torch.library.impl("stalls::slow", "CUDA", run)
    torch.library.register_fake("stalls::slow", fake)


def aot_joint() -> None:
    operator_with()
    torch.library.register_autograd("stalls::slow", lambda _context, gradient: block(gradient))
    torch.compile(lambda x: torch.ops.stalls.slow(x).sum())(W)


def aot_partitioner() -> None:
    import networkx  # type: ignore[import-untyped]

    networkx.minimum_cut = block
    compiled()


def aot_functionalize() -> None:
    from torch._functorch._aot_autograd import graph_capture

    for name in ("aot_dispatch_autograd_graph", "aot_dispatch_base_graph"):
        if hasattr(graph_capture, name):
            setattr(graph_capture, name, block)
    from torch._functorch._aot_autograd import graph_compile

    for name in ("aot_dispatch_autograd_graph", "aot_dispatch_base_graph"):
        if hasattr(graph_compile, name):
            setattr(graph_compile, name, block)
    compiled(backend="aot_eager")


def inductor_pass() -> None:
    import torch._inductor.config as config

    config.post_grad_custom_post_pass = block
    config.force_disable_caches = True
    compiled()


def inductor_scheduler() -> None:
    from torch._inductor import scheduler

    scheduler.Scheduler.codegen = block
    compiled()


def inductor_symbols() -> None:
    import sympy  # type: ignore[import-untyped]
    from torch._inductor import sizevars

    sizevars.SizeVarAllocator.simplify = lambda _self, expression: block(sympy.simplify(expression))
    torch.compile(small, dynamic=True)(X, W)


def cxx_compiler(threads: int) -> None:
    hung = READY.with_name("hung-compiler")
    hung.write_text('#!/bin/sh\ncase "$*" in *--version*) exec g++ --version;; esac\nexec sleep 3600\n')
    hung.chmod(0o755)
    os.environ["CXX"] = str(hung)
    import torch._inductor.config as config

    config.compile_threads = threads
    config.cpp.cxx = (None, str(hung))
    threading.Timer(25, about_to_block).start()
    compiled()


def cxx_compiler_in_process() -> None:
    cxx_compiler(1)


def cxx_compiler_in_workers() -> None:
    cxx_compiler(2)


def autotune_cpu() -> None:
    import torch._inductor.config as config
    from torch._inductor.runtime import benchmarking

    config.max_autotune, config.freezing = True, True  # with frozen weights there are C++ kernels to choose from
    original = benchmarking.Benchmarker.benchmark_cpu

    def slow(self: Any, _callable: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, block, *args, **kwargs)

    benchmarking.Benchmarker.benchmark_cpu = slow
    with torch.no_grad():
        torch.compile(torch.nn.Linear(256, 256))(torch.randn(64, 256))


def run_inductor() -> None:
    operator_with(run=lambda x: block(x))
    torch.compile(lambda x: torch.ops.stalls.slow(x.sin()) + 1)(X)


def run_inductor_backward() -> None:
    operator_with(run=lambda x: block(x))
    torch.library.register_autograd("stalls::slow", lambda _context, gradient: gradient)

    class Slow(torch.autograd.Function):
        @staticmethod
        def forward(_context: Any, x: torch.Tensor) -> torch.Tensor:
            return x.sin()

        @staticmethod
        def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
            return torch.ops.stalls.slow(gradient)

    torch.compile(lambda x: Slow.apply(x).sum())(W).backward()


def run_aot_eager() -> None:
    operator_with(run=lambda x: block(x))
    torch.compile(lambda x: torch.ops.stalls.slow(x.sin()) + 1, backend="aot_eager")(X)


def run_eager_backend() -> None:
    operator_with(run=lambda x: block(x))
    torch.compile(lambda x: torch.ops.stalls.slow(x.sin()) + 1, backend="eager")(X)


def run_without_compile() -> None:
    operator_with(run=lambda x: block(x))
    torch.ops.stalls.slow(X)


def spin_without_compile() -> None:
    about_to_block()
    while True:
        X.sin()


def with_peer(work: Callable[[], Any], first: Callable[[], Any] = lambda: None) -> None:
    """Join a group of two, do `first` with the other rank, which then sleeps, and block in `work`."""
    if len(sys.argv) > 3:
        dist.init_process_group("gloo", init_method=sys.argv[3], rank=1, world_size=2)
        first()
        time.sleep(3600)
    method = f"file://{READY.with_name('store')}"
    subprocess.Popen([sys.executable, __file__, sys.argv[1], str(READY), method])
    dist.init_process_group("gloo", init_method=method, rank=0, world_size=2)
    first()
    about_to_block()
    work()


def all_reduce() -> None:
    with_peer(lambda: dist.all_reduce(torch.ones(4)))


def barrier() -> None:
    with_peer(dist.barrier)


def all_gather_object() -> None:
    with_peer(lambda: dist.all_gather_object([None, None], {"a": 1}))


def receive() -> None:
    with_peer(lambda: dist.recv(torch.ones(4), src=1))


def asynchronous_wait() -> None:
    def work() -> None:
        handle = dist.all_reduce(torch.ones(4), async_op=True)
        assert handle is not None
        handle.wait()

    with_peer(work)


def functional_collective() -> None:
    import torch.distributed._functional_collectives as functional

    def work() -> None:
        functional.all_reduce(torch.ones(4), "sum", dist.group.WORLD).sum().item()

    with_peer(work, first=work)


def compiled_collective() -> None:
    import torch.distributed._functional_collectives as functional

    def reduced(x: torch.Tensor) -> torch.Tensor:
        return functional.all_reduce(x.sin(), "sum", dist.group.WORLD) + 1

    call = torch.compile(reduced)
    with_peer(lambda: call(X), first=lambda: call(X))


def join_group() -> None:
    about_to_block()
    dist.init_process_group("gloo", init_method=f"file://{READY.with_name('store')}", rank=0, world_size=2)


def join_tcp_group() -> None:
    about_to_block()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29599", "RANK": "0", "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")


def read_fifo() -> None:
    fifo = READY.with_name("weights.pt")
    os.mkfifo(fifo)
    about_to_block()
    torch.load(fifo)


def held_lock() -> None:
    from torch.utils._filelock import FileLock

    lock = str(READY.with_name("lock"))
    code = (
        "import filelock, sys, time; filelock.FileLock(sys.argv[1]).acquire(); print(1, flush=True); time.sleep(3600)"
    )
    held = subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE)
    assert held.stdout is not None
    held.stdout.readline()
    about_to_block()
    with FileLock(lock):
        pass


def silent_server() -> None:
    import http.client
    import socket

    server = socket.create_server(("127.0.0.1", 0))
    connection = http.client.HTTPConnection(*server.getsockname())
    connection.request("GET", "/cache")
    about_to_block()
    connection.getresponse()


# On a GPU. A kernel that only sleeps stands for one that never ends.
CYCLES = 200_000_000_000


def gpu(work: Callable[[], Any]) -> None:
    torch.cuda.init()
    torch.ones(1, device="cuda").sum().item()
    work()


def synchronize() -> None:
    def work() -> None:
        torch.cuda._sleep(CYCLES)
        about_to_block()
        torch.cuda.synchronize()

    gpu(work)


def event_synchronize() -> None:
    def work() -> None:
        event = torch.cuda.Event()
        torch.cuda._sleep(CYCLES)
        event.record()
        about_to_block()
        event.synchronize()

    gpu(work)


def item() -> None:
    def work() -> None:
        x = torch.ones(4, device="cuda")
        torch.cuda._sleep(CYCLES)
        about_to_block()
        x.sum().item()

    gpu(work)


def graph_replay() -> None:
    def work() -> None:
        x, graph = torch.ones(4, device="cuda"), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            torch.cuda._sleep(CYCLES)
            x.add_(1)
        about_to_block()
        for _ in range(100_000):
            graph.replay()

    gpu(work)


def launch_queue_full() -> None:
    def work() -> None:
        f = torch.compile(lambda x: x.sin() * 2)
        x = torch.ones(1024, device="cuda")
        f(x)
        torch.cuda._sleep(CYCLES)
        about_to_block()
        for _ in range(100_000):
            f(x)

    gpu(work)


def cudagraph_trees() -> None:
    def work() -> None:
        f = torch.compile(lambda x: (x @ x).sin(), mode="reduce-overhead")
        x = torch.ones(256, 256, device="cuda")
        for _ in range(4):
            f(x)
        torch.cuda._sleep(CYCLES)
        about_to_block()
        for _ in range(100_000):
            f(x)

    gpu(work)


def autotune_gpu() -> None:
    def work() -> None:
        x = torch.randn(1024, 1024, device="cuda", dtype=torch.bfloat16)
        from torch._inductor.runtime import benchmarking

        original = benchmarking.InductorBenchmarker.benchmark_gpu

        def slow(self: Any, _callable: Any, *args: Any, **kwargs: Any) -> Any:
            torch.cuda._sleep(CYCLES)
            about_to_block()
            return original(self, _callable, *args, **kwargs)

        benchmarking.InductorBenchmarker.benchmark_gpu = slow
        torch.compile(lambda a: a @ a, mode="max-autotune-no-cudagraphs")(x)

    gpu(work)


def empty_cache() -> None:
    def work() -> None:
        x = torch.ones(1 << 20, device="cuda")
        torch.cuda._sleep(CYCLES)
        del x
        about_to_block()
        torch.cuda.empty_cache()

    gpu(work)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
