"""The gates of a trace, recomputed from its summary, and the flags of the script that captures it.

The script also takes every default from the environment (`TRACE_DURATION=10` is `--duration 10`), and a run's shell can
set that environment. Each such variable becomes a flag of the frozen command, so the command shows what runs.
"""

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.argv import same_flag, value_of
from llmval_tui.actions.command.gpu_count import TENSOR_PARALLEL
from llmval_tui.actions.command.runner_catalog import TRACE_SCHEMA
from llmval_tui.actions.gates.artifacts import read_valid, unreadable
from llmval_tui.actions.section_runs import command_of
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run

_TOOLS = {"nsys": "Nsight Systems", "torch": "PyTorch's profiler"}
_DECODING = ("decode step", "prefill and decode")  # the engine's ranges that decode
_TOP = 3

PREFIX = "TRACE_"
# The script's default of each flag; None: it depends on the node, the model or the clock.
DEFAULTS: dict[str, str | None] = {
    "--duration": "60",
    "--target-qps": "28",
    "--prompt-len": None,
    "--output-len": None,
    "--model": None,
    TENSOR_PARALLEL[0]: None,
    "--attention-backend": "flex",
    "--fp8-mode": "auto",
    "--device": "auto",
    "--profiler": "auto",
    "--trace-seconds": None,
    "--output-dir": None,
}
MODEL = "llama-3.1-8b"  # the load test's model
LENGTHS = {
    True: ("uniform:16:64", "8"),
    False: ("uniform:512:1024", "512"),
}  # prompt and output lengths; is the model tiny?
_FP8 = {"cuda": ("transformer-engine", "native"), "cpu": ("none",)}  # possible results of `auto`
_SHAPE = ("--layers", "--hidden", "--heads", "--kv-heads", "--head-dim", "--ffn", "--vocab")
_CUSTOM = "-custom"  # suffix of a model name if a flag changed its shape


def judge_trace(run: Run, artifact: Artifact) -> Judged:
    """Gates, metrics and a sentence for one trace, from its summary."""
    summary = read_valid(run.workspace / artifact.path, TRACE_SCHEMA)
    if summary is None:
        return [unreadable(artifact, "summary", "a trace's summary")], {}, "no trace to judge"
    gates = [
        _files(run, artifact, summary),
        _profiler(run, artifact, summary),
        _as_asked(run, artifact, summary),
        _load(summary),
        _captured(summary),
        _gpus(summary),
        _decoding(summary),
        _communication(summary),
        _sums(summary),
    ]
    return gates, metrics_of(summary), _sentence(summary)


def metrics_of(summary: dict[str, Any]) -> dict[str, float | None]:
    """The figures of a trace, by name with unit."""
    busy = summary["gpu_busy_share"]
    figures: dict[str, float | None] = {
        "traced_s": float(summary["window"]["seconds"]),
        summary["unit"]: float(summary["calls"]),
        "gpu_busy_percent": None if busy is None else 100 * busy,
    }
    shares = summary["shares"].items()
    return figures | {f"{group}_percent": None if share is None else 100 * share for group, share in shares}


def _gate(name: str, problem: str, otherwise: Outcome, measured: str, bound: str) -> Gate:
    return Gate(name, otherwise if problem else Outcome.PASS, clean_line(measured), bound, clean_line(problem))


def _files(run: Run, artifact: Artifact, summary: dict[str, Any]) -> Gate:
    folder = run.workspace / PurePosixPath(artifact.path).parent
    problem, sizes = "", []
    for file in summary["files"]:
        path = folder / PurePosixPath(file["name"]).name
        size = path.stat().st_size if path.is_file() else None
        sizes.append(f"{path.name} {'missing' if size is None else f'{size:,} bytes'}")
        if not size or size != file["bytes"]:
            problem = problem or f"{path.name} is not the file of {file['bytes']:,} bytes that was summarised"
    return _gate("trace", problem, Outcome.FAIL, ", ".join(sizes), "the files of the summary, not empty")


def _profiler(run: Run, artifact: Artifact, summary: dict[str, Any]) -> Gate:
    asked = value_of(tuple(command_of(run, artifact).argv), "--profiler")
    tool = summary["tool"]
    problem = "" if asked in (None, "auto", tool["name"]) else f"{_TOOLS.get(str(asked), asked)} was asked for"
    measured = f"{_TOOLS[tool['name']]} {tool['version'] or ''}".strip() + (f" ({tool['why']})" if tool["why"] else "")
    return _gate("profiler", problem, Outcome.FAIL, measured, "the profiler that was proposed")


def _as_asked(run: Run, artifact: Artifact, summary: dict[str, Any]) -> Gate:
    ran, load = summary["identity"], summary["workload"]
    other = mismatches(tuple(command_of(run, artifact).argv), summary)
    names = ("model", "tensor_parallel", "attention_backend", "fp8_mode", "device")
    measured = ", ".join(f"{name} {ran[name]}" for name in names)
    measured += f", {load['duration_s']:g} s at {load['target_qps']:g} requests/s"
    return _gate("ran as asked", "; ".join(other), Outcome.FAIL, measured, "it ran as the command asks")


def _load(summary: dict[str, Any]) -> Gate:
    load, window = summary["load"], summary["window"]
    problem = ""
    if load["partial"] or not load["completed"]:
        problem = "the load test did not run to its end"
    elif not window["steps"]:
        problem = "the traced window contains no step of the engine"
    measured = (
        f"{window['steps']} steps in {window['seconds']:.2f} s, until {window['ended_by']}; "
        f"{load['completed']} requests completed, {load['failed']} failed"
    )
    return _gate("load", problem, Outcome.INVALID, measured, "at least one step, of a complete load test")


def _captured(summary: dict[str, Any]) -> Gate:
    on_gpu = summary["identity"]["device"] == "cuda"
    problem, otherwise, bound = "", Outcome.FAIL, "operators: a run on a CPU has no kernels"
    if not summary["calls"]:
        problem = "the trace is empty"
    elif on_gpu and summary["unit"] != "kernels":
        problem = "no kernel was recorded: the profiler could not use CUPTI on this node"
    if on_gpu:
        # A profiler that is older than CUDA records some kernels and drops others. A layer has several.
        shape, steps = summary["identity"].get("shape"), summary["window"]["steps"]
        layers = shape["layers"] if shape else 1  # records before 2026-11 have no shape
        bound = f"{layers * steps:,} kernels or more on each GPU: one a layer and step"
        fewest = min((one["kernels"] for one in summary["devices"]), default=0)
        if not problem and summary["devices"] and fewest < layers * steps:
            problem = f"the profiler dropped kernels: one GPU has {fewest:,}; use a version that knows this CUDA"
            otherwise = Outcome.INCONCLUSIVE
    return _gate("captured", problem, otherwise, f"{summary['calls']:,} {summary['unit']}", bound)


def _gpus(summary: dict[str, Any]) -> Gate:
    every = summary["tool"]["name"] == "nsys"
    on_gpu = summary["identity"]["device"] == "cuda"
    wanted = 0 if not on_gpu else summary["identity"]["tensor_parallel"] if every else 1
    found = [device["device"] for device in summary["devices"] if device["kernels"]]
    problem = "" if len(found) == wanted else f"{len(found)} of {wanted} GPUs are in the trace"
    busy = ", ".join(f"GPU {one['device']} busy {one['busy_share']:.1%}" for one in summary["devices"])
    bound = "none, on a CPU" if not on_gpu else f"kernels of {wanted} GPU{'s' if wanted > 1 else ' (rank 0)'}"
    return _gate("GPUs in the trace", problem, Outcome.FAIL, busy or "none", bound)


def _decoding(summary: dict[str, Any]) -> Gate:
    ranges = {one["name"]: one["calls"] for one in summary["ranges"]}
    problem = "" if any(ranges.get(name) for name in _DECODING) else "nothing was decoded in the traced window"
    measured = ", ".join(f"{calls} × {name}" for name, calls in ranges.items()) or "none"
    return _gate("ranges", problem, Outcome.INCONCLUSIVE, measured, "at least one decode step")


def _communication(summary: dict[str, Any]) -> Gate:
    ranks, share = summary["identity"]["tensor_parallel"], summary["shares"]["communication"]
    problem = (
        ""
        if ranks == 1 or share
        else f"{ranks} ranks must sum the output of each layer, but the trace has no collective"
    )
    measured = "unknown" if share is None else f"{share:.1%} of the {summary['unit']}' time"
    bound = "more than 0 with several ranks; the share itself is recorded, not judged"
    return _gate("communication", problem, Outcome.FAIL, measured, bound)


def _sums(summary: dict[str, Any]) -> Gate:
    """The shares add up to 1, and the top entries are a part of the total."""
    shares = [share for share in summary["shares"].values() if share is not None]
    total, top = summary["total_ms"], sum(one["total_ms"] for one in summary["top"])
    problem = ""
    if shares and not math.isclose(sum(shares), 1, abs_tol=1e-6):
        problem = f"the shares add up to {sum(shares):.4f}"
    elif top > total * (1 + 1e-6):
        problem = f"the top {summary['unit']} have {top:.3f} ms, more than the total of {total:.3f} ms"
    return _gate(
        "totals", problem, Outcome.INVALID, f"{total:,.1f} ms", "the shares add up to 1, the top is a part of the total"
    )


def _sentence(summary: dict[str, Any]) -> str:
    shares = summary["shares"]
    parts = [f"{name} {share:.1%}" for name, share in shares.items() if share is not None and name != "other"]
    busy = summary["gpu_busy_share"]
    if busy is not None:
        parts.append(f"GPUs busy {busy:.1%}")
    top = ", ".join(f"{_short(one['name'])} {one['share'] or 0:.1%}" for one in summary["top"][:_TOP])
    ran = summary["identity"]
    return clean_line(
        f"{ran['model']}, {ran['attention_backend']}, FP8 {ran['fp8_mode']}, TP {ran['tensor_parallel']}, "
        f"{summary['window']['seconds']:.1f} s by {_TOOLS[summary['tool']['name']]}: {', '.join(parts)}; "
        f"top {summary['unit']}: {top or 'none'}"
    )


def _short(name: str, limit: int = 40) -> str:
    """A demangled function name without its return type and arguments."""
    bare = name.removeprefix("void ").replace("(anonymous namespace)::", "").partition("(")[0].partition("<")[0]
    return bare if len(bare) <= limit else bare[: limit - 1] + "…"


def variable(flag: str) -> str:
    """The environment variable that sets the default of a flag."""
    return PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The flags that environment variables set, with their values."""
    return {flag: environment[name] for flag in DEFAULTS if (name := variable(flag)) in environment}


def default_of(flag: str, arguments: tuple[str, ...]) -> str | None:
    """The script's default of a flag; None if that is unknown before it runs."""
    model = value_of(arguments, "--model") or MODEL
    if value_of(arguments, "--checkpoint") is not None or any(_is_given(arguments, name) for name in _SHAPE):
        return DEFAULTS[flag]
    prompt, output = LENGTHS[model == "tiny"]
    return {"--model": MODEL, "--prompt-len": prompt, "--output-len": output}.get(flag, DEFAULTS[flag])


def mismatches(arguments: tuple[str, ...], summary: Mapping[str, Any]) -> list[str]:
    """The differences between the run and the flags of its command, or the defaults of missing flags."""
    ran, load = summary["identity"], summary["workload"]
    model = str(ran["model"])
    if any(_is_given(arguments, name) for name in _SHAPE):
        model = model.removesuffix(_CUSTOM)
    found = {
        "--model": ("model", model),
        TENSOR_PARALLEL[0]: ("tensor_parallel", ran["tensor_parallel"]),
        "--attention-backend": ("attention_backend", ran["attention_backend"]),
        "--fp8-mode": ("fp8_mode", ran["fp8_mode"]),
        "--device": ("device", ran["device"]),
        "--duration": ("duration_s", load["duration_s"]),
        "--target-qps": ("target_qps", load["target_qps"]),
        "--prompt-len": ("prompt_len", load["prompt_len"]),
        "--output-len": ("output_len", load["output_len"]),
    }
    different = []
    for flag, (name, value) in found.items():
        asked = value_of(arguments, flag)
        wanted = default_of(flag, arguments) if asked is None else asked
        if flag == "--fp8-mode" and wanted == "auto":
            if value not in _FP8[ran["device"]]:
                different.append(f"{name} {value} instead of {' or '.join(_FP8[ran['device']])}")
        elif wanted not in (None, "auto") and not same_flag_value(str(value), wanted):
            different.append(f"{name} {value} instead of {wanted}")
    return different


def same_flag_value(one: str, other: str) -> bool:
    """Whether two values of a flag are equal, such as `60` and `60.0`, or `512` and `fixed:512`."""
    return _parsed_value(one) == _parsed_value(other)


def _parsed_value(value: str) -> tuple[float | str, ...]:
    found: list[float | str] = []
    for part in value.removeprefix("fixed:").split(":"):
        try:
            found.append(float(part))
        except ValueError:
            found.append(part)
    return tuple(found)


def _is_given(arguments: tuple[str, ...], flag: str) -> bool:
    return any(same_flag(word, flag) for word in arguments)
