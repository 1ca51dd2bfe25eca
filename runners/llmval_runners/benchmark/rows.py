"""Measures the chosen rows of the engine benchmark, in a fixed order."""

from collections.abc import Callable
from typing import Any

from llmval_runners.benchmark.bench import Bench
from llmval_runners.benchmark.saturated import saturated


def rows_of(bench: Bench, chosen: list[str], done: Callable[[dict[str, Any]], None]) -> None:
    """Measure the chosen rows of an engine, one after the other."""
    sizes = bench.sizes
    if "decode" in chosen:
        for batch in sizes.batches:
            done(bench.decode(batch, sizes.context))
    if "prefill" in chosen:
        done(bench.prefill(sizes.prompts, sizes.prompt))
    if "long" in chosen:
        done(bench.prefill(1, sizes.long, "long prefill"))
        done(bench.decode(1, sizes.long, "long decode"))
    if "attention" in chosen and bench.device.type == "cuda":
        done(bench.attention(max(sizes.batches), sizes.context))
        done(bench.attention(1, sizes.long))
    if "saturated" in chosen:
        done(saturated(bench))
