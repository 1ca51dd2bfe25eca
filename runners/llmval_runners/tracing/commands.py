"""The command lines of a capture: the load test, its profiler, and the export of the trace."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.process import launch
from llmval_runners.tracing.options import TraceOptions

RUNNERS = Path(__file__).resolve().parents[2]
LOAD_TEST = RUNNERS / "inference_server_load_test.py"
RUN_FOLDER = "LLMVAL_RUN_FOLDER"  # set by llmval; the ranks' logs and exit codes belong there
NCU_KV_TOKENS = 1 << 15
NCU_LAUNCHES = 40  # some two layers; each takes one to two seconds on an H200
NCU_KV_TOKENS = 1 << 15  # 4 GiB with llama-3.1-8b in bf16


@dataclass(frozen=True, slots=True)
class Paths:
    """The files in the folder of a capture."""

    folder: Path

    @property
    def result(self) -> Path:
        return self.folder / "load_test.json"

    @property
    def chrome(self) -> Path:
        return self.folder / "trace.json.gz"

    @property
    def nsys(self) -> Path:
        return self.folder / "trace.nsys-rep"

    @property
    def sqlite(self) -> Path:
        return self.folder / "trace.sqlite"

    @property
    def ncu(self) -> Path:
        return self.folder / "kernels.ncu-rep"

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"


@dataclass(frozen=True, slots=True)
class CaptureSetup:
    """The resolved settings of a capture, and the commands that follow from them."""

    options: TraceOptions
    ranks: int
    fp8_mode: str
    profiler: str  # nsys or torch
    paths: Paths

    def load_test_command(self) -> list[str]:
        """The load test with the flags of this capture. Flags that only the load test knows come last."""
        options = self.options
        argv = [str(LOAD_TEST), "--duration", f"{options.duration:g}", "--target-qps", f"{options.target_qps:g}"]
        for flag in ("model", "device", "attention_backend", "prompt_len", "output_len"):
            if (value := getattr(options, flag)) is not None:
                argv += [f"--{flag.replace('_', '-')}", value]
        argv += ["--fp8-mode", self.fp8_mode, "--profile", self.profiler]
        if options.trace_seconds is not None:
            argv += ["--profile-seconds", f"{options.trace_seconds:g}"]
        if self.profiler == "torch":
            argv += ["--profile-output", str(self.paths.chrome)]
        return [*argv, "--output-json", str(self.paths.result), *options.load_test_flags]

    def launch_command(self) -> list[str]:
        """The load test under torchrun; inside a run of llmval under its launcher, which records each rank's exit."""
        ranks = ["--nproc-per-node", str(self.ranks)]
        if folder := os.environ.get(RUN_FOLDER):
            run = Path(folder)
            return launch.launch_command(
                run / "logs", run / "ranks.main.json", [*ranks, *self.load_test_command()], "main"
            )
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", *ranks, *self.load_test_command()]

    def profile_command(self) -> list[str]:
        """The launch under its profiler. One nsys report covers the whole process tree of torchrun."""
        if self.profiler == "torch":
            return self.launch_command()
        nsys = ["nsys", "profile", "--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--cuda-graph-trace=node"]
        window = ["--capture-range=cudaProfilerApi", "--capture-range-end=stop"]
        report = self.paths.nsys.with_suffix("")  # nsys adds the suffix, and so does ncu below
        return [*nsys, *window, "--force-overwrite=true", f"--output={report}", *self.launch_command()]

    def export_command(self) -> list[str]:
        """Convert the nsys report to the SQLite database that the summary is made from."""
        to = ["--type=sqlite", "--quiet=true", "--force-overwrite=true", f"--output={self.paths.sqlite}"]
        return ["nsys", "export", *to, str(self.paths.nsys)]

    def ncu_command(self) -> list[str]:
        """Nsight Compute for some kernels, on one GPU only.

        It repeats each kernel many times, which does not work for ranks that wait for each other in a collective.
        """
        ncu = ["ncu", "--profile-from-start", "off", "--graph-profiling", "node", "--target-processes", "all"]
        report = self.paths.ncu.with_suffix("")
        ncu += ["--launch-count", str(NCU_LAUNCHES), "--force-overwrite", "--export", str(report)]
        argv = [*self.load_test_command(), "--duration", "2", "--target-qps", "4", "--output-len", "16"]
        argv += ["--warmup", "1", "--drain-timeout", "600", "--profile", "nsys"]
        # Nsight Compute keeps a copy of the memory that a kernel writes. Beside a KV cache that fills the GPU, the copy
        # would go to the host, and each kernel would take minutes.
        argv += ["--kv-tokens", str(NCU_KV_TOKENS)]
        argv += ["--output-json", str(self.paths.folder / "ncu.json")]
        return [*ncu, sys.executable, *argv]
