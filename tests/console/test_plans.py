"""Plans from the command line, with real processes: they wait, are cancelled or killed, and are reported."""

import json
import os
import re
import signal
import subprocess
from types import SimpleNamespace

from llmval_tui.actions.api import Options
from llmval_tui.checklist.model import load
from llmval_tui.foundation.errors import Refused
from llmval_tui.plans.client import make_plan, plan_preview
from llmval_tui.plans.process import PlanProcess
from llmval_tui.plans.records import active_plan
from llmval_tui.runs.store import RunStore
from tests.console.conftest import Workspace
from tests.helpers.processes import until


def pid_of_plan(workspace: Workspace) -> int:
    plan = active_plan(workspace.folder)
    assert plan is not None
    identity = plan.status().identity
    assert identity is not None
    return identity.pid


def kill_plan(workspace: Workspace) -> None:
    """Kill the running plan, but not what it has started."""
    os.kill(pid_of_plan(workspace), signal.SIGKILL)
    until(lambda: active_plan(workspace.folder) is None)


def test_all_goes_on_after_a_failure_and_a_refusal(workspace: Workspace) -> None:
    (workspace.folder / "go").touch()
    done = workspace.llmval("run", "--all", "--json", check=1)
    results = {item["number"]: item["outcome"] for item in json.loads(done.stdout)["results"]}
    assert results == {"1.1": "pass", "1.2": "fail", "1.3": "pass", "1.4": "by hand"}
    assert workspace.checklist.read_text().count("[x]") == 2


def test_a_list_that_cannot_be_ticked_is_refused_before_anything_runs(workspace: Workspace) -> None:
    (workspace.folder / "go").touch()
    workspace.checklist.chmod(0o444)
    said = workspace.llmval("run", "1.3", check=2).stderr
    assert "is read-only" in said and "--no-tick runs and judges without ticking" in said
    assert workspace.store.runs() == []
    workspace.llmval("run", "1.3", "--no-tick", check=0)


def test_a_second_plan_is_refused_and_a_cancel_ends_the_first(workspace: Workspace) -> None:
    first = workspace.start("run", "1.3")
    until((workspace.folder / "started").exists)
    second = workspace.llmval("run", "1.1", check=2)
    assert "is working on" in second.stderr
    workspace.llmval("cancel", check=0)
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 130, output
    assert "[x]" not in workspace.checklist.read_text()
    assert workspace.store.active() == []


def test_ctrl_c_stops_the_run(workspace: Workspace) -> None:
    watching = workspace.start("run", "1.3")
    until((workspace.folder / "started").exists)
    watching.send_signal(signal.SIGINT)
    output, _ = watching.communicate(timeout=300)
    assert watching.returncode == 130, output
    assert workspace.store.active() == []


def test_a_run_survives_its_killed_plan_and_is_judged_and_ticked(workspace: Workspace) -> None:
    watching = workspace.start("run", "1.3")
    until((workspace.folder / "started").exists)
    plan = active_plan(workspace.folder)
    assert plan is not None
    watching.kill()
    watching.wait()
    os.kill(pid_of_plan(workspace), signal.SIGKILL)
    until(lambda: active_plan(workspace.folder) is None)
    assert len(workspace.store.active()) == 1
    (workspace.folder / "go").touch()
    until(lambda: workspace.store.active() == [])
    status = json.loads(workspace.llmval("status", "--json", check=0).stdout)
    assert status["steps"][2]["state"] == "exit code"
    assert workspace.checklist.read_text().count("[x]") == 1
    assert "artifacts/slow.txt" in (workspace.folder / "docs/TODO.md").read_text()


def test_new_plan_waits_for_the_run_that_is_in_flight(workspace: Workspace) -> None:
    workspace.llmval("run", "1.3", "--detach", check=0)
    until((workspace.folder / "started").exists)
    kill_plan(workspace)
    again = workspace.start("run", "1.3")
    until(lambda: (plan := active_plan(workspace.folder)) is not None and plan.status().run_id is not None)
    (workspace.folder / "go").touch()
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert len(workspace.store.runs()) == 1


def test_a_run_with_other_options_is_waited_for_but_not_adopted(workspace: Workspace) -> None:
    workspace.llmval("run", "1.3", "--no-tick", "--detach", check=0)
    until((workspace.folder / "started").exists)
    kill_plan(workspace)
    again = workspace.start("run", "1.3")
    until(lambda: active_plan(workspace.folder) is not None)
    (workspace.folder / "go").touch()
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert sorted(run.intent.tick for run in workspace.store.runs()) == [False, True]
    assert workspace.checklist.read_text().count("[x]") == 1


def test_an_unreadable_run_does_not_refuse_another_step(workspace: Workspace, monkeypatch, capfd) -> None:
    checklist = load(workspace.checklist)
    items = plan_preview(checklist, checklist.steps[:1], workspace.folder, Options())
    plan = make_plan(checklist, items, workspace.folder, Options())
    process = PlanProcess(plan)
    other = SimpleNamespace(id="other", alive=lambda: False)
    monkeypatch.setattr(process.store, "active", lambda: [other])

    def settled(run: object, store: RunStore) -> None:
        raise Refused("its file cannot be read")

    monkeypatch.setattr("llmval_tui.plans.process.settle", settled)
    assert process._wait_for_other_runs()
    assert "other: its file cannot be read" in capfd.readouterr().out


def test_a_killed_plan_is_not_reported_as_passed(workspace: Workspace) -> None:
    watching = workspace.start("run", "1.3")
    until((workspace.folder / "started").exists)
    os.kill(pid_of_plan(workspace), signal.SIGKILL)
    output, _ = watching.communicate(timeout=300)
    assert watching.returncode == 3, output
    assert "was killed" in output
    assert workspace.store.active()[0].id in output
    answer = json.loads(workspace.llmval("attach", "--json", check=3).stdout)
    assert answer["ok"] is False
    assert "0 of 1 steps" in answer["message"]


def test_attach_without_a_running_plan_shows_how_the_last_one_ended(workspace: Workspace) -> None:
    workspace.llmval("run", "1.3", "--detach", check=0)
    until((workspace.folder / "started").exists)
    kill_plan(workspace)
    (run,) = workspace.store.runs()
    assert f"no plan is running, but {run.id} is; the last plan:" in workspace.llmval("attach", check=3).stdout
    (workspace.folder / "go").touch()
    until(lambda: workspace.store.active() == [])
    assert f"{run.id} has ended and llmval status judges it" in workspace.llmval("attach", check=3).stderr
    workspace.llmval("status", check=0)
    refused = workspace.folder / "artifacts/plans/99990101T000000Z-abcdef"  # refused, because the first was running
    refused.mkdir()
    (refused / "plan.json").write_bytes(next(refused.parent.glob("*/plan.json")).read_bytes())
    (refused / "status.json").write_text('{"state": "finished", "message": "another plan is at work"}')
    done = workspace.llmval("attach", check=0)
    assert done.stdout.startswith("nothing is running; the last plan:\n▸ 1.3") and done.stderr == ""
    assert "✓ 1.3  pass, ticked" in done.stdout and "starting" not in done.stdout
    answer = json.loads(workspace.llmval("attach", "--json", check=0).stdout)
    assert [(one["run_id"], one["outcome"]) for one in answer["results"]] == [(run.id, "pass")] and not answer[
        "message"
    ]


def test_a_command_without_phases_is_shown_with_its_running_time(workspace: Workspace) -> None:
    following = workspace.start("run", "1.3")
    until((workspace.folder / "started").exists)
    watching = workspace.start("watch", "--every", "1")
    followed, watched = read_to(following, r"^ +running [1-9]"), read_to(watching, r"^Step 1.3: running for [1-9]\d* ")
    (workspace.folder / "go").touch()
    followed, watched = (
        text + process.communicate(timeout=300)[0] for text, process in ((followed, following), (watched, watching))
    )
    assert sum(line.strip() == "starting" for line in followed.splitlines()) <= 1, followed
    assert "is running step 1.3." in watched


def read_to(process: subprocess.Popen[str], wanted: str) -> str:
    """What a process prints, up to the line that matches."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if re.match(wanted, line):
            return text
    raise AssertionError(text)


def test_a_new_plan_waits_for_the_run_of_another_step(workspace: Workspace) -> None:
    workspace.llmval("run", "1.3", "--detach", check=0)
    until((workspace.folder / "started").exists)
    kill_plan(workspace)
    other = workspace.start("run", "1.1")
    until(lambda: (plan := active_plan(workspace.folder)) is not None and "waiting for" in _log(plan))
    assert len(workspace.store.runs()) == 1
    (workspace.folder / "go").touch()
    output, _ = other.communicate(timeout=300)
    assert other.returncode == 0, output
    assert workspace.checklist.read_text().count("[x]") == 2  # the other run is settled too


def _log(plan) -> str:
    return (plan.folder / "plan.log").read_text()
