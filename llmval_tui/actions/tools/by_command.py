"""Finds the reader of a command line, or of the files that a command left."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from llmval_tui.actions.tools import lm_eval, nccl_tests, perftest, stream
from llmval_tui.actions.tools.command_line import is_python, starts
from llmval_tui.actions.tools.dcgm_diag import DcgmDiag
from llmval_tui.actions.tools.fio import Fio
from llmval_tui.actions.tools.gpu_burn import GpuBurn
from llmval_tui.actions.tools.load.aiperf import Aiperf, GenaiPerf
from llmval_tui.actions.tools.load.guidellm import Guidellm
from llmval_tui.actions.tools.load.mlperf import SUMMARY, Loadgen
from llmval_tui.actions.tools.load.sglang_bench import SglangServing
from llmval_tui.actions.tools.load.trtllm_bench import BENCHMARKS, TrtllmBench
from llmval_tui.actions.tools.load.vllm_bench import TrtllmServe, VllmLatency, VllmServe, VllmThroughput
from llmval_tui.actions.tools.model import Tool
from llmval_tui.actions.tools.nvbandwidth import Nvbandwidth
from llmval_tui.actions.tools.superbench import SuperBenchDiagnosis, SuperBenchRun

# The words that name a tool → its reader. `python -m MODULE` counts as the word `MODULE`.
_TOOLS: dict[tuple[str, ...], type[Tool]] = {
    ("vllm", "bench", "serve"): VllmServe,
    ("vllm", "bench", "throughput"): VllmThroughput,
    ("vllm", "bench", "latency"): VllmLatency,
    ("vllm.entrypoints.cli.main", "bench", "serve"): VllmServe,
    ("benchmark_serving.py",): VllmServe,
    ("tensorrt_llm.serve.scripts.benchmark_serving",): TrtllmServe,
    ("sglang.bench_serving",): SglangServing,
    ("bench_serving.py",): SglangServing,
    ("aiperf", "profile"): Aiperf,
    ("genai-perf", "profile"): GenaiPerf,
    ("guidellm", "run"): Guidellm,
    ("guidellm", "benchmark", "run"): Guidellm,
    ("guidellm", "benchmark"): Guidellm,
    ("nvbandwidth",): Nvbandwidth,
    ("dcgmi", "diag"): DcgmDiag,
    ("trtllm-bench",): TrtllmBench,
    ("gpu_burn",): GpuBurn,
    ("gpu-burn",): GpuBurn,
    ("fio",): Fio,
    **{(name,): perftest.Perftest for name in perftest.PROGRAMS},
    **{(name,): stream.Stream for name in stream.PROGRAMS},
    **{(name,): lm_eval.LmEval for name in lm_eval.PROGRAMS},
    ("sb", "run"): SuperBenchRun,
    ("sb", "result", "diagnosis"): SuperBenchDiagnosis,
    **{(name,): nccl_tests.NcclTests for name in nccl_tests.PROGRAMS},
    **{(f"{name}_mpi",): nccl_tests.NcclTests for name in nccl_tests.PROGRAMS},
}
_LONGEST = max(map(len, _TOOLS))
# Words with which a tool measures nothing.
_NO_MEASUREMENT: dict[type[Tool], frozenset[str]] = {
    GpuBurn: frozenset({"-l", "-h"}),
    Fio: frozenset({"--version", "-v", "--help", "-h", "--parse-only", "--enghelp", "--cmdhelp"}),
    lm_eval.LmEval: lm_eval.NO_EVALUATION,
}


def tool_of(argv: Sequence[str]) -> Tool | None:
    """The known tool that a command starts, also through `uv run`, `mpirun`, `srun`, `numactl` …; None otherwise."""
    for rest, elsewhere in starts(argv):
        words = [PurePosixPath(rest[0]).name, *rest[1:]]
        if is_python(rest[0]) and "-m" in rest[:4]:
            words = rest[rest.index("-m") + 1 :]
        for length in range(min(_LONGEST, len(words)), 0, -1):
            reader = _TOOLS.get(tuple(words[:length]))
            if reader is TrtllmBench and not set(BENCHMARKS) & set(words):
                continue
            if reader is not None and not _NO_MEASUREMENT.get(reader, frozenset()) & set(words):
                return reader(tuple(words[length:]), elsewhere=elsewhere)
    return None


def tool_of_files(files: Iterable[Path]) -> Tool | None:
    """The known tool whose result a command left, whatever it is called; None if there is none."""
    return Loadgen(()) if any(file.name == SUMMARY for file in files) else None
