"""A run of hours is stopped and taken up again: what passed counts, what failed or is of other code is tried."""

from pathlib import Path

import pytest

from faults import report
from faults.report import Finding, Record, Row


def tried(path: Path, *outcomes: tuple[str, list[str]]) -> Row:
    """A start of `make trust` that tries these cases, if it must."""
    row = Row("kills", "SIGKILL", Record(path))
    for case, wrong in outcomes:
        if not row.tried(case):
            row.add(Finding(case, wrong, "killed"))
    row.close()
    return row


def test_what_passed_is_not_tried_again_and_what_failed_is(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cases.jsonl"
    first = tried(path, ("a", []), ("b", ["late"]))
    assert [finding.case for finding in first.failed] == ["b"]
    with path.open("a") as file:
        file.write('{"code": "cut by a ki')
    again = tried(path, ("a", ["would fail now"]), ("b", []), ("c", []))
    assert str(again) == "| SIGKILL | 3 | 0 | 3 killed; 1 failed and were tried again |"
    assert {*Record(path).findings["kills"]} == {"a", "b", "c"}


def test_results_of_other_code_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cases.jsonl"
    tried(path, ("a", []))
    monkeypatch.setattr(report, "sources", lambda: "other")
    assert tried(path, ("a", ["wrong"])).failed


def test_a_note_is_kept_with_its_cases(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    row = Row("full", "a full disk", Record(path))
    row.add(Finding("1", []))
    row.note = "named after 1 s"
    row.close()
    again = Row("full", "a full disk", Record(path))
    assert again.tried("1")
    again.close()
    assert str(again) == "| a full disk | 1 | 0 | named after 1 s |"
