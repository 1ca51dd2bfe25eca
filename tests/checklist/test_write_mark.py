import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from llmval_tui.checklist.model import load, parse
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.checklist.write_mark import safe_for_comment, set_mark
from llmval_tui.foundation.errors import Refused
from tests.checklist.test_model import markdown_pieces


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "list.md"
    path.write_bytes(b"\xef\xbb\xbf# A\r\n- [ ] one `x`  \r\n  more \t\r\n\r\nprose \r\n* [X] two\r\n- [ ] three")
    return path


def test_comment_is_put_behind_the_text_replaced_and_taken_away(path: Path) -> None:
    before = path.read_bytes()
    key = load(path).steps[0].key
    step = set_mark(path, key, True, "4 GPUs where the item says 8")
    ticked = before.replace(b"- [ ] one", b"- [x] one")
    first = ticked.replace(b"  more", b"  more <!-- llmval: deviation: 4 GPUs where the item says 8 -->")
    assert path.read_bytes() == first
    assert (step.key, step.checked, step.deviation) == (key, True, "4 GPUs where the item says 8")
    set_mark(path, key, True, "preset smoke")
    assert path.read_bytes() == first.replace(b"4 GPUs where the item says 8", b"preset smoke")
    set_mark(path, key, False)
    assert path.read_bytes().count(b"preset smoke") == 1
    set_mark(path, key, False, "")
    assert path.read_bytes() == before


def test_a_mark_that_is_right_is_left_alone(path: Path) -> None:
    status = path.stat()
    set_mark(path, load(path).steps[1].key, True)  # `[X]`
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_an_edit_made_meanwhile_is_kept(path: Path) -> None:
    key = load(path).steps[2].key
    path.write_bytes(path.read_bytes().replace(b"# A", b"# New\n\n- [ ] zero\n\n# A").replace(b"prose", b"edited"))
    edited = path.read_bytes()
    set_mark(path, key, True)
    assert path.read_bytes() == edited.replace(b"[ ] three", b"[x] three")


def test_mode_and_link_are_kept_and_nothing_is_left_behind(path: Path) -> None:
    path.chmod(0o640)
    link = path.parent / "link.md"
    link.symlink_to(path.name)
    set_mark(link, load(path).steps[0].key, True)
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["link.md", "list.md"]


def test_threads_do_not_lose_each_others_ticks(tmp_path: Path) -> None:
    path = tmp_path / "list.md"
    path.write_text("".join(f"- [ ] item {number}\n" for number in range(12)))
    threads = [threading.Thread(target=set_mark, args=(path, step.key, True)) for step in load(path).steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(step.checked for step in load(path).steps)


def test_refusals_change_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    key = load(path).steps[0].key
    with pytest.raises(Refused, match="no longer has the step"):
        set_mark(path, StepKey("A", "gone", 1), True)
    for comment in ("--gpus 4", "a --> b", "> x", "x-", "bell \a"):
        with pytest.raises(Refused):
            set_mark(path, key, True, comment)
    path.chmod(0o444)
    with pytest.raises(Refused, match="read-only"):
        set_mark(path, key, True)
    path.chmod(0o644)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused, match="No space left"):
        set_mark(path, key, True)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["list.md"]


@pytest.mark.parametrize("tail", [b"open <!-- comment", b"half ` span\n  <!--", b"tag <a title='"])
def test_a_comment_that_would_be_read_otherwise_is_refused(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "list.md"
    path.write_bytes(b"- [ ] " + tail + b"\n")
    before = path.read_bytes()
    key = load(path).steps[0].key
    try:
        assert set_mark(path, key, True, "note").key == key
    except Refused:
        assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["--gpus 4 of 8", "->x", "a --- b --", "two\nlines\x1b[31m"])
def test_commentable_text_is_accepted(path: Path, text: str) -> None:
    step = set_mark(path, load(path).steps[0].key, True, safe_for_comment(text))
    assert step.deviation == safe_for_comment(text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(markdown_pieces)
def test_ticking_any_document_changes_one_byte_or_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.md"
    data = ("- [ ] first\n" + text).encode()
    try:
        steps = parse(data, path).steps
    except Refused:
        return
    path.write_bytes(data)
    for step in steps[:3]:
        before = path.read_bytes()
        set_mark(path, step.key, not step.checked)
        after = path.read_bytes()
        assert [at for at, pair in enumerate(zip(before, after, strict=True)) if len(set(pair)) > 1] == [
            step.mark_offset
        ]
        assert load(path).steps[0].key == steps[0].key
