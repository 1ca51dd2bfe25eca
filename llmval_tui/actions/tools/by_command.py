"""Finds the reader of a command line."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from llmval_tui.actions.tools.command_line import is_python, starts
from llmval_tui.actions.tools.load.aiperf import Aiperf, GenaiPerf
from llmval_tui.actions.tools.load.guidellm import Guidellm
from llmval_tui.actions.tools.load.sglang_bench import SglangServing
from llmval_tui.actions.tools.load.vllm_bench import VllmLatency, VllmServe, VllmThroughput
from llmval_tui.actions.tools.model import Tool

# The words that name a tool → its reader. `python -m MODULE` counts as the word `MODULE`.
_TOOLS: dict[tuple[str, ...], type[Tool]] = {
    ("vllm", "bench", "serve"): VllmServe,
    ("vllm", "bench", "throughput"): VllmThroughput,
    ("vllm", "bench", "latency"): VllmLatency,
    ("benchmark_serving.py",): VllmServe,
    ("sglang.bench_serving",): SglangServing,
    ("aiperf", "profile"): Aiperf,
    ("genai-perf", "profile"): GenaiPerf,
    ("guidellm", "run"): Guidellm,
    ("guidellm", "benchmark", "run"): Guidellm,
    ("guidellm", "benchmark"): Guidellm,
}


def tool_of(argv: Sequence[str]) -> Tool | None:
    """The known tool that a command starts, also through `uv run`, `mpirun`, `srun`, `numactl` …; None otherwise."""
    for rest, elsewhere in starts(argv):
        words = [PurePosixPath(rest[0]).name, *rest[1:]]
        if is_python(rest[0]) and "-m" in rest[:4]:
            words = rest[rest.index("-m") + 1 :]
        for length in (3, 2, 1):
            reader = _TOOLS.get(tuple(words[:length]))
            if reader is not None:
                return reader(tuple(words[length:]), elsewhere=elsewhere)
    return None
