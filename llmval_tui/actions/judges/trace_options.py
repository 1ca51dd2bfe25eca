"""The flags of the trace's script: what sets each, what it stands for by itself, and whether a summary is of them.

The script takes every default from the environment too (`TRACE_DURATION=10` is `--duration 10`). A run's shell reaches
it, so each such variable becomes a flag of the frozen command: what is shown is what runs, and what is judged.
"""

from collections.abc import Mapping
from typing import Any

from llmval_tui.actions.command.argv import same_flag, value_of
from llmval_tui.actions.command.gpu_count import TENSOR_PARALLEL

PREFIX = "TRACE_"
# By flag what the script takes without it; None: decided by the node, the model or the clock.
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
MODEL = "llama-3.1-8b"  # the load test's own
LENGTHS = {True: ("uniform:16:64", "8"), False: ("uniform:512:1024", "512")}  # prompt and output; of tiny, of others
_FP8 = {"cuda": ("transformer-engine", "native"), "cpu": ("none",)}  # what `auto` may become
_SHAPE = ("--layers", "--hidden", "--heads", "--kv-heads", "--head-dim", "--ffn", "--vocab")
_CUSTOM = "-custom"  # how the load test calls a shape of which a flag changed a number


def variable(flag: str) -> str:
    """The variable that sets a flag's default."""
    return PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The flags that variables set, with their values."""
    return {flag: environment[name] for flag in DEFAULTS if (name := variable(flag)) in environment}


def own_value(flag: str, arguments: tuple[str, ...]) -> str | None:
    """What the script takes without a flag; None where that is not known before it runs."""
    model = value_of(arguments, "--model") or MODEL
    if value_of(arguments, "--checkpoint") is not None or any(_is_given(arguments, name) for name in _SHAPE):
        return DEFAULTS[flag]
    prompt, output = LENGTHS[model == "tiny"]
    return {"--model": MODEL, "--prompt-len": prompt, "--output-len": output}.get(flag, DEFAULTS[flag])


def unlike(arguments: tuple[str, ...], summary: Mapping[str, Any]) -> list[str]:
    """What ran otherwise than the command says, or than the script does by itself where the command says nothing."""
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
    told = []
    for flag, (name, value) in found.items():
        asked = value_of(arguments, flag)
        wanted = own_value(flag, arguments) if asked is None else asked
        if flag == "--fp8-mode" and wanted == "auto":
            if value not in _FP8[ran["device"]]:
                told.append(f"{name} {value} instead of {' or '.join(_FP8[ran['device']])}")
        elif wanted not in (None, "auto") and not same_value(str(value), wanted):
            told.append(f"{name} {value} instead of {wanted}")
    return told


def same_value(one: str, other: str) -> bool:
    """Whether two values of a flag mean the same: `60` and `60.0`, `512` and `fixed:512`."""
    return _meaning(one) == _meaning(other)


def _meaning(value: str) -> tuple[float | str, ...]:
    found: list[float | str] = []
    for part in value.removeprefix("fixed:").split(":"):
        try:
            found.append(float(part))
        except ValueError:
            found.append(part)
    return tuple(found)


def _is_given(arguments: tuple[str, ...], flag: str) -> bool:
    return any(same_flag(word, flag) for word in arguments)
