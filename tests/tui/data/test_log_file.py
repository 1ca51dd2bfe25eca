"""Windows of a log compared with plain splitting of the same bytes, and files that change."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmval_tui.tui.data.log_file import LONGEST_LINE, LogWindowFile

LINES = st.lists(st.text(st.sampled_from("abcX ü"), max_size=12), max_size=40)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=LINES, torn=st.booleans(), count=st.integers(1, 12), data=st.data())
def test_windows_equal_plain_splitting(
    tmp_path: Path, lines: list[str], torn: bool, count: int, data: st.DataObject
) -> None:
    raw = "\n".join(lines).encode() + (b"" if torn else b"\n" if lines else b"")
    path = tmp_path / "log"
    path.write_bytes(raw)
    offsets, position = [], 0
    for piece in raw.splitlines(keepends=True):
        offsets.append((position, piece.decode().rstrip("\n")))
        position += len(piece)
    file = LogWindowFile(path)
    file.poll()
    assert [(line.offset, line.text) for line in file.backward(file.size, count).lines] == offsets[-count:]
    if offsets:
        index = data.draw(st.integers(0, len(offsets) - 1))
        start = offsets[index][0]
        assert [(x.offset, x.text) for x in file.forward(start, count).lines] == offsets[index : index + count]
        assert [(x.offset, x.text) for x in file.backward(start, count).lines] == offsets[max(0, index - count) : index]
        assert file.line_start(start + len(offsets[index][1].encode())) == start
        assert file.count_newlines(0, start) == index
    file.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    text=st.text(st.sampled_from("abAB\n"), max_size=60),
    needle=st.text(st.sampled_from("abAB"), min_size=1, max_size=3),
    start=st.integers(0, 60),
)
def test_search_equals_find_on_bytes(
    tmp_path: Path,
    text: str,
    needle: str,
    start: int,
) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    file = LogWindowFile(path)
    file.poll()
    fold = needle == needle.lower()
    hay = text.lower() if fold else text
    start = min(start, len(text))
    down, up = hay.find(needle, start), hay.rfind(needle, 0, start + len(needle) - 1)
    assert file.find(needle, start) == (None if down < 0 else down)
    assert file.find(needle, start, up=True) == (None if up < 0 else up)
    file.close()


def test_search_crosses_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmval_tui.tui.data.log_file._SEARCH_BLOCK", 8)
    path = tmp_path / "log"
    path.write_bytes(b"x" * 21 + b"needle" + b"y" * 30)
    file = LogWindowFile(path)
    file.poll()
    assert file.find("needle", 0) == 21
    assert file.find("needle", file.size, up=True) == 21
    assert file.find("needle", 22) is None
    assert file.find("needle", 0, stop=lambda: True) is None


def test_only_the_shown_part_of_a_huge_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as out:
        out.write(b"first\n")
        out.truncate(1 << 40)  # a hole of a tebibyte: nobody could read it through
        out.seek(0, os.SEEK_END)
        out.write(b"\nlast but one\nlast\n")
    file = LogWindowFile(path)
    assert file.poll() > 1 << 40
    assert [line.text for line in file.backward(file.size, 2).lines] == ["last but one", "last"]
    assert file.forward(0, 1).lines[0].text == "first"


def test_a_line_without_end_is_shown_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a" * (3 * LONGEST_LINE) + b"\nb\n")
    file = LogWindowFile(path)
    file.poll()
    lines = file.forward(0, 10).lines
    assert [len(line.text) for line in lines[:3]] == [LONGEST_LINE] * 3
    assert lines[-1].text == "b"


def test_truncation_and_replacement_begin_a_new_generation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    file = LogWindowFile(path)
    file.poll()
    path.write_text("x\n")
    file.poll()
    assert (file.generation, file.backward(file.size, 5).lines[0].text) == (1, "x")
    other = tmp_path / "other"
    other.write_text("new file\n")
    other.replace(path)
    file.poll()
    assert (file.generation, file.backward(file.size, 5).lines[0].text) == (2, "new file")
    path.unlink()
    assert file.poll() == 0
    assert file.backward(file.size, 5).lines == ()


def test_escape_sequences_never_come_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[31mred\x1b[0m [/red] \x1b]0;title\x07\x9b2J ok\xff\n")
    file = LogWindowFile(path)
    file.poll()
    text = file.forward(0, 1).lines[0].text
    assert "\x1b" not in text and "\x9b" not in text and "\x07" not in text
    assert "[/red]" in text


def test_the_end_of_a_line_that_is_longer_than_all_that_is_read_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "one_line.log"
    path.write_bytes(b"first\n" + b"x" * (20 * LONGEST_LINE) + b"ERROR at the end\nlast\n")
    file = LogWindowFile(path)
    shown = file.backward(file.poll(), 5).lines
    assert [line.text for line in shown][-1] == "last" and shown[-2].text.endswith("xERROR at the end")
    assert len(shown) == 5 and shown[0].text == "x" * LONGEST_LINE
    above = file.backward(shown[0].offset, 40).lines
    assert above[0].text == "first" and sum(len(line.text) for line in above[1:]) == shown[0].offset - 6
