"""The baseline of a running load test: found only for the same command, machine and configuration."""

from collections.abc import Callable
from typing import Any

import pytest

from llmval_tui.actions.accept import accept
from llmval_tui.actions.baseline_bounds import baseline_bounds
from llmval_tui.actions.bounds import BASELINE, Bound
from llmval_tui.actions.documents.baseline_table import BEGIN, END, read_baselines
from llmval_tui.checklist.model import parse
from llmval_tui.runs.store import Run
from tests.helpers.drift_lists import LIST, judged


@pytest.fixture
def bounds(workspace: Any, compare: Callable[..., Run]) -> Callable[..., dict[str, Bound]]:
    """The bounds of a run of the load test, after a first run has become the baseline."""
    workspace.write("docs/b.md", f"{BEGIN}\n{END}\n")
    first = compare()
    judged(workspace, first)
    accept(first)
    (source,) = (run for run in workspace.store.runs() if run.intent.step.number == "1.1")

    def make(run: Run | None = None, text: str = LIST) -> dict[str, Bound]:
        checklist = parse(text.encode(), workspace.folder / "list.md")
        return baseline_bounds(run or source, [run or source, source], checklist, workspace.folder)

    return make


def test_a_run_of_the_same_command_has_the_baseline_before_it_has_a_result(
    workspace: Any, bounds: Callable[..., dict[str, Bound]], load_run: Callable[..., Run]
) -> None:
    (baseline,) = read_baselines((workspace.folder / "docs/b.md").read_text(), "b")
    values = {row.name: row.value for row in baseline.metrics}
    running = load_run(text=LIST)  # its result is not judged
    found = bounds(running)
    assert found["completed_qps"] == Bound(">=", values["completed_qps"] * 0.95, BASELINE)
    assert found["tpot_p50_ms"] == Bound("<=", values["tpot_p50_ms"] * 1.05, BASELINE)
    assert bounds() == found  # of the judged run itself


def test_another_command_machine_or_driver_has_no_baseline(
    bounds: Callable[..., dict[str, Bound]], load_run: Callable[..., Run]
) -> None:
    assert bounds(load_run(text=LIST.replace("--model tiny", "--model tiny --seed 7"))) == {}
    assert bounds(load_run(text=LIST, host={"name": "other", "driver_version": "580.1", "gpus": []})) == {}
    assert bounds(load_run(text=LIST, host={"name": "node1", "driver_version": "590", "gpus": []})) == {}


def test_a_section_that_compares_nothing_has_no_baseline(bounds: Callable[..., dict[str, Bound]]) -> None:
    assert bounds(text="\n".join(LIST.splitlines()[:-1]) + "\n") == {}
    assert bounds(text=LIST.replace("drift >5%", "drift >20%"))["completed_qps"].value < bounds()["completed_qps"].value


def test_a_broken_baseline_table_gives_no_bounds(workspace: Any, bounds: Callable[..., dict[str, Bound]]) -> None:
    workspace.write("docs/b.md", f"{BEGIN}\n### half\n{END}\n")
    assert bounds() == {}


def test_a_run_without_a_load_test_has_none(workspace: Any, bounds: Callable[..., dict[str, Bound]]) -> None:
    (comparison,) = (run for run in workspace.store.runs() if run.intent.step.number == "1.2")
    assert bounds(comparison) == {}
