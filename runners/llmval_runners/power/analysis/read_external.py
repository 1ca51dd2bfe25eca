"""Reads results of vLLM's `bench serve` and of AIPerf that contain energy.

vLLM writes flat keys, with an energy meter also `gpu_energy_j`, `gpu_energy_duration_s`, `gpu_avg_power_w`
(vllm/benchmarks/lib/energy.py). AIPerf writes each metric as `{"unit": …, "avg": …}`, with GPU telemetry also
`total_gpu_energy` in J (`nvidia_total_gpu_energy` in later versions; "profile_export_aiperf.json Schema" in its
reference). Neither checks that its window was steady or cross-checks its counter, so their figures are only listed and
never compared with cells of a sweep.
"""

from typing import Any

from llmval_runners.power.analysis.record import ResultRow, UnsupportedFile, number

TOLERANCE = 0.01  # between two statements of one figure in a file
WHY_EXTERNAL = (
    "measured by {tool}: one run, no idle power, no cross-check of its energy, so it is listed but not ranked"
)
_ENERGY_NAMES = ("total_gpu_energy", "nvidia_total_gpu_energy")


def is_vllm(record: dict[str, Any]) -> bool:
    return {"duration", "completed", "total_output_tokens", "output_throughput"} <= record.keys()


def is_aiperf(record: dict[str, Any]) -> bool:
    return "aiperf_version" in record or (
        isinstance(record.get("output_token_throughput"), dict) and "input_config" in record
    )


def read_vllm(path: str, record: dict[str, Any]) -> ResultRow:
    """A `vllm bench serve --save-result` JSON.

    Raises:
        UnsupportedFile: no energy, no finished request, or contradicting figures.
    """
    if "gpu_energy_j" not in record:
        raise UnsupportedFile(
            "it is a vLLM serving result without energy (no gpu_energy_j): measure it again with energy on"
        )
    duration = number(record["duration"], "duration")
    tokens = number(record["total_output_tokens"], "total_output_tokens")
    energy = number(record["gpu_energy_j"], "gpu_energy_j")
    energy_duration = number(record.get("gpu_energy_duration_s"), "gpu_energy_duration_s")
    if number(record["completed"], "completed") < 1 or tokens < 1:
        raise UnsupportedFile("it has no completed request, so there are no tokens to divide its energy by")
    if energy <= 0 or duration <= 0 or energy_duration <= 0:
        raise UnsupportedFile("its energy or duration is not above 0")
    _check_agreement(
        energy / energy_duration,
        record.get("gpu_avg_power_w"),
        "gpu_avg_power_w",
        "gpu_energy_j / gpu_energy_duration_s",
    )
    _check_agreement(
        tokens / duration, record["output_throughput"], "output_throughput", "total_output_tokens / duration"
    )
    gpus = record.get("energy_gpu_ids")
    count = f"{len(gpus)} GPUs" if isinstance(gpus, list) else "GPUs"
    return _row(
        path,
        "vllm",
        "vLLM bench serve",
        str(record.get("model_id", "unnamed")),
        count,
        tokens,
        duration,
        energy,
        energy / energy_duration,
    )


def read_aiperf(path: str, record: dict[str, Any]) -> ResultRow:
    """A `profile_export_aiperf.json`.

    Raises:
        UnsupportedFile: no energy, unknown units, or a cancelled run.
    """
    if record.get("was_cancelled"):
        raise UnsupportedFile("it is an AIPerf run that was cancelled")
    name = next((name for name in _ENERGY_NAMES if name in record), None)
    if name is None:
        raise UnsupportedFile(
            "it is an AIPerf export without energy (no total_gpu_energy): run it with --gpu-telemetry"
        )
    energy = _metric(record, name, ("J",))
    rate = _metric(record, "output_token_throughput", ("tokens/sec", "tokens/s"))
    duration = _metric(record, "benchmark_duration", ("sec", "s"))
    if energy <= 0 or duration <= 0 or rate <= 0:
        raise UnsupportedFile("its energy, duration or throughput is not above 0")
    tokens = rate * duration
    if "total_output_tokens" in record:
        _check_agreement(
            tokens,
            _metric(record, "total_output_tokens", ("tokens",)),
            "total_output_tokens",
            "output_token_throughput × benchmark_duration",
        )
    for key in ("output_tokens_per_joule", "nvidia_output_tokens_per_joule"):
        if key in record:
            _check_agreement(tokens / energy, _metric(record, key, ("tokens/J",)), key, f"tokens / {name}")
    return _row(path, "aiperf", "AIPerf", _aiperf_model(record), "GPUs", tokens, duration, energy, energy / duration)


def _row(
    path: str,
    origin: str,
    tool: str,
    model: str,
    gpus: str,
    tokens: float,
    duration: float,
    energy: float,
    power: float,
) -> ResultRow:
    return ResultRow(
        source=path,
        origin=origin,
        cell=model,
        model=model,
        mode=None,
        batch_size=None,
        sequence_length=None,
        phase="serving",
        machine=f"as {tool} ran: {gpus}",
        how=tool,
        valid=False,
        status="external",
        reasons=[WHY_EXTERNAL.format(tool=tool)],
        tokens_per_s=tokens / duration,
        power_w=power,
        tokens_per_joule=tokens / energy,
        joules_per_token=energy / tokens,
        window_s=duration,
    )


def _metric(record: dict[str, Any], name: str, units: tuple[str, ...]) -> float:
    metric = record.get(name)
    if not isinstance(metric, dict) or "avg" not in metric:
        raise UnsupportedFile(f"it has no {name} with an avg")
    if metric.get("unit") not in units:
        raise UnsupportedFile(f"its {name} is in {metric.get('unit')!r}, but {' or '.join(units)} is expected")
    return number(metric["avg"], f"{name}.avg")


def _aiperf_model(record: dict[str, Any]) -> str:
    """The model names; "unnamed" if they are not found, since their place differs between versions."""
    config = record.get("input_config")
    endpoint = config.get("endpoint") if isinstance(config, dict) else None
    names = endpoint.get("model_names") if isinstance(endpoint, dict) else None
    return ", ".join(map(str, names)) if isinstance(names, list) and names else "unnamed"


def _check_agreement(derived: float, stated: Any, name: str, formula: str) -> None:
    value = number(stated, name)
    if abs(value - derived) > TOLERANCE * abs(derived):
        raise UnsupportedFile(f"its {name} is {value:g}, and {formula} is {derived:g}: it contradicts itself")
