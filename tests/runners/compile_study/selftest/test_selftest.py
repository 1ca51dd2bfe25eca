"""The self-test's bookkeeping with invented runs: which runs are right, and continuing after a kill."""

import json
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.options import parse
from llmval_runners.compile_study.selftest import selftest, trials
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import write_json


class Fake:
    """Stands for the runner: writes a result as the watchdog would, and records its calls."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.answers: dict[str, dict[str, Any]] = {}

    def __call__(self, flags: list[str], folder: Path) -> float:
        self.made.append(folder.name)
        verdict: dict[str, Any] | None = None
        if "--inject-hang" in flags:
            kind, rank = (flags[flags.index(flag) + 1] for flag in ("--inject-hang", "--inject-rank"))
            verdict = {
                "kind": trials.EXPECTED[kind],
                "ranks": [int(rank)],
                "verdict_after_s": 14.0,
                "stack_sources": {"0": "py-spy"},
            } | self.answers.get(folder.name, {})
        result = {"outcome": "hang" if verdict else "did_not_reproduce", "verdict": verdict, "stalls": [verdict] * bool(verdict)}  # fmt: skip  # noqa: E501
        write_json(Layout(folder).result, result | self.answers.get(f"{folder.name} result", {}))
        return 20.0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    runs = Fake()
    monkeypatch.setattr(trials, "run", runs)
    monkeypatch.setattr(selftest, "cxx_compiler", lambda: "/usr/bin/g++")
    return runs


def start(folder: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    code = selftest.self_test(parse(["--self-test", "--output-dir", str(folder), "--clean-runs", "4", *flags]))
    return code, json.loads((folder / selftest.RECORD).read_text())


def test_all_right_is_zero_and_the_record_has_every_run(fake: Fake, tmp_path: Path) -> None:
    code, record = start(tmp_path / "out", "--jobs", "3")
    assert code == 0 and record["complete"] and record["hangs_right"] == 6 and record["false_alarms"] == 0
    assert {row["expected_rank"] for row in record["rows"] if row["injected"]} == {0, 1}
    assert len(fake.made) == 6 + 4 + 2, "and the two that fill the caches"
    assert record["about"]["cores"] and record["about"]["torch"]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("codegen_loop", {"kind": "autotune"}),
        ("codegen_loop", {"ranks": [1]}),
        ("codegen_loop", {"ranks": [0, 1]}),
        ("codegen_loop", {"verdict_after_s": 22.1}),
        ("clean02 result", {"stalls": [{}]}),
        ("clean02 result", {"outcome": "failed"}),
    ],
)
def test_a_wrong_kind_a_wrong_rank_a_late_verdict_or_an_alarm_is_wrong(
    name: str, answer: dict[str, Any], fake: Fake, tmp_path: Path
) -> None:
    assert [trial.rank for trial in trials.planned(0) if trial.name == "codegen_loop"] == [0]
    fake.answers[name] = answer
    code, record = start(tmp_path / "out")
    assert code == 1 and record["wrong"] == 1
    assert record["false_alarms"] == int("stalls" in answer)


def test_started_again_it_runs_only_the_missing_trials_and_a_wrong_one_stays_wrong(fake: Fake, tmp_path: Path) -> None:
    fake.answers["blocked_read"] = {"kind": "unknown"}
    _, record = start(tmp_path / "out")
    record["rows"] = [row for row in record["rows"] if row["name"] not in ("dynamo_sleep", "clean01")]
    write_json(tmp_path / "out" / selftest.RECORD, record)
    fake.made.clear()
    fake.answers.clear()
    code, record = start(tmp_path / "out")
    assert sorted(fake.made) == ["clean01", "dynamo_sleep", "warm-default", "warm-smart"]
    assert code == 1 and record["complete"] and record["wrong"] == 1


def test_rows_of_other_conditions_or_another_folder_are_not_mixed(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tmp_path / "out")
    monkeypatch.setattr(trials, "STALL_AFTER_S", 30.0)
    with pytest.raises(Refused, match="other conditions"):
        start(tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    with pytest.raises(Refused, match="no earlier self-test"):
        start(tmp_path / "mine")


def test_without_a_compiler_or_if_a_clean_run_fails_it_is_refused(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["warm-smart result"] = {"outcome": "failed"}
    with pytest.raises(Refused, match=r"warm-smart\.log says why"):
        start(tmp_path / "out")
    monkeypatch.setattr(selftest, "cxx_compiler", lambda: None)
    with pytest.raises(Refused, match="no C\\+\\+ compiler"):
        start(tmp_path / "other")
