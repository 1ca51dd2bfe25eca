"""The change of each metric of a load test from a baseline, with the direction in which it is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmval_tui.actions.documents.baseline_table import Baseline, Metric, plain
from llmval_tui.actions.judges.load_test_machine import ran_here
from llmval_tui.actions.judges.load_test_result import LoadResult, metrics_of
from llmval_tui.actions.judges.rate_search import search_metrics
from llmval_tui.runs.records import Gate, Intent, Outcome

# The metrics of a baseline: name, better direction, unit.
METRICS = (
    ("max_qps", "higher", "requests/s"),
    ("completed_qps", "higher", "requests/s"),
    ("output_tokens_per_s", "higher", "tokens/s"),
    ("goodput_qps", "higher", "requests/s"),
    ("ttft_sched_p50_ms", "lower", "ms"),
    ("ttft_sched_p99_ms", "lower", "ms"),
    ("tpot_p50_ms", "lower", "ms"),
    ("tpot_p99_ms", "lower", "ms"),
    ("e2e_sched_p99_ms", "lower", "ms"),
)
# The metrics of a search. Its window has a different rate each time, on which latencies and throughput depend.
SEARCH_METRICS = ("max_qps",)
NOT_AVAILABLE = "n/a"


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one metric; `worse_percent` is positive if it got worse.

    `value` is the median of `runs` runs; `spread_percent` is their range as a share of it. `undecided` is a reason with
    its remedy if one run is so close to the bound that it needs repeats; "" otherwise.
    """

    name: str
    unit: str
    baseline: float
    value: float
    worse_percent: float
    spread_percent: float | None = None
    runs: int = 1
    undecided: str = ""

    def gate(self, threshold_percent: float) -> Gate:
        """Fails if worse by more than the threshold; better by more is inconclusive, because the load may differ."""
        if self.undecided:
            outcome, reason = Outcome.INCONCLUSIVE, self.undecided
        elif self.worse_percent > threshold_percent:
            outcome, reason = Outcome.FAIL, "worse than the baseline"
        elif self.worse_percent < -threshold_percent:
            outcome, reason = Outcome.INCONCLUSIVE, "better than the baseline: check that the load was the same"
        else:
            outcome, reason = Outcome.PASS, ""
        better = "better" if self.worse_percent < 0 else "worse"
        measured = f"{self.value:.4g} {self.unit}, {abs(self.worse_percent):.1f} % {better}"
        if self.runs > 1:
            measured += f"; median of {self.runs} runs"
            measured += f", which differ by {self.spread_percent:.1f} %" if self.spread_percent is not None else ""
        return Gate(self.name, outcome, measured, f"{self.baseline:.4g} {self.unit} ± {threshold_percent:g} %", reason)


def baseline_of(result: LoadResult, intent: Intent, artifact: str, sha256: str) -> Baseline:
    """The baseline that a run would make: its configuration, machine and figures."""
    ran, workload = result.identity, result.ours.get("workload") or {}
    inventory = _inventory(intent.host) if ran_here(ran, intent) else {}
    copies = f"{len(result.replicas)}x" if len(result.replicas) > 1 else ""
    identity = {
        "model": _model(ran),
        "precision": _precision(ran),
        "attention": str(ran.get("attention_backend")),
        "compile_mode": str(ran.get("compile_mode")),
        "gpus": f"{copies}{ran.get('tensor_parallel')}x{ran.get('device_name')}",
        "driver": str(inventory.get("driver_version") or NOT_AVAILABLE),
        "power_limit_w": _power_limit(inventory, intent.params.get("gpu_indices")),
        "target_qps": "max" if result.search else f"{float(workload.get('target_qps') or 0):g}",
        # Throughput counts until the last request ends, so a shorter window gives a lower figure at the same rate.
        "duration_s": _number(workload.get("duration_s")),
        "burstiness": _number(workload.get("burstiness")),
        "max_in_flight": _number(workload.get("max_in_flight")),
        "prompt_len": str(workload.get("prompt_len")),
        "output_len": str(workload.get("output_len")),
        **_service_level(result),
        "date": intent.created_utc[:10],
        "host": str(intent.host.get("name") or NOT_AVAILABLE),
        "run": intent.run_id,
        "artifact": artifact,
        "sha256": sha256,
    }
    identity = {key: plain(value) for key, value in identity.items()}
    values = metrics_of(result) if not result.search else search_metrics(result.search)
    rows = [
        Metric(name, direction, value, unit)
        for name, direction, unit in METRICS
        if (not result.search or name in SEARCH_METRICS) and (value := values.get(name)) is not None
    ]
    rate = "the highest rate" if result.search else f"{identity['target_qps']} requests/s"
    name = f"{identity['model']}, {identity['precision']}, {identity['gpus']}, {rate}"
    return Baseline(name, identity, tuple(rows))


def _model(ran: Mapping[str, Any]) -> str:
    """The name of the model. Shapes that were changed by flags share a name, so their dimensions are added."""
    name, shape = str(ran.get("model")), ran.get("shape") or {}
    if not name.endswith("-custom"):
        return name
    return ",".join([name, *(f"{dimension}:{size}" for dimension, size in shape.items())])


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _service_level(result: LoadResult) -> dict[str, str]:
    """The limits that goodput and the highest rate depend on; only results with equal limits are comparable."""
    limits = {key: value for key, value in (result.ours.get("slo") or {}).items() if value is not None}
    if not limits:
        return {}
    stated = [f"{name.removesuffix('_ms')}<={limit:g}ms" for name, limit in limits.items()]
    if result.search:
        stated.append(f"for-{100 * float(result.search.get('min_goodput') or 0):g}%")
    return {"slo": "+".join(stated)}


def _precision(ran: Mapping[str, Any]) -> str:
    parts = [str(ran.get("dtype"))]
    if ran.get("fp8_mode") not in (None, "none"):
        parts.append(f"fp8-{ran['fp8_mode']}")
    if ran.get("kv_dtype") not in (None, ran.get("dtype")):
        parts.append(f"kv-{ran['kv_dtype']}")
    if ran.get("weights") not in (None, "random"):
        parts.append("checkpoint")
    return "+".join(parts)


def _inventory(host: Mapping[str, Any]) -> Mapping[str, Any]:
    """The driver's inventory in the host record of a run, at the top level or one level below."""
    if "driver_version" in host:
        return host
    return next((part for part in host.values() if isinstance(part, dict) and "driver_version" in part), {})


def _power_limit(inventory: Mapping[str, Any], used: Sequence[int] | None) -> str:
    gpus = inventory.get("gpus") or []
    limits = {gpu.get("power_limit_w") for gpu in gpus if used is None or gpu.get("index") in used}
    known = sorted({float(limit) for limit in limits if limit is not None})
    return "/".join(f"{limit:g}" for limit in known) or NOT_AVAILABLE


def differences(mine: Baseline, other: Baseline) -> list[str]:
    """The differences that make two configurations incomparable, such as `driver 580.1 instead of 570.2`."""
    keys = list(dict.fromkeys([*other.compared, *mine.compared]))
    return [
        f"{key} {mine.compared.get(key, NOT_AVAILABLE)} instead of {other.compared.get(key, NOT_AVAILABLE)}"
        for key in keys
        if mine.compared.get(key) != other.compared.get(key)
    ]


def changes(mine: Baseline, other: Baseline) -> list[Change]:
    """The changes of all metrics that both have; without those whose baseline is 0, which has no percentage."""
    now = {metric.name: metric for metric in mine.metrics}
    found = []
    for then in other.metrics:
        metric = now.get(then.name)
        if metric is None or then.value == 0:
            continue
        grown = 100 * (metric.value - then.value) / abs(then.value)
        worse = grown if then.direction == "lower" else -grown
        found.append(Change(then.name, then.unit, then.value, metric.value, worse))
    return found
