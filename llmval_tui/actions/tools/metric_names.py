"""From people's words ("p99 TTFT", "busbw", "failed requests") to the name of a metric."""


def metric_named(words: str, tool: str | None = None, unit: str | None = None) -> str | None:
    """The name of the metric that these words mean, such as `ttft.p99`; None if they name none, or several.

    `tool` is the name of the reader (`Tool.name`), because "throughput" means one thing in a load test and another in
    nccl-tests; `unit` is the unit of the bound, as written.
    """
    return None
