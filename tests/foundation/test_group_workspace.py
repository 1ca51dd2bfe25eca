"""A workspace that a group shares: the second user can lock, append and replace what the first one made."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmval_tui.checklist.edit import edit_document
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, locked, read_json, read_lines, write_atomic, write_json
from llmval_tui.report.facts import runs_for
from llmval_tui.runs.evidence import change_of, locate
from llmval_tui.runs.records import Evidence
from llmval_tui.runs.store import RunStore

GROUP = 54321
FIRST, SECOND = 54322, 54323
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")


def as_user(user: int, umask: int, work: Callable[[], None]) -> str:
    """Do the work as this user of the group in a child; returns the refusal, "" without one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([GROUP])
            os.setgid(user)
            os.setuid(user)
            os.umask(umask)
            work()
        except (Refused, OSError) as error:
            os.write(writer, str(error).encode() or b"?")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of the group with the setgid bit, below a path that everybody may pass."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # the test's own folder is private
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, FIRST, GROUP)
            folder.chmod(0o2775)
        yield folder


@needs_root
def test_two_users_of_a_group_write_the_same_files(shared: Path) -> None:
    def work() -> None:
        with locked(shared / "settle.lock"):
            append_line(shared / "ledger.jsonl", {"user": os.getuid()})
            write_json(shared / "status.json", {"user": os.getuid()})

    for user in (FIRST, SECOND, FIRST):
        assert as_user(user, 0o002, work) == ""
    assert [line["user"] for line in read_lines(shared / "ledger.jsonl")] == [FIRST, SECOND, FIRST]
    for path in shared.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
        assert path.stat().st_gid == GROUP


@needs_root
def test_a_lock_of_another_user_that_is_read_only_for_us_can_be_taken(shared: Path) -> None:
    def work() -> None:
        with locked(shared / "plan.lock"):
            pass

    for user in (FIRST, SECOND):
        assert as_user(user, 0o022, work) == ""


@needs_root
def test_a_file_of_another_user_that_the_group_may_not_write_is_refused_in_one_sentence(shared: Path) -> None:
    assert as_user(FIRST, 0o022, lambda: write_json(shared / "status.json", {})) == ""
    refusal = as_user(SECOND, 0o022, lambda: write_json(shared / "status.json", {}))
    assert "cannot be written (Permission denied)" in refusal


def test_a_planted_link_at_the_place_of_a_record_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("of somebody else\n")
    record, ledger = tmp_path / "verdict.json", tmp_path / "ledger.jsonl"
    record.symlink_to(elsewhere)
    ledger.symlink_to(elsewhere)
    write_json(record, {"a": 1})
    assert not record.is_symlink() and read_json(record) == {"a": 1}
    with pytest.raises(Refused, match="cannot be written"):
        append_line(ledger, {"a": 1})
    assert elsewhere.read_text() == "of somebody else\n"


@needs_root
def test_a_document_that_is_a_link_of_another_user_is_not_written(shared: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(shared / "state"))
    mine = shared / "bashrc"
    mine.write_text("- [ ] a\n")
    os.chown(mine, SECOND, GROUP)
    link = shared / "TODO.md"
    link.symlink_to(mine)
    os.lchown(link, FIRST, GROUP)

    def edit() -> None:
        edit_document(link, lambda data: data + b"x")

    for work in (lambda: write_atomic(link, b"x"), edit):
        assert "is a link of another user" in as_user(SECOND, 0o002, work)
    assert mine.read_text() == "- [ ] a\n"
    os.lchown(link, SECOND, GROUP)
    assert as_user(SECOND, 0o002, lambda: write_atomic(link, b"y")) == ""
    assert mine.read_text() == "y" and link.is_symlink()


@needs_root
def test_a_run_of_another_user_is_unreadable_and_not_missing(shared: Path) -> None:
    """Its folder has mode 0700, so nobody else knows what is in it."""
    folder = shared / "artifacts" / "runs" / "20260101T000000Z-1.1-abc123"
    folder.mkdir(parents=True)
    log = folder / "main.log"
    log.write_text("8\n")
    (folder / "run.json").write_text("{}")
    os.chown(folder, FIRST, GROUP)
    folder.chmod(0o700)
    evidence = Evidence(str(log.relative_to(shared)), "0" * 64, 2, None, None)

    def work() -> None:
        store = RunStore(shared)
        assert store.runs() == []
        states = change_of(evidence, shared, "2026-01-01T00:00:00Z"), locate(log, "0" * 64, folder).state
        with pytest.raises(Refused, match=r"1 run folder in .* cannot be read"):
            runs_for(store, [], None)
        raise OSError("; ".join((*map(str, states), *store.unreadable)))

    said = as_user(SECOND, 0o022, work)
    assert said.startswith("unreadable; unreadable; ")
    assert f"1 run folder in {folder.parent} cannot be read: another user made them (mode 0700)." in said
