"""The line on the GPUs beside a verdict: from the recording, over the measured window."""

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from llmval_tui.runs.records import Gate, Outcome, State
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import Note, Sample
from llmval_tui.terminal.glyphs import UNICODE
from llmval_tui.tui.data.run_follower import RunFollower
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.panes.run import outcome_rows
from llmval_tui.tui.settings import LaunchSettings
from llmval_tui.tui.widgets.gpu_line import gpu_line
from tests.helpers.tui_builder import Workspace, event, sample, verdict


def alike(second: float, odd: dict[str, object] | None = None) -> Sample:
    """Four GPUs within 1 %, with changes of GPU 2."""
    one = sample(second, 4)
    gpus = [replace(gpu, power_w=400.0 + gpu.index, throttle_reasons=[]) for gpu in one.gpus]
    gpus[2] = replace(gpus[2], **(odd or {}))  # type: ignore[arg-type]
    return replace(one, gpus=gpus)


def judged(workspace: Workspace, samples: list[Sample], **params: object) -> Path:
    run_id = f"2026010{1 + len(list(workspace.root.glob('artifacts/runs/*')))}T000000Z-1.2-aaaaaa"
    folder = workspace.run("1.2", run_id=run_id, state=State.FINISHED, verdict=verdict())
    intent = orjson.loads((folder / "run.json").read_bytes())
    (folder / "run.json").write_bytes(orjson.dumps({**intent, "params": {**intent["params"], **params}}))
    window = [event("phase", {"name": "measure"}, 10), event("result", {}, 50)]
    (folder / "events.jsonl").write_bytes(b"".join(window))
    (folder / "telemetry.jsonl").write_bytes(b"".join(one.to_line() for one in samples))
    return folder


def words(folder: Path) -> tuple[str, str]:
    review = RunFollower(Run(folder)).snapshot().gpus
    assert review is not None
    return gpu_line(review)


def test_gpus_that_are_alike_are_said_to_be(workspace: Workspace) -> None:
    text, role = words(judged(workspace, [alike(float(second)) for second in range(60)]))
    assert (text, role) == ("4 alike within 0.4 % of power, no throttling, no XID", "text")


def test_one_that_throttles_has_its_reason_its_time_and_its_power(workspace: Workspace) -> None:
    hot = {"power_w": 200.0, "throttle_reasons": ["hw_thermal_slowdown"]}
    # Before the measured window it counts for nothing.
    samples = [alike(float(second), hot if second < 5 or second >= 34 else None) for second in range(60)]
    text, role = words(judged(workspace, samples))
    assert text == "GPU 2 throttled (thermal) from 0:24 of the measurement, power 21 % under the median (of 4)"
    assert role == "warn"
    early = [alike(float(second), hot if second < 5 else None) for second in range(60)]
    assert words(judged(workspace, early))[0].startswith("4 alike")


def test_one_that_is_behind_without_throttling_and_an_xid(workspace: Workspace) -> None:
    text, _ = words(judged(workspace, [alike(float(second), {"power_w": 300.0}) for second in range(60)]))
    assert text == "GPU 2 power 25 % under the median (of 4), no throttling"
    text, role = words(judged(workspace, [alike(float(second), {"xid": 79}) for second in range(60)]))
    assert text.startswith("GPU 2 XID 79") and role == "bad"
    unknown = words(judged(workspace, [alike(float(second), {"throttle_reasons": None}) for second in range(60)]))
    assert "throttling n/a" in unknown[0]


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([], "n/a: no telemetry was recorded"),
        ([alike(1.0)], "n/a: no sample in the measured window"),
        ([replace(sample(20.0, 0), notes=[Note("nvml", "no_permission", "NVML may not be read")])], "n/a: NVML may"),
    ],
)
def test_what_is_not_known_says_why(workspace: Workspace, samples: list[Sample], reason: str) -> None:
    assert words(judged(workspace, samples, gpu_indices=[0, 1, 2, 3]))[0].startswith(reason)


def test_a_run_on_the_cpu_has_no_line_and_a_run_on_gpus_has_it_beside_the_verdict(workspace: Workspace) -> None:
    state = ScreenState(LaunchSettings(workspace.root, workspace.checklist))
    samples = [alike(float(second)) for second in range(60)]
    assert RunFollower(Run(judged(workspace, samples, gpu_indices=[]))).snapshot().gpus is None
    run = RunFollower(Run(judged(workspace, samples, gpu_indices=[0, 1]))).snapshot()
    rows = [row.plain for row in outcome_rows(state, run, "", 80, UNICODE)]
    assert any(row.startswith(" GPUs ") and "2 alike within" in row for row in rows[:5])


def test_a_recording_longer_than_one_part_is_read_in_parts(workspace: Workspace) -> None:
    follower = RunFollower(Run(judged(workspace, [alike(second / 100) for second in range(6000)])))
    assert follower.run.telemetry.stat().st_size > 8 << 20
    assert follower.snapshot().gpus is None
    review = next(found for _ in range(9) if (found := follower.snapshot().gpus) is not None)
    assert len(review.gpus) == 4 and follower.snapshot().gpus is review


def test_a_host_without_gpus_has_no_line(workspace: Workspace) -> None:
    folder = workspace.run("1.1", state=State.FINISHED, verdict=None)
    run = Run(folder)
    from llmval_tui.tui.data.gpu_review import reviewer_of

    hosted = replace(verdict(), gates=[Gate("telemetry.gpus", Outcome.PASS, "host only", "all GPUs recorded")])
    assert reviewer_of(run, run.intent, hosted) is None
