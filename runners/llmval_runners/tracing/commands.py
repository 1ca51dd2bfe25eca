"""The command lines of a capture: the load test, and what goes in front of it and comes behind it."""

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.process.launcher import launcher

RUNNERS = Path(__file__).resolve().parents[2]
LOAD_TEST = RUNNERS / "inference_server_load_test.py"
RUN_FOLDER = "LLMVAL_RUN_FOLDER"  # set by llmval: the ranks' logs and exit codes belong there
NCU_LAUNCHES = 100


@dataclass(frozen=True, slots=True)
class Paths:
    """What a capture leaves in its folder."""

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
class Setup:
    """What will run, decided."""

    options: argparse.Namespace
    extra: list[str]
    ranks: int
    fp8: str
    profiler: str  # nsys or torch
    paths: Paths

    def load_test(self) -> list[str]:
        """The load test with the flags of this capture; those that are only its own come last."""
        options = self.options
        words = [str(LOAD_TEST), "--duration", f"{options.duration:g}", "--target-qps", f"{options.target_qps:g}"]
        for flag in ("model", "device", "attention_backend", "prompt_len", "output_len"):
            if (value := getattr(options, flag)) is not None:
                words += [f"--{flag.replace('_', '-')}", value]
        words += ["--fp8-mode", self.fp8, "--profile", self.profiler]
        if options.trace_seconds is not None:
            words += ["--profile-seconds", f"{options.trace_seconds:g}"]
        if self.profiler == "torch":
            words += ["--profile-output", str(self.paths.chrome)]
        return [*words, "--output-json", str(self.paths.result), *self.extra]

    def launch(self) -> list[str]:
        """The load test under torchrun; within a run of llmval by its launcher, which records every rank's end."""
        ranks = ["--nproc-per-node", str(self.ranks)]
        if folder := os.environ.get(RUN_FOLDER):
            run = Path(folder)
            return launcher(run / "logs", run / "ranks.main.json", [*ranks, *self.load_test()], "main")
        return [sys.executable, "-m", "torch.distributed.run", "--standalone", *ranks, *self.load_test()]

    def trace(self) -> list[str]:
        """The launch under its profiler. One nsys report holds torchrun's whole tree of processes."""
        if self.profiler == "torch":
            return self.launch()
        nsys = ["nsys", "profile", "--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--cuda-graph-trace=node"]
        window = ["--capture-range=cudaProfilerApi", "--capture-range-end=stop"]
        report = self.paths.nsys.with_suffix("")  # nsys adds the suffix, as ncu does its own
        return [*nsys, *window, "--force-overwrite=true", f"--output={report}", *self.launch()]

    def export(self) -> list[str]:
        """The nsys report as the database that the summary is made from."""
        to = ["--type=sqlite", "--force-overwrite=true", f"--output={self.paths.sqlite}"]
        return ["nsys", "export", *to, str(self.paths.nsys)]

    def kernels(self) -> list[str]:
        """Nsight Compute over some kernels on one GPU: it runs each of them many times, which ranks that wait for one
        another in a collective cannot do."""
        ncu = ["ncu", "--profile-from-start", "off", "--graph-profiling", "node", "--target-processes", "all"]
        report = self.paths.ncu.with_suffix("")
        ncu += ["--launch-count", str(NCU_LAUNCHES), "--force-overwrite", "--export", str(report)]
        words = [*self.load_test(), "--duration", "2", "--target-qps", "4", "--output-len", "16", "--warmup", "1"]
        words += ["--drain-timeout", "600", "--profile", "nsys", "--output-json", str(self.paths.folder / "ncu.json")]
        return [*ncu, sys.executable, *words]
