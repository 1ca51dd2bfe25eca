"""The bug report of a section's compile studies: that of the bundle with most to tell, with the others named in it."""

from dataclasses import dataclass
from pathlib import Path

from llmval_tui.actions.command.runner_catalog import ARCHIVE, COMPILE_SCHEMA, REPORT
from llmval_tui.actions.judges.compile_bundle import bundles_of, packed
from llmval_tui.actions.judges.compile_study import DID_NOT_REPRODUCE, HANG, TIMEOUT, finding, read_study
from llmval_tui.actions.section_runs import command_of
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.store import Run

_TELLS = {HANG: 0, TIMEOUT: 1, DID_NOT_REPRODUCE: 3}  # a study that broke stands before one in which nothing happened


@dataclass(frozen=True, slots=True)
class Study:
    """A bundle that can be reported."""

    run_id: str
    folder: str  # relative to the workspace
    outcome: str
    finding: str
    command: str  # as an operator types it


def studies_of(runs: list[Run], workspace: Path) -> list[Study]:
    """The bundles of runs (newest first), the one with most to tell first; one of a hang made on purpose is none."""
    found = []
    for run in runs:
        folders = set(bundles_of(run, workspace).values())
        for artifact in run.intent.artifacts:
            folder = str(Path(artifact.path).parent)
            result = read_study(run, artifact) if artifact.schema == COMPILE_SCHEMA and folder in folders else None
            if result is not None and result["injected"] is None:
                display = command_of(run, artifact).display
                found.append(Study(run.id, folder, result["outcome"], finding(result), display))
    return sorted(found, key=lambda study: _TELLS.get(study.outcome, 2))


def study_report(studies: list[Study], workspace: Path) -> str:
    """The first study's report as its bundle has it, with a line for each of the others.

    Raises:
        Refused: the report is gone, or not the one that was packed.
    """
    first, *others = studies
    folder = workspace / first.folder
    path, archive = folder / REPORT, packed(folder)
    if archive.problem:
        raise Refused(
            f"{first.folder}: {archive.problem}. Attach the logs again, which packs it, or run the study again."
        )
    if not path.is_file() or archive.files.get(REPORT) != sha256_of(path):
        raise Refused(
            f"{first.folder}/{REPORT} is not the one that {ARCHIVE} holds: attach the logs again, which packs it anew."
        )
    text = path.read_text(encoding="utf-8", errors="replace").rstrip("\n") + "\n"
    if others:
        lines = [f"- {clean_line(other.finding)}: `{clean_line(other.command).replace('`', ' ')}`" for other in others]
        text += "\nAlso run on this node:\n\n" + "\n".join(lines) + "\n"
    return text
