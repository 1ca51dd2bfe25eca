"""Damaged run folders: the damage is named, and the other runs are judged, ticked and shown all the same."""

import json
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

from faults.scenes import ITEM, LIST
from fuzzing.mutation import damage, mutate
from fuzzing.target import Target, Wrong, scratch
from llmval_tui.actions.settle import settle_all
from llmval_tui.actions.step_state import step_statuses, unreadable_records
from llmval_tui.checklist.model import load
from llmval_tui.foundation.decode import decode
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import write_json
from llmval_tui.runs.artifact_snapshot import file_identity
from llmval_tui.runs.evidence import check_ledger
from llmval_tui.runs.records import Artifact, Command, Status, StepRef
from llmval_tui.runs.store import Run, RunStore
from llmval_tui.tui.data.run_follower import RunFollower
from tests.helpers.workspace import run_id_of, write_run

OTHER = "Run: `python other.py`"
TEXT = LIST + f"- [ ] {OTHER}\n"
_ELSEWHERE = "somebody's file"  # to which a planted link may point
_RECORDS = (
    "run.json",
    "status.json",
    "verdict.json",
    "artifacts.json",
    "events.jsonl",
    "telemetry.jsonl",
    "../ledger.jsonl",
)


def _workspace(folder: Path) -> Path:
    """A workspace with a run that passed, and one that failed; returns the latter's folder, which gets the damage."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "docs").mkdir(parents=True)
    (folder / "artifacts").mkdir()
    (folder / "list.md").write_text(TEXT)
    for name in ("ok", "other"):
        (folder / f"artifacts/{name}.json").write_text('{"ok": true}')
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    runs: list[Run] = []
    for number, text, code in (("1.1", ITEM, 1), ("1.4", OTHER, 0)):
        step = StepRef(number, "1. Part", text, 1, "list.md")
        run = write_run(
            folder,
            run_id_of(len(runs) + 1, number),
            step,
            [Command("main", ["true"], "true")],
            exit_code=code,
            artifacts=[Artifact("artifacts/ok.json" if text == ITEM else "artifacts/other.json")],
            telemetry=False,
        )
        runs.append(run)
    bad = runs[0].folder
    for of_run, name in ((bad, "artifacts/ok.json"), (runs[1].folder, "artifacts/other.json")):
        identity = file_identity(folder / name)
        write_json(of_run / "artifacts.json", {"v": 1, "before": {}, "after": {name: identity}})
    event = {"v": 1, "t_ns": 1, "mono_ns": 1, "rank": 0, "kind": "progress", "data": {"done": 1, "total": 2}}
    (bad / "events.jsonl").write_text(json.dumps(event) + "\n")
    (bad / "telemetry.jsonl").write_text('{"t_ns": 1, "mono_ns": 1}\n')
    (bad / "logs/main.stderr.log").write_text("boom\n")
    return bad


def _harm(folder: Path, chance: random.Random) -> None:
    """Damage one entry of the run folder."""
    path = folder / chance.choice(_RECORDS)
    way = chance.random()
    if path.is_symlink() or path.is_dir():
        return
    if not path.is_file():
        path.write_bytes(chance.choice((b"", b"{}", b"[]", b"null", b'{"v": 1}', b"\xff", b"{" * 3000)))
    elif way < 0.45:
        path.write_bytes(damage(path.read_bytes(), chance))
    elif way < 0.85:
        try:
            value = json.loads(path.read_bytes().split(b"\n{")[0])
        except (ValueError, RecursionError, OSError):  # it was damaged before
            return
        for _ in range(chance.randrange(1, 4)):
            value = mutate(value, chance)
        path.write_bytes(json.dumps(value).encode("utf-8", "surrogatepass") + b"\n")
    elif way < 0.9:
        path.unlink()
    elif way < 0.95:
        path.unlink()
        if chance.random() < 0.5:
            path.mkdir()
        else:
            path.symlink_to(chance.choice((path.name, "/nonexistent/x", "..", str(scratch("folders") / _ELSEWHERE))))
    else:
        for name in (b"caf\xe9.txt", b"logs/main.rank99999999999999999999.stdout.log", b"verdict.x.json", b"\x1b[2J"):
            Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"")


def case(chance: random.Random) -> str:
    """One damaged run folder, and a second run beside it."""
    workspace = scratch("folders") / "ws"
    bad = _workspace(workspace)
    elsewhere = scratch("folders") / _ELSEWHERE
    elsewhere.write_text("of somebody else\n")
    if chance.random() < 0.5:  # the damage comes before or after the verdict
        settle_all(RunStore(workspace), wait=False)
    for _ in range(chance.choice((1, 1, 2, 3))):
        _harm(bad, chance)
    store = RunStore(workspace)
    problems = settle_all(store, wait=False)
    checklist = load(workspace / "list.md")
    statuses = step_statuses(checklist, store)
    named = [*problems, *unreadable_records(statuses, store)]
    for sentence in named:
        if "cannot be judged: " in sentence:  # so settling reports an exception
            raise Wrong(f"{sentence!r}")
    check_ledger(store)
    for run in store.runs():
        if run.id == bad.name and not any(str(bad.name) in one for one in named):
            with suppress(Refused):  # the pane then shows the sentence
                RunFollower(run).snapshot()
    if elsewhere.read_text() != "of somebody else\n":
        raise Wrong("a link at the place of a record was followed, and a file elsewhere was written")
    ticked = {step.text for step in checklist.steps if step.checked and step.text != "Done before"}
    if OTHER.replace("`", "") not in ticked and OTHER not in ticked:
        raise Wrong(f"the other run was not ticked: {named}")
    text = (workspace / "list.md").read_text()
    if text.replace("- [x] Run", "- [ ] Run") != TEXT:
        raise Wrong(f"the list is damaged: {text!r}")
    if len(ticked) > 1 and not _says_it_passed(bad):
        raise Wrong("the failed run is ticked, and its record does not say that it passed")
    return "named" if named else "nothing to say"


def _says_it_passed(folder: Path) -> bool:
    """Whether the damage made a valid record of a passed run, which nobody can tell from a true one."""
    try:
        status = decode(Status, json.loads((folder / "status.json").read_bytes()))
    except (OSError, TypeError, AttributeError, ValueError):
        return (folder / "verdict.json").is_file() and b'"pass"' in (folder / "verdict.json").read_bytes()
    return (
        all(command.exit_code == 0 for command in status.commands)
        or b'"findings": [1' in (folder / "run.json").read_bytes()
    )


TARGET = Target(
    "folders",
    "damaged run folders: named in one sentence; the other run is judged and ticked; no false tick",
    case,
    100_000,
)
