"""Who wrote a file at a promised path: this run, an earlier one, or somebody after it."""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import inside, recorded_name
from llmval_tui.runs import artifact_snapshot
from llmval_tui.runs.artifact_snapshot import Snapshots
from llmval_tui.runs.records import Artifact
from llmval_tui.runs.store import Run


def _start(run: Run) -> float:
    """The start of the run in seconds since the epoch; its record is rounded down to whole seconds."""
    text = run.status().started_utc or run.intent.created_utc
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """Finds out if a file is older than the run, or was changed after it."""

    workspace: Path
    snapshots: Snapshots
    start: float  # start of the run; used if there are no snapshots
    shared: bool = True  # whether other runs may write the file too

    def of(self, run: Run, artifact: Artifact) -> "FileOrigin":
        """For one artifact. No other run writes a path with this run's id, and the operator may edit a report there."""
        return replace(self, shared=run.id not in artifact.path)

    def existed_before(self, file: Path) -> bool:
        if self.snapshots.before is None:
            return file.stat().st_mtime < self.start
        return self.snapshots.before.get(self._name(file)) == artifact_snapshot.file_identity(file)

    def modified_after(self, file: Path) -> bool:
        if self.snapshots.after is None or not self.shared:
            return False
        return self.snapshots.after.get(self._name(file)) != artifact_snapshot.file_identity(file)

    def _name(self, file: Path) -> str:
        return recorded_name(str(file.relative_to(self.workspace)))


def file_origin(run: Run) -> FileOrigin:
    """The origin of the files of a run, from its snapshots."""
    return FileOrigin(run.workspace.resolve(), artifact_snapshot.read_snapshots(run), _start(run))


def written_by_another_run(run: Run, artifact: Artifact) -> bool:
    """Whether the file was not left by this run, so its figures belong to another one."""
    try:
        path = inside(run.workspace, artifact.path)
    except Refused:
        return True
    origin = file_origin(run).of(run, artifact)
    return path.is_file() and (origin.existed_before(path) or origin.modified_after(path))


def files_in(folder: Path) -> list[Path]:
    """The regular files below a folder, sorted; symbolic links are left out."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def own_files(run: Run, artifact: Artifact) -> list[Path]:
    """The files at a promised path that this run wrote, without empty ones: the file itself, or those in the folder."""
    try:
        path = inside(run.workspace, artifact.path)
    except Refused:
        return []
    origin = file_origin(run).of(run, artifact)
    return [
        file
        for file in (files_in(path) if path.is_dir() else [path] if path.is_file() else [])
        if file.stat().st_size and not origin.existed_before(file) and not origin.modified_after(file)
    ]
