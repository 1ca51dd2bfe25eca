"""Files survive: replaced wholly or not at all, locks die with their holder, lines never tear."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.foundation import files
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, is_locked, locked, read_json, read_lines, try_lock, write_atomic
from llmval_tui.foundation.tail import LineTail


def test_write_keeps_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.md", tmp_path / "link.md"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_atomic(link, b"new")
    assert real.read_bytes() == b"new"
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.md", "real.md"]


def test_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.md"
    path.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused, match="No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_missing_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be written"):
        write_atomic(tmp_path / "nowhere" / "x", b"")


def test_lock_dies_with_its_holder_and_is_inherited(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    lock = try_lock(path)
    assert lock is not None
    assert is_locked(path)
    assert try_lock(path) is None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)
    assert is_locked(path)  # the child's inherited copy holds it
    child.kill()
    child.wait()
    assert not is_locked(path)


def test_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append_line(path, {"a": 1})
    with path.open("ab") as file:
        file.write(b'{"b": ')
    assert read_lines(path) == [{"a": 1}]
    assert read_json(path) is None
    append_line(path, {"c": 3})  # is not glued to the torn one
    assert read_lines(path) == [{"a": 1}, {"c": 3}]


def test_a_line_is_appended_wholly_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.jsonl"
    append_line(path, {"a": 1})
    before = path.read_bytes()
    real, room = os.write, [3]

    def full(descriptor: int, data: bytes) -> int:
        if room:
            return real(descriptor, data[: room.pop()])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Refused, match="No space left on device"):
        append_line(path, {"b": 2})
    assert path.read_bytes() == before


def test_a_file_system_without_locks_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    path.touch()

    def none(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for ask in (try_lock, is_locked, lambda path: locked(path).__enter__()):
        with pytest.raises(Refused, match="file system with locks"):
            ask(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    with pytest.raises(Refused, match="cannot be locked"):
        try_lock(tmp_path / "nowhere" / "lock")


def test_a_record_replaced_by_another_nfs_client_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "status.json"
    path.write_text('{"a": 1}')
    real, stale = files._read, [True]

    def read(path: Path) -> bytes:
        if stale:
            stale.pop()
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(files, "_read", read)
    assert read_json(path) == {"a": 1}


@given(
    lines=st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line), max_size=20),
    cuts=st.lists(st.integers(0, 400), max_size=10),
)
def test_tail_gives_exactly_the_lines(
    lines: list[bytes], cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tail") / "file"
    tail = LineTail(path)
    assert tail.poll() == []
    data = b"".join(line + b"\n" for line in lines)
    seen: list[bytes] = []
    position = 0
    for cut in [*sorted(cuts), len(data)]:
        with path.open("ab") as file:
            file.write(data[position:cut])
        position = max(position, min(cut, len(data)))
        seen += tail.poll()
    assert seen == lines


def test_tail_after_truncation_and_replacement(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthr")
    tail = LineTail(path)
    assert tail.poll() == [b"one", b"two"]
    path.write_bytes(b"new\n")
    assert tail.poll() == [b"new"]
    other = tmp_path / "other"
    other.write_bytes(b"replaced by a longer file\n")
    other.rename(path)
    assert tail.poll() == [b"replaced by a longer file"]


def test_tail_drops_an_endless_line_and_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "file"
    tail = LineTail(path, longest=100)
    path.write_bytes(b"x" * 5000)
    for _ in range(60):
        assert tail.poll(most=90) == []
        assert len(tail._partial) <= 100
    with path.open("ab") as file:
        file.write(b"yyy\nnext\n")
    assert tail.poll() == [b"next"]


def test_the_first_error_is_told_even_if_the_disk_refuses_the_cleaning_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(Refused, match=r"record\.json cannot be written \(Read-only file system\)"):
        write_atomic(tmp_path / "record.json", b"{}")


def test_what_is_not_a_file_is_never_replaced(tmp_path):
    """As root, a file written to /dev/null would replace the device."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="it is not a file"):
        write_atomic(tmp_path / "pipe", b"x")
    assert (tmp_path / "pipe").is_fifo()
