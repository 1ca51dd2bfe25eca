"""The artifacts of a run: the judged files and whether they have changed, and the files that are still expected."""

from dataclasses import dataclass
from pathlib import Path

from llmval_tui.runs.evidence import archive_path, change_of, read_verified
from llmval_tui.runs.store import RunStore
from llmval_tui.tui.data.run_follower import RunSnapshot


@dataclass(frozen=True, slots=True)
class ArtifactLine:
    """One file; `state` is for people, and `intact` is None if it is not known yet."""

    path: str
    state: str
    intact: bool | None
    bytes: int | None
    sha256: str | None


def artifact_lines(run: RunSnapshot, workspace: Path) -> tuple[ArtifactLine, ...]:
    """The judged files first, then the expected ones.

    A judged file counts as unchanged if it has the judged size and was not written since. Only hashing it again
    (`llmval verify`) proves that, and the text says so.
    """
    found = []
    folder = RunStore(workspace).root / run.id
    evidence = run.verdict.evidence if run.verdict else []
    verified = read_verified(RunStore(workspace)) if evidence else {}
    for item in evidence:
        archived = archive_path(folder, item.sha256).is_file()
        judged_utc = run.verdict.judged_utc if run.verdict else ""
        change = change_of(item, workspace, judged_utc, verified.get((item.path, item.sha256)))
        if change is None:
            state = "as judged (by size and time)"
        elif change in ("missing", "unreadable"):
            state = f"{change}; the run keeps a copy" if archived else change
        else:
            state = "written over since; the run keeps a copy" if archived else "changed since it was judged"
        found.append(ArtifactLine(item.path, state, change is None or archived, item.bytes, item.sha256))
    known = {item.path for item in evidence}
    for expected in run.intent.artifacts:
        if expected.path in known:
            continue
        try:
            status = (workspace / expected.path).stat()
            found.append(ArtifactLine(expected.path, "there, not judged", None, status.st_size, None))
        except OSError:
            waiting = run.alive or run.verdict is None
            found.append(
                ArtifactLine(
                    expected.path, "not there yet" if waiting else "missing", None if waiting else False, None, None
                )
            )
    return tuple(found)
