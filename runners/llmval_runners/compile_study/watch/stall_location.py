"""Finds where one rank is stuck: the kinds of stall, and the rules that derive the kind from evidence. Pure."""

import re
from dataclasses import dataclass, field
from typing import Any

# The kinds of stall of one rank. Another rank may cause the waits `collective` and `device`.
DYNAMO = "dynamo_tracing"
AOT = "aot_autograd"
CODEGEN = "inductor_codegen"
WORKER = "compile_worker"
AUTOTUNE = "autotune"
COMPILED_CODE = "compiled_code"  # code that torch.compile made runs, or a CUDA graph is recorded: nothing compiles
COLLECTIVE = "collective"
DEVICE = "device"
IO = "io"
STOPPED = "stopped"
GONE = "gone"
UNKNOWN = "unknown"
TRITON = "triton"  # of a frame only: where it was called from decides


@dataclass(frozen=True, slots=True)
class Finding:
    """The stall of one rank."""

    rank: int
    kind: str
    where: str = ""  # the frame that decided, if any
    operation: str = ""  # name of the collective, if it is one
    reasons: list[str] = field(default_factory=list)
    waits: bool = False  # perhaps for another rank: inside a collective, or for a device that may be in one
    # It measures a kernel, which waits for all work of the device, and a collective is part of that work.
    behind_collective: bool = False


def locate(evidence: dict[str, Any]) -> Finding:
    """Find where one rank is stuck. The rules are ordered from the surest to the weakest; the first match decides."""
    rank, process, frames = evidence["rank"], evidence["process"], evidence["stack"]["main"]
    innermost = _frame_text(frames[0]) if frames else ""
    if process is None or process["state"] in "ZX":
        return Finding(rank, GONE, reasons=["its process has ended"])
    state, wchan = process["state"], process["wchan"]
    if state in "Tt":
        stopped = f"its process is stopped (state {state}): something sent it SIGSTOP or traces it"
        return Finding(rank, STOPPED, reasons=[stopped])
    if state == "D":
        asleep = f"its main thread is in uninterruptible sleep (state D) in {wchan}"
        return Finding(rank, IO, innermost, reasons=[asleep])
    if file := process["waits_for_file"]:
        return Finding(rank, IO, innermost, reasons=[f"its main thread is in the system call {file}, wchan {wchan}"])
    for depth, frame in enumerate(frames):
        kind = _kind_of_frame(frame)
        if kind is not None:
            return _finding_of_frame(evidence, depth, kind)
    idle = state != "R" and process["cpu_fraction"] < _BUSY
    if frames and idle and _FILE_READERS.match(_function(frames[0])):
        reading = f"its innermost frame is {innermost}, outside of torch's compiler"
        return Finding(rank, IO, innermost, reasons=[reading])
    no_match = f"no frame belongs to the compiler, a collective or the device; innermost {innermost or 'unknown'}"
    return Finding(rank, UNKNOWN, innermost, reasons=[no_match, _cpu_use(process)])


def _finding_of_frame(evidence: dict[str, Any], depth: int, kind: str) -> Finding:
    stack, collectives = evidence["stack"], evidence["collectives"]
    where = _frame_text(stack["main"][depth])
    reasons = [f"frame {depth} from the innermost is {where} (by {stack['source']})"]
    unfinished = bool(collectives) and not collectives[-1]["done"]
    starts_driver = kind == DEVICE and _function(stack["main"][depth]) in _DRIVER_START
    behind_collective = False
    if kind == TRITON:
        # Code of Inductor compiles kernels at their first launch, too. Kernels of eager code are not Inductor's.
        kinds = [_kind_of_frame(frame) for frame in stack["main"][depth + 1 :]]
        kind = next((outer for outer in kinds if outer not in (None, TRITON)), None) or UNKNOWN
        kind = CODEGEN if kind == COMPILED_CODE else kind
        reasons.append("Triton compiles a kernel there")
    if kind in (DEVICE, COMPILED_CODE) and (outer := _frame_of(AUTOTUNE, stack["main"][depth + 1 :])):
        # The benchmark of a kernel runs the kernel and waits for the device: the benchmark is the place.
        kind, behind_collective = AUTOTUNE, unfinished
        reasons.append(f"that is inside a benchmark of the choice of kernels, {outer}")
        if unfinished:
            reasons.append("it waits for all work of the device, and a collective there has not ended")
    elif kind == COMPILED_CODE and unfinished:
        kind = COLLECTIVE
        reasons.append("that is compiled code, and the newest collective of its flight recorder has not ended")
    operation = ""
    if kind == COLLECTIVE:
        operation = evidence["beat"]["operation"] or _operation(stack["main"], collectives)
    if kind == WORKER:
        reasons.append(_worker_states(evidence["workers"]))
    reasons.append(_cpu_use(evidence["process"]))
    waits = kind in (COLLECTIVE, DEVICE) and not starts_driver
    return Finding(evidence["rank"], kind, where, operation, reasons, waits, behind_collective)


def _frame_of(kind: str, frames: list[dict[str, Any]]) -> str:
    return next((_frame_text(frame) for frame in frames if _kind_of_frame(frame) == kind), "")


def _kind_of_frame(frame: dict[str, Any]) -> str | None:
    """The kind of stall that a frame stands for; None if the frames further out must decide."""
    file, function = frame["file"], _function(frame)
    if _GENERATED.search(file) and _COLLECTIVE_CALLS.search(frame.get("text") or ""):
        return COLLECTIVE
    return next(
        (
            kind
            for files, functions, kind in _RULES
            if files.search(file) and (functions is None or functions.search(function))
        ),
        None,
    )


def _function(frame: dict[str, Any]) -> str:
    """The plain function name. py-spy qualifies it (`AsyncCompile.wait`) from Python 3.11 on, faulthandler does not."""
    return str(frame["function"]).rpartition(".")[2]


def is_generated(file: str) -> bool:
    """Whether Inductor wrote this file: the cache has it as `ab/cab….py`, in whichever folder the cache is."""
    return bool(_GENERATED.search(file))


_BUSY = 0.5  # of a core
_GENERATED = re.compile(r"/([a-z0-9]{2})/c\1[a-z0-9]*\.(?:py|main\.py)$")
# In the source line of generated code.
_COLLECTIVE_CALLS = re.compile(r"_c10d_functional|wait_tensor|all_reduce|all_gather|reduce_scatter|all_to_all")
_DRIVER_START = (
    "_lazy_init", "_lazy_call", "set_device", "_cuda_init", "init", "device_count", "_device_count_nvml",
    "is_available", "get_device_properties", "get_device_capability", "get_device_name", "can_device_access_peer",
)  # fmt: skip
_FILE_READERS = re.compile(r"^(open|_open|read|read_bytes|read_text|readinto|readline|load|get_tensor|safe_open)$")

_DRIVER_CALLS = rf"^({'|'.join(_DRIVER_START)}|synchronize|wait_event|empty_cache|mem_get_info|ipc_collect)$"
_WORKER_WAITS = r"^(wait|_wait_futures|result|load_by_key_path|wait_for_compile|_communicate|communicate)$"
_AOT_RUNTIME = r"^(call_func_at_runtime_with_args|call_and_expect_output_aliases)$"
_COLLECTIVE_NAMES = (
    r"wait_tensor|wait_for_unshard|rendezvous|barrier|all_?reduce|all_?gather|reduce_scatter|broadcast|all_?to_?all|"
    r"^(_verify_params?_|_sync_module_states|_sync_params|_sync_(module_)?buffers|_coalesced|all_to|isend|irecv|batch_isend)"
)
_IMPORT_READS = (
    r"^(get_data|get_code|path_stats|_path_stat|_path_isfile|_path_isdir|_fill_cache|create_module|exec_module)$"
)
_AOT_FILES = (
    r"torch/_functorch/(_aot_autograd/(?!runtime_wrappers)|aot_autograd|partitioners|compilers|compile_utils|fx_minifier|"
    r"_activation)"
)

# File, function (None: any) -> kind, both as regular expressions. The first match of the innermost matching frame
# decides. Frames of calls that only pass control on (eval_frame, _ops, a launcher) are not here on purpose.
_RULE_TABLE: tuple[tuple[str, str | None, str], ...] = (
    # Waits for another process's lock or for the network; before the compiler, which takes such locks.
    (r"/filelock/|torch/utils/file_baton|torch/utils/_filelock", None, IO),
    (
        r"/(socket|ssl|selectors)\.py$|/http/client\.py$|/(redis|urllib3)/|torch/_inductor/remote_cache",
        r"recv|read|connect|get|put|send|select|request|handshake",
        IO,
    ),
    # Imports, also those that the compiler makes, and a debugger that waits for its user.
    (r"importlib\._bootstrap_external", _IMPORT_READS, IO),
    (r"importlib|/(pdb|bdb|cmd)\.py$", None, UNKNOWN),
    # CUDA graphs. Their trees record and replay at run time, so nothing compiles there.
    (r"torch/cuda/graphs\.py", None, DEVICE),
    (r"torch/_inductor/cudagraph_(trees|utils)", None, COMPILED_CODE),
    (r"torch/(cuda|accelerator)/", _DRIVER_CALLS, DEVICE),
    # The choice between kernels, which runs each candidate.
    (r"torch/_inductor/(autotune_process|select_algorithm|runtime/benchmarking|autoheuristic)", None, AUTOTUNE),
    (r"triton/testing|triton/runtime/autotuner", None, AUTOTUNE),
    (r"torch/_inductor/", r"^(?!.*cache).*([Aa]utotun|[Bb]enchmark|coordinate_descent)", AUTOTUNE),
    (r"torch/_inductor/scheduler", r"^speedup_by_(fusion|combo_kernel)$", AUTOTUNE),  # runs what it may fuse
    (r"torch/_inductor/runtime/triton_heuristics", r"^(bench|benchmark_.*|autotune_.*)$", AUTOTUNE),
    # Waits for a compiler in another process.
    (r"torch/_inductor/compile_worker", None, WORKER),
    (r"torch/_inductor/(async_compile|codecache)", _WORKER_WAITS, WORKER),
    (
        r"torch/_inductor/(async_compile|codecache)",
        r"^(process_pool|warm_pool|wait_pool_ready|shutdown_compile_workers)$",
        WORKER,
    ),
    (r"torch/_inductor/cpp_builder", None, WORKER),
    (r"torch/_inductor/cpu_vec_isa", r"^(check_build|_probe_load)$", WORKER),  # builds and loads a test program
    (r"triton/(compiler|backends)/|triton/runtime/build", None, TRITON),
    # Compiled code runs: calls it, or launches its kernels.
    (r"torch/_inductor/runtime/triton_heuristics", r"precompile|^_?make_launcher|^compile$", CODEGEN),
    (r"torch/_inductor/runtime/(triton_heuristics|static_cuda_launcher)", r"^(run|launcher|__call__)$", COMPILED_CODE),
    (r"torch/_inductor/(output_code|utils|compile_fx)\.py", r"^(run|__call__)$", COMPILED_CODE),
    (r"torch/_inductor/output_code|<eval_with_key>", None, COMPILED_CODE),
    (_GENERATED.pattern, r"^(call|benchmark_compiled_module|forward|\w*_kernel\w*)$", COMPILED_CODE),
    (r"torch/_functorch/_aot_autograd/utils", _AOT_RUNTIME, COMPILED_CODE),
    (r"torch/_dynamo/backends/debugging", r"^(run|forward|__call__)$", COMPILED_CODE),  # aot_eager
    (r"torch/_functorch/aot_autograd\.py", r"^(forward|boxed_forward|compiled_fn|__call__)$", COMPILED_CODE),
    (r"torch/_dynamo/compiled_autograd", r"^(__call__|runtime_wrapper|_exec_final_callbacks_stub)$", COMPILED_CODE),
    # The parts of the compiler.
    (r"torch/_inductor/(?!runtime/)", None, CODEGEN),
    (_AOT_FILES, None, AOT),
    (r"torch/_dynamo/(?!eval_frame|external_utils|decorators)", None, DYNAMO),
    # Collectives, and joining or leaving a group.
    (r"torch/distributed/(distributed_c10d|rendezvous|_functional_collectives|_symmetric_memory)", None, COLLECTIVE),
    (r"torch/distributed/|torch/nn/parallel/distributed|torch/cuda/nccl", _COLLECTIVE_NAMES, COLLECTIVE),
    (r"megatron/.*p2p_communication", r"^_(communicate|p2p_ops)", COLLECTIVE),
    (
        r"torch/distributed/(device_mesh|pipelining/schedules)",
        r"^(_init_process_groups|_batch_p2p|_wait_batch_p2p)$",
        COLLECTIVE,
    ),
    (
        r"(vllm|sglang)/.*(distributed|parallel_state)",
        r"^(send|recv|send_object|recv_object|\w+_tensor_dict)$",
        COLLECTIVE,
    ),
    (r"deep_ep/buffer", r"dispatch|combine|^sync$", COLLECTIVE),
    (r"nvshmem|triton_dist/utils", r"^(init|init_nvshmem\w*|nvshmem_\w+|initialize_distributed)$", COLLECTIVE),
    (r"(vllm|sglang)/.*(distributed|parallel_state)|deepspeed/comm/|megatron/", _COLLECTIVE_NAMES, COLLECTIVE),
)
_RULES = tuple(
    (re.compile(files), None if functions is None else re.compile(functions), kind)
    for files, functions, kind in _RULE_TABLE
)


def _operation(frames: list[dict[str, Any]], collectives: list[dict[str, Any]]) -> str:
    """The name of the collective: the unfinished one of the flight recorder, else that of the outermost such frame."""
    if collectives and not collectives[-1]["done"]:
        return str(collectives[-1]["operation"])
    named = [_function(frame) for frame in frames if _kind_of_frame(frame) == COLLECTIVE]
    return named[-1] if named else ""


def _worker_states(workers: list[dict[str, Any]]) -> str:
    if not workers:
        return "it has no compile worker any more"
    stopped = [str(worker["pid"]) for worker in workers if worker["state"] in "Tt"]
    busy = [f"{worker['pid']} ({worker['cpu_fraction']:.0%})" for worker in workers if worker["cpu_fraction"] > 0.05]
    parts = [f"{len(workers)} compile workers"]
    if stopped:
        parts.append(f"stopped (state T): {', '.join(stopped)}")
    parts.append(f"working: {', '.join(busy)}" if busy else "none uses CPU time")
    return "; ".join(parts)


def _cpu_use(process: dict[str, Any]) -> str:
    share = f"{process['cpu_fraction']:.0%}"
    return f"the process used {share} of a core while watched, state {process['state']}, wchan {process['wchan']}"


def _frame_text(frame: dict[str, Any]) -> str:
    file = frame["file"]
    for root in ("/site-packages/", "/dist-packages/"):
        file = file.rpartition(root)[2]
    return f"{frame['function']} ({file}:{frame['line']})"
