"""A tick by hand under faults: what the files and the messages say is true at every point."""

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.actions import hand_tick
from llmval_tui.actions.hand_tick import tick_by_hand
from llmval_tui.actions.settle import settle_all
from llmval_tui.actions.step_state import StepState, step_statuses
from llmval_tui.checklist import edit
from llmval_tui.checklist.edit import remove_leftovers
from llmval_tui.checklist.ledger import entries
from llmval_tui.checklist.model import load
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.exchange import exchange
from llmval_tui.runs.store import RunStore
from llmval_tui.runs.tick_ledger import ASKED, BY_HAND

LIST = "# L\n\n## 1. Part\n- [ ] one\n- [ ] two\n"
KEY = StepKey("1. Part", "one", 1)
CALLS = ("open", "write", "fsync", "link", "rename", "replace", "fchmod", "unlink")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(hand_tick, "host_inventory", lambda: {"name": "node1"})  # it reads files of its own
    made = tmp_path / "node"
    (made / "docs").mkdir(parents=True)
    (made / "docs" / "list.md").write_text(LIST)
    return made


def tick(folder: Path, note: str = "seen") -> None:
    tick_by_hand(folder / "docs/list.md", KEY, note, RunStore(folder))


def is_ticked(folder: Path) -> bool:
    return load(folder / "docs/list.md").steps[0].checked


def notes(folder: Path) -> list[str]:
    return [note.rpartition(", ")[2] for entry in entries(folder / "docs/TODO.md") for note in entry.notes]


class Faults:
    """Fails the n-th call of the functions that change files, and with `lasting` every one after it."""

    def __init__(self, number: int, code: int, *, lasting: bool) -> None:
        self.number, self.code, self.lasting = number, code, lasting
        self.count = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CALLS:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name), name))
        monkeypatch.setattr(edit, "exchange", self._failing(exchange, "exchange"))

    def _failing(self, real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            writes = name != "open" or bool(arguments[1] & (os.O_WRONLY | os.O_RDWR))
            if writes:
                self.count += 1
                if self.count == self.number or (self.lasting and self.count > self.number):
                    raise OSError(self.code, os.strerror(self.code))
            return real(*arguments, **named)

        return call


def states_after(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, lasting: bool) -> str | None:
    """The refusal of a tick with one fault; None if it succeeded. "end" if the fault came after its last call."""
    faults = Faults(number, code, lasting=lasting)
    with monkeypatch.context() as patch:
        faults.install(patch)
        try:
            tick(folder)
        except Refused as refusal:
            return str(refusal)
    return None if faults.count >= number else "end"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("earlier", [False, True])
def test_every_fault_of_the_disk_leaves_true_records(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, lasting: bool, earlier: bool
) -> None:
    start = {path: path.read_bytes() for path in (folder / "docs").iterdir()}
    for number in itertools.count(1):
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.unlink()
        for path, data in start.items():
            path.write_bytes(data)
        if earlier:
            tick(folder, "an earlier note")
            (folder / "docs/list.md").write_text(LIST)  # and the box was cleared in an editor
        refusal = states_after(folder, monkeypatch, number, code, lasting)
        if refusal == "end":
            break
        old = ["an earlier note"] if earlier else []
        ledger = RunStore(folder).ticks.lines()
        asked = [line for line in ledger if line.kind == ASKED and line.note == "seen"]
        if is_ticked(folder):
            assert asked, number
            assert notes(folder) == [*old, "seen"], number
        elif refusal is None:
            pytest.fail(f"fault {number}: success was reported, and the box is empty")
        if refusal is not None and "no note is recorded" in refusal:
            assert not is_ticked(folder) and notes(folder) == old, number
        problems = settle_all(RunStore(folder))
        assert problems == [], number
        if refusal is None or "the next llmval status ticks the item" in refusal:
            assert is_ticked(folder) and notes(folder) == [*old, "seen"], (number, refusal)
            done = [line for line in RunStore(folder).ticks.lines() if line.kind == BY_HAND and line.note == "seen"]
            assert len(done) == 1, number
        else:
            assert not is_ticked(folder), (number, refusal)
        assert settle_all(RunStore(folder)) == []
        for document in ("list.md", "TODO.md"):
            remove_leftovers(folder / "docs" / document)
        left = [path.name for path in (folder / "docs").iterdir() if path.name.startswith(".")]
        assert left == [], (number, left)
    assert number > 15


@pytest.mark.parametrize("note", ["caf\udce9", "\udc80", " ", ""])
def test_a_note_that_cannot_be_recorded_is_refused_before_anything_is_touched(folder: Path, note: str) -> None:
    with pytest.raises(Refused, match="note"):
        tick(folder, note)
    assert (folder / "docs/list.md").read_text() == LIST
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["list.md"]


def test_a_defect_in_the_middle_takes_the_records_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise ValueError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(hand_tick, "set_mark", broken)
        with pytest.raises(Refused, match="not ticked and no note is recorded: ValueError: a defect"):
            tick(folder)
    assert not is_ticked(folder) and notes(folder) == []
    assert settle_all(RunStore(folder)) == []
    assert not is_ticked(folder)


def killed_at(folder: Path, name: str) -> None:
    child = os.fork()
    if child == 0:
        try:
            setattr(hand_tick, name, lambda *_arguments, **_named: os._exit(9))
            tick(folder)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("name", ["line_of", "_record", "set_mark", "replace"])
def test_a_killed_tick_is_completed_once_by_whoever_looks_next(folder: Path, name: str) -> None:
    killed_at(folder, name)
    assert settle_all(RunStore(folder)) == []
    assert is_ticked(folder) and notes(folder) == ["seen"]
    item = step_statuses(load(folder / "docs/list.md"), RunStore(folder))[0]
    assert item.state is StepState.BY_HAND
    (folder / "docs/list.md").write_text(LIST)  # cleared in an editor: it stays cleared
    assert settle_all(RunStore(folder)) == []
    assert not is_ticked(folder)


def test_a_pending_tick_of_an_item_that_is_gone_is_dropped(folder: Path) -> None:
    killed_at(folder, "set_mark")
    (folder / "docs/list.md").write_text(LIST.replace("one", "uno"))
    assert settle_all(RunStore(folder)) == []
    (folder / "docs/list.md").write_text(LIST)
    assert settle_all(RunStore(folder)) == []
    assert not is_ticked(folder)
