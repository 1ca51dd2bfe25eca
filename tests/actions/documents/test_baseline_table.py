"""Baseline tables: reading returns the written values, and each metric has a direction."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmval_tui.actions.documents.baseline_table import (
    BEGIN,
    END,
    Baseline,
    Metric,
    decimal,
    read_baselines,
    with_baseline,
)
from llmval_tui.actions.steps.baseline_change import changes
from llmval_tui.actions.steps.baseline_drift import threshold_percent
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.records import Outcome


def test_the_bundled_document_is_understood():
    text = (bundled("docs") / "performance_baseline.md").read_text(encoding="utf-8")
    read_baselines(text, "performance_baseline.md")
    new = Baseline("n", {"model": "m"}, (Metric("tpot_p50_ms", "lower", 1.0, "ms"),))
    changed = with_baseline(text, new, "b")
    assert new in read_baselines(changed, "b")
    assert changed.startswith(text.partition(f"\n{BEGIN}\n")[0])
    assert changed.endswith(text.rpartition(f"\n{END}\n")[2])


@given(
    st.lists(
        st.tuples(st.text("abc-.", min_size=1), st.floats(1e-6, 1e9)), min_size=1, max_size=4, unique_by=lambda x: x[0]
    )
)
def test_written_baselines_are_read_back(values):
    text = "# T\n"
    for model, value in values:
        text = with_baseline(text, Baseline(model, {"model": model}, (Metric("m", "higher", value, "x"),)), "t")
    again = read_baselines(text, "t")
    assert [baseline.identity["model"] for baseline in again] == [model for model, _ in values]
    for baseline, (_, value) in zip(again, values, strict=True):
        assert abs(baseline.metrics[0].value - value) <= 1e-3 * value
    # Writing the same configuration again replaces it.
    once_more = with_baseline(text, again[0], "t")
    assert len(read_baselines(once_more, "t")) == len(values)


def test_figures():
    assert [decimal(value) for value in (0, 12345.6, 0.012341, 101.04)] == ["0", "12346", "0.01234", "101.0"]
    assert threshold_percent("if they drift >5%") == 5
    assert threshold_percent("by more than 2.5 %") == 2.5
    assert threshold_percent("if they drift") == 5


def test_each_metric_has_its_own_direction():
    then = Baseline("n", {}, (Metric("tpot_p50_ms", "lower", 10, "ms"), Metric("completed_qps", "higher", 10, "r/s")))
    now = replace(then, metrics=tuple(replace(metric, value=11) for metric in then.metrics))
    assert [(change.name, change.worse_percent) for change in changes(now, then)] == [
        ("tpot_p50_ms", pytest.approx(10)),
        ("completed_qps", pytest.approx(-10)),
    ]
    assert [change.gate(5).outcome for change in changes(now, then)] == [Outcome.FAIL, Outcome.INCONCLUSIVE]
    assert [change.gate(10.5).outcome for change in changes(now, then)] == [Outcome.PASS, Outcome.PASS]
