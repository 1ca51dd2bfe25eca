"""All runners alike, as a person starts them: help, exit codes, verdicts."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.benchmark import last_screen as benchmark
from llmval_runners.compile_study.bundle import last_screen as compile_study
from llmval_runners.load_test import options as load_test
from llmval_runners.long_context import last_screen as long_context
from llmval_runners.long_context import options as long_context_options
from llmval_runners.power import last_screen as sweep
from llmval_runners.power.analysis import last_screen as analyzer
from llmval_runners.process.arguments import SHORT_DTYPES

RUNNERS = Path(__file__).parents[2] / "runners"
NAMES = sorted(path.name for path in RUNNERS.glob("*.py") if path.name != "__init__.py")
FOLDERS = ("precision_power_sweep.py", "torch_compile_repro.py")  # their result is a folder


def run(name: str, *argv: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LLMVAL_")}
    command = [sys.executable, str(RUNNERS / name), *argv]
    return subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples_exit_codes_and_the_same_flags(name: str) -> None:
    ended = run(name, "--help", COLUMNS="80")
    assert ended.returncode == 0
    assert [line for line in ended.stdout.splitlines() if len(line) > 80] == []
    text = " ".join(ended.stdout.split())
    assert "examples: " in text and f" {name} " in f"{text} "
    codes = text[re.search(r"[Ee]xit codes?:", text).start() :]  # type: ignore[union-attr]  # None fails the test too
    for code in ("0 ", "1 ", "2 refused", "130, 143, 129 ended by SIGINT, SIGTERM, SIGHUP"):
        assert code in codes
    if name == "checkpoint_check.py":  # a look at a folder, always as JSON
        return
    assert "--quiet" in text
    assert ("--output-dir" if name in FOLDERS else "--output-json") in text


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_flag_is_refused_in_one_sentence(name: str) -> None:
    ended = run(name, "--no-such-flag")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("refused: ") and ended.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["fit_check.py", "collective_bandwidth.py", "long_context_validation.py"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_torch_loads_is_one_sentence(name: str, number: signal.Signals, tmp_path: Path) -> None:
    slow, loads = tmp_path / "torch", tmp_path / "loads"
    slow.mkdir()
    (slow / "__init__.py").write_text(f"import time\nopen({str(loads)!r}, 'w').close()\ntime.sleep(600)\n")
    flags = ["--model", "tiny"] if name == "long_context_validation.py" else []
    argv = [sys.executable, str(RUNNERS / name), *flags]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LLMVAL_")}
    process = subprocess.Popen(
        argv, env=kept | {"PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not loads.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (128 + number, f"ended by {number.name}: nothing was measured yet\n")


@pytest.mark.parametrize("parse", [load_test.parse, long_context_options.parse])
def test_dtypes_have_the_same_names_everywhere(parse: Any) -> None:
    for short, long in SHORT_DTYPES.items():
        options = parse(["--dtype", short, "--kv-dtype", short])
        engine = getattr(options, "engine", options)
        assert (engine.dtype, engine.kv_dtype) == (long, long)


def test_a_sweep_under_torchrun_is_refused_before_it_measures(tmp_path: Path) -> None:
    grid = ["--model-layers", "1", "--model-d-model", "64", "--model-heads", "2", "--model-d-ff", "128"]
    ended = run(
        "precision_power_sweep.py", *grid, "--device", "cpu", "--output-dir", str(tmp_path / "new"), RANK="0",
        WORLD_SIZE="2",
    )  # fmt: skip
    assert ended.returncode == 2
    assert "start it with plain python, and pass --devices all" in ended.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", FOLDERS)
def test_an_output_folder_that_is_a_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    (file := tmp_path / "f").write_text("kept")
    grid = ["--model-layers", "1", "--model-d-model", "64", "--model-heads", "2", "--model-d-ff", "128"]
    flags = grid if name == "precision_power_sweep.py" else ["--model", "tiny", "--sequence-length", "64"]
    ended = run(name, *flags, "--device", "cpu", "--output-dir", str(file))
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert f"refused: {file} is a file: " in ended.stderr and file.read_text() == "kept"


def test_a_batch_that_no_machine_holds_is_refused_with_the_figures() -> None:
    flags = ["--model", "tiny", "--device", "cpu", "--sequence-lengths", "64", "--batch-size", "100000000"]
    ended = run("long_context_validation.py", *flags)
    assert ended.returncode == 2
    assert re.search(r"need 7782\.0 GiB on each rank .* are free: pass --batch-size \d+\.", ended.stderr)


def cell(status: str) -> dict[str, Any]:
    return {"cell": "c", "status": status, "reasons": [] if status == "valid" else ["why"]}


def study(outcome: str, **compiled: Any) -> dict[str, Any]:
    return {"outcome": outcome, "summary": "s", "compiled": {"difference_to_eager": compiled}}


def summary(cells: list[Any]) -> dict[str, Any]:
    return {"counts": {"valid": len(cells)}, "external": [], "cells": cells, "invalid": [{"reasons": ["why"]}]}


def context(reasons: list[str], *, predict_only: bool = False, fits: bool = True) -> dict[str, Any]:
    lengths = [{"prediction": {"fits": fits}}]
    return {"reasons": reasons, "asked": {"predict_only": predict_only}, "lengths": lengths}


ROW = {"row": "decode", "backend": "sdpa", "precision": "bf16", "batch": 1, "context": 8}
VERDICTS = [
    (benchmark.verdict_of([ROW]), "ok", 0),
    (benchmark.verdict_of([ROW | {"of_roofline": 0.5, "bound": 0.7}]), "failed", 1),
    (benchmark.verdict_of([ROW], "ended by signal 2"), "ended early", 3),
    (long_context.verdict_of(context([])), "ok", 0),
    (long_context.verdict_of(context(["64 tokens: failed"])), "failed", 1),
    (long_context.verdict_of(context(["only predicted"], predict_only=True)), "ok", 0),
    (long_context.verdict_of(context(["only predicted"], predict_only=True, fits=False)), "failed", 1),
    (long_context.verdict_of(context(["ended by signal 15"]), early=True), "ended early", 3),
    (sweep.verdict_of([cell("valid"), cell("refused")], None), "ok", 0),
    (sweep.verdict_of([cell("valid"), cell("invalid")], None), "invalid", 3),
    (sweep.verdict_of([cell("valid"), cell("no_energy")], None), "inconclusive", 3),
    (sweep.verdict_of([cell("valid"), cell("failed")], None), "failed", 1),
    (sweep.verdict_of([cell("valid"), None], None), "failed", 1),
    (sweep.verdict_of([cell("refused")], None), "failed", 1),
    (sweep.verdict_of([cell("valid"), None], "ended by signal 2"), "ended early", 3),
    (analyzer.verdict_of(summary([1])), "ok", 0),
    (analyzer.verdict_of(summary([])), "inconclusive", 3),
    (compile_study.verdict_of(study("did_not_reproduce")), "ok", 0),
    (compile_study.verdict_of(study("did_not_reproduce", finite=False)), "failed", 1),
    (compile_study.verdict_of(study("hang")), "hang", 3),
    (compile_study.verdict_of(study("timeout")), "timeout", 3),
    (compile_study.verdict_of(study("failed")), "failed", 1),
    (compile_study.verdict_of(study("interrupted")), "ended early", 3),
]


@pytest.mark.parametrize(("verdict", "word", "code"), VERDICTS)
def test_a_verdict_has_a_word_a_reason_and_the_same_codes_everywhere(verdict: Any, word: str, code: int) -> None:
    assert (verdict.word, verdict.exit_code) == (word, code)
    assert verdict.reason
