"""Finds where one rank is stuck: the kinds of stall, and the rules that derive the kind from evidence. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# The kinds of stall of one rank. Another rank may cause the waits `collective` and `device`.
DYNAMO = "dynamo_tracing"
AOT = "aot_autograd"
CODEGEN = "inductor_codegen"
WORKER = "compile_worker"
AUTOTUNE = "autotune"
COMPILED_CODE = "compiled_code"
COLLECTIVE = "collective"
DEVICE = "device"
IO = "io"
STOPPED = "stopped"
GONE = "gone"
UNKNOWN = "unknown"
WAITS = (COLLECTIVE, DEVICE)

_COLLECTIVES = re.compile(
    r"wait_tensor|trigger_wait|rendezvous|init_process_group|barrier|all_reduce|allreduce|all_gather|allgather|reduce_scatter|broadcast|all_to_all|^(send|recv|scatter|gather|reduce)$"
)
_AUTOTUNERS = re.compile(r"autotun|benchmark", re.IGNORECASE)
_WORKER_WAITS = re.compile(r"^(wait|_wait_futures|result|load_by_key_path|wait_for_compile|_communicate|communicate)$")
_DYNAMO_RUNTIME = re.compile(r"_dynamo/(eval_frame|external_utils|decorators)")  # frames of calls, not of tracing
_FILE_READERS = re.compile(r"^(open|_open|read|read_bytes|read_text|readinto|readline|load|get_tensor|safe_open)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """The stall of one rank."""

    rank: int
    kind: str
    where: str = ""  # the frame that decided, if any
    operation: str = ""  # of a collective
    reasons: list[str] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        return self.kind in WAITS


def locate(evidence: dict[str, Any]) -> Finding:
    """Find where one rank is stuck. The rules are ordered from the surest to the weakest; the first match decides."""
    rank, process, frames = evidence["rank"], evidence["process"], evidence["stack"]["main"]
    innermost = _frame_text(frames[0]) if frames else ""
    if process is None:
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
    if frames and _FILE_READERS.match(_function(frames[0])):
        reading = f"its innermost frame is {innermost}, outside of torch's compiler"
        return Finding(rank, IO, innermost, reasons=[reading])
    no_match = f"no frame belongs to the compiler, a collective or the device; innermost {innermost or 'unknown'}"
    return Finding(rank, UNKNOWN, innermost, reasons=[no_match, _cpu_use(process)])


def _finding_of_frame(evidence: dict[str, Any], depth: int, kind: str) -> Finding:
    stack, collectives = evidence["stack"], evidence["collectives"]
    where = _frame_text(stack["main"][depth])
    reasons = [f"frame {depth} from the innermost is {where} (by {stack['source']})"]
    if kind == COMPILED_CODE and collectives and not collectives[-1]["done"]:
        kind = COLLECTIVE
        reasons.append("that is compiled code, and the newest collective of its flight recorder has not ended")
    operation = ""
    if kind == COLLECTIVE:
        operation = evidence["beat"]["operation"] or _operation(stack["main"], collectives)
    if kind == WORKER:
        reasons.append(_worker_states(evidence["workers"]))
    reasons.append(_cpu_use(evidence["process"]))
    return Finding(evidence["rank"], kind, where, operation, reasons)


def _kind_of_frame(frame: dict[str, Any]) -> str | None:
    """The kind of stall that a frame stands for; None if the frames further out must decide."""
    file, function = frame["file"], _function(frame)
    for matches, kind in _RULES:
        if matches(file, function):
            return kind
    return None


def _function(frame: dict[str, Any]) -> str:
    """The plain function name. py-spy qualifies it (`AsyncCompile.wait`) from Python 3.11 on, faulthandler does not."""
    return str(frame["function"]).rpartition(".")[2]


def _in(*parts: str) -> Callable[[str, str], bool]:
    return lambda file, function: any(part in file for part in parts)


_RULES: tuple[tuple[Callable[[str, str], bool], str], ...] = (
    (
        lambda file, function: (
            "torch/_inductor" in file and "cache" not in function and bool(_AUTOTUNERS.search(function))
        ),
        AUTOTUNE,
    ),
    (
        _in(
            "torch/_inductor/autotune_process",
            "torch/_inductor/select_algorithm",
            "torch/_inductor/runtime/benchmarking",
        ),
        AUTOTUNE,
    ),
    (_in("torch/_inductor/compile_worker"), WORKER),
    (lambda file, function: "torch/_inductor/async_compile" in file and bool(_WORKER_WAITS.match(function)), WORKER),
    (
        lambda file, function: (
            "torch/_inductor/cpp_builder" in file
            or ("torch/_inductor/codecache" in file and bool(_WORKER_WAITS.match(function)))
        ),
        WORKER,
    ),
    (_in("torch/_inductor/output_code", "<eval_with_key>"), COMPILED_CODE),
    (lambda file, function: "torch/_inductor/" in file and "/runtime/" not in file, CODEGEN),
    (lambda file, function: "torch/distributed/" in file and bool(_COLLECTIVES.search(function)), COLLECTIVE),
    (lambda file, function: "torch/cuda/" in file and function == "synchronize", DEVICE),
    (lambda file, function: "torch/_functorch/" in file and "runtime_wrappers" not in file, AOT),
    (lambda file, function: "torch/_dynamo/" in file and not _DYNAMO_RUNTIME.search(file), DYNAMO),
)


def _operation(frames: list[dict[str, Any]], collectives: list[dict[str, Any]]) -> str:
    """The name of the collective: the newest in the flight recorder, else the name of the outermost matching frame."""
    if collectives:
        return str(collectives[-1]["operation"])
    named = [
        _function(frame)
        for frame in frames
        if "torch/distributed/" in frame["file"] and _COLLECTIVES.search(_function(frame))
    ]
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
