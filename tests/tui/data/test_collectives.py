"""Which file of a run the matrix comes from: the partial record, the complete one, then the judged copy."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmval_tui.runs.records import Artifact
from llmval_tui.tui.data.collectives import CollectiveFollower, collective_follower
from tests.helpers.collective_records import record_of

STARTED = "2026-11-29T08:00:00Z"
STARTED_S = 1795939200.0


@pytest.fixture
def follower(tmp_path: Path) -> CollectiveFollower:
    run: Any = SimpleNamespace(
        workspace=tmp_path,
        folder=tmp_path / "run",
        intent=SimpleNamespace(artifacts=[Artifact("a.txt"), Artifact("x.json", "collective_bandwidth")]),
    )
    found = collective_follower(run)
    assert found is not None
    return found


def write(path: Path, ranks: int, at: float = STARTED_S + 60) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record_of(ranks)))
    os.utime(path, (at, at))


def test_a_running_run_shows_its_partial_record(follower: CollectiveFollower, tmp_path: Path) -> None:
    assert follower.snapshot(STARTED, None) is None
    write(tmp_path / "x.json", 8, STARTED_S - 60)
    assert follower.snapshot(STARTED, None) is None, "the record of an earlier run"
    write(tmp_path / "x.partial.json", 4)
    shown = follower.snapshot(STARTED, None)
    assert shown is not None and shown.ranks == (0, 1, 2, 3)
    assert follower.snapshot(STARTED, None) is shown, "an unchanged file is not read again"
    (tmp_path / "x.partial.json").unlink()
    write(tmp_path / "x.json", 2)
    complete = follower.snapshot(STARTED, None)
    assert complete is not None and complete.ranks == (0, 1)


def test_a_judged_run_shows_its_own_copy(follower: CollectiveFollower, tmp_path: Path) -> None:
    write(tmp_path / "x.json", 8)
    write(tmp_path / "run" / "evidence" / "abc.json", 2)
    one: Any = SimpleNamespace(sha256="abc", at=lambda workspace: workspace / "x.json")
    shown = follower.snapshot(STARTED, SimpleNamespace(evidence=[one]))  # type: ignore[arg-type]
    assert shown is not None and shown.ranks == (0, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pairs": {"cells": [1]}}', "null"])
def test_a_file_that_is_not_a_record_shows_nothing(follower: CollectiveFollower, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    os.utime(tmp_path / "x.json", (STARTED_S + 1, STARTED_S + 1))
    assert follower.snapshot(STARTED, None) is None
