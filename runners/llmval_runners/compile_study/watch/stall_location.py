"""Where one rank is stuck, from what was seen of it. Pure: evidence in, a kind with its reasons out."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# What a rank can be stuck in. `collective` and `device` are waits that another rank may be the cause of.
DYNAMO, AOT, CODEGEN, WORKER, AUTOTUNE = (
    "dynamo_tracing",
    "aot_autograd",
    "inductor_codegen",
    "compile_worker",
    "autotune",
)
COLLECTIVE, DEVICE, IO, STOPPED, GONE, UNKNOWN = "collective", "device", "io", "stopped", "gone", "unknown"
RUNNING = "compiled_code"
WAITS = (COLLECTIVE, DEVICE)

_COLLECTIVES = re.compile(
    r"wait_tensor|trigger_wait|rendezvous|init_process_group|barrier|all_reduce|allreduce|all_gather|allgather|reduce_scatter|broadcast|all_to_all|^(send|recv|scatter|gather|reduce)$"
)
_TUNERS = re.compile(r"autotun|benchmark", re.IGNORECASE)
_WAITERS = re.compile(r"^(wait|_wait_futures|result|load_by_key_path|wait_for_compile|_communicate|communicate)$")
_RUNTIME = re.compile(r"_dynamo/(eval_frame|external_utils|decorators)")  # frames of calls, not of tracing
_OPENERS = re.compile(r"^(open|_open|read|read_bytes|read_text|readinto|readline|load|get_tensor|safe_open)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One rank's place."""

    rank: int
    kind: str
    where: str  # the frame that decided, or ""
    operation: str  # of a collective
    reasons: list[str] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        return self.kind in WAITS


def place(evidence: dict[str, Any]) -> Finding:
    """The place of one rank. Rules from the surest to the weakest; the first that holds decides, and says by what."""
    rank, process, frames = evidence["rank"], evidence["process"], evidence["stack"]["main"]
    if process is None:
        return Finding(rank, GONE, "", "", ["its process has ended"])
    if process["state"] in "Tt":
        return Finding(
            rank,
            STOPPED,
            "",
            "",
            [f"its process is stopped (state {process['state']}): something sent it SIGSTOP or traces it"],
        )
    if process["state"] == "D":
        return Finding(
            rank,
            IO,
            _shown(frames),
            "",
            [f"its main thread is in uninterruptible sleep (state D) in {process['wchan']}"],
        )
    if file := process["waits_for_file"]:
        return Finding(
            rank, IO, _shown(frames), "", [f"its main thread is in the system call {file}, wchan {process['wchan']}"]
        )
    operation = evidence["beat"]["operation"]
    for depth, frame in enumerate(frames):
        kind = _of_frame(frame)
        if kind is None:
            continue
        reasons = [f"frame {depth} from the innermost is {_name(frame)} (by {evidence['stack']['source']})"]
        if kind == RUNNING and evidence["collectives"] and not evidence["collectives"][-1]["done"]:
            kind = COLLECTIVE
            reasons.append("that is compiled code, and the newest collective of its flight recorder has not ended")
        if kind == COLLECTIVE:
            operation = operation or _operation(frames, evidence)
        if kind == WORKER:
            reasons += _workers(evidence["workers"])
        reasons.append(_busy(process))
        return Finding(rank, kind, _name(frame), operation if kind == COLLECTIVE else "", reasons)
    if frames and _OPENERS.match(_plain(frames[0])):
        return Finding(
            rank, IO, _name(frames[0]), "", [f"its innermost frame is {_name(frames[0])}, outside of torch's compiler"]
        )
    reasons = [
        f"no frame is of the compiler, a collective or the device; innermost {_shown(frames) or 'unknown'}",
        _busy(process),
    ]
    return Finding(rank, UNKNOWN, _shown(frames), "", reasons)


def _of_frame(frame: dict[str, Any]) -> str | None:
    """The kind that a frame stands for, innermost first; None: look further out."""
    file, function = frame["file"], _plain(frame)
    for matches, kind in _RULES:
        if matches(file, function):
            return kind
    return None


def _plain(frame: dict[str, Any]) -> str:
    """The function's own name: py-spy qualifies it (`AsyncCompile.wait`) from Python 3.11 on, faulthandler does not."""
    return str(frame["function"]).rpartition(".")[2]


def _in(*parts: str) -> Callable[[str, str], bool]:
    return lambda file, function: any(part in file for part in parts)


_RULES: tuple[tuple[Callable[[str, str], bool], str], ...] = (
    (
        lambda file, function: "torch/_inductor" in file and "cache" not in function and bool(_TUNERS.search(function)),
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
    (lambda file, function: "torch/_inductor/async_compile" in file and bool(_WAITERS.match(function)), WORKER),
    (
        lambda file, function: (
            "torch/_inductor/cpp_builder" in file
            or ("torch/_inductor/codecache" in file and bool(_WAITERS.match(function)))
        ),
        WORKER,
    ),
    (_in("torch/_inductor/output_code", "<eval_with_key>"), RUNNING),
    (lambda file, function: "torch/_inductor/" in file and "/runtime/" not in file, CODEGEN),
    (lambda file, function: "torch/distributed/" in file and bool(_COLLECTIVES.search(function)), COLLECTIVE),
    (lambda file, function: "torch/cuda/" in file and function == "synchronize", DEVICE),
    (lambda file, function: "torch/_functorch/" in file and "runtime_wrappers" not in file, AOT),
    (lambda file, function: "torch/_dynamo/" in file and not _RUNTIME.search(file), DYNAMO),
)


def _operation(frames: list[dict[str, Any]], evidence: dict[str, Any]) -> str:
    """What collective: the newest that the flight recorder has, else the name of the frame."""
    entries = evidence["collectives"]
    if entries:
        return entries[-1]["operation"]
    named = [
        _plain(frame)
        for frame in frames
        if "torch/distributed/" in frame["file"] and _COLLECTIVES.search(_plain(frame))
    ]
    return named[-1] if named else ""


def _workers(workers: list[dict[str, Any]]) -> list[str]:
    if not workers:
        return ["it has no compile worker any more"]
    stopped = [str(worker["pid"]) for worker in workers if worker["state"] in "Tt"]
    busy = [f"{worker['pid']} ({worker['cpu_fraction']:.0%})" for worker in workers if worker["cpu_fraction"] > 0.05]
    told = [f"{len(workers)} compile workers"]
    if stopped:
        told.append(f"stopped (state T): {', '.join(stopped)}")
    told.append(f"working: {', '.join(busy)}" if busy else "none uses CPU time")
    return ["; ".join(told)]


def _busy(process: dict[str, Any]) -> str:
    share = f"{process['cpu_fraction']:.0%}"
    return f"the process used {share} of a core while watched, state {process['state']}, wchan {process['wchan']}"


def _name(frame: dict[str, Any]) -> str:
    file = frame["file"]
    for root in ("/site-packages/", "/dist-packages/"):
        file = file.rpartition(root)[2]
    return f"{frame['function']} ({file}:{frame['line']})"


def _shown(frames: list[dict[str, Any]]) -> str:
    return _name(frames[0]) if frames else ""
