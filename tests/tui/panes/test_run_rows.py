"""The Run pane: figures with bounds, charts and GPUs in every row, gates by kind, and what goes first."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.bounds import BASELINE, Bound, bounds_of
from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.checklist.model import Step
from llmval_tui.runs.records import Command, Gate, Outcome, State, why_not_passed
from llmval_tui.runs.store import Run
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.glyphs import ASCII, UNICODE, glyphs
from llmval_tui.tui.data.run_follower import RunFollower
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.snapshot import StepDetail
from llmval_tui.tui.data.watcher import SamplesTaken
from llmval_tui.tui.drawing.rows import whole_spans
from llmval_tui.tui.drawing.step_words import in_short, need_of
from llmval_tui.tui.panes.load import how_to_start, rate_rows
from llmval_tui.tui.panes.run import outcome_rows, proposal_section, run_section
from llmval_tui.tui.panes.run_blocks import ended_blocks, is_ramping, load_blocks, running_blocks
from llmval_tui.tui.settings import LaunchSettings
from llmval_tui.tui.widgets.charts import ChartView
from llmval_tui.tui.widgets.figures import bound_text, distance, figure_rows, figures_of, undecided_rows
from llmval_tui.tui.widgets.gate_groups import gate_group_rows, kind_of, short
from llmval_tui.tui.widgets.gpu_charts import summary
from llmval_tui.tui.widgets.stack import stacked
from llmval_tui.tui.widgets.step_blocks import _judged_by, other_command
from tests.helpers.tui_builder import LOAD_TEST, T0, Workspace, event, load_events, sample, verdict
from tests.helpers.tui_pilot import Make, ready, text_of, until

BRAILLE = glyphs(False, "braille")
SLO = Bound("<=", 100.0, "SLO")
LEAST = Bound(">=", 25.4, "item")


@pytest.mark.parametrize(
    ("value", "bound", "words"),
    [
        (45.0, SLO, "55 % below"),
        (140.0, SLO, "40 % over"),
        (612.0, SLO, "6.12 times it"),
        (27.4, LEAST, "8 % above"),
        (24.9, LEAST, "2 % short"),
        (3.0, Bound("<=", 0.0, "item"), "3 over"),
    ],
)
def test_the_distance_from_a_bound_in_words(value: float, bound: Bound, words: str) -> None:
    assert distance(value, bound) == words


def test_a_figure_has_its_bound_whose_it_is_and_the_distance() -> None:
    metrics = {"completed_qps": 24.9, "offered_qps": 28.0, "ttft_sched_p99_ms": 45.0, "tpot_p50_ms": 7.9}
    shown = figures_of(metrics, {"completed_qps": LEAST, "ttft_sched_p99_ms": SLO})
    label, value, bound = (row.plain for row in figure_rows(shown, 100, 3, BRAILLE))
    assert "completed" in label and "TTFT p99 from arrival" in label
    assert "24.9 of 28.0 QPS" in value and "45.0 ms" in value
    assert "✗ ≥ 25.4 item, 2 % short" in bound and "✓ ≤ 100 SLO, 55 % below" in bound and "no bound set" in bound
    assert [row.plain for row in figure_rows(shown, 60, 3, BRAILLE)][2].count("short") == 0  # no room for the distance
    assert bound_text(shown[0], 40, ASCII)[0].startswith("! >= 25.4")


def test_a_live_figure_says_its_window_what_was_asked_and_what_was_missed() -> None:
    metrics = {"completed_qps": 29.6, "offered_qps": 24.0, "ttft_sched_p99_ms": 45.0}
    bounds = {"ttft_sched_p99_ms": SLO}
    kept = figures_of(metrics, bounds, live=True, asked_qps=28.0)
    label, value, bound = (row.plain for row in figure_rows(kept, 100, 3, BRAILLE))
    assert "completed, last 5 s" in label and "TTFT p99 from arrival, last 5 s" in label
    assert "TTFT p99, last 5 s" in figure_rows(kept, 69, 3, BRAILLE)[0].plain  # the window stays longer
    assert "29.6 QPS, asked 28" in value and "✓ ≤ 100 SLO, kept so far" in bound
    missed = figures_of(metrics, bounds, live=True, missed_s={"ttft_sched_p99_ms": 12.0})
    assert bound_text(missed[1], 40, BRAILLE) == ("! ≤ 100 SLO, missed 12 s", "warn")


def test_in_a_narrow_pane_each_figure_has_a_row_and_none_is_cut() -> None:
    metrics = {"completed_qps": 1229.6, "offered_qps": 1240.0, "ttft_sched_p99_ms": 24643.0, "tpot_p50_ms": 7.9}
    shown = figures_of(metrics, {"ttft_sched_p99_ms": SLO}, live=True, asked_qps=1240.0)
    rows = [row.plain for row in figure_rows(shown, 39, 3, BRAILLE)]
    assert rows[0].startswith(" 1,230 QPS, asked 1,240") and rows[1] == " 24,643 ms  TTFT p99  ✗ ≤ 100 SLO"
    assert len(rows) == 3 and all(cell_len(row) <= 39 for row in rows)


def test_what_marks_mean_without_a_gate_is_said() -> None:
    figures = figures_of({"ttft_sched_p99_ms": 612.0}, {"ttft_sched_p99_ms": SLO})
    assert "not a gate of this item" in " ".join(row.plain for row in undecided_rows(figures, [], 60))
    assert undecided_rows(figures, [gate("SLO ttft")], 60) == []
    assert bound_text(figures[0], 40, BRAILLE) == ("✗ ≤ 100 SLO, 6.12 times it", "bad")
    assert bound_text(replace(figures[0], decides=False), 40, BRAILLE) == ("! ≤ 100 SLO, 6.12 times it", "warn")
    low = figures_of({"completed_qps": 20.0}, {}, baseline={"completed_qps": Bound(">=", 25.4, BASELINE)})
    assert "! below the baseline" in undecided_rows(low, [], 60)[0].plain


def test_a_failed_gate_does_not_read_as_if_it_held() -> None:
    failed = gate("kept up", Outcome.FAIL, "TTFT +0.46 s per second of load")
    assert failed.title == "did not keep up" and gate("kept up").title == "kept up"
    assert why_not_passed(Outcome.FAIL, [failed], None).startswith("did not keep up: TTFT +0.46 s")
    assert "did not keep up" in "".join(row.plain for row in gate_group_rows([failed], 100, BRAILLE, unfolded=False))


def test_the_folded_hardware_begins_with_throttling_xid_and_processes() -> None:
    names = ("telemetry.samples", "telemetry.gpu_lost", "telemetry.throttling", "telemetry.xid")
    rows = gate_group_rows([gate(f"{name}", measured="none") for name in names], 60, BRAILLE, unfolded=False)
    line = next(row.plain for row in rows if "hardware" in row.plain)
    assert line.index("throttling") < line.index("samples")


@pytest.mark.parametrize(
    ("name", "measured", "shown"),
    [
        ("schedule delay", "p99 3.5 ms", "schedule delay p99 3.5 ms"),
        ("generator rate", "28.00 of 28.00 requests/s, 100.0%", "generator rate 28.00 of 28.00 requests/s, 100.0%"),
        ("generator rate", "sent 28.00 of 28.00 requests/s, 100.0%", "sent 28.00 of 28.00 requests/s, 100.0%"),
        ("artifact: a.json", "7950358 bytes, valid", "artifact 7,950,358 bytes, valid"),
        ("telemetry.gpu_lost", "4 of 4 GPUs present to the end", "4 of 4 GPUs present to the end"),
        ("telemetry.xid", "none", "XID none"),
        (
            "telemetry.throttling",
            "none; recorded: GPU 1 sw_power_cap in 2 of 90 samples",
            "throttling none, recorded: GPU 1 sw_power_cap in 2 of 90 samples",
        ),
        ("failed requests", "0 of 1680", "failed requests 0 of 1680"),
        ("words: TTFT p99 < 200 ms", "45.2 ms", "TTFT p99 < 200 ms: 45.2 ms"),
        ("telemetry.foreign_processes", "pid 123456 on GPU 1", "foreign processes pid 123456 on GPU 1"),
    ],
)
def test_a_folded_gate_names_its_quantity(name: str, measured: str, shown: str) -> None:
    assert short(gate(name, measured=measured)) == shown


def test_equal_values_of_several_commands_have_the_name_of_each() -> None:
    gates = [gate("exit: eager", measured="exit 0"), gate("exit: compiled", measured="exit 0"), gate("as written")]
    (line,) = (row.plain for row in gate_group_rows(gates, 100, BRAILLE, unfolded=False) if "records" in row.plain)
    assert "eager: exit 0; compiled: exit 0; as written" in line


def test_the_sent_rate_is_called_sent_and_ttft_counts_from_arrival(workspace: Workspace) -> None:
    folder = workspace.run("1.2")
    values = {"offered_qps": 28.0, "achieved_qps": 27.9, "completed_qps": 27.0, "ttft_p50_ms": 20.0}
    lines = [event("metrics", {**values, "ttft_sched_p99_ms": 45.0}, second) for second in range(20)]
    (folder / "events.jsonl").write_bytes(b"".join(lines))
    run = RunFollower(Run(folder)).snapshot()
    text = "\n".join(row.plain for row in stacked(load_blocks(run, 150, BRAILLE, ChartView()), 20))
    assert "sent = offered" in text and "achieved" not in text and "TTFT ms from arrival" in text
    assert "sent   27.9" in rate_rows(run)[0].plain
    ended, judged = replace(run, state=State.FINISHED), verdict()
    judged.metrics.update(values)
    shown = [[row.plain for row in rate_rows(replace(ended, verdict=one))] for one in (None, judged)]
    # A judged run has these rates above its charts, over another window.
    assert shown == [[" mean of the chart  offered   28.0  sent   27.9  completed   27.0"], []]


def test_one_taxonomy_of_gates_that_counts_only_the_passed(workspace: Workspace) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist))
    run = RunFollower(Run(workspace.run("1.2"))).snapshot()
    judged = replace(verdict(Outcome.FAIL), gates=GATES)
    detail = StepDetail(
        Step("1.2", "", "", (), False, 1, 1, 0, 0, {}).key, None, 1, 0, replace(run, verdict=judged), ()
    )
    state.key, state.snapshot = detail.key, replace(state.snapshot, detail=detail)
    status = StepStatus(Step("1.2", "", "", (), False, 1, 1, 0, 0, {}), StepState.FAILED, None, judged)
    text = "".join(row.plain for row in _judged_by(state, status, 120))
    assert text == " 5 of 7 gates passed: records 1, hardware 1, load 1, item 1, checks 1"
    rows = [row.plain for row in gate_group_rows(GATES, 100, BRAILLE, unfolded=False) if "▸ ✓" in row.plain]
    assert [" ".join(row.split()[2:4]) for row in rows] == ["1 records", "1 hardware", "1 load", "1 item", "1 checks"]


@pytest.mark.parametrize(("argv", "label"), [("torchrun a.py", ""), ("torchrun b.py", "r would run")])
def test_another_command_than_the_one_that_ran_is_labelled(workspace: Workspace, argv: str, label: str) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist))
    run = RunFollower(Run(workspace.run("1.2", state=State.FINISHED, verdict=verdict()))).snapshot()
    ran = replace(run, intent=replace(run.intent, commands=[Command("main", ["x"], "torchrun a.py")]))
    key = Step("1.2", "", "", (), False, 1, 1, 0, 0, {}).key
    proposal = Proposal("command", "Does it.", commands=(Command("main", ["x"], argv),))
    state.key, state.snapshot = key, replace(state.snapshot, detail=StepDetail(key, proposal, 1, 0, ran, ()))
    assert other_command(state) == label
    shown = [row.plain.strip() for row in proposal_section(proposal, 80, BRAILLE, other_command(state))]
    assert ("r would run" in shown) == bool(label)
    behind = [row.plain.strip() for row in run_section(ran, T0, 80, BRAILLE, "")]
    assert behind[behind.index("ran") + 1] == "$ torchrun a.py"


def test_the_baseline_is_not_a_gate_of_the_run() -> None:
    base = {"completed_qps": Bound(">=", 25.4, BASELINE), "tpot_p50_ms": Bound("<=", 7.0, BASELINE)}
    metrics = {"completed_qps": 27.4, "tpot_p50_ms": 7.9}
    live = [bound_text(one, 40, BRAILLE) for one in figures_of(metrics, {}, baseline=base, live=True)]
    assert live == [("≥ 25.4 base, 8 % above", "muted"), ("≤ 7 base, 13 % over", "muted")]  # the last seconds vary more
    ended = [bound_text(one, 40, BRAILLE) for one in figures_of(metrics, {}, baseline=base)]
    assert ended == [("✓ ≥ 25.4 base, 8 % above", "good"), ("! ≤ 7 base, 13 % over", "warn")]
    (first, _) = figures_of(metrics, {"completed_qps": LEAST}, baseline=base)
    assert first.bound == LEAST


def test_the_statistic_that_has_the_bound_is_shown() -> None:
    metrics = {"tpot_p50_ms": 7.9, "tpot_p99_ms": 12.0}
    (figure,) = figures_of(metrics, {"tpot_p99_ms": Bound("<=", 10.0, "SLO")})
    assert figure.label == "TPOT p99" and figure.value == 12.0 and figure.holds is False


def test_nothing_is_red_while_the_load_rises(workspace: Workspace) -> None:
    folder = workspace.run("1.2")
    rise = [event("metrics", {"offered_qps": 28.0, "completed_qps": 2.0 * i}, i) for i in range(6)]
    (folder / "events.jsonl").write_bytes(b"".join(rise))
    run = RunFollower(Run(folder)).snapshot()
    assert is_ramping(run)
    (figure,) = figures_of({"completed_qps": 10.0}, {"completed_qps": LEAST}, ramp=True)
    assert figure.holds is None and "ramp" in bound_text(figure, 40, BRAILLE)[0]
    (folder / "events.jsonl").write_bytes(
        b"".join([*rise, event("metrics", {"offered_qps": 28.0, "completed_qps": 27.0}, 7)])
    )
    assert not is_ramping(RunFollower(Run(folder)).snapshot())


def test_bounds_come_from_flags_and_from_the_item(workspace: Workspace) -> None:
    intent = RunFollower(Run(workspace.run("1.2"))).snapshot().intent
    assert bounds_of(intent) == {}
    flags = [*LOAD_TEST.split(), "--slo-ttft-ms", "100", "--slo-tpot-ms=x"]
    words = {"text": "ttft p99 < 0.2 s", "stated_by": "words", "source": "output", "comparison": "<", "bound": 0.2}
    stated = [
        {**words, "unit": "s", "metric": "ttft p99"},
        {
            **words,
            "stated_by": "settings",
            "source": "result",
            "selector": "completed_qps",
            "bound": 26.0,
            "comparison": ">=",
        },
        {"text": "broken"},
    ]
    command = replace(intent.commands[0], argv=flags)
    found = bounds_of(replace(intent, commands=[command], params={"criteria": stated}))
    assert found == {
        "ttft_sched_p99_ms": Bound("<=", 100.0, "SLO"),
        "ttft_p99_ms": Bound("<", 200.0, "item"),
        "completed_qps": Bound(">=", 26.0, "site"),
    }


@pytest.mark.parametrize("charts", [BRAILLE, UNICODE, ASCII])
@pytest.mark.parametrize("gpus", [0, 1, 4, 8, 16, 64])
@pytest.mark.parametrize(("width", "height"), [(79, 21), (67, 32), (93, 47), (135, 57), (40, 7)])
def test_a_running_pane_has_hardly_a_blank_row(
    workspace: Workspace, charts: Any, gpus: int, width: int, height: int
) -> None:
    folder = workspace.run("1.2")
    (folder / "events.jsonl").write_bytes(load_events(142))
    (folder / "logs" / "main.rank0.stdout.log").write_text("".join(f"line {i}\n" for i in range(50)))
    run = RunFollower(Run(folder)).snapshot()
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist), now=lambda: T0 + 9.0)
    state.live.extend([sample(second, gpus) for second in range(10)])
    rows = stacked(running_blocks(state, run, width, height, charts, ChartView()), height)
    assert all(cell_len(row.plain) <= width for row in rows), max(rows, key=lambda row: cell_len(row.plain)).plain
    assert len(rows) == height or gpus == 0  # without GPUs, a high pane has nothing more to show
    if height > 10:
        text = "\n".join(row.plain for row in rows)
        assert "28.5 QPS, asked 28" in text and "Rate" in text and "TTFT" in text


def gate(name: str, outcome: Outcome = Outcome.PASS, measured: str = "yes") -> Gate:
    return Gate(name, outcome, measured, "as asked", "" if outcome is Outcome.PASS else f"why {name}")


GATES = [
    gate("exit: main", measured="exit 0, 4 ranks"), gate("telemetry.xid", measured="none"), gate("kept up"),
    gate("telemetry.throttling", Outcome.INVALID, "GPU 2"), gate("SLO ttft", Outcome.FAIL, "p99 612 ms"),
    gate("words: TTFT p99 < 200 ms"), gate("something of a plugin"),
]  # fmt: skip


def test_failed_gates_are_on_top_with_their_reason_and_passes_are_folded_by_kind() -> None:
    rows = [row.plain for row in gate_group_rows(GATES, 100, BRAILLE, unfolded=False)]
    assert "1 failed and 1 not decided of 7" in rows[0]
    text = "\n".join(rows)
    assert text.index("why SLO ttft") < text.index("▸ ✓") and "why telemetry.throttling" in text
    folded = [row.split()[:4] for row in rows if "▸ ✓" in row]
    assert [row[3] for row in folded] == ["records", "hardware", "load", "item", "checks"]
    assert "exit 0, 4 ranks" in text and "XID none" in text
    assert all(cell_len(row) <= 100 for row in rows)


def test_unfolded_gates_show_measured_and_required() -> None:
    text = "\n".join(row.plain for row in gate_group_rows(GATES, 100, BRAILLE, unfolded=True))
    assert text.count("as asked") == len(GATES) and "▾" in text and "▸" not in text


@pytest.mark.parametrize(
    ("name", "kind"), [("telemetry.samples", "hardware"), ("artifact: x.json", "records"), ("SLO tpot", "load")]
)
def test_the_kind_of_a_gate(name: str, kind: str) -> None:
    assert kind_of(gate(name)) == kind


def test_the_summary_of_the_gpus_is_quiet_until_something_is_wrong() -> None:
    gpus = [replace(gpu, throttle_reasons=[], foreign_processes=[]) for gpu in sample(1.0, 4).gpus]
    text, role = summary(gpus)
    assert text.endswith("no throttling, no XID, no foreign process") and role == "muted"
    assert summary([replace(gpus[0], xid=79), *gpus[1:]])[1] == "bad"
    assert "power n/a" in summary([replace(gpus[0], power_w=None), *gpus[1:]])[0]


def test_a_run_without_a_verdict_has_charts_only(workspace: Workspace) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist))
    run = RunFollower(Run(workspace.run("1.2"))).snapshot()
    assert ended_blocks(state, run, 80, BRAILLE, ChartView(), unfolded=False) == []


async def test_keys_change_range_window_and_folding(workspace: Workspace, dashboard: Make) -> None:
    (workspace.run("1.2") / "events.jsonl").write_bytes(load_events(142))
    async with dashboard().run_test(size=(160, 50)) as pilot:
        app = await ready(pilot)
        app.main.post_message(SamplesTaken("live", [sample(second) for second in range(50)]))
        pane: Any = app.main.panes["run"]
        await pilot.press("j", "1")
        await until(pilot, lambda: "Rate QPS" in text_of(pane), "the chart")
        await pilot.press("v", "w", "comma")
        assert (pane.view.range, pane.view.window, pane.unfolded) == ("fitted", "phase", True)
        await until(pilot, lambda: "All 8 GPUs" in text_of(pane), "the GPUs")


@pytest.mark.parametrize(
    ("settings", "shown"),
    [({}, "(press o)"), ({"keys": {"answer": (("f5", "F5"),)}}, "(press F5)"), ({"readonly": True}, "link?")],
)
def test_a_question_names_the_key_that_answers_it_if_one_does(
    workspace: Workspace, settings: dict[str, Any], shown: str
) -> None:
    folder = workspace.run("1.2", verdict=verdict(question={"kind": "link", "text": "Which link?"}))
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist, **settings))
    rows = outcome_rows(state, RunFollower(Run(folder)).snapshot(), "", 80, BRAILLE)
    asks = next(row.plain for row in rows if "Which link?" in row.plain)
    assert asks.rstrip().endswith(shown)


def test_read_only_hints_name_only_keys_that_act(workspace: Workspace) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist, readonly=True))
    assert how_to_start(state) == ""
    (mark,) = [key for key in state.keymap.shown() if key.id == "mark"]
    assert mark.panes == ("runs",) and "c and r" not in mark.help


def test_the_sentence_of_a_failure_stands_once_in_full() -> None:
    reason = "the queue grew all the time"
    failed = replace(gate("kept up", Outcome.FAIL, "TTFT +0.46 s per s: median 783 ms at first"), reason=reason)
    full = why_not_passed(Outcome.FAIL, [failed], None)
    assert in_short(full) == "did not keep up: TTFT +0.46 s per s"
    folded = "\n".join(row.plain for row in gate_group_rows([failed], 100, BRAILLE, unfolded=False, summary=full))
    assert "TTFT +0.46 s per s" in folded and "as asked" in folded
    assert reason not in folded and "783" not in folded
    unfolded = "\n".join(row.plain for row in gate_group_rows([failed], 100, BRAILLE, unfolded=True, summary=full))
    assert reason in unfolded and "783" in unfolded
    assert in_short("expect: stdout /x/ >= 200: 2 (log:1: 2)", "expect: stdout /x/ >= 200") == (
        "expect: stdout /x/ >= 200: 2"
    )
    assert in_short("p99 612 ms") == "p99 612 ms" and in_short("exit: it ended (code 1)") == "exit: it ended"


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (
            Gate("exit: main", Outcome.FAIL, "exit 1", "exit code 0", "RuntimeError: CUDA error (illegal access)"),
            "exit 1, RuntimeError: CUDA error (illegal access)",
        ),
        (Gate("expect: stdout >= 200", Outcome.FAIL, "2", ">= 200", "log:1: 2"), "expect: stdout >= 200: 2"),
        (Gate("kept up", Outcome.FAIL, "0.9 s", "0.1 s", "it grew"), "did not keep up: 0.9 s"),
    ],
)
def test_what_a_step_needs_says_what_was_measured_and_why_a_command_ended(failed: Gate, said: str) -> None:
    verdict = SimpleNamespace(outcome=failed.outcome, gates=[failed], summary="")
    verdict.summary = why_not_passed(failed.outcome, [failed], None)
    status = SimpleNamespace(state=StepState.FAILED, verdict=verdict, basis=None)
    assert need_of(status) == said  # type: ignore[arg-type]  # only these fields are read


def test_a_title_loses_its_last_parts_whole() -> None:
    spans = [(" a", "title"), ("  日本", "text"), ("  tail", "muted"), ("x", "key")]
    assert whole_spans(spans, 15) == spans
    assert whole_spans(spans, 14) == spans[:3] and whole_spans(spans, 13) == spans[:2]
    assert whole_spans(spans, 1) == []
