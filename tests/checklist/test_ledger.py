from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmval_tui.checklist.ledger import Entry, entries, record
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import inside

ENTRY = Entry(
    number="1.2",
    section="1. Multi-GPU Inference Benchmark (NVLink Mesh)",
    text="Run: `torchrun --nproc_per_node=8 x.py --output-json artifacts/full_mesh.json`",
    outcome="pass",
    utc="2026-01-02T03:04:05Z",
    host="gpu-01",
    run_id="20260102T030405Z-1.2-ab12cd",
    artifact="artifacts/inference/full_mesh_20260102.json",
    sha256="0123456789abcdef" * 4,
    notes=("quiet node",),
    deviations=("4 GPUs where the item says 8", "preset smoke"),
    link="https://github.com/pytorch/pytorch/issues/1?a=b&c=_d_",
)
SHOWN = replace(ENTRY, sha256="0123456789ab")


@pytest.fixture
def todo(tmp_path: Path) -> Path:
    return tmp_path / "docs" / "TODO.md"


def test_the_file_is_made_and_read_back(todo: Path, tmp_path: Path) -> None:
    assert entries(todo) == []
    record(todo, ENTRY, tmp_path)
    assert entries(todo) == [SHOWN]
    text = todo.read_text()
    assert "(../artifacts/inference/full_mesh_20260102.json)" in text
    assert text.count("\n- ") == 1
    assert sorted(path.name for path in todo.parent.iterdir()) == ["TODO.md"]


def test_the_secret_of_an_items_command_is_not_in_the_file_and_its_line_is_found_again(
    todo: Path, tmp_path: Path
) -> None:
    secret = replace(ENTRY, text="Run: `./x --user me -p Zz9Secret1`", notes=("the password is Zz9Secret2",))
    for outcome in ("pass", "fail"):
        record(todo, replace(secret, outcome=outcome), tmp_path)
    text = todo.read_text()
    assert "Zz9Secret" not in text and text.count("\n- ") == 1
    assert entries(todo)[0].outcome == "fail"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_only_the_items_own_line_changes(todo: Path, tmp_path: Path, newline: bytes) -> None:
    todo.parent.mkdir()
    before = newline.join([b"\xef\xbb\xbf# My list", b"", b"- [ ] mine \xff ", b"", b"tail without an end"])
    todo.write_bytes(before)
    todo.chmod(0o600)
    second = replace(ENTRY, number="10.1", section="10. Late", text="other", notes=(), artifact=None, sha256=None)
    record(todo, second, tmp_path)
    record(todo, ENTRY, tmp_path)
    first = todo.read_bytes()
    assert first.startswith(before + newline)
    assert first.count(b"\n") == first.count(newline)
    assert todo.stat().st_mode & 0o777 == 0o600
    assert [entry.number for entry in entries(todo)] == ["1.2", "10.1"]
    # The operator writes around and inside of the block.
    edited = first.replace(b"# My list", b"# Ours") + b"after" + newline
    edited = edited.replace(b"- **10.1**", b"a remark" + newline + b"- **10.1**")
    todo.write_bytes(edited)
    record(todo, replace(ENTRY, outcome="fail"), tmp_path)
    assert todo.read_bytes() == edited.replace(b"**pass**", b"**fail**", 1)
    assert [entry.outcome for entry in entries(todo)] == ["fail", "pass"]


def test_a_tick_by_hand_names_no_run(todo: Path, tmp_path: Path) -> None:
    by_hand = replace(
        SHOWN,
        outcome="by hand",
        run_id="",
        host="node1",
        artifact=None,
        sha256=None,
        deviations=(),
        link=None,
        by="ops",
        contradicts="20260102T030405Z-1.2-ab12cd",
        notes=("ops@node1 2026-01-02T03:04:05Z, seen", "ada@node1 2026-01-03T03:04:05Z, seen again"),
    )
    record(todo, by_hand, tmp_path)
    assert " · run " not in todo.read_text()
    assert entries(todo) == [by_hand]


def test_equal_items_have_lines_of_their_own_and_merged_lines_become_one(todo: Path, tmp_path: Path) -> None:
    record(todo, ENTRY, tmp_path)
    record(todo, replace(ENTRY, number="1.3", occurrence=2), tmp_path)
    assert [entry.occurrence for entry in entries(todo)] == [1, 2]
    lines = todo.read_text().splitlines(keepends=True)
    item = next(line for line in lines if "**1.2**" in line)
    todo.write_text("".join(lines).replace(item, item + item.replace("pass", "fail")))
    record(todo, ENTRY, tmp_path)
    assert [entry.number for entry in entries(todo)] == ["1.2", "1.3"]


hostile = st.text(
    st.one_of(st.sampled_from("|`*_[]()<>#!-~\\& ·›$\n\r\x1b{}:/=\u202e"), st.characters(codec="utf-8")), max_size=30
) | st.sampled_from(
    ["-->", "<!-- llmval:ledger:end -->", " · note x", "](x)", "https://x", "&middot;", "\\", "**", " › "]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(section=hostile, text=hostile, host=hostile, note=hostile, deviation=hostile, link=hostile)
def test_hostile_text_stays_one_line_and_comes_back(
    tmp_path: Path, section: str, text: str, host: str, note: str, deviation: str, link: str
) -> None:
    todo = tmp_path / "TODO.md"
    todo.unlink(missing_ok=True)
    entry = replace(SHOWN, section=section, text=text, host=host, notes=(note,), deviations=(deviation,), link=link)
    record(todo, entry, tmp_path)
    record(todo, entry, tmp_path)
    assert todo.read_bytes().count(b"llmval:item") == 1
    (found,) = entries(todo)
    record(todo, replace(found, sha256=None, section=section, text=text), tmp_path)
    (again,) = entries(todo)
    assert again == replace(found, sha256=None)  # cleaning is done once: what is read back stays as it is
    if all(
        field.isprintable() and field == " ".join(field.split()) for field in (section, text, host, note, deviation)
    ):
        assert (found.section, found.text, found.host, found.notes) == (section, text, host, (note,))
        assert found.deviations == (deviation,)


def test_nothing_in_a_line_becomes_markup(todo: Path, tmp_path: Path) -> None:
    nasty = "a *b* __c__ [d](e) <b> `f` ![g](h) | ~~i~~ &amp; <!-- j --> --> k_l_m"
    record(todo, replace(ENTRY, text=nasty, notes=(nasty,), artifact=None, link=None), tmp_path)
    inline = next(token for token in MarkdownIt().parse(todo.read_text()) if "1.2" in token.content)
    kinds = [child.type for child in inline.children or []]
    assert kinds.count("strong_open") == 2  # the number and the outcome
    assert not {"em_open", "link_open", "image", "code_inline"} & set(kinds)
    assert nasty in "".join(child.content for child in inline.children or [])


def test_refusals_change_nothing(todo: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="outside of the workspace"):
        record(todo, replace(ENTRY, artifact="../x"), tmp_path)
    assert not todo.parent.exists()
    record(todo, ENTRY, tmp_path)
    good = todo.read_bytes()
    for damaged in (
        good.replace(b"<!-- llmval:ledger:end -->", b""),
        good + b"<!-- llmval:ledger:begin -->\n",
        b"<!-- llmval:ledger:end -->\n<!-- llmval:ledger:begin -->\n",
    ):
        todo.write_bytes(damaged)
        with pytest.raises(Refused, match="nothing was changed"):
            record(todo, ENTRY, tmp_path)
        assert todo.read_bytes() == damaged
    todo.write_bytes(good.replace(b"host gpu", b"hots gpu"))
    with pytest.raises(Refused, match="line 6: this ledger line was edited"):
        entries(todo)
    todo.chmod(0o400)
    with pytest.raises(Refused, match="read-only"):
        record(todo, replace(ENTRY, number="1.9"), tmp_path)


def test_inside(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "in").symlink_to("real")
    assert inside(tmp_path, "a/../b/./c") == tmp_path.resolve() / "b" / "c"
    assert inside(tmp_path, "in/x") == tmp_path.resolve() / "real" / "x"
    assert inside(tmp_path, tmp_path / "x") == tmp_path.resolve() / "x"
    for path in ("..", "../x", "/etc/passwd", "out/passwd", "a/../../x", "", "x\0y", "loop/x"):
        with pytest.raises(Refused):
            inside(tmp_path, path)
