"""Archives of another party: damaged bytes, hostile names and kinds, and manifests that lie."""

import hashlib
import io
import json
import random
import shutil
import stat
import warnings
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing.mutation import damage, mutate
from fuzzing.target import Target, Wrong, scratch
from llmval_tui.export.open import INTACT, Archive
from llmval_tui.export.pack import content_of, write_archive
from llmval_tui.export.statement import SIGNATURE, STATEMENT
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.paths import named_path
from llmval_tui.runs.records import Command, Gate, Intent, Outcome, State, Status, StepRef, Verdict
from llmval_tui.runs.store import RUNS_FOLDER, RunStore

_RUN = "20260102T030405Z-1.1-abc001"
_NAMES = (
    "../x",
    "/x",
    "a/../../x",
    "a\\..\\x",
    "C:x",
    "",
    ".",
    "a//b",
    "file:..%2Fx",
    "file:%2Fx",
    "a\0b",
    "é/\u202ex",
)
_KINDS = (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, 0)


@cache
def _archive() -> bytes:
    """An archive of one run."""
    workspace = scratch("archives") / "workspace"
    folder = workspace / RUNS_FOLDER / _RUN
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "main.stdout.log").write_text("one\ntwo\n")
    step = StepRef("1.1", "1. Part", "Run: `x`", 1)
    write_json(folder / "run.json", Intent(1, _RUN, "command", step, [Command("main", ["x"], "x")], "/w", "2026-01-02"))
    write_json(folder / "status.json", Status(state=State.FINISHED))
    gates = [Gate("exit: main", Outcome.PASS, "exit 0", "exit code 0")]
    write_json(folder / "verdict.json", Verdict(1, _RUN, Outcome.PASS, gates, "2026-01-02T03:05:00Z", "well"))
    store = RunStore(workspace)
    return write_archive(content_of(store, store.runs(), whole=True), workspace / "a.zip").path.read_bytes()


def _hostile(chance: random.Random) -> bytes:
    """The archive packed again, with changed members and a changed manifest."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_archive())) as file, zipfile.ZipFile(out, "w") as other, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for info in file.infolist():
            data = file.read(info)
            if chance.random() < 0.1:
                continue
            if info.filename == STATEMENT:
                value: Any = json.loads(data)
                for _ in range(chance.randrange(3)):
                    value = mutate(value, chance)
                if chance.random() < 0.2:
                    value = json.loads(data)
                    value["subject"].append(chance.choice(value["subject"]) | {"name": chance.choice(_NAMES)})
                data = json.dumps(value).encode("utf-8", "surrogatepass")
            changed = zipfile.ZipInfo("x")
            odd = chance.random() < 0.15
            changed.filename = chance.choice((*_NAMES, info.filename)) if odd else info.filename
            kind = chance.choice(_KINDS) if chance.random() < 0.1 else stat.S_IFREG
            changed.external_attr = (kind | 0o644) << 16
            changed.compress_type = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            for _ in range(2 if chance.random() < 0.1 else 1):
                other.writestr(changed, data)
    return out.getvalue()


def archives(chance: random.Random) -> str:
    """An archive is refused, or each of its files is found as the manifest says, or named."""
    data = damage(_archive(), chance) if chance.random() < 0.5 else _hostile(chance)
    root = scratch("archives") / "case"
    shutil.rmtree(root, ignore_errors=True)
    (root / "into").mkdir(parents=True)
    (root / "a.zip").write_bytes(data)
    try:
        with Archive(root / "a.zip") as archive:
            wrong = [one.path for one in archive.check() if one.state != INTACT]
            if not wrong and archive.seal_problem() is None and data != _archive():
                raise Wrong("changed bytes, and nothing is said of them")
            archive.unpack(root / "into")
            if wrong:
                raise Wrong(f"{wrong} are not as the manifest says, and were unpacked")
            _check_unpacked(archive, root / "into")
    except Refused as refusal:
        if "\n" in str(refusal):
            raise Wrong(f"{refusal!s} is not one line") from None
        return "refused"
    finally:
        outside = {path.name for path in root.iterdir()} - {"a.zip", "into"}
        if outside:
            raise Wrong(f"{outside} was written beside the folder")
    return "unpacked"


def _check_unpacked(archive: Archive, folder: Path) -> None:
    """Every file in the folder is a regular one of the manifest, with its hash."""
    wanted = {str(folder / named_path(name)): one.sha256 for name, one in archive.statement.files.items()}
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted.pop(str(path), None):
            raise Wrong(f"{path} is not a file of the manifest")
    if left := [path for path in wanted if Path(path).name not in (STATEMENT, SIGNATURE)]:
        raise Wrong(f"{left} were not unpacked")


TARGET = Target(
    "archives",
    "damaged and hostile archives: refused in one sentence, or each change is named; nothing outside the folder",
    archives,
    100_000,
    packages=("llmval_tui.export", "llmval_tui.foundation"),
)
