"""The situations in which faults happen, and what must be true afterwards."""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults.injection import Ended, files_below
from faults.injection import run as run_in_child
from llmval_tui.cli import main
from llmval_tui.foundation.files import write_json
from llmval_tui.foundation.process import processes_with
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import owner, supervisor
from llmval_tui.runs.artifact_snapshot import file_identity
from llmval_tui.runs.create import create_run, new_run_id
from llmval_tui.runs.records import Artifact, Command, Intent, Outcome, StepRef
from llmval_tui.runs.store import RunStore
from tests.helpers.trusted import trust
from tests.helpers.workspace import run_id_of, write_run

LIST = """# Node

## 1. Part
- [ ] Run: `python ok.py --output-json artifacts/ok.json`
- [ ] Look at the cables
- [x] Done before
"""
ITEM, BY_HAND = "Run: `python ok.py --output-json artifacts/ok.json`", "Look at the cables"


def scratch(listed: str, work: str) -> tuple[Path, Path, dict[str, str]]:
    """A new folder; its workspace `ws` with a trusted list.md and work.py; an environment with a state of its own."""
    folder = Path(tempfile.mkdtemp(prefix="llmval-faults-"))
    workspace = folder / "ws"
    (workspace / "docs").mkdir(parents=True)
    (workspace / "artifacts").mkdir()
    (workspace / "list.md").write_text(listed)
    (workspace / "work.py").write_text(work)
    trust(workspace / "list.md")
    own = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
    return folder, workspace, os.environ | own


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
    expected = re.compile(r"list\.md|docs/(?:TODO|power)\.md|artifacts/ok\.json|artifacts/\.gitignore")
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
    lines = [line for line in todo.splitlines() if run_id_of(1, "1.1") in line]
    if len(lines) != 1:
        found.append(f"{len(lines)} lines in TODO.md")
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


PROPOSAL = "Run: update the tables of `docs/power.md`"
OLD, NEW = "# Power\n\nold\n", "# Power\n\nnew\n"


def _proposed_run(folder: Path) -> None:
    """A run that proposes a document, judged: it waits for the operator's yes."""
    workspace = _workspace(folder)
    (workspace / "docs/power.md").write_text(OLD)
    step = StepRef("1.1", "1. Part", ITEM, 1, "list.md")
    command = [Command("main", ["true"], "true")]
    name = f"artifacts/runs/{run_id_of(1, '1.1')}/tables.json"
    run = write_run(
        workspace,
        run_id_of(1, "1.1"),
        step,
        command,
        action="table_update",
        artifacts=[Artifact(name)],
        telemetry=False,
    )
    (run.folder / "proposed.md").write_text(NEW)
    record = {
        "v": 1, "source_run": "r", "summary": "s.json", "tables": "s.md", "document": "docs/power.md", "rows": 1,
        "baseline_rows": 1, "document_sha256": _sha256(OLD), "propose": True, "proposed_sha256": _sha256(NEW),
        "diff": "-old\n+new\n",
    }  # fmt: skip
    write_json(run.folder / "tables.json", record)
    snapshot = {"v": 1, "before": {}, "after": {name: file_identity(workspace / name)}}
    write_json(run.folder / "artifacts.json", snapshot)
    run_in_child(lambda: llmval(folder, "status"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _accept_again(folder: Path) -> int:
    """What an operator does after a crash: looks, and accepts if it is not accepted yet."""
    llmval(folder, "status")
    llmval(folder, "accept", "last")  # refused if it was accepted
    return llmval(folder, "status")


def _accepted(folder: Path) -> list[str]:
    document = folder / "ws/docs/power.md"
    found = _settled(folder)
    if document.read_text() != NEW:
        found.append(f"the document is {document.read_text()!r}")
    return found


def _new_run(folder: Path) -> None:
    """A frozen run whose command counts how often it starts."""
    workspace = _workspace(folder)
    store = RunStore(workspace)
    script = "echo started >> artifacts/count; echo '{}' > artifacts/ok.json"
    step = StepRef("1.1", "1. Part", ITEM, 1, "list.md")
    command = Command("main", ["bash", "-c", script], script)
    intent = Intent(
        1, new_run_id("1.1"), "command", step, [command], str(workspace), utc_iso(), [Artifact("artifacts/ok.json")],
        telemetry=False,
    )  # fmt: skip
    create_run(store, intent)


def _supervise(folder: Path) -> int:
    (run,) = RunStore(folder / "ws").runs()
    os.chdir(folder / "ws")
    owner.FINAL_SAVE_S = 1.0  # a fault of the disk lasts until the end of this process
    return supervisor.main([str(run.folder)])


def _look_until_judged(folder: Path) -> int:
    """`llmval status` again and again: it starts a new supervisor, and judges the run after its end."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        code = llmval(folder, "status")
        if RunStore(folder / "ws").runs()[0].judged():
            return code
        time.sleep(0.05)
    print("Traceback (most recent call last): the run is not judged after 120 s")
    return 1


def _ran_once(folder: Path) -> list[str]:
    (run,) = RunStore(folder / "ws").runs()
    counter = folder / "ws/artifacts/count"
    starts = counter.read_text().count("started") if counter.exists() else 0
    counter.unlink(missing_ok=True)
    marked = LIST.replace(f"- [ ] {ITEM}", f"- [x] {ITEM}")
    text, records, _ = _state(folder)
    found = _common(folder, marked)
    verdict = run.verdict()
    if starts > 1:
        found.append(f"the command was started {starts} times")
    if verdict is None:
        return [*found, "no verdict"]
    passed = verdict.outcome is Outcome.PASS
    if passed != (text == marked) or len([one for one in records if one.get("kind") == "tick"]) != passed:
        found.append(f"{verdict.outcome} and the list or the ledger says otherwise")
    if passed and not starts:
        found.append("a command that was not started has passed")
    if leftover := processes_with("LLMVAL_RUN_ID", run.id):
        found.append(f"orphans: {leftover}")
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
    Scene("accepting", _proposed_run, lambda folder: llmval(folder, "accept", "last"), _accepted, _accept_again),
    Scene("supervising and adopting", _new_run, _supervise, _ran_once, _look_until_judged),
)


def complaints(scene: Scene, folder: Path, ended: Ended, faulty: bool) -> list[str]:
    """What was wrong with the faulty operation itself: a traceback, or a lie about what was changed."""
    found = ["a traceback: " + ended.output.strip().splitlines()[-1]] if ended.has_traceback else []
    if faulty and ended.code == 0 and "cannot be written" in ended.output and scene.name == "a tick by hand":
        found.append("exit 0 although something could not be written")
    if "nothing in it was changed" in ended.output and _state(folder)[0] != LIST and scene.name == "a tick by hand":
        found.append("it says that nothing was changed, but it was")
    return found
