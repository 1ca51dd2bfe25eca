import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.checklist.model import Checklist, load, parse
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.errors import Refused

NAME = Path("list.md")


def read(text: str | bytes) -> Checklist:
    return parse(text.encode() if isinstance(text, str) else text, NAME)


def test_every_kind_of_task_item_in_document_order() -> None:
    checklist = read(
        "# Title\n"
        "- [ ] dash\n"
        "* [x] star\n"
        "+ [X] plus\n"
        "1. [ ] one\n"
        "2) [x] other list\n"
        "   - [ ] nested\n"
        "     - plain\n"
        "       1. [ ] nested in a plain item\n"
        "> - [ ] quoted\n"
        "> - - [x] twice on a line\n"
        "-\t[ ] after a tab\n"
    )
    assert [(step.text, step.checked) for step in checklist.steps] == [
        ("dash", False), ("star", True), ("plus", True), ("one", False), ("other list", True), ("nested", False),
        ("nested in a plain item", False), ("quoted", False), ("twice on a line", True), ("after a tab", False),
    ]  # fmt: skip
    assert checklist.title == "Title"
    assert [step.line for step in checklist.steps] == [2, 3, 4, 5, 6, 7, 9, 10, 11, 12]
    for step in checklist.steps:
        at = step.mark_offset
        assert checklist.source[at - 1 : at + 2] in (b"[ ]", b"[x]", b"[X]")
        assert checklist.source[: step.end_offset].endswith(step.text.encode())


def test_what_only_looks_like_a_task_item() -> None:
    checklist = read(
        "- [ ] real\n\n"
        "```\n- [ ] in a fence\n```\n\n"
        "    - [ ] indented code\n\n"
        "<!--\n- [ ] in a comment\n-->\n\n"
        "- [ ]\n- [ ] \n- [y] no box\n- [x]no blank\n- \\[ ] escaped\n- text [ ] later\n\n[ ] no list\n\n"
        "- [ ] table | header\n  --- | ---\n"
    )
    assert [step.text for step in checklist.steps] == ["real"]


def test_text_folds_lines_and_spans_keep_their_order() -> None:
    step = read(
        "- [ ] Run `a  b`   \n  and ``c ` d``\nlazily `e\n  f` <b title='`no`'>.  \n\n  Second `paragraph`.\n"
    ).steps[0]
    assert step.text == "Run `a  b` and ``c ` d`` lazily `e f` <b title='`no`'>."
    assert step.spans == ("a  b", "c ` d", "e f")


def test_comments_are_directives_and_not_text() -> None:
    checklist = read(
        '- [ ] Do <!-- llmval: action=command label="two words" --> it `<!-- llmval: a=b -->` <!-- mine -->\n'
        "  <!-- llmval: schema=load_test -->\n"
        "- [x] Done <!-- llmval: deviation: 4 GPUs  where the item says 8 -->\n"
        "  - [ ] Inner\n"
        "    <!-- llmval: inner=yes -->\n\n"
        "    > <!-- llmval: quoted=yes -->\n"
    )
    first, second, inner = checklist.steps
    assert first.text == "Do it `<!-- llmval: a=b -->` <!-- mine -->"
    assert first.directives == {"action": "command", "label": "two words", "schema": "load_test"}
    assert (second.text, second.deviation, second.directives) == ("Done", "4 GPUs where the item says 8", {})
    assert inner.directives == {"inner": "yes"}


def test_key_survives_renumbering_and_counts_equal_items() -> None:
    checklist = read("# A\n- [ ] same\n- [ ] same\n# B\n- [ ] same\n# A\n- [ ] same\n")
    assert [step.key for step in checklist.steps] == [
        StepKey("A", "same", 1), StepKey("A", "same", 2), StepKey("B", "same", 1), StepKey("A", "same", 3),
    ]  # fmt: skip
    assert [step.number for step in checklist.steps] == ["1.1", "1.2", "2.1", "3.1"]
    for step in checklist.steps:
        assert checklist.find(step.key) == step
        assert checklist.step(step.number) == step
    assert checklist.find(StepKey("A", "same", 4)) is None
    assert len(set(checklist.steps)) == 4


def test_items_before_any_heading_and_below_setext_headings() -> None:
    checklist = read("- [ ] a\n\nSetext\n------\n- [ ] b\n\n> # Quoted\n\n- [ ] c\n")
    assert [(s.title, s.line, len(s.steps)) for s in checklist.sections] == [("list.md", 1, 1), ("Setext", 3, 2)]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark(newline: str, mark: bytes) -> None:
    text = newline.join(["# Ü", "", "- [ ] naïve `ü` ∑", "  - [x] tail  ", ""])
    checklist = read(mark + text.encode())
    assert checklist.title == "Ü"
    for step, text_end in zip(checklist.steps, ("∑", "tail"), strict=True):
        assert checklist.source[step.mark_offset - 1 : step.mark_offset + 2] in (b"[ ]", b"[x]")
        assert checklist.source[: step.end_offset].endswith(text_end.encode())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"# Only prose\n", "no task items"),
        (b"", "no task items"),
        (b"- [ ] a\r\n\r\n- [ ] b\xff\n", "line 3: byte 0xff at offset 18 is not valid UTF-8"),
        (b"- [ ] a\r- [ ] b\xff", "line 2: byte 0xff at offset 15"),
        (b"\xef\xbb\xbf- [ ] a\n\xe2\x82", "line 2: byte 0xe2 at offset 11"),
        (b"- [ ] a\n\0", "line 2: a NUL byte at offset 8"),
        (b"- [ ] a\n- [ ] b <!-- llmval: what is this -->\n", "line 2: the llmval comment contains"),
        (b"- [ ] a " + b"b" * 30_000, "line 1: this item has"),
        (b"- [ ] a\n" + b"> " * 100 + b"- [ ] lost\n", "line 2: lists or quotations are nested too deep"),
        (b"- [ ] a\n" * 20_000, "20001 lines"),
    ],
    ids=["prose", "empty", "byte", "cr", "cut-off", "nul", "comment", "long", "deep", "lines"],
)
def test_refusals_name_the_line(data: bytes, words: str) -> None:
    with pytest.raises(Refused, match=r"list\.md") as refusal:
        read(data)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_refusals_of_files(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="does not exist"):
        load(tmp_path / "none.md")
    with pytest.raises(Refused, match="is a folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="not a regular file"):
        load(tmp_path / "pipe")
    (tmp_path / "large.md").write_bytes(b"- [ ] a\n" * 400_000)
    with pytest.raises(Refused, match="MiB"):
        load(tmp_path / "large.md")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_refusal_of_an_unreadable_file(operator_list: Path) -> None:
    operator_list.chmod(0)
    with pytest.raises(Refused, match="cannot be read"):
        load(operator_list)


def test_step_by_text(operator_list: Path) -> None:
    checklist = load(operator_list)
    assert checklist.step("nsight").number == "1.3"
    assert checklist.step(checklist.steps[5].text).number == "2.2"
    with pytest.raises(Refused, match=r"matches 2 steps .*: 2\.4, 4\.3"):
        checklist.step("todo.md")
    for wanted in ("9.9", "", "no such words"):
        with pytest.raises(Refused, match=r"it has 1\.1, 1\.2"):
            checklist.step(wanted)


markdown_pieces = st.lists(
    st.sampled_from(
        ["- [ ] ", "* [x] ", "1. [ ] ", "> ", "  ", "    ", "\t", "\n", "\r\n", "\n\n", "# ", "`", "```\n", "<!-- ",
         " -->",         "<!-- llmval: a=b -->", "<!-- llmval: deviation: d -->",
         "word", "ü", "|", "---", "\\", "[", "](", "<a ", "- "]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(markdown_pieces)
def test_offsets_are_right_whatever_the_document(text: str) -> None:
    data = ("- [ ] first\n" + text).encode()
    try:
        checklist = read(data)
    except Refused:
        return
    for step in checklist.steps:
        at = step.mark_offset
        assert data[at - 1 : at + 2] in (b"[ ]", b"[x]")
        assert step.checked == (data[at : at + 1] == b"x")
        assert at < step.end_offset <= len(data)
        assert not data[at + 2 : step.end_offset].decode()[-1].isspace()
    assert len({step.key for step in checklist.steps}) == len(checklist.steps)
    assert len({step.number for step in checklist.steps}) == len(checklist.steps)
    for step in checklist.steps:
        for block in step.blocks:
            for span in block.spans:
                written = block.text[span.start : span.end]
                assert written.startswith("`") and written.endswith("`") and span.content in written
