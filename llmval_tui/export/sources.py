"""Where the runs that a command names are: in this workspace, in another one, in a copied run folder, in an archive.

`NAME` is a run id, a part of it, `last` or a step's number; a folder; or an archive. `FOLDER:RUN` and `ARCHIVE:RUN`
name one of several runs in it.
"""

import re
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from llmval_tui.export.open import Archive
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import named_path, user_path
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.evidence import check_ledger
from llmval_tui.runs.store import RUNS_FOLDER, Run, RunStore

_NUMBER = re.compile(r"[\d.]+")
_RUN_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Source:
    """The store that a name leads to."""

    store: RunStore
    title: str  # what the operator named: a folder's or an archive's path
    own: bool  # the workspace of the command: its runs may be judged, and its checklist counts

    @property
    def checklist(self) -> Path | None:
        """The list that the newest run belongs to, if this place has it."""
        for run in self.store.runs():
            name = run.intent.step.checklist
            path = self.store.workspace / name
            if name and not Path(name).is_absolute() and ".." not in Path(name).parts and path.is_file():
                return path
        return None


class Sources:
    """Finds runs by name. Archives are unpacked into a temporary folder, which is removed at the end of the `with`."""

    def __init__(self, workspace: Path) -> None:
        self.own = Source(RunStore(workspace), str(workspace), own=True)
        self._known: dict[Path, Source] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Sources":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def split(self, name: str) -> tuple[Source, str]:
        """The place that a name leads to, and the rest of the name: a run in it, `RUN:half`, or "".

        Raises:
            Refused: the path is neither a folder with runs nor an archive, or the archive is not valid.
        """
        head, tail = name, ""
        while True:
            path = _path(head)
            if path is not None:
                source, run_id = self._at(path, head)
                return source, f"{run_id}:{tail}".strip(":")
            head, colon, last = head.rpartition(":")
            if not colon:
                break
            tail = f"{last}:{tail}" if tail else last
        if "/" in name or name.endswith(".zip"):
            raise Refused(f"{user_path(name)} does not exist: name a run, a run's folder, a workspace or an archive.")
        return self.own, name

    def runs(self, name: str) -> tuple[Source, list[Run]]:
        """The runs that a name means, newest first: one by its id or number, or all of a folder or an archive.

        Raises:
            Refused: as `split`, or no run or several fit.
        """
        source, rest = self.split(name)
        if rest:
            return source, [run_named(source.store, rest)]
        runs = source.store.runs()
        if not runs:
            problem = next(iter(source.store.unreadable), None)
            raise Refused(
                problem or f"{source.title} has no run: name a run, a run's folder, a workspace or an archive."
            )
        return source, runs

    def half(self, name: str) -> tuple[RunStore, str]:
        """The store of the one run that `NAME` or `NAME:half` means, and `RUN:half` (the half of a paired run) there.

        Raises:
            Refused: as `run`.
        """
        source, rest = self.split(name)
        wanted, colon, half = rest.partition(":")
        run = run_named(source.store, wanted) if wanted else self.run(name)[1]
        return source.store, f"{run.id}{colon}{half}"

    def run(self, name: str) -> tuple[Source, Run]:
        """The one run that a name means.

        Raises:
            Refused: as `runs`, or the folder or archive has several runs.
        """
        source, runs = self.runs(name)
        if len(runs) > 1:
            raise Refused(
                f"{source.title} has {len(runs)} runs: say which, as in {source.title}:{runs[0].id} "
                f"(llmval runs {source.title} lists them)."
            )
        return source, runs[0]

    def _at(self, path: Path, title: str) -> tuple[Source, str]:
        """The place at a path, and the id of the run if it is a run's folder."""
        if (path / "run.json").exists():
            return self._run_folder(path.resolve(), title)
        key = path.resolve()
        if key not in self._known:
            self._known[key] = self._unpacked(path, title) if path.is_file() else self._workspace(key, title)
        return self._known[key], ""

    def _workspace(self, folder: Path, title: str) -> Source:
        if folder == self.own.store.workspace.resolve():
            return self.own
        if (folder / RUNS_FOLDER).is_dir():
            return Source(RunStore(folder), title, own=False)
        raise Refused(f"{folder} has no run.json and no {RUNS_FOLDER}: name a run's folder, a workspace or an archive.")

    def _run_folder(self, folder: Path, title: str) -> tuple[Source, str]:
        """A run's folder in its workspace; a copy elsewhere is shown as the only run of a workspace."""
        intent = Run(folder).intent  # refuses a damaged record, and one of a newer llmval, by name
        if folder.parent.parts[-2:] == tuple(RUNS_FOLDER.split("/")):
            return self._workspace(folder.parents[2], title), folder.name
        name = intent.run_id if _RUN_ID.fullmatch(intent.run_id) else folder.name
        if folder not in self._known:
            workspace = self._temporary()
            (workspace / RUNS_FOLDER).mkdir(parents=True)
            (workspace / RUNS_FOLDER / name).symlink_to(folder)
            store = RunStore(workspace)
            _check_records(store, title)
            self._known[folder] = Source(store, title, own=False)
        return self._known[folder], name

    def _unpacked(self, path: Path, title: str) -> Source:
        with Archive(path, title) as archive:
            workspace = self._temporary()
            archive.unpack(workspace)
        store = RunStore(workspace)
        _check_records(store, title)
        check_ledger(store, remember=True)  # the files have other times and inodes than those that were judged
        return Source(store, title, own=False)

    def _temporary(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="llmval-"))
        self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder.resolve()


def _check_records(store: RunStore, title: str) -> None:
    """Refuse records of another machine that are damaged, or name a file outside their workspace: it would be ours.

    Raises:
        Refused: a verdict, an intent or the ledger is, or does.
    """
    runs = store.runs()
    if store.unreadable:
        raise Refused(store.unreadable[0].replace(str(store.workspace), title))
    named = [item.path for line in store.ticks.lines() for item in line.evidence]
    for run in runs:
        verdict = run.verdict()
        named += [item.path for item in run.intent.artifacts]
        named += [item.path for item in verdict.evidence] if verdict is not None else []
    for name in named:
        path = Path(named_path(name))
        if path.is_absolute() or ".." in path.parts:
            raise Refused(
                f"{title}: its records name {clean_line(name)[:100]}, which lies outside the workspace, "
                "so nothing of it is read."
            )


def run_named(store: RunStore, name: str) -> Run:
    """The run with this id or a part of it, or the newest run of the step with this number.

    Raises:
        Refused: none or several match.
    """
    of_step = [run for run in store.runs() if run.intent.step.number == name]
    return of_step[0] if of_step else store.get(name)


def _path(name: str) -> Path | None:
    """The path that a name is, if there is something. A step's number or a run's id is not a path by chance."""
    try:
        path = user_path(name)
        if not path.exists():
            return None
    except (Refused, OSError):
        return None
    if "/" in name or name in (".", "..") or (path / "run.json").exists() or (path / RUNS_FOLDER).is_dir():
        return path
    return path if path.is_file() and not _NUMBER.fullmatch(name) else None
