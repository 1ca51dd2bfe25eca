"""The first screen of the report: verdict, what did not pass or was not as written, figures with bounds and trend."""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llmval_tui.checklist.model import load
from llmval_tui.console.runs import history, plot, runs
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled
from llmval_tui.report.build import render
from llmval_tui.report.charts.chart import polyline
from llmval_tui.report.downsample import DownsampledSeries
from llmval_tui.report.facts import gather, runs_for
from llmval_tui.report.history import series_of, trend_of
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import GpuSample, HostSample, Sample
from tests.helpers.workspace import write_verdict
from tests.report.conftest import WALL_NS, ZERO_NS, Workspace, result_json

# The options of `llmval runs` with their defaults.
ALL_RUNS: dict[str, Any] = {
    "sources": [], "item": None, "outcome": None, "host": None, "since": None, "last": None, "ascii": False,
}  # fmt: skip


def judged(workspace: Workspace, p99_ms: float | None, outcome: Outcome = Outcome.PASS, **intent: Any) -> Run:
    """A run with an SLO of 500 ms and this p99."""
    run = workspace.run(result_json(3), outcome=None, **intent)
    record = json.loads((run.folder / "run.json").read_text())
    record["commands"][0]["argv"] += ["--slo-ttft-ms", "500"]
    (run.folder / "run.json").write_text(json.dumps(record))
    write_verdict(
        run,
        outcome,
        [Gate("SLO ttft", outcome, f"{p99_ms} ms", "≤ 500 ms", "too slow" if outcome is Outcome.FAIL else "")],
        summary="as it went",
        metrics={"completed_qps": 8.0, "ttft_sched_p99_ms": p99_ms},
    )
    return Run(run.folder)


def run_of_another_list(workspace: Workspace) -> Run:
    run = workspace.run()
    record = json.loads((run.folder / "run.json").read_text())
    record["step"]["checklist"] = "mine.md"
    (run.folder / "run.json").write_text(json.dumps(record))
    return Run(run.folder)


def page(workspace: Workspace, form: str = "html") -> str:
    checklist = load(workspace.folder / "docs" / "llm_validation_checklist.md")
    return render(gather(workspace.store, runs_for(workspace.store, (), checklist), checklist), form)


def first_screen(workspace: Workspace) -> str:
    """The text before the contents, without tags."""
    html = page(workspace).partition("<main>")[2].partition("<nav")[0]
    return re.sub(r"<[^>]+>", " ", html)


def test_the_verdict_the_bound_and_the_trend_come_first(workspace: Workspace) -> None:
    for value in (200.0, 210.0, 190.0):
        judged(workspace, value)
    judged(workspace, 900.0, Outcome.INVALID)  # was not measured well: no part of the trend
    judged(workspace, 250.0)
    text = first_screen(workspace)
    assert "pass so far, 1 item is open" in text and "Never run: 1.2." in text and "Validation of node1" in text
    assert re.search(r"TTFT p99\s+250 ms\s+≤ 500 ms \(SLO\): holds\s+25\.0 % worse than the median of 3 earlier", text)
    assert "Every run was as its item is written, and all evidence is intact." in text
    html = page(workspace)
    assert html.count('<svg class="spark"') == 2
    assert "Trend over runs" in html and 'class="limit"' in html


def test_what_failed_and_was_not_as_written_is_named(workspace: Workspace) -> None:
    judged(workspace, 612.0, Outcome.FAIL, deviations=["4 GPUs instead of 8"], preset="smoke")
    text = first_screen(workspace)
    assert "Verdict:" in text and "fail" in text.partition("1 run")[0]
    assert re.search(r"SLO ttft\s+612\.0 ms\s+≤ 500 ms \(too slow\)", text)
    assert "preset smoke" in text and "4 GPUs instead of 8" in text
    assert "does not hold" in text and "no earlier run" in text
    (workspace.folder / "artifacts" / "r1.json").write_text("{}")
    assert "Evidence is not intact: artifacts/r1.json was changed" in first_screen(workspace)


def test_runs_of_another_list_are_told_from_those_of_the_report(workspace: Workspace) -> None:
    workspace.run()
    other = run_of_another_list(workspace)
    text = page(workspace, "md")
    assert "1 run is of another list, mine.md; its items are not counted: --checklist mine.md counts them." in text
    assert f"| 1.1 of mine.md · {other.id} |" in text and "| 1.1 of docs/llm" in text
    cases = ElementTree.fromstring(page(workspace, "junit")).iter("testcase")
    assert [case.get("classname") for case in cases] == ["1. Load", "1. Load", "mine.md: 1. Load"]


def test_a_step_without_a_run_names_the_list_that_has_one(workspace: Workspace) -> None:
    run_of_another_list(workspace)
    checklist = load(workspace.folder / "docs" / "llm_validation_checklist.md")
    with pytest.raises(
        Refused, match=r"start one with llmval run 1\.1, or name another list with --checklist mine\.md\."
    ):
        runs_for(workspace.store, ["1.1"], checklist)


def test_passes_are_folded_and_failures_are_not(workspace: Workspace) -> None:
    judged(workspace, 100.0)
    html = page(workspace)
    assert html.index("<details>") < html.index("Gates; the worst outcome decides") < html.index("</details>")
    assert "details::details-content{content-visibility:visible" in html  # on paper
    judged(workspace, 900.0, Outcome.FAIL)
    assert "<details>" not in page(workspace)
    assert "Gates; the worst outcome decides" in page(workspace, "md")


@pytest.mark.parametrize(
    ("value", "earlier", "better", "sentence"),
    [
        (100.0, [], "lower", "no earlier run"),
        (100.0, [99.0], "lower", "within 5 % of 1 earlier run"),
        (80.0, [100.0, 100.0], "lower", "20.0 % better than the median of 2 earlier runs"),
        (80.0, [100.0], "higher", "20.0 % worse than 1 earlier run"),
        (120.0, [100.0], "", "20.0 % higher than 1 earlier run"),
        (None, [100.0], "lower", "1 earlier run, no comparison"),
        (1.0, [0.0], "lower", "1 earlier run, no comparison"),
    ],
)
def test_the_words_of_a_trend(value: float | None, earlier: list[float], better: str, sentence: str) -> None:
    assert trend_of(value, earlier, better).sentence == sentence


def test_runs_are_listed_filtered_and_valid_by_their_schema(
    workspace: Workspace, options: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    judged(workspace, 100.0)
    judged(workspace, None, Outcome.FAIL, preset="smoke", host={"name": "node2"})
    assert runs(options(**ALL_RUNS)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["when", "item", "outcome", "took", "host", "figures", "run"]
    assert "fail (smoke)" in lines[1] and "TTFT p99 n/a ms" in lines[1] and "1 min 00 s" in lines[2]
    assert lines[-1] == "2 runs."
    for change in ({"outcome": "pass"}, {"host": "node1"}, {"item": "1.1", "last": 1}, {"since": "2026-01-03"}):
        runs(options(**ALL_RUNS | change))
        said = capsys.readouterr().out.splitlines()[-1]
        assert said == ("0 of 2 runs." if "since" in change else "1 of 2 runs.")
    with pytest.raises(Refused, match="--since yesterday is not a date"):
        runs(options(**ALL_RUNS | {"since": "yesterday"}))
    runs(options(**ALL_RUNS, json=True))
    found = json.loads(capsys.readouterr().out)
    schema("runs")(found)
    assert [run["outcome"] for run in found["runs"]] == ["fail", "pass"]
    assert found["runs"][0]["figures"][1]["value"] is None


def test_a_narrow_terminal_shows_figures_and_the_end_of_the_id(
    workspace: Workspace,
    options: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = judged(workspace, 123.0)
    for columns in (160, 80, 60):
        monkeypatch.setattr("llmval_tui.console.runs._columns", lambda width=columns: width)
        runs(options(**ALL_RUNS))
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= columns
        assert "comple" in lines[1] and lines[1].endswith(run.id if columns == 160 else "  abc001")
    assert workspace.store.get("abc001").id == run.id


def schema(name: str) -> Any:
    return fastjsonschema.compile(json.loads((bundled("docs/schemas") / f"{name}.schema.json").read_text()))


def test_the_history_of_a_metric(
    workspace: Workspace, options: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for value, outcome, host in [
        (200.0, Outcome.PASS, "node1"),
        (None, Outcome.FAIL, "node1"),
        (400.0, Outcome.INVALID, "node1"),
        (600.0, Outcome.FAIL, "node2"),
    ]:
        judged(workspace, value, outcome, host={"name": host})
    given: dict[str, Any] = {"sources": [], "item": None, "ascii": True, "metric": "ttft"}
    assert history(options(**given)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ttft_sched_p99_ms, ms, lower is better: 99th percentile")
    assert lines[2].startswith("node1, item 1.1") and lines[8].startswith("node2, item 1.1")
    bars = [line.count("#") for line in lines]
    assert bars[5] == pytest.approx(2 * bars[3], abs=1) and bars[9] == pytest.approx(3 * bars[3], abs=2)
    assert bars[4] == 0 and "n/a" in lines[4]
    assert lines[3].endswith("within <= 500") and lines[9].endswith("not <= 500")
    assert lines[6] == "  median 200 of 1 run; 2 not counted (no value, or not pass or fail)"
    history(options(**given, json=True))
    schema("history")(json.loads(capsys.readouterr().out))
    history(options(**given | {"metric": None}))
    assert capsys.readouterr().out.split() == ["runs", "metric", "4", "completed_qps", "4", "ttft_sched_p99_ms"]
    with pytest.raises(Refused, match="no run has a metric 'speed': name one of completed_qps, ttft_sched_p99_ms"):
        history(options(**given | {"metric": "speed"}))
    with pytest.raises(Refused, match="'p' fits 2 metrics"):
        history(options(**given | {"metric": "p"}))


def test_the_plot_of_a_terminal_fits_into_its_width(workspace: Workspace) -> None:
    for value in (1.0, 2.0, 3.5):
        judged(workspace, value)
    series = series_of([(run, "here") for run in workspace.store.runs()], "completed_qps")
    for columns in (80, 120):
        lines = plot("completed_qps", series, columns, ascii_only=False)[1:]
        assert max(map(len, lines)) <= columns
        assert any("█" in line for line in lines)


def test_junit_has_a_case_for_each_item(workspace: Workspace) -> None:
    judged(workspace, 612.0, Outcome.FAIL, deviations=["4 GPUs"])
    root = ElementTree.fromstring(page(workspace, "junit"))
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "2", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip
    failed, skipped = root.iter("testcase")
    failure = failed.find("failure")
    assert failure is not None and failure.text == "SLO ttft: fail. Measured 612.0 ms; required ≤ 500 ms. too slow"
    assert failed.get("time") == "60.000" and failed.find("properties/property[@name='deviation']") is not None
    assert skipped.find("skipped") is not None
    judged(workspace, 1.0, Outcome.INCONCLUSIVE)
    assert ElementTree.fromstring(page(workspace, "junit")).get("errors") == "1"


def test_junit_keeps_the_order_of_the_list(workspace: Workspace) -> None:
    run = judged(workspace, 1.0)
    run_of_another_list(workspace)
    checklist = workspace.folder / "docs" / "llm_validation_checklist.md"
    item = next(line for line in checklist.read_text().splitlines() if line.startswith("- [ ]"))
    checklist.write_text(checklist.read_text().replace(item, f"- [ ] Before it\n{item}\n- [ ] After it"))
    cases = list(ElementTree.fromstring(page(workspace, "junit")).iter("testcase"))
    names = [str(case.get("name")) for case in cases]
    ran = next(place for place, name in enumerate(names) if run.intent.step.text in name)
    assert [name.partition(" ")[2] for name in (names[ran - 1], names[ran + 1])] == ["Before it", "After it"]
    assert cases[ran].find("skipped") is None and cases[ran - 1].find("skipped") is not None
    assert str(cases[-1].get("classname")).startswith("mine.md: ")


def test_the_textfile_is_read_by_the_parser_of_prometheus(workspace: Workspace) -> None:
    judged(workspace, None, Outcome.FAIL)
    families = {one.name: one for one in text_string_to_metric_families(page(workspace, "prometheus"))}
    states = {one.labels["outcome"]: one.value for one in families["llmval_run_outcome"].samples}
    assert states == {"pass": 0.0, "fail": 1.0, "inconclusive": 0.0, "invalid": 0.0, "not_judged": 0.0}
    metrics = {one.labels["metric"]: one.value for one in families["llmval_run_metric"].samples}
    assert metrics == {"completed_qps": 8.0}  # an unknown value has no sample
    (length,) = families["llmval_run_duration_seconds"].samples
    assert length.value == 60.0 and length.labels["host"] == "node1" and length.labels["item"] == "1.1"
    series = [(one.name, tuple(sorted(one.labels.items()))) for family in families.values() for one in family.samples]
    assert len(series) == len(set(series))


def test_a_report_of_many_runs_stays_small(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of all plots share a number of buckets; no peak is lost."""
    for _ in range(2):
        run = judged(workspace, 100.0)
        with run.telemetry.open("wb") as file:
            for second in range(400):
                now = 1_000_000_000 * second
                power = 999.0 if second == 123 else 300.0 + second % 7
                gpus = [GpuSample(index=at, power_w=power) for at in range(2)]
                file.write(Sample(t_ns=WALL_NS + now, mono_ns=ZERO_NS + now, host=HostSample(), gpus=gpus).to_line())

    def power_series() -> list[DownsampledSeries]:
        facts = gather(workspace.store, workspace.store.runs(), None)
        return [gpu.tracks["power_w"].series for run in facts.runs for gpu in run.recording.gpus.values()]

    assert [len(one.buckets) for one in power_series()] == [400] * 4
    monkeypatch.setattr("llmval_tui.report.facts.BUCKETS", 200)
    for one in power_series():
        assert len(one.buckets) <= 51 and max(bucket.high for bucket in one.buckets) == 999.0


@given(st.lists(st.tuples(st.floats(0, 960), st.floats(-50, 900)), min_size=1, max_size=20))
def test_a_short_path_goes_through_its_points(points: list[tuple[float, float]]) -> None:
    numbers = [float(word) for word in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", polyline(points))]
    x, y = numbers[:2]
    reached = [(x, y)]
    for dx, dy in zip(numbers[2::2], numbers[3::2], strict=True):
        x, y = x + dx, y + dy
        reached.append((x, y))
    assert len(reached) == len(points)
    for (x, y), (wanted_x, wanted_y) in zip(reached, points, strict=True):
        assert abs(x - wanted_x) < 0.06 and abs(y - wanted_y) < 0.06
