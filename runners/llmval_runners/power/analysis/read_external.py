"""Reads results of vLLM, TensorRT-LLM, AIPerf and genai-perf that contain energy, and names those that have none.

vLLM's `bench throughput --output-json` writes with an energy meter `gpu_energy_j`, `gpu_energy_duration_s`,
`gpu_avg_power_w` and `gpu_energy_per_output_token_j` (vllm/benchmarks/lib/energy.py); its `total_num_tokens` counts
prompts too, so the output tokens are energy / energy per output token. TensorRT-LLM's benchmarks write total energy and
mean power, genai-perf the mean power of each GPU. AIPerf writes each metric as `{"unit": …, "avg": …}`, with GPU
telemetry also `total_gpu_energy` in J (`nvidia_…` or `amd_total_gpu_energy` in later versions;
"profile_export_aiperf.json Schema" in its reference). None of them checks that its window was steady or cross-checks
its counter, so their figures are only listed and never compared with cells of a sweep.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llmval_runners.power.analysis.record import ResultRow, UnsupportedFile, number

TOLERANCE = 0.01  # between two statements of one figure in a file
WHY_EXTERNAL = (
    "measured by {tool}: one run, no idle power, no cross-check of its energy, so it is listed but not ranked"
)
_ENERGY_NAMES = ("total_gpu_energy", "nvidia_total_gpu_energy", "amd_total_gpu_energy")
_WITHOUT_ENERGY = {  # and keys that only its results have
    "vLLM's bench latency": {"avg_latency", "latencies", "percentiles"},
    "SGLang's bench_offline_throughput": {"successful_requests", "total_latency", "output_throughput"},
    "SGLang's bench_one_batch": {"run_name", "batch_size", "prefill_latency"},
}
_INSTEAD = "for tokens per joule on this node, run precision_power_sweep.py"


def read_external(path: str, record: dict[str, Any]) -> ResultRow | None:
    """The row of another tool's result; None if no rule knows the file.

    Raises:
        UnsupportedFile: it is known, and has no figure for the summary.
    """
    ours = record.get("llmval")
    if isinstance(ours, dict) and ours.get("kind") == "load_test":
        raise UnsupportedFile(
            f"it is a load test of inference_server_load_test.py, which measures latency at a request rate: {_INSTEAD}"
        )
    return next((read(path, record) for matches, read in _TOOLS if matches(record)), None)


def is_sglang(record: dict[str, Any]) -> bool:
    return str(record.get("backend", "")).startswith("sglang") and "output_throughput" in record


def read_sglang(_path: str, _record: dict[str, Any]) -> ResultRow:
    """Raises UnsupportedFile: SGLang's benchmark has no energy."""
    raise UnsupportedFile(f"it is a result of SGLang's bench_serving, which measures no energy: {_INSTEAD}")


def is_guidellm(record: dict[str, Any]) -> bool:
    metadata = record.get("metadata")
    return isinstance(record.get("benchmarks"), list) and isinstance(metadata, dict) and "guidellm_version" in metadata


def read_guidellm(_path: str, _record: dict[str, Any]) -> ResultRow:
    """Raises UnsupportedFile: guidellm's report has no energy."""
    raise UnsupportedFile(f"it is a report of guidellm, which measures no energy: {_INSTEAD}")


def is_without_energy(record: dict[str, Any]) -> bool:
    return _named_without_energy(record) is not None


def read_without_energy(_path: str, record: dict[str, Any]) -> ResultRow:
    """Raises UnsupportedFile: the benchmark has no energy."""
    raise UnsupportedFile(f"it is a result of {_named_without_energy(record)}, which measures no energy: {_INSTEAD}")


def _named_without_energy(record: dict[str, Any]) -> str | None:
    return next((name for name, keys in _WITHOUT_ENERGY.items() if keys <= record.keys()), None)


def is_trtllm_serving(record: dict[str, Any]) -> bool:
    return record.get("backend") == "trtllm" or ("total_energy" in record and "output_throughput" in record)


def is_trtllm_bench(record: dict[str, Any]) -> bool:
    return isinstance(record.get("engine"), dict) and isinstance(record.get("performance"), dict)


def is_vllm_throughput(record: dict[str, Any]) -> bool:
    return {"elapsed_time", "num_requests", "total_num_tokens"} <= record.keys()


def is_genai_perf(record: dict[str, Any]) -> bool:
    return "telemetry_stats" in record or ("aiperf_version" not in record and _is_genai_config(record))


def _is_genai_config(record: dict[str, Any]) -> bool:
    config = record.get("input_config")
    return isinstance(config, dict) and {"perf_analyzer", "subcommand"} <= config.keys()


def is_vllm(record: dict[str, Any]) -> bool:
    return {"duration", "completed", "total_output_tokens", "output_throughput"} <= record.keys()


def is_aiperf(record: dict[str, Any]) -> bool:
    return "aiperf_version" in record or (
        isinstance(record.get("output_token_throughput"), dict) and "input_config" in record
    )


def read_vllm_throughput(path: str, record: dict[str, Any]) -> ResultRow:
    """A `vllm bench throughput --output-json` JSON.

    Raises:
        UnsupportedFile: no energy, no output token, or contradicting figures.
    """
    if record.get("gpu_energy_j") is None:
        raise UnsupportedFile(
            "it is a result of vLLM's bench throughput without energy (no gpu_energy_j): measure again with energy on"
        )
    energy = number(record["gpu_energy_j"], "gpu_energy_j")
    energy_duration = number(record.get("gpu_energy_duration_s"), "gpu_energy_duration_s")
    elapsed = number(record["elapsed_time"], "elapsed_time")
    each = record.get("gpu_energy_per_output_token_j")
    if each is None:
        raise UnsupportedFile("it has no output token (no gpu_energy_per_output_token_j) to divide its energy by")
    per_token = number(each, "gpu_energy_per_output_token_j")
    if min(energy, energy_duration, elapsed, per_token) <= 0:
        raise UnsupportedFile("its energy or duration is not above 0")
    _check_agreement(
        energy / energy_duration, record.get("gpu_avg_power_w"), "gpu_avg_power_w",
        "gpu_energy_j / gpu_energy_duration_s",
    )  # fmt: skip
    tokens = energy / per_token
    if tokens > number(record["total_num_tokens"], "total_num_tokens") * (1 + TOLERANCE):
        raise UnsupportedFile("its energy per output token gives more output tokens than it has tokens at all")
    gpus = record.get("energy_gpu_ids")
    count = f"{len(gpus)} GPUs" if isinstance(gpus, list) else "GPUs"
    row = _row(
        path, "vllm", "vLLM bench throughput", "unnamed", count, tokens, elapsed, energy, energy / energy_duration
    )
    if abs(energy_duration - elapsed) > TOLERANCE * elapsed:
        row.reasons.append(f"its energy is of {energy_duration:g} s, its tokens of {elapsed:g} s")
    return row


def read_trtllm_serving(path: str, record: dict[str, Any]) -> ResultRow:
    """The JSON of TensorRT-LLM's serving benchmark, which has vLLM's flat keys.

    Raises:
        UnsupportedFile: no energy, or no finished request.
    """
    if record.get("total_energy") is None:
        raise UnsupportedFile(
            f"it is a result of TensorRT-LLM's serving benchmark without energy (no total_energy): {_INSTEAD}"
        )
    names = ("duration", "total_output_tokens", "total_energy", "average_gpu_power")
    duration, tokens, energy, power = (number(record.get(name), name) for name in names)
    if min(duration, tokens, energy, power) <= 0:
        raise UnsupportedFile("its energy, power, duration or number of output tokens is not above 0")
    if record.get("output_throughput") is not None:
        _check_agreement(
            tokens / duration, record["output_throughput"], "output_throughput", "total_output_tokens / duration"
        )
    if (
        not 0.5 < energy / duration / power < 2
    ):  # its meter may run a little longer than the load, and not twice as long
        raise UnsupportedFile(
            f"its average_gpu_power is {power:g}, and total_energy / duration is {energy / duration:g}: it contradicts "
            "itself"
        )
    model = str(record.get("model_id", "unnamed"))
    row = _row(path, "trtllm", "TensorRT-LLM serving benchmark", model, "GPUs", tokens, duration, energy, power)
    return _with_failures(row, record.get("failed"), record.get("num_prompts"))


def read_trtllm_bench(path: str, record: dict[str, Any]) -> ResultRow:
    """The report of `trtllm-bench`.

    Raises:
        UnsupportedFile: no energy.
    """
    energy = record.get("energy")
    if not isinstance(energy, dict) or energy.get("total_energy_j") is None:
        raise UnsupportedFile(f"it is a report of trtllm-bench without energy: {_INSTEAD}")
    rate = number(record["performance"].get("system_output_throughput_tok_s"), "system_output_throughput_tok_s")
    power = number(energy.get("average_gpu_power"), "average_gpu_power")
    joules = number(energy["total_energy_j"], "total_energy_j")
    if min(rate, power, joules) <= 0:
        raise UnsupportedFile("its energy, power or throughput is not above 0")
    model = str(record["engine"].get("model", "unnamed"))
    return _row(path, "trtllm", "trtllm-bench", model, "GPUs", rate * joules / power, joules / power, joules, power)


def read_genai_perf(path: str, record: dict[str, Any]) -> ResultRow:
    """A `profile_export_genai_perf.json`: tokens per joule are its throughput / the sum of its GPUs' mean powers.

    Raises:
        UnsupportedFile: no power of a GPU.
    """
    stats = record.get("telemetry_stats")
    power = stats.get("gpu_power_usage") if isinstance(stats, dict) else None
    if not isinstance(power, dict) or power.get("unit") != "W":
        raise UnsupportedFile(f"it is a genai-perf export without the power of its GPUs in W: {_INSTEAD}")
    watts = [number(gpu.get("avg"), "gpu_power_usage.avg") for gpu in power.values() if isinstance(gpu, dict)]
    rate = _metric(record, "output_token_throughput", ("tokens/sec", "tokens/s"))
    if not watts or min(watts) <= 0 or rate <= 0:
        raise UnsupportedFile("its power or throughput is not above 0")
    config = record.get("input_config")
    names = config.get("model_names") if isinstance(config, dict) else None
    model = ", ".join(map(str, names)) if isinstance(names, list) and names else "unnamed"
    row = _row(path, "genai-perf", "genai-perf", model, f"{len(watts)} GPUs", rate, 1.0, sum(watts), sum(watts))
    row.reasons.append("its energy is the mean of sampled power, not a counter")
    return replace(row, window_s=None)


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
    row = _row(
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
    return _with_failures(row, record.get("failed"), record.get("num_prompts"))


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
    maker = name.partition("_total")[0] if name != "total_gpu_energy" else ""
    for key in ("output_tokens_per_joule", f"{maker}_output_tokens_per_joule"):
        if key in record:
            _check_agreement(tokens / energy, _metric(record, key, ("tokens/J",)), key, f"tokens / {name}")
    tool, gpus = ("AIPerf, AMD GPUs", "AMD GPUs") if maker == "amd" else ("AIPerf", "GPUs")
    row = _row(path, "aiperf", tool, _aiperf_model(record), gpus, tokens, duration, energy, energy / duration)
    failed, done = (_count(record, key) for key in ("error_request_count", "request_count"))
    return _with_failures(row, failed, None if failed is None or done is None else done + failed)


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


def _with_failures(row: ResultRow, failed: Any, requests: Any) -> ResultRow:
    """The row with its failed requests: the energy was spent on them too, and its tokens are of the others alone."""
    if failed is None:
        return row
    failed = number(failed, "the number of failed requests")
    if failed < 0:
        raise UnsupportedFile("its number of failed requests is below 0")
    if failed == 0:
        return replace(row, failed_requests=0)
    of = f" of {number(requests, 'the number of requests'):g}" if requests is not None else ""
    row.reasons.append(f"{failed:g}{of} requests failed: the energy was spent on them too")
    return replace(row, failed_requests=failed)


def _count(record: dict[str, Any], name: str) -> float | None:
    metric = record.get(name)
    value = metric.get("avg") if isinstance(metric, dict) else None
    return number(value, name) if value is not None else None


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
    models = config.get("models") if isinstance(config, dict) else None
    if not names and isinstance(models, dict) and isinstance(models.get("items"), list):
        names = [item.get("name") for item in models["items"] if isinstance(item, dict)]
    return ", ".join(map(str, names)) if isinstance(names, list) and names else "unnamed"


def _check_agreement(derived: float, stated: Any, name: str, formula: str) -> None:
    value = number(stated, name)
    if abs(value - derived) > TOLERANCE * abs(derived):
        raise UnsupportedFile(f"its {name} is {value:g}, and {formula} is {derived:g}: it contradicts itself")


# The first rule that matches reads the file. A tool's own keys come before the flat keys that several tools share.
_TOOLS: tuple[tuple[Callable[[dict[str, Any]], bool], Callable[[str, dict[str, Any]], ResultRow]], ...] = (
    (is_sglang, read_sglang),
    (is_guidellm, read_guidellm),
    (is_without_energy, read_without_energy),
    (is_trtllm_bench, read_trtllm_bench),
    (is_trtllm_serving, read_trtllm_serving),
    (is_vllm_throughput, read_vllm_throughput),
    (is_vllm, read_vllm),
    (is_genai_perf, read_genai_perf),
    (is_aiperf, read_aiperf),
)
