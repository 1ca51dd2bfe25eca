"""Studies side by side, and whether `smart` reaches its goals."""

import json
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.compile_study.bundle.table import table
from llmval_runners.process.errors import Refused

from tests.helpers.study_results import hang, study, write_bundle


def made(folder: Path, mode: str, compile_s: float, step_s: float, **changes: Any) -> Path:
    result = study(compile={**study()["compile"], "compile_mode": mode})
    result["compiled"] = {**result["compiled"], "compile_s": compile_s, "median_step_s": step_s}
    write_bundle(folder / mode, result | changes)
    return folder / mode


@pytest.mark.parametrize(
    ("compile_s", "step_s", "expected"),
    [(10.0, 0.0515, "**reached**"), (12.1, 0.05, "**not reached**"), (10.0, 0.0516, "**not reached**")],
)
def test_smart_is_held_to_five_times_and_three_percent(
    compile_s: float, step_s: float, expected: str, tmp_path: Path
) -> None:
    text = table([made(tmp_path, "default", 60.0, 0.05), made(tmp_path, "smart", compile_s, step_s)])
    assert expected in text and f"| {compile_s:.1f} |" in text
    assert "| default | whole model | cold | 60.0 | 50.0 | 60.0 | 1.20× | 2.0 | 2.0 | 1 | 0 | 0 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1


def test_a_warm_cache_or_a_fallback_does_not_reach_the_goal(tmp_path: Path) -> None:
    default = made(tmp_path, "default", 60.0, 0.05)
    smart = made(tmp_path, "smart", 5.0, 0.05)
    assert "**reached**" in table([default, smart])
    for key, name, value in (("compile", "cache", "kept, may be warm"), ("compiled", "fallback", "it failed")):
        result = json.loads((smart / "result.json").read_text())
        before = result[key][name]
        (smart / "result.json").write_text(json.dumps({**result, key: {**result[key], name: value}}))
        assert "**not reached**" in table([default, smart])
        (smart / "result.json").write_text(json.dumps({**result, key: {**result[key], name: before}}))


def test_incomparable_studies_are_refused(tmp_path: Path) -> None:
    default = made(tmp_path, "default", 60.0, 0.05)
    other = made(tmp_path, "smart", 5.0, 0.05, workload={**study()["workload"], "steps": 9})
    with pytest.raises(Refused, match="like with like"):
        table([default, other])
    write_bundle(tmp_path / "hung", hang())
    with pytest.raises(Refused, match="no figures"):
        table([tmp_path / "hung"])
    with pytest.raises(Refused, match="no result"):
        table([tmp_path / "nothing"])
