"""Capture a trace: choose the settings, run the load test under a profiler, write the summary beside the trace."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from typing import Any, Self

from llmval_runners.load_test.options import parse as parse_load_test_flags
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, USAGE_EXIT, Refused
from llmval_runners.process.events import VARIABLE, EventLog
from llmval_runners.process.files import make_folder, write_json
from llmval_runners.process.output import guard_streams, say, show
from llmval_runners.process.verdict import Verdict
from llmval_runners.tracing.chrome import read_chrome
from llmval_runners.tracing.commands import CaptureSetup, Paths
from llmval_runners.tracing.nsys import read_nsys
from llmval_runners.tracing.options import TraceOptions, parse
from llmval_runners.tracing.summary import last_screen, one_line, summary_of

NO_NSYS = "nsys is not on the PATH"
STDOUT = 1
_BAR = re.compile(rb"\r(?:\[\d+/\d+\] \[|Processing \d+ events: )[^\r\n]*")


class CaptureFailed(Exception):
    """A program of the capture failed. The message names it; `code` is the exit code of the capture."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class SignalForwarder:
    """Remembers SIGINT, SIGTERM and SIGHUP during the capture, and forwards them to the running program, if any.

    A context manager; the previous handlers are restored at its end.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.child: subprocess.Popen[bytes] | None = None
        self._previous: dict[int, Any] = {}  # handlers, as `signal.signal` returns them

    def __enter__(self) -> Self:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            numbers.append(signal.SIGHUP)
        self._previous = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: object) -> None:
        self.received.append(number)
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)

    def check(self, subject: str) -> None:
        """Raises CaptureFailed if any signal was received so far. `subject` begins the message."""
        if self.received:
            raise CaptureFailed(
                f"{subject} was ended by {signal.Signals(self.received[0]).name}.", 128 + self.received[0]
            )


def capture(options: TraceOptions) -> int:
    """Run the whole capture; returns the exit code.

    Raises:
        Refused: the capture is not possible here; nothing was run.
        CaptureFailed: the load test or a tool failed; its files are kept.
    """
    paths = Paths(options.output_dir.absolute())
    why_torch = _check(options, paths)
    node = _probe()
    setup = resolve(options, node, paths, "nsys" if why_torch is None else "torch")
    parse_load_test_flags(setup.load_test_command()[1:])  # refused once here, and not by every rank and torchrun
    make_folder(paths.folder)
    with SignalForwarder() as signals:
        return _run_capture(setup, node, why_torch, signals)


def _run_capture(setup: CaptureSetup, node: dict[str, Any], why_torch: str | None, signals: SignalForwarder) -> int:
    """Run the programs and write the summary; returns the exit code."""
    paths = setup.paths
    commands: list[str] = []
    _run(setup.profile_command(), commands, "the load test under the profiler", signals)
    load, range_names = _read_result(setup)
    tool = {"name": setup.profiler, "version": node["torch"], "why": why_torch}
    if setup.profiler == "nsys":
        _run(setup.export_command(), commands, "nsys export", signals)
        timeline, trace = read_nsys(paths.sqlite, range_names), paths.nsys
        paths.sqlite.unlink()  # several times larger than the report; the same command makes it again
        tool["version"] = _nsys_version()
    else:
        timeline, trace = read_chrome(paths.chrome, range_names), paths.chrome
    signals.check("the capture")  # reading a trace takes minutes
    files, problem = [trace, paths.result], None
    if setup.options.ncu:
        problem = _run_ncu(setup, commands, signals)
        files += [] if problem else [paths.ncu]
    summary = summary_of(timeline, load, tool=tool, commands=commands, files=files)
    summary["versions"] = {name: node[name] for name in ("torch", "cuda", "transformer_engine")}
    summary["notes"] = notes(setup, node) + ([problem] if problem else [])
    write_json(paths.summary, summary)
    verdict = Verdict("failed", problem, FAILED_EXIT) if problem else Verdict("ok", one_line(summary), GOOD_EXIT)
    EventLog(0).result(str(paths.summary), shown=False)
    show(setup.options.report, summary, verdict.as_json(), lambda: last_screen(summary, verdict, trace, paths.summary))
    if problem:
        raise CaptureFailed(problem)
    return 0


def _read_result(setup: CaptureSetup) -> tuple[dict[str, Any], list[str]]:
    """The result of the load test, and the names of the ranges in the trace.

    Raises:
        CaptureFailed: the result or the trace is missing.
    """
    paths = setup.paths
    if not paths.result.is_file():
        raise CaptureFailed(f"the load test wrote no {paths.result.name}: see its output above.")
    load: dict[str, Any] = json.loads(paths.result.read_text())
    window = load["llmval"].get("trace")
    if window is None:
        raise CaptureFailed(
            "the load ended before the traced part began: pass a higher --target-qps or --trace-seconds."
        )
    trace = paths.nsys if setup.profiler == "nsys" else paths.chrome
    if not trace.is_file():
        raise CaptureFailed(f"the profiler wrote no {trace.name}: see its output above.")
    return load, window.pop("ranges")


def _check(options: TraceOptions, paths: Paths) -> str | None:
    """The reason to use PyTorch's profiler, or None to use nsys.

    Raises:
        Refused: the folder is not empty, or a tool is missing. (The GPUs are checked later.)
    """
    make_folder(paths.folder, only_check=True)
    if any(paths.folder.glob("*")):
        raise Refused(f"{options.output_dir} is not empty: pass another --output-dir, so that no trace is lost.")
    if options.ncu and (shutil.which("ncu") is None or options.device == "cpu"):
        missing = "a GPU" if options.device == "cpu" else "Nsight Compute, but ncu is not on the PATH"
        raise Refused(f"--ncu needs {missing}: leave it out, or install what is missing.")
    if options.device == "cpu":
        if options.profiler == "nsys":
            raise Refused("--profiler nsys traces GPUs, but --device is cpu: pass --profiler torch.")
        return "the run is on a CPU"
    if shutil.which("nsys") is None:
        if options.profiler == "nsys":
            raise Refused(f"--profiler nsys was given, but {NO_NSYS}: install it, or pass --profiler torch.")
        return NO_NSYS
    return "asked for by --profiler torch" if options.profiler == "torch" else None


def _probe() -> dict[str, Any]:
    """The GPUs and versions of this node, see `probe.py`."""
    argv = [sys.executable, "-m", "llmval_runners.tracing.probe"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise Refused(f"{sys.executable} cannot run the engine ({last}): pass another one with --python.") from None
    return found


def resolve(options: TraceOptions, node: dict[str, Any], paths: Paths, profiler: str) -> CaptureSetup:
    """Choose ranks and precision from the flags and the node.

    Raises:
        Refused: there are too few GPUs.
    """
    gpus = 0 if options.device == "cpu" else node["gpus"]
    if not gpus and options.device != "cpu":
        raise Refused("torch finds no GPU here: run it on the GPU node, or try it with --device cpu --model tiny.")
    ranks = options.tensor_parallel_gpus or (1 << (gpus.bit_length() - 1) if gpus else 1)
    if gpus and ranks > gpus:
        raise Refused(f"--tensor-parallel-gpus {ranks} was given, but there are {gpus} GPUs: pass {gpus} or fewer.")
    fp8_mode = options.fp8_mode
    if fp8_mode == "auto":
        fp8_mode = (
            "none" if not (gpus and node["fp8"]) else "transformer-engine" if node["transformer_engine"] else "native"
        )
    return CaptureSetup(options, ranks, fp8_mode, profiler, paths)


def notes(setup: CaptureSetup, node: dict[str, Any]) -> list[str]:
    """One sentence for each setting that was chosen automatically."""
    options, found = setup.options, []
    if setup.profiler == "torch":
        found.append("PyTorch's profiler records only rank 0; the others show only as its waiting time.")
    if options.fp8_mode == "auto":
        problem = node["transformer_engine_problem"]
        why = f", since Transformer Engine does not load ({problem})" if problem else ""
        if node["gpus"] and not node["fp8"]:
            why = ", since the GPUs have no FP8 (compute capability below 8.9)"
        found.append(f"--fp8-mode auto became {setup.fp8_mode}{why}.")
    if options.tensor_parallel_gpus is None and setup.ranks < (0 if options.device == "cpu" else node["gpus"]):
        found.append(f"{setup.ranks} of {node['gpus']} GPUs are used: tensor parallelism needs a power of two.")
    return found


def _run(
    argv: list[str],
    commands: list[str],
    name: str,
    signals: SignalForwarder,
    *,
    environment: dict[str, str] | None = None,
) -> None:
    """Run a program to its end and append it to `commands`.

    Raises:
        CaptureFailed: it failed, or a signal was received before or meanwhile.
    """
    signals.check(f"the capture, before {name},")
    commands.append(shlex.join(argv))
    print(f"+ {commands[-1]}", file=sys.stderr, flush=True)
    bars = argv[0] == "nsys" and not sys.stdout.isatty()
    signals.child = child = subprocess.Popen(
        argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if bars else None
    )
    if signals.received:  # between the check and the start
        child.send_signal(signals.received[0])
    if child.stdout is not None:
        copy_without_bars(child.stdout.fileno(), STDOUT)
    code = child.wait()
    signals.child = None
    signals.check(name)
    if code:
        raise CaptureFailed(f"{name} ended with exit code {code}: see its output above.", code if 0 < code < 126 else 1)


def copy_without_bars(source: int, target: int) -> None:
    """Copy from one file descriptor to the other, without the progress bars of nsys, which would fill a log."""
    waiting = b""
    while chunk := os.read(source, 1 << 16):
        waiting += chunk
        # A bar begins with a carriage return and may not be complete yet.
        cut = waiting.rfind(b"\r")
        end = len(waiting) if cut < 0 or b"\n" in waiting[cut:] else cut
        _write_all(target, _BAR.sub(b"", waiting[:end]))
        waiting = waiting[end:]
    _write_all(target, _BAR.sub(b"", waiting))


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _run_ncu(setup: CaptureSetup, commands: list[str], signals: SignalForwarder) -> str | None:
    """Run the pass of Nsight Compute. Returns its problem, if any; the trace is valid without it."""
    # Its load is not a measurement, so the dashboard must not get its events.
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    try:
        _run(setup.ncu_command(), commands, "the pass of Nsight Compute", signals, environment=environment)
    except CaptureFailed as failure:
        if failure.code > 128:
            raise
        return str(failure)
    return None if setup.paths.ncu.is_file() else "the pass of Nsight Compute wrote no report."


def _nsys_version() -> str:
    done = subprocess.run(["nsys", "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().rpartition(" ")[2] or "unknown"


def main(argv: list[str]) -> int:
    """Run the capture; the exit code is that of `options.EXIT_CODES`."""
    guard_streams()
    try:
        return capture(parse(argv))
    except Refused as refusal:
        say(f"refused: {refusal}", to_stderr=True)
        return USAGE_EXIT
    except CaptureFailed as failure:
        say(str(failure), to_stderr=True)
        return failure.code
