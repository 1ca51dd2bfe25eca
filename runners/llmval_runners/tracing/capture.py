"""Capture a trace: decide what runs, run the load test under its profiler, and write the summary beside the trace."""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from typing import Any, Self

from llmval_runners.load_test.options import parse as load_test_flags
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import VARIABLE, EventLog
from llmval_runners.process.files import write_json
from llmval_runners.tracing.chrome import read_chrome
from llmval_runners.tracing.commands import Paths, Setup
from llmval_runners.tracing.nsys import read_nsys
from llmval_runners.tracing.summary import sentence, summary_of

NO_NSYS = "nsys is not on the PATH"


class Failed(Exception):
    """A program of the capture ended badly. The message names it; `code` is the exit code to end with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Stopping:
    """The stopping signals of the whole capture: handed on to the program that runs, and kept in mind where none does.

    A context: the handlers that were there before come back with its end.
    """

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.child: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _frame: object) -> None:
        self.heard.append(number)
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)

    def check(self, what: str) -> None:
        """Raises Failed where a signal was heard, whenever that was."""
        if self.heard:
            raise Failed(f"{what} was ended by {signal.Signals(self.heard[0]).name}.", 128 + self.heard[0])


def capture(options: argparse.Namespace, extra: list[str]) -> int:
    """The whole capture; the exit code.

    Raises:
        Refused: what was asked cannot be done here; nothing was run.
        Failed: the load test or a tool failed; what it left stays.
    """
    paths = Paths(options.output_dir.absolute())
    why = _check(options, paths)
    node = _probe()
    setup = decide(options, extra, node, paths, "torch" if why is not None else "nsys")
    load_test_flags(setup.load_test()[1:])  # refused here, once, rather than by every rank and torchrun
    paths.folder.mkdir(parents=True, exist_ok=True)
    with Stopping() as stopping:
        return _captured(options, setup, node, why, stopping)


def _captured(
    options: argparse.Namespace, setup: Setup, node: dict[str, Any], why: str | None, stopping: Stopping
) -> int:
    """The part that runs programs; the exit code."""
    paths = setup.paths
    commands: list[str] = []
    _run(setup.trace(), commands, "the load test under the profiler", stopping)
    load, names = _result(setup)
    tool = {"name": setup.profiler, "version": node["torch"], "why": why}
    if setup.profiler == "nsys":
        _run(setup.export(), commands, "nsys export", stopping)
        timeline, trace = read_nsys(paths.sqlite, names), paths.nsys
        paths.sqlite.unlink()  # several times the report's size, and made again by the same command
        tool["version"] = _nsys_version()
    else:
        timeline, trace = read_chrome(paths.chrome, names), paths.chrome
    stopping.check("the capture")  # to read a trace takes minutes
    files, problem = [trace, paths.result], None
    if options.ncu:
        problem = _kernels(setup, commands, stopping)
        files += [] if problem else [paths.ncu]
    summary = summary_of(timeline, load, tool=tool, commands=commands, files=files)
    summary["versions"] = {name: node[name] for name in ("torch", "cuda", "transformer_engine")}
    summary["notes"] = notes(options, setup, node) + ([problem] if problem else [])
    write_json(paths.summary, summary)
    EventLog(0).result(str(paths.summary))
    print(f"{sentence(summary)}\n{trace}\n{paths.summary}", flush=True)
    if problem:
        raise Failed(problem)
    return 0


def _result(setup: Setup) -> tuple[dict[str, Any], list[str]]:
    """The load test's result, and the names of the ranges in the trace.

    Raises:
        Failed: one of the two is not there.
    """
    paths = setup.paths
    if not paths.result.is_file():
        raise Failed(f"the load test left no {paths.result.name}: its last words are above.")
    load: dict[str, Any] = json.loads(paths.result.read_text())
    window = load["llmval"].get("trace")
    if window is None:
        raise Failed("the load ended before the traced part began: give it a higher --target-qps or --trace-seconds.")
    trace = paths.nsys if setup.profiler == "nsys" else paths.chrome
    if not trace.is_file():
        raise Failed(f"the profiler left no {trace.name}: its last words are above.")
    return load, window.pop("ranges")


def _check(options: argparse.Namespace, paths: Paths) -> str | None:
    """Refuse what needs no look at the GPUs; why PyTorch's profiler takes the place of nsys, None where it does not."""
    if any(paths.folder.glob("*")):
        raise Refused(f"{options.output_dir} is not empty: name another --output-dir, so that no trace is lost.")
    if options.ncu and (shutil.which("ncu") is None or options.device == "cpu"):
        missing = "a GPU" if options.device == "cpu" else "Nsight Compute, and ncu is not on the PATH"
        raise Refused(f"--ncu needs {missing}: leave it out, or install what is missing.")
    if options.device == "cpu":
        if options.profiler == "nsys":
            raise Refused("--profiler nsys traces GPUs, and --device is cpu: pass --profiler torch.")
        return "the run is on a CPU"
    if shutil.which("nsys") is None:
        if options.profiler == "nsys":
            raise Refused(f"--profiler nsys was asked for, and {NO_NSYS}: install Nsight Systems, or pass torch.")
        return NO_NSYS
    return "asked for by --profiler torch" if options.profiler == "torch" else None


def _probe() -> dict[str, Any]:
    argv = [sys.executable, "-m", "llmval_runners.tracing.probe"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Refused(f"{sys.executable} cannot run the engine ({last}): name another with --python.") from None
    return found


def decide(options: argparse.Namespace, extra: list[str], node: dict[str, Any], paths: Paths, profiler: str) -> Setup:
    """Ranks and precision from what was asked and what `node` has.

    Raises:
        Refused: there is no GPU, and no CPU was asked for.
    """
    gpus = 0 if options.device == "cpu" else node["gpus"]
    if not gpus and options.device != "cpu":
        raise Refused("torch finds no GPU here: run it on the GPU node, or try it with --device cpu --model tiny.")
    ranks = options.tensor_parallel_gpus or (1 << (gpus.bit_length() - 1) if gpus else 1)
    if gpus and ranks > gpus:
        raise Refused(f"--tensor-parallel-gpus {ranks} was asked for, and there are {gpus}: pass {gpus} or fewer.")
    fp8 = options.fp8_mode
    if fp8 == "auto":
        fp8 = "none" if not (gpus and node["fp8"]) else "transformer-engine" if node["transformer_engine"] else "native"
    return Setup(options, extra, ranks, fp8, profiler, paths)


def notes(options: argparse.Namespace, setup: Setup, node: dict[str, Any]) -> list[str]:
    """What was decided here rather than asked for, a sentence each."""
    found = []
    if setup.profiler == "torch":
        found.append("PyTorch's profiler records rank 0 alone; the others are seen in what rank 0 waits for.")
    if options.fp8_mode == "auto":
        problem = node["transformer_engine_problem"]
        why = f", since Transformer Engine does not load ({problem})" if problem else ""
        if node["gpus"] and not node["fp8"]:
            why = ", since the GPUs have no FP8 (compute capability below 8.9)"
        found.append(f"--fp8-mode auto became {setup.fp8}{why}.")
    if options.tensor_parallel_gpus is None and setup.ranks < (0 if options.device == "cpu" else node["gpus"]):
        found.append(f"{setup.ranks} of {node['gpus']} GPUs: tensor parallelism divides heads by powers of two.")
    return found


def _run(
    argv: list[str], commands: list[str], what: str, stopping: Stopping, *, environment: dict[str, str] | None = None
) -> None:
    """Run a program to its end; none is started once a stopping signal was heard."""
    stopping.check(f"the capture, before {what},")
    commands.append(shlex.join(argv))
    print(f"+ {commands[-1]}", file=sys.stderr, flush=True)
    stopping.child = child = subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL)
    if stopping.heard:  # while it was being started
        child.send_signal(stopping.heard[0])
    code = child.wait()
    stopping.child = None
    stopping.check(what)
    if code:
        raise Failed(f"{what} ended with exit code {code}: its last words are above.", code if 0 < code < 126 else 1)


def _kernels(setup: Setup, commands: list[str], stopping: Stopping) -> str | None:
    """The pass of Nsight Compute; what went wrong in it. The trace before it stands all the same."""
    # Its load is no measurement: a dashboard must not take it for one.
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    try:
        _run(setup.kernels(), commands, "the pass of Nsight Compute", stopping, environment=environment)
    except Failed as failure:
        if failure.code > 128:
            raise
        return str(failure)
    return None if setup.paths.ncu.is_file() else "the pass of Nsight Compute left no report."


def _nsys_version() -> str:
    done = subprocess.run(["nsys", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().rpartition(" ")[2] or "unknown"


def main(argv: list[str]) -> int:
    """The entry: 0 done, 1 failed, 2 refused, 130 and 143 ended by SIGINT and SIGTERM."""
    from llmval_runners.tracing.options import parse

    try:
        return capture(*parse(argv))
    except Refused as refusal:
        print(f"refused: {refusal}", file=sys.stderr, flush=True)
        return 2
    except Failed as failure:
        print(str(failure), file=sys.stderr, flush=True)
        return failure.code
