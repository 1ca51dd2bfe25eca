"""What the result says of a study whose files lie there, whoever wrote them."""

from pathlib import Path
from typing import Any

from llmval_runners.compile_study import finish
from llmval_runners.compile_study.layout import Layout, write_json
from llmval_runners.compile_study.report import report

from tests.actions.studies import study
from tests.runners.compile.studies import valid


def folder(tmp_path: Path, phase: str = "done", stalls: tuple[dict[str, Any], ...] = ()) -> Layout:
    """A study of two ranks that both came to `phase`."""
    layout, like = Layout(tmp_path / "study"), study()
    layout.make()
    asked = {key: like["compile"][key] for key in ("compile_mode", "backend", "skip_compile", "skip_eager")}
    run = {
        "ranks": 2, "started_utc": like["started_utc"], "started_mono_s": 0.0, "boot_id": finish.boot_id(),
        "workload": like["workload"], "options": asked, "keep_cache": False, "versions": like["versions"],
    }  # fmt: skip
    write_json(layout.run, run)
    for rank in range(2):
        write_json(layout.beat(rank), {"phase": phase})
    write_json(layout.watch / "stalls.json", {"v": 1, "stalls": list(stalls)})
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
    write_json(layout.root / f"evidence.stall{number}.json", found)


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
    told = report(layout, result)
    assert "all_reduce (f.py:1)" in told and "codegen (f.py:1)" not in told, "the stacks are those of that stall"
