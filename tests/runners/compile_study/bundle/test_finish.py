"""The result that is made from the files of a study."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from llmval_runners.compile_study.bundle import finish
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.bundle.report import report
from llmval_runners.compile_study.run.rank import difference
from llmval_runners.process.files import write_json

from llmval_tui.actions.judges import compile_study as compile_repro
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run
from tests.helpers.runners.study_process import valid
from tests.helpers.study_results import study


def folder(tmp_path: Path, phase: str = "done", stalls: tuple[dict[str, Any], ...] = ()) -> Layout:
    """A study of two ranks that both reached `phase`."""
    layout, like = Layout(tmp_path / "study"), study()
    layout.make()
    options = {key: like["compile"][key] for key in ("compile_mode", "backend", "skip_compile", "skip_eager")}
    run = {
        "ranks": 2, "started_utc": like["started_utc"], "started_mono_s": 0.0, "boot_id": finish.boot_id(),
        "workload": like["workload"], "options": options, "keep_cache": False, "versions": like["versions"],
    }  # fmt: skip
    write_json(layout.run, run)
    for rank in range(2):
        write_json(layout.beat(rank), {"phase": phase})
    write_json(layout.stalls, {"v": 1, "stalls": list(stalls)})
    return layout


def stall(number: int, kind: str, rank: int, *, recovered: bool) -> dict[str, Any]:
    return {
        "stall": number, "why": "stalled", "since_mono_s": 100.0 * number, "started_after_s": 100.0 * number,
        "verdict_after_s": 60.0, "recovered": recovered, "recovered_after_s": 230.0 if recovered else None,
        "stack_sources": {}, "kind": kind, "ranks": [rank], "operation": None, "reasons": ["one for both"],
        "findings": [], "evidence": [],
    }  # fmt: skip


def evidence(layout: Layout, number: int, function: str) -> None:
    frame = {"function": function, "file": "f.py", "line": 1}
    found = {"ranks": [{"rank": 0, "stack": {"source": "faulthandler", "main": [frame]}}]}
    write_json(layout.evidence(number), found)


def test_the_verdict_is_of_the_stall_that_did_not_recover(tmp_path: Path) -> None:
    slow = stall(1, "inductor_codegen", 0, recovered=True)
    layout = folder(tmp_path, "compile", (slow, stall(2, "collective_desync", 1, recovered=False)))
    write_json(layout.ending, {"why": "stalled", "t_ns": 1, "stall": 2})
    evidence(layout, 1, "codegen")
    evidence(layout, 2, "all_reduce")
    result = finish.write_result(layout)
    assert valid(layout) == result
    assert (result["outcome"], result["summary"]) == ("hang", "hang: collective_desync, rank 1")
    assert not result["verdict"]["recovered"] and [item["stall"] for item in result["stalls"]] == [1, 2]
    text = report(layout, result)
    assert "all_reduce (f.py:1)" in text and "codegen (f.py:1)" not in text, "the stacks are those of that stall"


def figures(layout: Layout, rank: int, difference: dict[str, Any] | None) -> None:
    """As a rank writes them."""
    steps = {"first_call_s": 2.0, "step_s": [0.1], "peak_memory": {"bytes": None, "source": "allocator"}}
    counts: dict[str, Any] = dict.fromkeys(
        ("graphs", "graph_breaks", "recompilations", "cache_hits", "cache_misses"), 0
    )
    counts |= {"graph_break_reasons": [], "recompilation_reasons": []}
    compiled = steps | {
        "step_s": [0.05], "compile_s": 1.9, "import_s": 1.0, "compiled": "whole model", "fallback": None,
        "at_first_call": counts, "at_end": counts, "difference": difference,
    }  # fmt: skip
    write_json(layout.figures(rank), {"rank": rank, "phases": {"eager": steps, "compiled": compiled}})


def judged(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Gate]:
    """The gates of a result, without those that read the run and the bundle."""
    monkeypatch.setattr(compile_repro, "read_study", lambda run, artifact: result)
    for name in ("_exit_agrees", "_bundle", "_as_asked"):
        monkeypatch.setattr(compile_repro, name, lambda *_, name=name: Gate(name, Outcome.PASS, "", ""))
    gates, _, _ = compile_repro.judge_compile_study(cast(Run, None), cast(Artifact, None))
    return {gate.name: gate for gate in gates}


@pytest.mark.parametrize("which", ["finite", "eager_finite"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_a_finding_and_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, value: float
) -> None:
    fine = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    broken = fine.clone()
    broken[1, 0] = value
    layout = folder(tmp_path)
    figures(layout, 0, difference(fine, fine + 0.5))
    figures(layout, 1, difference(fine, broken) if which == "finite" else difference(broken, fine))
    result = finish.write_result(layout)
    assert valid(layout) == result
    found = result["compiled"]["difference_to_eager"]
    nothing = dict.fromkeys(("max_abs", "max_relative", "same_best_token"))
    assert found == nothing | {"finite": True, "eager_finite": True} | {which: False}
    assert result["compiled"]["compile_s"] == 1.9 and result["speed_up"] == 2.0, "what was measured is kept"
    assert result["worth_it"] is False and "logits are NaN or infinite" in result["summary"]
    gate = judged(result, monkeypatch)["logits finite"]
    assert (
        gate.outcome is Outcome.FAIL
        and ("the compiled model computes" if which == "finite" else "logits of the eager model") in gate.reason
    )


def test_the_difference_is_that_of_the_worst_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    layout = folder(tmp_path)
    figures(layout, 0, difference(fine, fine + 0.5))
    figures(layout, 1, difference(fine, torch.tensor([[1.0, 2.0], [2.0, 3.0]])))
    result = finish.write_result(layout)
    assert valid(layout)["compiled"]["difference_to_eager"] == {
        "max_abs": 2.0, "max_relative": 0.5, "same_best_token": 0.5, "finite": True, "eager_finite": True,
    }  # fmt: skip
    assert result["worth_it"] is True and "NaN" not in result["summary"]
    recorded_before = {"max_abs": 2.0, "max_relative": 0.5, "same_best_token": 0.5}
    older = study(compiled={**study()["compiled"], "difference_to_eager": recorded_before})
    for whole in (result, study(compiled=None), study(), older):
        assert judged(whole, monkeypatch)["logits finite"].outcome is Outcome.PASS


def test_a_difference_beyond_half_precision_is_a_number() -> None:
    most = torch.tensor([[60000.0, 0.0]], dtype=torch.float16)
    assert (difference(most, -most) or {})["max_abs"] == 120000.0
    assert difference(None, most) is None
