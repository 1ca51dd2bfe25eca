"""`llmval review`: the questions, their answers, and what a hostile list can do with them. In this process, no run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmval_tui.cli import main

LIST = """# List

## 1. Checks
- [ ] Run `acme-probe --fast`
- [ ] Run `rm -rf build`
- [ ] Run `acme-ctl restart <pod>`
- [ ] Look at the cables.
"""

Review = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "list.md").write_text(LIST)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("acme-probe", "acme-ctl"):
        (programs / name).write_text("#!/bin/sh\nexit 0\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def review(folder: Path, capsys: pytest.CaptureFixture[str]) -> Review:
    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(["review", "list.md", "--workspace", str(folder), *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What the operator types at the prompts, in order; afterwards the end of the input."""

    def types(*words: str) -> list[str]:
        left = list(words)
        monkeypatch.setattr("llmval_tui.console.review.on_terminal", lambda: True)
        monkeypatch.setattr("llmval_tui.console.review._input", lambda _prompt: left.pop(0) if left else None)
        return left

    return types


def questions(review: Review) -> dict[str, dict[str, object]]:
    return {one["step"]: one for one in json.loads(review("--json")[1])["questions"]}


def test_without_a_terminal_it_prints_the_questions_and_what_to_do(review: Review) -> None:
    code, out, _ = review()
    assert code == 2
    assert "acme-probe" in out and "rm -rf build" in out
    assert "Answer on a terminal: llmval review" in out and "--workspace" in out
    assert "give that command --answer CODE=run" in out, "`llmval run` has no such option"
    assert "(code )" not in out, "only a value answers the question about a placeholder"
    coded = sum(bool(one["code"]) for one in questions(review).values())
    assert out.count("  (code ") == coded, "what CODE=run means"
    assert out.rstrip().endswith("for each code and --set pod=VALUE")


def test_json_names_step_code_and_what_is_missing(review: Review) -> None:
    found = questions(review)
    assert sorted(found) == ["1.1", "1.2", "1.3"]
    assert found["1.2"]["each_time"] is True and found["1.1"]["each_time"] is False
    assert found["1.3"]["missing"] == ["pod"]
    assert len({one["code"] for one in found.values() if one["code"]}) >= 2


def test_an_answer_is_kept_beside_the_list_and_the_list_is_untouched(review: Review, folder: Path) -> None:
    code = questions(review)["1.1"]["code"]
    assert review("--answer", f"{code}=run")[0] == 0
    assert "acme-probe --fast" in (folder / "list.llmval.toml").read_text()
    assert (folder / "list.md").read_text() == LIST
    assert "1.1" not in questions(review)


def test_again_asks_anew(review: Review) -> None:
    code = questions(review)["1.1"]["code"]
    review("--answer", f"{code}=manual")
    assert "1.1" not in questions(review)
    assert review("--again", "1.1")[0] == 2
    assert "1.1" in questions(review)


def test_write_puts_the_answer_into_the_list(review: Review, folder: Path) -> None:
    code = questions(review)["1.1"]["code"]
    assert review("--write", "--answer", f"{code}=run")[0] == 0
    lines = (folder / "list.md").read_text().splitlines()
    assert "<!-- llmval:" in lines[3] and lines[3].startswith("- [ ] Run `acme-probe --fast`")
    assert [line for number, line in enumerate(lines) if number != 3] == [
        line for number, line in enumerate(LIST.splitlines()) if number != 3
    ]


def test_a_changed_item_is_asked_about_again(review: Review, folder: Path) -> None:
    code = questions(review)["1.1"]["code"]
    review("--answer", f"{code}=run")
    (folder / "list.md").write_text(LIST.replace("--fast", "--slow"))
    assert "1.1" in questions(review)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nothing=run", "no open question with the code nothing"),
        ("CODE=maybe", "write CODE=run, CODE=manual or CODE=skip"),
        ("CODE", "write CODE=run, CODE=manual or CODE=skip"),
        ("=run", "no open question"),
    ],
)
def test_an_answer_that_means_nothing_is_refused(review: Review, folder: Path, word: str, said: str) -> None:
    code = str(questions(review)["1.1"]["code"])
    result, out, err = review("--answer", word.replace("CODE", code))
    assert result == 2 and said in out + err
    assert not (folder / "list.llmval.toml").exists()


def test_a_question_that_asks_each_time_is_not_answered_for_good(review: Review, folder: Path) -> None:
    code = questions(review)["1.2"]["code"]
    result, out, err = review("--answer", f"{code}=run")
    assert result == 2 and f"llmval run 1.2 --confirm {code} --workspace " in out + err
    assert not (folder / "list.llmval.toml").exists()


def test_readonly_answers_nothing(review: Review, folder: Path) -> None:
    code = questions(review)["1.1"]["code"]
    assert review("--readonly", "--answer", f"{code}=run")[0] == 2
    assert review("--readonly")[0] == 2
    assert not (folder / "list.llmval.toml").exists()


def test_the_walk_asks_for_values_and_keeps_each_answer(review: Review, typed: Callable[..., list[str]]) -> None:
    left = typed("y", "n", "", "validator-7", "y")
    code, out, _ = review()
    assert (code, left) == (0, []), out
    assert "Every question is answered." in out
    assert "validator-7" in Path("list.llmval.toml").read_text()
    assert questions_left(review) == []


def questions_left(review: Review) -> list[str]:
    out = review("--json")[1]
    return sorted(questions(review)) if '"questions"' in out else []


def test_quitting_the_walk_leaves_the_rest_open(review: Review, typed: Callable[..., list[str]]) -> None:
    typed("y", "q")
    code, out, _ = review()
    assert code == 2 and "2 left open." in out


def test_a_key_that_is_not_offered_asks_again(review: Review, typed: Callable[..., list[str]]) -> None:
    left = typed("x", "run", "yes", "Y", "q")
    assert review()[0] == 2
    assert left == []
    assert "1.1" not in questions(review)


def test_bounds_of_an_item_that_is_not_there_are_refused(review: Review, folder: Path) -> None:
    (folder / "list.llmval.toml").write_text('[[bounds]]\nitem = "All-reduce"\nexpect = ["stdout empty"]\n')
    for arguments in ((), ("--json",)):
        code, out, err = review(*arguments)
        said = json.loads(out)["message"] if arguments else out + err
        assert code == 2 and "list.llmval.toml:1: [[bounds]] is for the item “All-reduce”" in said
    assert main(["run", "--all", "--dry-run", "--workspace", str(folder), "--checklist", "list.md"]) == 2


def test_escape_sequences_of_a_list_reach_no_terminal(review: Review, folder: Path) -> None:
    (folder / "list.md").write_text("# L\n\n## 1. S\n- [ ] Run `acme-probe \x1b]52;c;eA==\x07\x1b[2J --x`\u202e\n")
    _, out, err = review()
    assert "\x1b" not in out + err and "\u202e" not in out + err


def test_a_script_that_changes_is_asked_about_again(review: Review, folder: Path) -> None:
    script = folder / "check.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    (folder / "list.md").write_text("# L\n\n## 1. S\n- [ ] Run `./check.sh`\n")
    code = questions(review)["1.1"]["code"]
    assert review("--answer", f"{code}=run")[0] == 0
    assert "no open question" in review()[1]
    script.write_text("#!/bin/sh\nrm -rf /\n")
    assert "1.1" in questions(review)


def test_a_relative_list_belongs_to_the_workspace(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = folder / "other"
    other.mkdir()
    assert main(["status", "--workspace", "other", "--checklist", "list.md"]) == 2
    said = capsys.readouterr()
    assert "has no list.md, and a relative checklist belongs to the workspace: name it in full" in said.out + said.err
    (other / "list.md").write_text("# Other\n\n## 1. S\n- [ ] Look at the other cables.\n")
    main(["status", "--workspace", "other", "--checklist", "list.md", "--json"])
    assert "other cables" in capsys.readouterr().out
