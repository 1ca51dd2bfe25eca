"""Reads the report of `trtllm-bench … throughput` and `latency`, which `--report_json` writes.

The engine runs in the process of the benchmark, so a request that fails ends it. Latencies are the tool's own
percentiles, from the time at which it submitted a request: it has no record of each request.
"""

from pathlib import Path

from llmval_tui.actions.tools.command_line import option
from llmval_tui.actions.tools.files import Unreadable, at, count, number, read_json_file
from llmval_tui.actions.tools.load.agreement import Claim, claims_gate
from llmval_tui.actions.tools.load.vllm_bench import count_of
from llmval_tui.actions.tools.model import Metric, OneFileTool, ToolResult, format_gate
from llmval_tui.runs.records import Gate, Outcome

BENCHMARKS = ("throughput", "latency")  # its other words build an engine or prepare a dataset
_STATISTICS = {"average": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "maximum": "max"}
_ORDER = ("p50", "p90", "p95", "p99", "max")
_RATES = {
    "request_throughput_req_s": ("request_throughput", "requests/s"),
    "system_output_throughput_tok_s": ("output_throughput", "tokens/s"),
    "system_total_throughput_tok_s": ("total_throughput", "tokens/s"),
}
_LATENCIES = {
    ("performance", "request_latency_percentiles_ms"): "e2e",
    ("streaming_metrics", "ttft_percentiles"): "ttft",
    ("streaming_metrics", "tpot_percentiles"): "tpot",
}


class TrtllmBench(OneFileTool):
    """`trtllm-bench --model M throughput …` and `latency`."""

    name = "trtllm-bench"
    versions = "1.x"
    result_flag = "--report_json"

    def missing_flag(self) -> str | None:
        return None if self.outputs() else "its figures would only be printed: add --report_json artifacts/NAME.json"

    def judge(self, path: Path) -> ToolResult:
        value = read_json_file(path)
        requests = count(at(value, "request_info", "num_requests"))
        length = number(at(value, "request_info", "avg_output_length"))
        total_ms = number(at(value, "performance", "total_latency_ms"))
        if requests is None or length is None or total_ms is None or total_ms <= 0:
            raise Unreadable(
                "it lacks num_requests, avg_output_length or total_latency_ms, so it is not a report of its"
            )
        metrics: dict[str, Metric] = {"requests.completed": Metric(requests, "requests")}
        for key, (name, unit) in _RATES.items():
            if (rate := number(at(value, "performance", key))) is not None:
                metrics[name] = Metric(rate, unit)
        for keys, name in _LATENCIES.items():
            for key, statistic in _STATISTICS.items():
                if (found := number(at(value, *keys, key))) is not None:
                    metrics[f"{name}.{statistic}"] = Metric(found, "ms")
        rate = requests / (total_ms / 1e3)
        version = at(value, "engine", "version")
        gates = [format_gate(self, f"TensorRT-LLM {version}" if version else "the report names no version")]
        gates += [self._completed(requests), _answers(length), _totals(rate, metrics.get("request_throughput"))]
        gates += [gate for gate in (_tokens(rate * length, metrics), _percentiles(metrics)) if gate is not None]
        return ToolResult(gates, metrics, f"{self.name}: {rate:.2f} requests/s, {rate * length:.1f} output tokens/s")

    def _completed(self, requests: int) -> Gate:
        asked = count_of(option(self.arguments, "--num_requests"))
        good = requests > 0 and (not asked or requests == asked)
        bound = f"{asked}, as --num_requests asks" if asked else "at least one"
        return Gate("completed requests", Outcome.PASS if good else Outcome.FAIL, str(requests), bound)


def _answers(length: float) -> Gate:
    outcome = Outcome.PASS if length >= 1 else Outcome.FAIL
    return Gate("answers", outcome, f"{length:g} tokens on average", "at least one token each")


def _totals(rate: float, stated: Metric | None) -> Gate:
    value = stated.value if stated is not None else None
    good = value is not None and abs(value - rate) <= 0.01 * rate
    measured = f"{rate:.3f} requests/s from the totals, {value} stated"
    return Gate("totals", Outcome.PASS if good else Outcome.INVALID, measured, "both are equal within 1 %")


def _tokens(rate: float, metrics: dict[str, Metric]) -> Gate | None:
    """The stated output tokens/s against the totals; those of input and output together are no fewer."""
    stated, total = metrics.get("output_throughput"), metrics.get("total_throughput")
    claims = [Claim("output_throughput", stated.value if stated is not None else None, rate)]
    if total is not None and total.value is not None and total.value < rate:
        claims.append(Claim("total_throughput", total.value, rate))
    return claims_gate(claims)


def _percentiles(metrics: dict[str, Metric]) -> Gate | None:
    """None if each percentile is at least the one before it."""
    for name in _LATENCIES.values():
        values = [metrics[f"{name}.{key}"].value or 0.0 for key in _ORDER if f"{name}.{key}" in metrics]
        if values != sorted(values):
            shown = ", ".join(f"{value:g}" for value in values)
            reason = "the report contradicts itself, so its figures are not valid"
            return Gate("percentiles", Outcome.INVALID, f"{name}: {shown} ms", "each at least the one before", reason)
    return None
