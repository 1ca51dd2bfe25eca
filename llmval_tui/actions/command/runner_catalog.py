"""The runners that llmval brings: the files each of them writes, and notes on its command for the operator."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from llmval_tui.actions.command.argv import ParsedArgv, value_of, values_of
from llmval_tui.checklist.model import Step
from llmval_tui.runs.records import Artifact

COLLECTIVE, COMPILE_REPRO, POWER_SWEEP, POWER_ANALYZER, TRACE = (
    "collective_bandwidth.py",
    "torch_compile_repro.py",
    "precision_power_sweep.py",
    "power_efficiency_analyzer.py",
    "capture_fp8_flexattention_traces.sh",
)
OPENAI_LOAD_TEST = "openai_load_test.py"
LOAD_TEST_SCHEMA, LONG_CONTEXT_SCHEMA, COMPILE_SCHEMA = "load_test", "long_context", "compile_repro"
POWER_SWEEP_SCHEMA, POWER_CELL_SCHEMA, POWER_SUMMARY_SCHEMA = "power_sweep", "power_cell", "power_summary"
TRACE_SCHEMA, COLLECTIVE_SCHEMA = "trace_summary", "collective_bandwidth"
RESULT, MANIFEST, ARCHIVE, REPORT = "result.json", "manifest.json", "bundle.tar.gz", "bug_report.md"
SWEEP, TRACE_SUMMARY = "sweep.json", "summary.json"

_CHECKPOINT = re.compile(r"\bcheckpoint\b", re.IGNORECASE)
_IDLE_S, _STEP_ASIDE_S = 3.0, 2.0  # before each cell of a sweep: measure idle power, load weights


@dataclass(frozen=True, slots=True)
class Runner:
    """The output of one runner."""

    schema: str | None = None  # schema of the JSON that a flag names; None: it writes a folder
    # File and schema of the files in --output-dir, the main evidence first; "" is the folder with all of its new files.
    in_folder: tuple[tuple[str, str | None], ...] = ()
    beside: tuple[str, ...] = ()  # suffixes of the files beside the JSON
    findings: tuple[int, ...] = ()  # exit codes besides 0 that are a result; the gates of the result judge it


RUNNERS = {
    "inference_server_load_test.py": Runner(LOAD_TEST_SCHEMA),
    OPENAI_LOAD_TEST: Runner(LOAD_TEST_SCHEMA),
    # Without manifest and archive: attaching logs packs both again, and the hashes of a tick must stay true.
    COMPILE_REPRO: Runner(
        in_folder=((RESULT, COMPILE_SCHEMA), (REPORT, None), ("repro.py", None), ("commands.txt", None)),
        findings=(3,),  # it hung or ran out of time
    ),
    POWER_SWEEP: Runner(in_folder=((SWEEP, POWER_SWEEP_SCHEMA), ("", None))),
    COLLECTIVE: Runner(COLLECTIVE_SCHEMA, beside=(".nccl-tests",)),
    POWER_ANALYZER: Runner(POWER_SUMMARY_SCHEMA, beside=(".md", ".svg")),
    "long_context_validation.py": Runner(LONG_CONTEXT_SCHEMA),
    # The load test's JSON beside a trace has no schema here: a profiler slows it down, so its figures are not judged.
    TRACE: Runner(in_folder=((TRACE_SUMMARY, TRACE_SCHEMA), ("", None))),
}


def runner_of(name: str | None) -> Runner:
    """The runner with this file name; one without known files for any other script."""
    return RUNNERS.get(name or "", Runner())


def artifacts_in(folder: str, runner: str | None) -> list[Artifact]:
    """The artifacts of a run in its `--output-dir`: the runner's files, or the whole folder if they are not known."""
    files = runner_of(runner).in_folder or (("", None),)
    return [Artifact(f"{folder}/{name}" if name else folder, schema) for name, schema in files]


def artifacts_beside(path: str, runner: str | None) -> list[Artifact]:
    """The artifacts of a run beside the file that its command names."""
    return [Artifact(str(PurePosixPath(path).with_suffix(suffix))) for suffix in runner_of(runner).beside]


def runner_details(runner: str | None, argv: ParsedArgv) -> list[str]:
    """Notes on a runner's command for the proposal, one a line; [] for other scripts."""
    if runner == COLLECTIVE:
        return _collective_details(argv.arguments)
    if runner == COMPILE_REPRO:
        mode = value_of(argv.arguments, "--compile-mode") or "default"
        limit = _number(value_of(argv.arguments, "--timeout"), 1800.0)
        return [
            f"runs eager first, then torch.compile in mode {mode}; ends after {limit / 60:.0f} min at the latest",
            "passes with a hang in the bundle (kind and rank), or with “did not reproduce here” and the figures",
            "moves an earlier study in its folder aside",
        ]
    if runner == OPENAI_LOAD_TEST:
        return [
            "loads a server that runs already; its API key comes from the environment and is recorded nowhere",
            "refuses before the load if the server, the model or the key is not right",
            "latencies count from the intended arrival; output tokens are those of the server's usage",
        ]
    if runner == POWER_SWEEP:
        return _sweep_details(argv.arguments)
    if runner == TRACE:
        return _trace_details(argv.arguments)
    return []


def _trace_details(arguments: tuple[str, ...]) -> list[str]:
    by_nsys = value_of(arguments, "--profiler") == "nsys"
    seconds = value_of(arguments, "--trace-seconds") or ("" if by_nsys else "3")
    part = f"the last {seconds} s" if seconds else "all"
    tool = "Nsight Systems, every rank" if by_nsys else "PyTorch's profiler, rank 0"
    return [
        f"traces {part} of {value_of(arguments, '--duration') or '60'} s of load ({tool}), without the warm-up",
        "passes if the trace holds kernels and, with several GPUs, their communication",
        "does not measure requests per second: a profiler costs time",
    ]


def _collective_details(arguments: tuple[str, ...]) -> list[str]:
    largest = value_of(arguments, "--max-bytes") or ("1M" if value_of(arguments, "--device") == "cpu" else "1G")
    every = value_of(arguments, "--operations")
    what = (
        every.replace(",", ", ")
        if every
        else "all-reduce, all-gather, reduce-scatter, all-to-all, broadcast, send/receive"
    )
    asked = value_of(arguments, "--pairs")
    pairs = {
        "none": "",
        "rounds": "; then every pair of nodes, half of the nodes with the other half in each round, and the ring",
    }.get(asked or "all", "; then every pair of GPUs, one way and both ways")
    slow = "no node and no link between two" if asked == "rounds" else "no GPU or pair"
    return [
        f"measures {what} up to {largest}{pairs}",
        "checks every result, and compares the bandwidths with the links, with each other and with NVLink's counters",
        f"passes if nothing is wrong, and {slow} is slow",
    ]


def _sweep_details(arguments: tuple[str, ...]) -> list[str]:
    models = len(values_of(arguments, "--model-layers"))
    batches, modes = values_of(arguments, "--batch-size") or ["1"], values_of(arguments, "--modes") or ["bf16"]
    phases = len(values_of(arguments, "--phases")) or 2
    window, trials = _number(value_of(arguments, "--window-s"), 60.0), _number(value_of(arguments, "--trials"), 3.0)
    warmup = _number(value_of(arguments, "--warmup-s"), 5.0)
    cooldown = _number(value_of(arguments, "--cooldown-s"), 10.0)
    cells = models * len(batches) * len(modes)
    seconds = cells * (phases * (warmup + trials * window) + cooldown + _IDLE_S + _STEP_ASIDE_S)
    minutes = "about a minute" if seconds < 90 else f"about {seconds / 60:.0f} min"
    size = (
        f"{cells} cells ({_count(models, 'model')} × {_count(len(batches), 'batch size')} × {', '.join(modes)}), "
        f"{_count(phases, 'phase')} each, windows of {window:g} s: {minutes}"
    )
    return [
        size,
        "resumes the sweep in its folder: cells that are valid or refused are not run again",
        "passes if every cell is valid, or refused with a reason; energy is that of the GPUs alone",
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _number(text: str | None, default: float) -> float:
    """The number of a flag; the default if it is not a number, which the runner will refuse."""
    try:
        return float(text) if text is not None else default
    except ValueError:
        return default


def runner_deviations(runner: str | None, argv: ParsedArgv, step: Step) -> list[str]:
    """The ways in which a runner's command does less than the step's text asks for."""
    if runner == COMPILE_REPRO and _CHECKPOINT.search(step.prose) and value_of(argv.arguments, "--checkpoint") is None:
        model = value_of(argv.arguments, "--model") or "llama40b"
        return [f"random weights in the shape of {model} instead of a checkpoint"]
    return []
