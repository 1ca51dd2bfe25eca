"""The situations in which faults happen, and what must be true afterwards."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults.injection import Ended, files_below
from llmval_tui.cli import main
from llmval_tui.foundation.files import write_json
from llmval_tui.runs.records import Artifact, Command, StepRef
from llmval_tui.runs.store import RunStore
from tests.helpers.workspace import run_id_of, write_run

LIST = """# Node

## 1. Part
- [ ] Run: `python ok.py --output-json artifacts/ok.json`
- [ ] Look at the cables
- [x] Done before
"""
ITEM, BY_HAND = "Run: `python ok.py --output-json artifacts/ok.json`", "Look at the cables"


@dataclass
class Scene:
    """A workspace in a state, an operation, the operation that recovers, and a check."""

    name: str
    prepare: Callable[[Path], object]
    act: Callable[[Path], int]
    check: Callable[[Path], list[str]]
    recover: Callable[[Path], int] = field(default=lambda folder: llmval(folder, "status"))


def llmval(folder: Path, *arguments: str) -> int:
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    os.environ["HOME"] = str(folder / "home")
    os.chdir(folder / "ws")
    return main([*arguments, "--workspace", str(folder / "ws"), "--checklist", "list.md"])


def _workspace(folder: Path) -> Path:
    workspace = folder / "ws"
    for name in ("docs", "artifacts/runs"):
        (workspace / name).mkdir(parents=True)
    (workspace / "list.md").write_text(LIST)
    (workspace / "docs/TODO.md").write_text("# TODO\n\nThe operator's own words.\n")
    return workspace


def _ended_run(folder: Path, exit_code: int = 0) -> None:
    workspace = _workspace(folder)
    (workspace / "artifacts/ok.json").write_text('{"ok": true}')
    write_run(
        workspace,
        run_id_of(1, "1.1"),
        StepRef("1.1", "1. Part", ITEM, 1, "list.md"),
        [Command("main", ["true"], "true")],
        exit_code=exit_code,
        artifacts=[Artifact("artifacts/ok.json")],
        telemetry=False,
    )
    now = (workspace / "artifacts/ok.json").stat()
    identity = {"artifacts/ok.json": [now.st_mtime_ns, now.st_size, now.st_ino]}
    write_json(
        workspace / "artifacts/runs" / run_id_of(1, "1.1") / "artifacts.json", {"v": 1, "before": {}, "after": identity}
    )


def _state(folder: Path) -> tuple[str, list[dict[str, object]], str]:
    workspace = folder / "ws"
    ledger = RunStore(workspace).ledger
    lines = ledger.read_bytes().split(b"\n") if ledger.exists() else []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    todo = (workspace / "docs/TODO.md").read_text()
    return (workspace / "list.md").read_text(), records, todo


def _common(folder: Path, marked: str) -> list[str]:
    """What must hold after every recovery; `marked` is the list with the one tick that may have been made."""
    text, _, todo = _state(folder)
    found = []
    if text not in (LIST, marked):
        found.append("the list is damaged")
    if "The operator's own words." not in todo:
        found.append("the operator's words in TODO.md are lost")
    names = [name for name in files_below(folder / "ws") if not name.startswith("artifacts/runs/")]
    expected = re.compile(r"list\.md|docs/TODO\.md|artifacts/ok\.json|artifacts/\.gitignore")
    found += [f"left behind: {name}" for name in names if not expected.fullmatch(name)]
    return found


def _settled(folder: Path) -> list[str]:
    marked = LIST.replace(f"- [ ] {ITEM}", f"- [x] {ITEM}")
    text, records, todo = _state(folder)
    found = _common(folder, marked)
    if text != marked:
        found.append("a passed run did not tick")
    ticks = [record for record in records if record.get("kind") == "tick"]
    if len(ticks) != 1:
        found.append(f"{len(ticks)} records of one tick")
    if todo.count(run_id_of(1, "1.1")) != 1:
        found.append(f"{todo.count(run_id_of(1, '1.1'))} lines in TODO.md")
    return found


def _not_ticked(folder: Path) -> list[str]:
    text, records, _ = _state(folder)
    found = _common(folder, LIST)
    if text != LIST or records:
        found.append("a failed run ticked or was recorded as a tick")
    return found


def _by_hand(folder: Path) -> list[str]:
    marked = LIST.replace(f"- [ ] {BY_HAND}", f"- [x] {BY_HAND}")
    text, records, todo = _state(folder)
    found = _common(folder, marked)
    recorded = any(record.get("text") == BY_HAND for record in records)
    if text == marked and not (recorded and "seen by me" in todo):
        found.append("a tick by hand without its record")
    if text == LIST and recorded:
        found.append("a record of a tick by hand that is not there")
    return found


SCENES = (
    Scene("settling a passed run", _ended_run, lambda folder: llmval(folder, "status"), _settled),
    Scene(
        "settling a failed run",
        lambda folder: _ended_run(folder, 1),
        lambda folder: llmval(folder, "status"),
        _not_ticked,
    ),
    Scene(
        "a tick by hand",
        _workspace,
        lambda folder: llmval(folder, "tick", "1.2", "--note", "seen by me"),
        _by_hand,
    ),
)


def complaints(scene: Scene, folder: Path, ended: Ended, faulty: bool) -> list[str]:
    """What was wrong with the faulty operation itself: a traceback, or a lie about what was changed."""
    found = ["a traceback: " + ended.output.strip().splitlines()[-1]] if ended.has_traceback else []
    if faulty and ended.code == 0 and "cannot be written" in ended.output and scene.name == "a tick by hand":
        found.append("exit 0 although something could not be written")
    if "nothing in it was changed" in ended.output and _state(folder)[0] != LIST and scene.name == "a tick by hand":
        found.append("it says that nothing was changed, but it was")
    return found
