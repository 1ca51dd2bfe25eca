"""Follows the record of collective_bandwidth.py of one run: the partial one while it runs, then the complete one."""

from dataclasses import dataclass, field
from pathlib import Path

import orjson

from llmval_tui.actions.command.runner_catalog import COLLECTIVE_SCHEMA
from llmval_tui.actions.pair_matrix import PairMatrix, matrix_of
from llmval_tui.runs.evidence import archive_path
from llmval_tui.runs.records import Verdict
from llmval_tui.runs.store import Run
from llmval_tui.terminal.format import parse_utc

_LARGEST = 16 << 20  # bytes; the record of 72 GPUs has 5 MB
_Stamp = tuple[str, int, int]


@dataclass(slots=True)
class CollectiveFollower:
    """The matrix of one run. A file that is older than the run is another run's, and is not shown."""

    run: Run
    path: Path
    _known: tuple[_Stamp, PairMatrix | None] | None = field(default=None)

    def snapshot(self, started_utc: str | None, verdict: Verdict | None) -> PairMatrix | None:
        """The matrix now; None before the first figures, or if the file cannot be read."""
        for file in self._files(verdict):
            try:
                status = file.stat()
            except OSError:
                continue
            began = parse_utc(started_utc)
            if verdict is None and (began is None or status.st_mtime < began.timestamp()):
                continue
            stamp = (str(file), status.st_mtime_ns, status.st_size)
            if self._known is None or self._known[0] != stamp:
                self._known = (stamp, _read(file))
            return self._known[1]
        return None

    def _files(self, verdict: Verdict | None) -> list[Path]:
        if verdict is None:
            return [self.path.with_name(f"{self.path.stem}.partial.json"), self.path]
        judged = next((one for one in verdict.evidence if one.at(self.run.workspace) == self.path), None)
        return [] if judged is None else [archive_path(self.run.folder, judged.sha256)]


def collective_follower(run: Run) -> CollectiveFollower | None:
    """The follower of a run that promises such a record; None for any other run."""
    for artifact in run.intent.artifacts:
        if artifact.schema == COLLECTIVE_SCHEMA:
            return CollectiveFollower(run, run.workspace / artifact.path)
    return None


def _read(file: Path) -> PairMatrix | None:
    try:
        with file.open("rb") as source:
            return matrix_of(orjson.loads(source.read(_LARGEST)))
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError, IndexError):
        return None
