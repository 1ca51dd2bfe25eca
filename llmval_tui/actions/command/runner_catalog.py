"""What llmval's runners leave besides the one JSON that a flag names: files in a folder, and files beside a file."""

from pathlib import PurePosixPath

from llmval_tui.runs.records import Artifact

COMPILE_REPRO, POWER_SWEEP, POWER_ANALYZER, TRACE = (
    "torch_compile_repro.py",
    "precision_power_sweep.py",
    "power_efficiency_analyzer.py",
    "capture_fp8_flexattention_traces.sh",
)
COMPILE_SCHEMA = "compile_repro"
POWER_SWEEP_SCHEMA, POWER_CELL_SCHEMA, POWER_SUMMARY_SCHEMA = "power_sweep", "power_cell", "power_summary"
RESULT, MANIFEST, ARCHIVE, REPORT = "result.json", "manifest.json", "bundle.tar.gz", "bug_report.md"
SWEEP = "sweep.json"
TRACE_SCHEMA, TRACE_SUMMARY = "trace_summary", "summary.json"

# File and schema, the first of them the main evidence; "" is the folder with every file that is new in it. Of a compile
# bundle the manifest and the archive are left out: attaching logs packs both again, and the hashes of a tick must hold.
# The load test beside a trace is named without its schema: its figures are those of a run under a profiler.
_IN_FOLDER: dict[str, tuple[tuple[str, str | None], ...]] = {
    COMPILE_REPRO: ((RESULT, COMPILE_SCHEMA), (REPORT, None), ("repro.py", None), ("commands.txt", None)),
    POWER_SWEEP: ((SWEEP, POWER_SWEEP_SCHEMA), ("", None)),
    TRACE: ((TRACE_SUMMARY, TRACE_SCHEMA), ("", None)),
}
_BESIDE: dict[str, tuple[str, ...]] = {POWER_ANALYZER: (".md", ".svg")}


def needs_folder(runner: str | None) -> bool:
    """Whether a runner leaves its result in a folder."""
    return runner in _IN_FOLDER


def in_folder(runner: str | None, folder: str) -> list[Artifact]:
    """What a run leaves in its `--output-dir`; of scripts that llmval does not know, the folder."""
    found = _IN_FOLDER.get(runner or "", (("", None),))
    return [Artifact(f"{folder}/{name}" if name else folder, schema) for name, schema in found]


def beside(runner: str | None, path: str) -> list[Artifact]:
    """What a run leaves beside the file that it was told to write."""
    return [Artifact(str(PurePosixPath(path).with_suffix(suffix))) for suffix in _BESIDE.get(runner or "", ())]
