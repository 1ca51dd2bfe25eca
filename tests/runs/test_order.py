"""Which run is the newest: told by what lies in the folder, because clocks are set back and seconds are shared."""

import os
from datetime import datetime

import pytest

from llmval_tui.foundation.files import read_json, try_lock, write_json
from llmval_tui.plans.records import active_plan, workspace_lock
from llmval_tui.runs.store import RunStore, plans_folder


def ids(store: RunStore) -> list[str]:
    return [run.id for run in RunStore(store.workspace).runs()]


def rename(run, name: str, **intent) -> None:
    """Give a run another id and other values in its record, as an earlier release or another clock would have."""
    value = {**(read_json(run.folder / "run.json") or {}), "run_id": name, **intent}
    write_json(run.folder / "run.json", {key: item for key, item in value.items() if item is not None})
    run.folder.rename(run.folder.with_name(name))


def test_runs_of_one_second_are_in_the_order_they_were_made(store, make_run) -> None:
    made = [make_run("true").id for _ in range(6)]
    assert ids(store) == made[::-1]


def test_after_a_clock_that_was_set_back_the_newest_run_is_the_newest(store, make_run) -> None:
    tomorrow = round(datetime.fromisoformat("2199-01-01T00:00:00Z").timestamp()) * 10**9
    rename(make_run("true"), "21990101T000000Z-1.1-aaaaaa", order_ns=tomorrow)
    newest = [make_run("true").id, make_run("true").id]
    assert ids(store) == [*newest[::-1], "21990101T000000Z-1.1-aaaaaa"]
    assert RunStore(store.workspace).get("last").id == newest[1]


def test_old_records_are_in_the_order_of_their_names(store, make_run) -> None:
    for day in ("02", "04", "03"):
        rename(make_run("true"), f"202601{day}T000000Z-1.1-aaaaaa", order_ns=None)
    newer = make_run("true").id
    names = [f"202601{day}T000000Z-1.1-aaaaaa" for day in ("04", "03", "02")]
    assert ids(store) == [newer, *names]
    rename(make_run("true"), "21990101T000000Z-1.1-aaaaaa", order_ns=None)
    assert ids(store)[0] == "21990101T000000Z-1.1-aaaaaa"
    assert ids(store)[0] == "21990101T000000Z-1.1-aaaaaa"
    last = make_run("true").id
    assert ids(store)[0] == last


def test_the_plan_at_work_is_found_whatever_its_name(tmp_path) -> None:
    for number in range(12):
        folder = plans_folder(tmp_path) / f"202601{number + 10}T000000Z-abc"
        folder.mkdir(parents=True)
        write_json(folder / "plan.json", {})
    locks = [try_lock(workspace_lock(tmp_path)), try_lock(plans_folder(tmp_path) / "20260110T000000Z-abc" / "lock")]
    try:
        plan = active_plan(tmp_path)
        assert plan is not None
        assert plan.id == "20260110T000000Z-abc"
    finally:
        for lock in locks:
            assert lock is not None
            os.close(lock)


def test_ended_plans_cost_a_look_nothing(tmp_path, monkeypatch) -> None:
    folder = plans_folder(tmp_path) / "20260110T000000Z-abc"
    folder.mkdir(parents=True)
    write_json(folder / "plan.json", {})
    monkeypatch.setattr("llmval_tui.plans.records.plans", lambda _: pytest.fail("it looked at every plan"))
    assert active_plan(tmp_path) is None


def test_runs_of_one_machine_share_its_record(store, make_run) -> None:
    rename(make_run("true"), "20260101T000000Z-1.1-aaaaaa", host={"name": "n1"}, environment={"NCCL_DEBUG": "INFO"})
    rename(make_run("true"), "20260102T000000Z-1.1-aaaaaa", host={"name": "n1"}, environment={"NCCL_DEBUG": "WARN"})
    newer, older = (run.intent for run in RunStore(store.workspace).runs())
    assert newer.host is older.host and newer.host == {"name": "n1"}
    assert (newer.environment, older.environment) == ({"NCCL_DEBUG": "WARN"}, {"NCCL_DEBUG": "INFO"})
