"""From people's words to the name of a metric."""

import pytest

from llmval_tui.actions.tools.metric_names import metric_named


@pytest.mark.parametrize(
    ("words", "tool", "unit", "name"),
    [
        ("p99 TTFT", "aiperf profile", "ms", "ttft.p99"),
        ("TTFT p99", None, "ms", "ttft.p99"),
        ("99th percentile of the time to first token", None, "s", "ttft.p99"),
        ("P99 end-to-end latency", None, "s", "e2e.p99"),
        ("median TPOT", None, "ms", "tpot.p50"),
        ("mean inter-token latency", None, "ms", "itl.mean"),
        ("max latency", "vllm bench serve", "ms", "e2e.max"),
        ("failed requests", None, None, "requests.failed"),
        ("number of failed requests", None, None, "requests.failed"),
        ("failed requests", "guidellm", "%", "requests.failed_share"),
        ("error rate", "aiperf profile", "%", "requests.failed_share"),
        ("success rate", None, "%", "requests.completed_share"),
        ("completed requests", None, None, "requests.completed"),
        ("requests/s", None, None, "request_throughput"),
        ("output tokens/s", None, None, "output_throughput"),
        ("throughput", "vllm bench serve", "tokens/s", "output_throughput"),
        ("throughput", "vllm bench serve", "req/s", "request_throughput"),
        ("busbw", None, "GB/s", "busbw"),
        ("average bus bandwidth", "nccl-tests", "GB/s", "busbw"),
        ("peak busbw", "nccl-tests", "GB/s", "busbw.max"),
        ("busbw at 8 GiB", "nccl-tests", "GB/s", "busbw.8589934592"),
        ("errors", "nccl-tests", None, "wrong"),
        ("errors", "aiperf profile", None, "requests.failed"),
        ("out of bounds values", None, None, "out_of_bounds"),
        ("failed tests", "dcgmi diag", None, "tests.fail"),
        ("device_to_device_memcpy_read_ce", "nvbandwidth", "GB/s", "device_to_device_memcpy_read_ce.min"),
    ],
)
def test_the_metric_that_words_mean(words: str, tool: str | None, unit: str | None, name: str) -> None:
    assert metric_named(words, tool, unit) == name


@pytest.mark.parametrize(
    ("words", "tool", "unit"),
    [
        ("TTFT", None, "ms"),  # the mean, a percentile, or every request?
        ("latency", None, "ms"),
        ("p99", None, "ms"),  # of what?
        ("p50 and p99 TTFT", None, "ms"),
        ("p99.9 TTFT", None, "ms"),
        ("throughput", "vllm bench serve", None),  # requests or tokens?
        ("errors", None, None),
        ("GPU temperature", "aiperf profile", "°C"),
        ("busbw", "aiperf profile", "GB/s"),
        ("", None, None),
    ],
)
def test_words_that_name_no_one_metric(words: str, tool: str | None, unit: str | None) -> None:
    assert metric_named(words, tool, unit) is None
