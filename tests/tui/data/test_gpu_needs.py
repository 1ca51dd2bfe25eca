"""A GPU with a fault during a run stands in "Needs you" as long as it lasts, with what it means for the run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import State
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.sample import GpuSample, Sample
from llmval_tui.tui.data.run_follower import RunFollower
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.data.snapshot import Selection, StepDetail
from llmval_tui.tui.data.workspace_view import Workspace as View
from llmval_tui.tui.settings import LaunchSettings
from llmval_tui.tui.widgets.gpu_needs import gpu_need_rows, gpu_needs
from tests.helpers.tui_builder import T0, Workspace, event, sample


def refuse(_context: object) -> Any:
    raise Refused("no proposal here")


def odd(**values: Any) -> Sample:
    one = sample(5.0, 4)
    gpus = [replace(gpu, throttle_reasons=[]) for gpu in one.gpus]
    gpus[2] = GpuSample(2) if values.get("lost") else replace(gpus[2], **values)
    return replace(one, gpus=gpus)


def state_of(workspace: Workspace, phase: str | None, *, shown: bool = True, **intent: Any) -> ScreenState:
    folder: Path = workspace.run("1.2", state=State.RUNNING)
    record = orjson.loads((folder / "run.json").read_bytes())
    params = {**record["params"], **intent.pop("params", {})}
    (folder / "run.json").write_bytes(orjson.dumps({**record, "telemetry": True, **intent, "params": params}))
    if phase:
        (folder / "events.jsonl").write_bytes(event("phase", {"name": phase}, 0))
    settings = LaunchSettings(workspace.root, workspace.checklist)
    state = ScreenState(settings, now=lambda: T0 + 6.0)
    view = View(settings, refuse)
    state.update(view.snapshot(Selection()))
    state.key = next(s.step.key for s in state.snapshot.steps if s.step.number == ("1.2" if shown else "1.1"))
    run = RunFollower(Run(folder)).snapshot() if shown else None
    detail = StepDetail(state.key, None, 1, 0, run, ())
    state.update(replace(state.snapshot, detail=detail))
    return state


HOT = {"throttle_reasons": ["hw_thermal_slowdown"]}


@pytest.mark.parametrize(
    ("phase", "values", "fault", "means"),
    [
        ("measure", HOT, "GPU 2 throttled (thermal)", "makes it invalid: gate telemetry.throttling"),
        ("warmup", HOT, "GPU 2 throttled (thermal)", "recorded only: not measured in phase warmup"),
        (None, HOT, "GPU 2 throttled (thermal)", "makes it invalid: gate telemetry.throttling"),
        ("warmup", {"xid": 79}, "GPU 2 XID 79", "fails it if new in the run: gate telemetry.xid"),
        ("measure", {"lost": True}, "GPU 2 lost: no reading", "fails it: gate telemetry.gpu_lost"),
    ],
)
def test_a_fault_says_whether_it_decides(
    workspace: Workspace, phase: str | None, values: dict[str, Any], fault: str, means: str
) -> None:
    state = state_of(workspace, phase)
    state.live.extend([odd(**values)])
    assert [need[:3] for need in gpu_needs(state)] == [("1.2", fault, means)]
    shown = [row.plain for row in gpu_need_rows(gpu_needs(state), 52)]
    assert shown[0].startswith(f" ! 1.2 {fault}") and shown[1].strip() == means
    state.live.extend([replace(odd(), mono_ns=odd().mono_ns + 10**9, t_ns=odd().t_ns + 10**9)])
    assert gpu_needs(state) == [], "it lasts no longer"


def test_what_decides_nothing_says_so(workspace: Workspace) -> None:
    state = state_of(workspace, "measure", telemetry=False)
    state.live.extend([odd(**HOT)])
    assert gpu_needs(state)[0][2] == "recorded only: this run has no gate for it"
    state.now = lambda: T0 + 600.0
    assert gpu_needs(state) == [], "an old sample is not a fault of now"


def test_a_power_cap_and_a_gpu_of_no_run_are_quiet(workspace: Workspace) -> None:
    state = state_of(workspace, "measure", params={"gpu_indices": [0, 1]})
    state.live.extend([odd(**HOT)])
    assert gpu_needs(state) == []
    state.live.extend([odd(throttle_reasons=["sw_power_cap"])])
    assert gpu_needs(state) == []


def test_the_phase_of_a_run_that_is_not_shown_is_not_guessed(workspace: Workspace) -> None:
    state = state_of(workspace, "warmup", shown=False)
    state.live.extend([odd(**HOT)])
    assert gpu_needs(state)[0][2].startswith("invalid if in its measured phase")
