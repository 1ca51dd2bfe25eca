"""The Load pane over a whole run: bounds, the time outside them, drift, and every row used."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.runs.records import State
from llmval_tui.runs.store import Run
from llmval_tui.terminal.buckets import Buckets
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.chart import LABEL, dots_across
from llmval_tui.terminal.glyphs import ASCII, UNICODE, Glyphs, glyphs
from llmval_tui.tui.data.run_follower import RunFollower, RunSnapshot
from llmval_tui.tui.panes.load import drift_rows, load_rows, whole_run_rows
from llmval_tui.tui.widgets.charts import ChartView
from llmval_tui.tui.widgets.run_charts import BANDS, RunCharts, drift_of
from tests.helpers.tui_builder import LOAD_TEST, Workspace, event, load_events, verdict

BRAILLE = glyphs(False, "braille")
BOUNDED = LOAD_TEST + " --slo-ttft-ms 700 --slo-tpot-ms 30"


def followed(root: Path, events: bytes, command: str = BOUNDED) -> RunSnapshot:
    workspace = Workspace(root, f"# L\n\n## 1. Load\n- [ ] Run: `{command}`\n")
    folder = workspace.run("1.1")
    (folder / "events.jsonl").write_bytes(events)
    return RunFollower(Run(folder)).snapshot()


def text(run: RunSnapshot, width: int = 100, height: int = 60, view: ChartView | None = None) -> str:
    return "\n".join(row.plain for row in load_rows(run, width, height, BRAILLE, view))


def test_a_bound_is_named_drawn_and_timed(tmp_path: Path) -> None:
    events = load_events(142).replace(b'"ttft_p99_ms"', b'"ttft_sched_p99_ms"')
    shown = text(followed(tmp_path, events), width=160)
    ttft, tpot = (next(line for line in shown.split("\n") if name in line) for name in ("TTFT ms", "TPOT ms"))
    assert "⠂⠂ SLO 700" in ttft and "over it" in ttft
    assert "SLO 30 off the top" in tpot and "never over it" in tpot


def test_the_charts_of_a_run_on_nodes_are_said_to_be_in_the_panes_of_its_nodes(tmp_path: Path) -> None:
    run = followed(tmp_path, b"")
    far = replace(run, intent=replace(run.intent, launcher="ssh"))
    said = " ".join(row.plain.strip() for row in whole_run_rows(far, 100, BRAILLE))
    assert "the panes of a node of the pane Fleet" in said and "reported no metrics" not in said
    assert "reported no metrics" in " ".join(row.plain.strip() for row in whole_run_rows(run, 100, BRAILLE))


def test_the_latencies_from_arrival_have_names_for_people(tmp_path: Path) -> None:
    names = ("ttft_sched_p50_ms", "ttft_sched_p99_ms", "e2e_sched_p50_ms", "e2e_sched_p99_ms", "schedule_delay_p99_ms")
    judged = replace(verdict(), metrics={name: float(at) for at, name in enumerate(names, 1)})
    said = "\n".join(
        row.plain for row in whole_run_rows(replace(followed(tmp_path, b""), verdict=judged), 100, BRAILLE)
    )
    assert "sched" not in said and "More" not in said
    assert re.search(r"TTFT from arrival +p50 1\S* ms +p99 2\S* ms", said)
    assert re.search(r"Whole answer from arrival +p50 3\S* ms +p99 4\S* ms", said)


def test_falling_rates_at_the_end_are_explained(tmp_path: Path) -> None:
    """The rates are means of the last seconds: after the last arrival they fall, and the server is not slower."""
    events = load_events(40)
    drain = event("phase", {"name": "drain"}, 35)
    during = events.replace(event("progress", {"done": 35, "total": 300, "unit": "s"}, 35), drain)
    rate = next(line for line in text(followed(tmp_path / "a", during), width=120).split("\n") if "Rate" in line)
    assert "in drain no request arrives" in rate
    assert "drain" not in text(followed(tmp_path / "b", events), width=120)


def test_a_phase_after_the_last_value_has_no_mark(tmp_path: Path) -> None:
    report = event("phase", {"name": "report"}, 40)
    assert "report" not in text(followed(tmp_path, load_events(40) + report), width=120).partition("Rate QPS")[2]


@pytest.mark.parametrize("seconds", [25, 64, 142, 700])
@pytest.mark.parametrize("width", [65, 79, 110, 190])
@pytest.mark.parametrize("charts", [BRAILLE, UNICODE, ASCII])
def test_the_charts_of_an_ended_run_fill_their_width(tmp_path: Path, seconds: int, width: int, charts: Glyphs) -> None:
    ended = replace(followed(tmp_path, load_events(seconds)), state=State.FINISHED)
    drawn = RunCharts(ended, ChartView(), charts)
    dots = dots_across(width - LABEL, charts)
    shown = [drawn.rate(width), *(drawn.band(band, width) for band in BANDS), drawn.area("running", "", "", width)]
    for chart in shown:
        assert chart is not None and len(chart.columns) == dots and None not in chart.columns


def test_seconds_outside_a_bound_are_counted(tmp_path: Path) -> None:
    values = [100.0] * 10 + [900.0] * 5 + [100.0] * 10
    events = b"".join(event("metrics", {"ttft_sched_p99_ms": value}, i) for i, value in enumerate(values))
    metric = followed(tmp_path, events).metric("ttft_sched_p99_ms")
    assert metric is not None and (metric.outside_s, metric.known_s) == (5.0, 24.0)


def test_without_a_bound_nothing_is_said_of_one(tmp_path: Path) -> None:
    shown = text(followed(tmp_path, load_events(142), LOAD_TEST))
    assert "SLO" not in shown and "over it" not in shown


@pytest.mark.parametrize(("width", "height"), [(79, 22), (110, 47), (67, 33), (190, 57)])
def test_every_row_is_used_and_no_row_is_too_wide(tmp_path: Path, width: int, height: int) -> None:
    run = followed(tmp_path, load_events(142))
    rows = load_rows(run, width, height, BRAILLE)
    assert len(rows) >= height
    assert all(cell_len(row.plain) <= width for row in rows), max(rows, key=lambda row: cell_len(row.plain)).plain
    assert sum(not row.plain.strip() for row in rows) <= 3


@pytest.mark.parametrize("charts", [UNICODE, ASCII])
def test_other_characters_and_no_metrics_of_a_load(tmp_path: Path, charts: Any) -> None:
    events = b"".join(event("metrics", {"loss": 3.0 - i / 10, "step_ms": 12.0 + i}, i) for i in range(20))
    rows = load_rows(followed(tmp_path, events), 80, 24, charts)
    shown = "\n".join(row.plain for row in rows)
    assert "loss" in shown and "step_ms ms" in shown and "Rate" not in shown


def test_the_range_reaches_to_the_limit_and_the_window_is_named(tmp_path: Path) -> None:
    run, view = followed(tmp_path, load_events(142)), ChartView()
    assert "charts:" not in text(run, view=view)
    view.next_range()
    view.next_range()
    view.next_window()
    shown = text(run, view=view)
    assert "charts: range to the limit, this phase" in shown and "SLO 30 is above" not in shown


def filled(hours: float, value: Any) -> Buckets:
    buckets = Buckets()
    for second in range(0, round(hours * 3600), 10):
        buckets.add(second, value(second / 3600))
    return buckets


def test_drift_compares_the_first_and_the_last_full_hour() -> None:
    drift = drift_of(filled(5.6, lambda hour: 54.0 if hour < 1 else 66.0))
    assert drift is not None and drift.change == pytest.approx(0.22, abs=0.01)
    assert drift.words.format(unit="ms") == "54 ms in the 1st hour, 66 in the 5th"
    short = drift_of(filled(0.2, lambda hour: 10.0))
    assert short is not None and short.change == 0.0 and "quarter" in short.words
    assert drift_of(filled(0.05, lambda hour: 10.0)) is None


def test_a_notable_drift_is_a_warning(tmp_path: Path) -> None:
    rising = b"".join(event("metrics", {"ttft_p99_ms": 100.0 + i}, 5 * i) for i in range(100))
    (row,) = drift_rows(followed(tmp_path, rising))
    assert row.spans[1][1] == "warn" and "TTFT p99" in row.plain


def test_eight_hours_are_all_shown_in_bounded_memory(tmp_path: Path) -> None:
    events = b"".join(event("metrics", {"completed_qps": 27.0, "offered_qps": 28.0}, 20 * i) for i in range(1440))
    run = followed(tmp_path, events, LOAD_TEST)
    metric = run.metric("completed_qps")
    assert metric is not None and len(metric.buckets) <= 1024 and metric.buckets.end_s >= 1439 * 20
    shown = text(run, width=90)
    assert "╵7h" in shown and "to highest" in shown
