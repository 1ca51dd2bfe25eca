"""A study that does not hang, and studies whose processes are killed."""

import os
import signal
from pathlib import Path

import pytest
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.process.files import read_json

from tests.helpers.runners.study_process import LIMIT_S, in_phase, start, valid, wait_for

pytestmark = pytest.mark.slow


def test_a_run_that_does_not_hang_has_figures_and_no_secrets(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    study = start(layout.root, "--backend", "aot_eager", "--include-model-code", HF_TOKEN="a-token-that-must-not-leave")
    assert study.wait(LIMIT_S) == 0
    result = valid(layout)
    assert (
        result["outcome"] == "did_not_reproduce"
        and result["speed_up"] > 0
        and result["verdict"] is None
        and not result["stalls"]
    )
    assert result["compiled"]["graphs"] >= 1 and result["compiled"]["difference_to_eager"]["same_best_token"] == 1.0
    assert result["compiled"]["compiled"] == "whole model" and result["rank_exit_codes"] == {"0": 0, "1": 0}
    files = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    assert not [path for path, data in files.items() if b"a-token-that-must-not-leave" in data]
    assert any(layout.trace(0).iterdir()), "TORCH_TRACE was written, a folder a rank"


def test_if_the_runner_is_killed_the_watchdog_ends_the_run_and_packs(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    study = start(
        layout.root, "--inject-hang", "blocked_read", "--stall-after", "15", "--timeout", "900", "--after-stall", "end"
    )
    pid = wait_for(in_phase(layout, 1, "load"))
    study.send_signal(signal.SIGKILL)
    study.wait(LIMIT_S)
    assert read_json(layout.run) is not None
    wait_for(layout.archive.exists)
    result = valid(layout)
    assert result["outcome"] == "hang" and result["verdict"]["kind"] == "io" and result["verdict"]["ranks"] == [1]
    assert not Path(f"/proc/{pid}").exists()


def test_a_killed_watchdog_is_replaced_and_a_killed_rank_is_a_failure_with_its_signal(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    study = start(layout.root, "--inject-hang", "blocked_read", "--stall-after", "600", "--timeout", "900")
    rank = wait_for(in_phase(layout, 1, "load"))
    first = int((layout.watch / "watchdog.pid").read_text())
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: (layout.watch / "watchdog.pid").read_text() != str(first))
    os.kill(rank, signal.SIGKILL)
    assert study.wait(LIMIT_S) == 1
    result = valid(layout)
    assert result["outcome"] == "failed" and result["rank_exit_codes"]["1"] == -9 and "SIGKILL" in result["summary"]
    assert any("restarted" in note for note in result["notes"]) and layout.archive.exists()


def test_an_interrupted_run_keeps_its_files(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "study")
    study = start(layout.root, "--inject-hang", "blocked_read", "--stall-after", "600", "--timeout", "900")
    wait_for(in_phase(layout, 1, "load"))
    study.send_signal(signal.SIGINT)
    assert study.wait(LIMIT_S) == 130
    assert valid(layout)["outcome"] == "interrupted" and layout.archive.exists()
