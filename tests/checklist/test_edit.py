"""A document that other programs save while llmval changes it."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.checklist import edit
from llmval_tui.checklist.edit import edit_document, remove_leftovers
from llmval_tui.foundation import files
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.exchange import exchange
from tests.helpers.second_editor import WAYS, lost_edits, save


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "docs").mkdir()
    path = tmp_path / "docs" / "list.md"
    path.write_bytes(b"[ ] one\nedit 0\n")
    return path


def tick(data: bytes) -> bytes:
    return data.replace(b"[ ]", b"[x]")


def beside(document: Path) -> list[str]:
    return sorted(path.name for path in document.parent.iterdir() if path != document)


@pytest.mark.parametrize("way", WAYS)
def test_no_edit_of_another_program_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    lost, _ = lost_edits(tmp_path, way, 100)
    assert lost == 0


@pytest.mark.parametrize("supported", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_an_edit_just_before_the_exchange_is_kept(document: Path, monkeypatch, way: str, supported: bool) -> None:
    if not supported and way in ("atomic save", "vim's backup"):
        pytest.skip("a rename cannot see a rename in the same moment")
    saved: list[None] = []

    def late(staged: Path, target: Path) -> bool:
        if not saved:
            saved.append(None)
            save(document, way, 1)
        return exchange(staged, target) if supported else False

    monkeypatch.setattr(edit, "exchange", late)
    edit_document(document, tick)
    data = document.read_bytes()
    assert b"[x] one" in data and b"edit 1" in data
    assert beside(document) == []


def test_an_edit_between_reading_and_comparing_is_kept(document: Path) -> None:
    def change(data: bytes) -> bytes:
        if b"edit 0" in data:
            save(document, "atomic save", 1)
        return tick(data)

    assert edit_document(document, change) == b"[x] one\nedit 1\n" == document.read_bytes()


def test_a_program_that_opened_the_old_file_before_the_exchange_may_write_after_it(document: Path, monkeypatch) -> None:
    writers: list[Any] = []

    def late(staged: Path, target: Path) -> bool:
        if not writers:
            writers.append(document.open("ab"))
            done = exchange(staged, target)
            writers[0].write(b"late\n")
            return done
        done = exchange(staged, target)
        writers[0].close()
        return done

    monkeypatch.setattr(edit, "exchange", late)
    edit_document(document, tick)
    assert document.read_bytes() == b"[x] one\nedit 0\nlate\n"


def test_two_edits_during_one_exchange_are_both_kept(document: Path, monkeypatch) -> None:
    calls: list[Path] = []

    def late(staged: Path, target: Path) -> bool:
        calls.append(staged)
        if len(calls) <= 2:
            save(document, "atomic save", len(calls))
        return exchange(staged, target)

    monkeypatch.setattr(edit, "exchange", late)
    edit_document(document, tick)
    assert document.read_bytes() == b"[x] one\nedit 2\n"
    (kept,) = beside(document)
    assert (document.parent / kept).read_bytes() == b"[ ] one\nedit 1\n"


def test_a_document_that_stays_open_for_writing_is_refused(document: Path, monkeypatch) -> None:
    monkeypatch.setattr(edit, "PATIENCE_S", 0.02)
    before = document.read_bytes()
    with document.open("ab"), pytest.raises(Refused, match="open for writing in another program"):
        edit_document(document, tick)
    assert document.read_bytes() == before
    assert beside(document) == []


def killed(
    monkeypatch: pytest.MonkeyPatch, document: Path, name: str, *, after: bool, then: bytes | None = None
) -> None:
    """Change the document in a child that is killed at the exchange: before it or after it."""
    child = os.fork()
    if child == 0:

        def fatal(staged: Path, target: Path) -> bool:
            if then is not None:
                temporary = document.with_name("editor.tmp")
                temporary.write_bytes(then)
                temporary.replace(document)
            if after:
                exchange(staged, target)
            os._exit(9)

        monkeypatch.setattr(edit, "exchange", fatal)
        try:
            edit_document(document, tick)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(beside(document)) == 1, name


@pytest.mark.parametrize(
    ("name", "after", "then", "left"),
    [
        ("before the exchange", False, None, b"[ ] one\nedit 0\n"),
        ("after the exchange", True, None, b"[x] one\nedit 0\n"),
        ("after the exchange with an edit", True, b"[ ] one\nedit 1\n", b"[ ] one\nedit 1\n"),
    ],
)
def test_whoever_looks_next_removes_what_a_killed_process_left(
    document: Path, monkeypatch, name: str, after: bool, then: bytes | None, left: bytes
) -> None:
    killed(monkeypatch, document, name, after=after, then=then)
    remove_leftovers(document)
    assert beside(document) == []
    assert document.read_bytes() == left
    edit_document(document, tick)
    assert document.read_bytes() == tick(left)


def test_a_displaced_edit_is_kept_beside_a_newer_one(document: Path, monkeypatch) -> None:
    killed(monkeypatch, document, "", after=True, then=b"[ ] one\nedit 1\n")
    save(document, "atomic save", 2)
    remove_leftovers(document)
    assert document.read_bytes() == b"[x] one\nedit 2\n"
    (kept,) = beside(document)
    assert (document.parent / kept).read_bytes() == b"[ ] one\nedit 1\n"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
@pytest.mark.parametrize("nameless", [True, False])
def test_new_files_have_the_mode_of_the_umask(tmp_path: Path, monkeypatch, umask: int, nameless: bool) -> None:
    real = os.open

    def open_(path, flags, mode=0o777, **more):
        if flags & os.O_TMPFILE == os.O_TMPFILE and not nameless:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return real(path, flags, mode, **more)

    monkeypatch.setattr(os, "open", open_)
    before = os.umask(umask)
    try:
        files.write_json(tmp_path / "record.json", {})
        files.append_line(tmp_path / "lines.jsonl", {})
        with files.locked(tmp_path / "a.lock"):
            pass
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("record.json", "lines.jsonl", "a.lock"), 0o666 & ~umask)
