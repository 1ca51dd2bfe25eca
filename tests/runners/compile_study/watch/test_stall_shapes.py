"""The shapes of hangs in PyTorch's issues, and shapes near them: kind and rank. A frame is `function file`."""

from typing import Any

import pytest
from llmval_runners.compile_study.watch.classify import classify

SITE = "/venv/lib/python3.12/site-packages/"
PACKAGES = ("torch/", "triton/", "filelock/", "sympy/", "networkx/")

DYNAMO = ["compile_inner torch/_dynamo/convert_frame.py", "compile_wrapper torch/_dynamo/eval_frame.py"]
INDUCTOR = ["codegen_and_compile torch/_inductor/compile_fx.py", "call_user_compiler torch/_dynamo/output_graph.py"]
INDUCTOR += DYNAMO
RUNTIME = ["__call__ torch/_inductor/output_code.py", "forward torch/_functorch/aot_autograd.py"]
RUNTIME += ["compile_wrapper torch/_dynamo/eval_frame.py", "forward /study/model.py"]
GENERATED = ["call /scratch/torchinductor/ab/cab3.py", "run torch/_inductor/utils.py", *RUNTIME]
WAIT_IN_GENERATED = ["__call__ torch/_ops.py", *GENERATED]
SYNC = "synchronize torch/cuda/__init__.py"
DO_BENCH = [SYNC, "do_bench triton/testing.py", "benchmark_gpu torch/_inductor/runtime/benchmarking.py"]
BENCHMARK = [*DO_BENCH, "benchmark_all_configs torch/_inductor/runtime/triton_heuristics.py"]
FUTURE = ["wait threading.py", "result concurrent/futures/_base.py"]
MODULE = [
    "<module> /scratch/torchinductor/xx/cxxe.py",
    "_reload_python_module torch/_inductor/runtime/compile_tasks.py",
]
PRECOMPILE = ["_precompile_config torch/_inductor/runtime/triton_heuristics.py"]
PRECOMPILE += ["precompile torch/_inductor/runtime/triton_heuristics.py", "triton torch/_inductor/async_compile.py"]
GATHER = "all_gather_into_tensor torch/distributed/distributed_c10d.py"
USER = "step /study/steps.py"

DONE, OPEN = (
    [{"sequence": 5, "operation": "all_reduce", "sizes": [[4, 8]], "done": done, "state": "x"}]
    for done in (True, False)
)


def rank(*frames: str, **changes: Any) -> dict[str, Any]:
    main = []
    for frame in frames:
        function, file = frame.split(" ", 1)
        text = {"text": changes["text"]} if "text" in changes and function == "call" else {}
        main.append(
            {"function": function, "file": SITE + file if file.startswith(PACKAGES) else file, "line": 1} | text
        )
    process = {"state": "S", "wchan": "futex", "waits_for_file": None, "cpu_fraction": 0.0} | changes.get("process", {})
    return {
        "idle_s": 30.0,
        "beat": {
            "operation": "", "sequence": changes.get("sequence", 5), "progress_order": [3, 2], "phase": "p", "step": 1
        },
        "process": process,
        "stack": {"source": "py-spy", "main": main},
        "workers": [],
        "collectives": changes.get("collectives", []),
    }  # fmt: skip


SPINS = {"state": "R", "wchan": "0", "waits_for_file": None, "cpu_fraction": 1.0}
TREES = ["run_graph torch/_inductor/cudagraph_trees.py", "run torch/_inductor/compile_fx.py", *RUNTIME]

# Name: kind, ranks at fault, the ranks.
SHAPES: dict[str, tuple[str, list[int], list[dict[str, Any]]]] = {
    "replay of a CUDA graph, from Inductor's trees": ("device", [0], [
        rank("replay torch/cuda/graphs.py", *TREES, process=SPINS, collectives=DONE)]),
    "replay of an engine's own CUDA graph": ("device", [0], [rank("replay torch/cuda/graphs.py", USER, process=SPINS)]),
    "end of the capture of a CUDA graph": ("device", [0], [rank("capture_end torch/cuda/graphs.py", USER)]),
    "recording of a CUDA graph in the trees": ("compiled_code", [0], [
        rank("_record torch/_inductor/cudagraph_trees.py", *TREES)]),
    "warm-up run of the trees, in the model's code": ("compiled_code", [0], [
        rank("op /study/custom.py", *GENERATED[:1], "run torch/_inductor/cudagraph_trees.py", *TREES)]),
    "launch in generated code, queue full": ("compiled_code", [0], [
        rank("run torch/_inductor/runtime/triton_heuristics.py", *GENERATED, collectives=DONE)]),
    "aot_eager runs an operator": ("compiled_code", [0], [
        rank("__call__ torch/_ops.py", "run_node torch/fx/interpreter.py",
             "call_func_at_runtime_with_args torch/_functorch/_aot_autograd/utils.py", *RUNTIME[1:])]),
    "wait in generated code on all ranks, collective open": ("collective", [], [
        rank(*WAIT_IN_GENERATED, collectives=OPEN), rank(*WAIT_IN_GENERATED, collectives=OPEN)]),
    "wait in generated code, one rank is late": ("collective_desync", [1], [
        rank(*WAIT_IN_GENERATED, collectives=OPEN, sequence=8),
        rank(*WAIT_IN_GENERATED, collectives=OPEN, sequence=5)]),
    "wait in generated code, known by its source line alone": ("collective_desync", [0], [
        rank(*WAIT_IN_GENERATED, text="buf3 = torch.ops._c10d_functional.wait_tensor.default(buf1)", sequence=4),
        rank(GATHER, sequence=6)]),
    "wait in generated code, the other rank compiles": ("inductor_codegen", [1], [
        rank(*WAIT_IN_GENERATED, collectives=OPEN), rank("codegen torch/_inductor/scheduler.py", *INDUCTOR)]),
    "wait in code of aot_eager, collective open": ("collective", [], [
        rank("__call__ torch/_ops.py", "call_func_at_runtime_with_args torch/_functorch/_aot_autograd/utils.py",
             *RUNTIME[1:], collectives=OPEN)] * 2),
    "benchmark waits for the device": ("autotune", [0], [rank(*BENCHMARK, *GENERATED)]),
    "benchmark waits for the device, other rank waits in the same collective": ("autotune", [0], [
        rank(*BENCHMARK, *GENERATED, collectives=OPEN), rank(*WAIT_IN_GENERATED, collectives=OPEN)]),
    "benchmark waits for a collective that the other rank has not entered": ("collective_desync", [1], [
        rank(*BENCHMARK, *GENERATED, collectives=OPEN, sequence=6), rank(GATHER, sequence=5)]),
    "benchmark waits for a collective, and the other rank compiles": ("dynamo_tracing", [1], [
        rank(*BENCHMARK, *GENERATED, collectives=OPEN), rank("step torch/_dynamo/symbolic_convert.py", *DYNAMO)]),
    "benchmark waits alone, collective open": ("collective", [], [rank(*BENCHMARK, *GENERATED, collectives=OPEN)]),
    "benchmark at compile time waits for the device": ("autotune", [0], [
        rank(*DO_BENCH, "benchmark_in_current_process torch/_inductor/select_algorithm.py", *INDUCTOR)]),
    "benchmark launches a kernel": ("autotune", [0], [
        rank("run torch/_inductor/runtime/triton_heuristics.py", *DO_BENCH[1:], *INDUCTOR)]),
    "Triton's own tuner in eager code": ("autotune", [0], [
        rank(*DO_BENCH[:2], "run triton/runtime/autotuner.py", USER)]),
    "wait for candidate kernels": ("autotune", [0], [
        rank(*FUTURE, "wait_on_futures torch/_inductor/select_algorithm.py", *INDUCTOR)]),
    "wait for the workers": ("compile_worker", [0], [
        rank(*FUTURE, "AsyncCompile.wait torch/_inductor/async_compile.py", *MODULE, *INDUCTOR)]),
    "start of the workers": ("compile_worker", [0], [
        rank("_execute_child subprocess.py", "warm_pool torch/_inductor/async_compile.py", *INDUCTOR)]),
    "end of the workers at exit": ("compile_worker", [0], [
        rank("wait subprocess.py", "shutdown torch/_inductor/compile_worker/subproc_pool.py",
             "shutdown_compile_workers torch/_inductor/async_compile.py")]),
    "Triton compiles in the rank's process": ("inductor_codegen", [0], [
        rank("make_llir triton/backends/nvidia/compiler.py", "compile triton/compiler/compiler.py", *PRECOMPILE,
             *MODULE, *INDUCTOR, process=SPINS)]),
    "kernel that is compiled at its first launch": ("inductor_codegen", [0], [
        rank("make_cubin triton/backends/nvidia/compiler.py", *PRECOMPILE[:2],
             "run torch/_inductor/runtime/triton_heuristics.py", *GENERATED)]),
    "lock of a shared cache": ("io", [0], [
        rank("acquire filelock/_api.py", "_worker_compile_cpp torch/_inductor/codecache.py", *INDUCTOR)]),
    "lock of an extension that another process builds": ("io", [0], [
        rank("wait torch/utils/file_baton.py", "load torch/utils/cpp_extension.py", USER)]),
    "remote cache": ("io", [0], [rank("recv_into socket.py", "get torch/_inductor/remote_cache.py", *INDUCTOR)]),
    "sizes in Inductor": ("inductor_codegen", [0], [
        rank("_eval_is_positive sympy/core/mul.py", "simplify torch/_inductor/sizevars.py", *INDUCTOR, process=SPINS)]),
    "sizes in Dynamo": ("dynamo_tracing", [0], [
        rank("sort sympy/core/expr.py", "evaluate_expr torch/fx/experimental/symbolic_shapes.py",
             "wrap_tensor torch/_dynamo/variables/builder.py", *DYNAMO, process=SPINS)]),
    "partitioner": ("aot_autograd", [0], [
        rank("minimum_cut networkx/algorithms/flow/maxflow.py", "solve_min_cut torch/_functorch/partitioners.py",
             *DYNAMO)]),
    "guards that are checked": ("dynamo_tracing", [0], [
        rank("check_verbose torch/_dynamo/guards.py", "compile_wrapper torch/_dynamo/eval_frame.py", process=SPINS)]),
    "compiled autograd runs": ("compiled_code", [0], [
        rank("runtime_wrapper torch/_dynamo/compiled_autograd.py", "backward torch/_tensor.py", process=SPINS)]),
    "a collective of the compiler": ("dynamo_tracing", [1], [
        rank("all_gather_object torch/distributed/distributed_c10d.py",
             "run_compiler_collective torch/_dynamo/output_graph.py", *DYNAMO),
        rank("symbolic_locals torch/_dynamo/symbolic_convert.py", *DYNAMO, process=SPINS)]),
    "own kernel does not end, the other rank waits in the next collective": ("device", [0], [
        rank(SYNC, USER, collectives=DONE), rank(GATHER, sequence=6, collectives=OPEN)]),
    "event of a stream": ("device", [0], [rank("synchronize torch/cuda/streams.py", USER)]),
    "start of the driver, the other rank waits to join": ("device", [0], [
        rank("_lazy_init torch/cuda/__init__.py", "main /study/rank.py", sequence=None),
        rank("init_process_group torch/distributed/distributed_c10d.py", sequence=None)]),
    "all ranks join a group": ("collective", [], [
        rank("_new_process_group_helper torch/distributed/distributed_c10d.py")] * 2),
    "all ranks leave a group": ("collective", [], [
        rank("destroy_process_group torch/distributed/distributed_c10d.py", collectives=DONE)] * 2),
    "symmetric memory": ("collective", [], [rank("rendezvous torch/distributed/_symmetric_memory/__init__.py")] * 2),
    "send and receive": ("collective", [], [rank("recv torch/distributed/distributed_c10d.py")] * 2),
    "Triton compiles a kernel of the user's at its first launch in generated code": ("inductor_codegen", [0], [
        rank("make_ptx triton/backends/nvidia/compiler.py", "compile triton/compiler/compiler.py",
             "run triton/runtime/jit.py", *GENERATED)]),
    "Triton compiles a kernel of eager code": ("unknown", [0], [
        rank("make_ptx triton/backends/nvidia/compiler.py", "run triton/runtime/jit.py", USER)]),
    "Triton compiles a candidate": ("autotune", [0], [
        rank("make_ptx triton/backends/nvidia/compiler.py", "run triton/runtime/jit.py", *DO_BENCH[1:], *INDUCTOR)]),
    "torch.func in eager code": ("unknown", [0], [
        rank("linear torch/nn/functional.py", "vmap_impl torch/_functorch/vmap.py",
             "wrapped torch/_functorch/eager_transforms.py", USER, process=SPINS)]),
    "the compiler imports a module from a slow disk": ("io", [0], [
        rank("get_data <frozen importlib._bootstrap_external>", "_find_and_load <frozen importlib._bootstrap>",
             "<module> torch/_inductor/config.py", *INDUCTOR)]),
    "the compiler waits for another thread's import": ("unknown", [0], [
        rank("acquire <frozen importlib._bootstrap>", "_find_and_load <frozen importlib._bootstrap>",
             "<module> torch/_dynamo/utils.py", *DYNAMO)]),
    "a debugger waits within the compiler": ("unknown", [0], [
        rank("cmdloop /usr/lib/python3.12/cmd.py", "interaction /usr/lib/python3.12/pdb.py",
             "codegen torch/_inductor/scheduler.py", *INDUCTOR)]),
    "workers of an early version": ("compile_worker", [0], [
        rank("_launch multiprocessing/popen_fork.py", "warm_pool torch/_inductor/codecache.py", *INDUCTOR)]),
    "new names of the device": ("device", [0], [rank("synchronize torch/accelerator/__init__.py", USER)]),
    "start of the driver, by its number of devices": ("device", [0], [
        rank("_device_count_nvml torch/cuda/__init__.py", "main /study/rank.py", sequence=None),
        rank("init_process_group torch/distributed/distributed_c10d.py", sequence=None)]),
    "start of data parallelism": ("collective", [], [
        rank("_verify_param_shape_across_processes torch/distributed/utils.py",
             "__init__ torch/nn/parallel/distributed.py")] * 2),
    "buffers of data parallelism": ("collective", [], [
        rank("_sync_buffers torch/nn/parallel/distributed.py", "_pre_forward torch/nn/parallel/distributed.py")] * 2),
    "a pipeline of Megatron": ("collective", [], [
        rank("_communicate /venv/megatron/core/pipeline_parallel/p2p_communication.py")] * 2),
    "collective of vLLM": ("collective", [], [
        rank("all_reduce /venv/site-packages/vllm/distributed/device_communicators/pynccl.py", USER)] * 2),
    "point to point of vLLM": ("collective", [], [
        rank("recv /venv/site-packages/vllm/distributed/device_communicators/pynccl.py", USER)] * 2),
    "point to point of SGLang": ("collective", [], [rank("recv sglang/srt/distributed/parallel_state.py", USER)] * 2),
    "groups of a mesh of devices": ("collective", [], [
        rank("_init_process_groups torch/distributed/device_mesh.py", USER)] * 2),
    "a pipeline of torch": ("collective", [], [rank("_batch_p2p torch/distributed/pipelining/schedules.py")] * 2),
    "experts of DeepEP": ("collective", [], [rank("dispatch deep_ep/buffer.py"), rank("combine deep_ep/buffer.py")]),
    "start of NVSHMEM": ("collective", [], [rank("init_nvshmem triton_dist/utils.py")] * 2),
    "lookup in a remote cache": ("io", [0], [
        rank("read_response redis/_parsers/resp2.py", "put torch/_inductor/remote_cache.py", *INDUCTOR)]),
    "computes in the user's code": ("unknown", [0], [rank(USER, process=SPINS)]),
    "computes in a function named load": ("unknown", [0], [rank("load /study/data.py", process=SPINS)]),
    "reads a file": ("io", [0], [rank("load /study/data.py")]),
    "wait until the workers are ready": ("compile_worker", [0], [
        rank(*FUTURE, "wait_pool_ready torch/_inductor/async_compile.py", *INDUCTOR)]),
    "choice of a fusion by its time": ("autotune", [0], [
        rank("speedup_by_fusion torch/_inductor/scheduler.py", "fuse_nodes torch/_inductor/scheduler.py", *INDUCTOR)]),
    "parameters of FSDP": ("collective", [], [
        rank("wait_for_unshard torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py", collectives=OPEN)] * 2),
    "zombie": ("gone", [0], [rank(process={"state": "Z"})]),
    "traced": ("stopped", [0], [rank(process={"state": "t"})]),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_known_shape_has_its_kind_and_rank(name: str) -> None:
    kind, at_fault, ranks = SHAPES[name]
    verdict = classify({"ranks": [dict(item, rank=number) for number, item in enumerate(ranks)]})
    assert (verdict["kind"], verdict["ranks"]) == (kind, at_fault), verdict["findings"]
