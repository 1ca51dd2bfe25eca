"""From people's words ("p99 TTFT", "busbw", "failed requests") to the name of a metric."""

import re

from llmval_tui.actions.tools.metric_names_of_nodes import OF_TOOL, of_fio

_LOAD = "load"  # every load generator
_GROUPS = {
    "vllm bench serve": _LOAD,
    "vllm bench throughput": _LOAD,
    "vllm bench latency": _LOAD,
    "sglang.bench_serving": _LOAD,
    "aiperf profile": _LOAD,
    "genai-perf profile": _LOAD,
    "guidellm": _LOAD,
    "trtllm-bench": _LOAD,
    "MLPerf LoadGen": _LOAD,
}
# Words of a latency → its metric. The longest that fits counts.
_LATENCIES = {
    "ttft": "ttft",
    "time to first token": "ttft",
    "first token latency": "ttft",
    "first token": "ttft",
    "tpot": "tpot",
    "time per output token": "tpot",
    "itl": "itl",
    "inter token latency": "itl",
    "intertoken latency": "itl",
    "token to token latency": "itl",
    "e2e": "e2e",
    "e2el": "e2e",
    "e2e latency": "e2e",
    "end to end latency": "e2e",
    "request latency": "e2e",
    "latency": "e2e",
}
_STATISTICS = {
    "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99", "50th percentile": "p50", "90th percentile": "p90",
    "95th percentile": "p95", "99th percentile": "p99", "median": "p50", "mean": "mean", "average": "mean",
    "avg": "mean",
    "max": "max", "maximum": "max", "worst": "max", "highest": "max", "slowest": "max",
}  # fmt: skip
# Whole phrases, without statistics, → the metric in a load generator's result.
_LOAD_PHRASES = {
    "failed requests": "requests.failed",
    "failed": "requests.failed",
    "failures": "requests.failed",
    "request failures": "requests.failed",
    "request errors": "requests.failed",
    "errors": "requests.failed",
    "errored requests": "requests.failed",
    "error requests": "requests.failed",
    "failing requests": "requests.failed",
    "unsuccessful requests": "requests.failed",
    "error rate": "requests.failed_share",
    "failure rate": "requests.failed_share",
    "request error rate": "requests.failed_share",
    "failed request rate": "requests.failed_share",
    "success rate": "requests.completed_share",
    "completed requests": "requests.completed",
    "successful requests": "requests.completed",
    "requests completed": "requests.completed",
    "requests succeed": "requests.completed",
    "requests": "requests.completed",
    "request throughput": "request_throughput",
    "requests per second": "request_throughput",
    "requests s": "request_throughput",
    "req s": "request_throughput",
    "rps": "request_throughput",
    "qps": "request_throughput",
    "queries per second": "request_throughput",
    "samples per second": "request_throughput",
    "achieved request rate": "request_throughput",
    "request rate": "request_throughput",
    "output throughput": "output_throughput",
    "output token throughput": "output_throughput",
    "output tokens per second": "output_throughput",
    "output tokens s": "output_throughput",
    "generation throughput": "output_throughput",
    "decode throughput": "output_throughput",
    "tokens per second": "output_throughput",
    "tokens s": "output_throughput",
    "tok s": "output_throughput",
    "token throughput": "output_throughput",
    "total throughput": "total_throughput",
    "total token throughput": "total_throughput",
    "total tokens per second": "total_throughput",
    "goodput": "goodput",
    "request goodput": "goodput",
}
_NCCL_PHRASES = {
    "busbw": "busbw",
    "bus bw": "busbw",
    "bus bandwidth": "busbw",
    "average busbw": "busbw",
    "avg busbw": "busbw",
    "mean busbw": "busbw",
    "average bus bandwidth": "busbw",
    "avg bus bandwidth": "busbw",
    "mean bus bandwidth": "busbw",
    "peak busbw": "busbw.max",
    "max busbw": "busbw.max",
    "maximum busbw": "busbw.max",
    "peak bus bandwidth": "busbw.max",
    "max bus bandwidth": "busbw.max",
    "maximum bus bandwidth": "busbw.max",
    "min busbw": "busbw.min",
    "minimum busbw": "busbw.min",
    "algbw": "algbw.mean",
    "alg bw": "algbw.mean",
    "algorithm bandwidth": "algbw.mean",
    "average algbw": "algbw.mean",
    "peak algbw": "algbw.max",
    "max algbw": "algbw.max",
    "wrong": "wrong",
    "wrong results": "wrong",
    "wrong elements": "wrong",
    "wrong values": "wrong",
    "errors": "wrong",
    "out bounds": "out_of_bounds",  # without the filler
    "out bounds values": "out_of_bounds",
    "ranks": "ranks",
    "gpus": "ranks",
}
_DIAG_PHRASES = {
    "failed tests": "tests.fail",
    "failures": "tests.fail",
    "fail": "tests.fail",
    "failed": "tests.fail",
    "skipped tests": "tests.skip",
    "skipped": "tests.skip",
    "warnings": "tests.warn",
    "passed tests": "tests.pass",
}
_UNITS_OF_RATES = {"tokens/s": "output_throughput", "tok/s": "output_throughput", "requests/s": "request_throughput"}
_UNITS_OF_RATES |= {"req/s": "request_throughput", "rps": "request_throughput", "qps": "request_throughput"}
_FILLER = re.compile(r"\b(?:the|a|of|all|overall|reported|measured|achieved|number|count|in|for)\b")


def metric_named(words: str, tool: str | None = None, unit: str | None = None) -> str | None:
    """The name of the metric that these words mean, such as `ttft.p99`; None if they name none, or several.

    `tool` is the name of the reader (`Tool.name`), because "errors" are failed requests in a load test and wrong
    elements in nccl-tests; None: any. `unit` is the unit of the bound, as written.
    """
    text = _plain(words)
    group = _GROUPS.get(tool or "", tool)
    found = []
    if group in (_LOAD, None):
        found.append(_of_load(text, unit))
    if group in ("nccl-tests", None):
        found.append(_NCCL_PHRASES.get(text) or _bandwidth_of_size(text))
    if group in ("dcgmi diag", None):
        found.append(_DIAG_PHRASES.get(text))
    if group == "nvbandwidth":
        found.append(_of_nvbandwidth(words))
    if group == "fio":
        found.append(of_fio(text, unit, *_statistic(text)))
    if group in OF_TOOL:
        found.append(OF_TOOL[group](text, unit))
    names = {name for name in found if name is not None}
    return names.pop() if len(names) == 1 else None


def _plain(words: str) -> str:
    """Lower case, single blanks, without punctuation and filler."""
    text = re.sub(r"[^a-z0-9.%]+", " ", words.lower())
    return " ".join(_FILLER.sub(" ", text).split())


def _of_load(text: str, unit: str | None) -> str | None:
    plain_unit = (unit or "").strip().lower()
    if text in ("throughput", "average throughput", "mean throughput"):
        return _UNITS_OF_RATES.get(plain_unit)
    if text in _LOAD_PHRASES:
        name = _LOAD_PHRASES[text]
        return "requests.failed_share" if name == "requests.failed" and plain_unit in ("%", "percent") else name
    statistic, rest = _statistic(text)
    latency = _LATENCIES.get(rest)
    # A latency without a statistic may mean the mean, the p99 or every request: it names no one value.
    return f"{latency}.{statistic}" if latency is not None and statistic is not None else None


def _statistic(text: str) -> tuple[str | None, str]:
    """The one statistic in a text, and the text without it; None if there is none, or more than one."""
    found = [word for word in _STATISTICS if re.search(rf"(?<![\w.]){re.escape(word)}(?![\w.])", text)]
    found = [word for word in found if not any(word != other and word in other for other in found)]
    if len({_STATISTICS[word] for word in found}) != 1:
        return None, text
    for word in found:
        text = re.sub(rf"(?<![\w.]){re.escape(word)}(?![\w.])", " ", text)
    return _STATISTICS[found[0]], " ".join(text.split())


def _bandwidth_of_size(text: str) -> str | None:
    """`busbw at 8 GiB` → `busbw.8589934592`."""
    match = re.fullmatch(r"(?:average |avg )?(busbw|bus bandwidth|algbw) at (\d+) ?([kmg]?)i?b?(?:ytes?)?", text)
    if match is None:
        return None
    name = "algbw" if match[1] == "algbw" else "busbw"
    return f"{name}.{int(match[2]) * 1024 ** ' kmg'.index(match[3] or ' ')}"


def _of_nvbandwidth(words: str) -> str | None:
    """`device_to_device_memcpy_read_ce` with or without a statistic; without one the least counts."""
    match = re.search(r"\b([a-z]+(?:_[a-z0-9]+){2,})\b", words.lower())
    if match is None:
        return None
    for word, key in (("sum", "sum"), ("max", "max"), ("mean", "mean"), ("average", "mean")):
        if re.search(rf"\b{word}\b", words.lower()):
            return f"{match[1]}.{key}"
    return f"{match[1]}.min"
