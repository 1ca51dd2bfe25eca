"""The last look on a node of a run whose agent was killed."""

import time
from dataclasses import replace

from llmval_tui.actions.judge import judge_part
from llmval_tui.fleet import leftovers
from llmval_tui.fleet.part import node_folder, part_of
from llmval_tui.foundation.files import read_json
from llmval_tui.runs import client
from llmval_tui.runs.create import write_run
from llmval_tui.runs.records import Command, Outcome, State

from .conftest import said_by


def test_a_part_that_its_supervisor_carries_on_is_cancelled_and_has_not_failed(make_fleet_run):
    shell = "echo up; while :; do sleep 0.1; done"
    run = make_fleet_run(commands=(Command("main", ["bash", "-c", shell], shell),))
    folder = node_folder(run, "n1")
    intent = part_of(run, "n1", ["n1", "n2"], said_by("n1"), said_by("n1"))
    part = write_run(folder, replace(intent, params={**intent.params, "gpu_indices": []}))
    client.start(part)
    while not part.status().commands or not (part.logs_folder / "main.stdout.log").read_text():
        time.sleep(0.05)
    assert leftovers.main([str(run.folder), "--name", "n1"]) == 0
    assert part.status().state is State.FINISHED
    assert "its agent had ended" in (part.status().cancelled or "")
    verdict = judge_part(part, run)
    assert verdict.outcome is Outcome.INCONCLUSIVE, verdict
    done = read_json(folder / leftovers.LEFT_FILE)["done"]
    assert len(done) == 1 and done[0].startswith("asked the supervisor to end the part, which it did within"), done


def test_a_part_without_a_supervisor_is_not_waited_for(make_fleet_run):
    run = make_fleet_run()
    assert leftovers.main([str(run.folder), "--name", "n1"]) == 0
    assert read_json(node_folder(run, "n1") / leftovers.LEFT_FILE)["done"] == []
    assert not (node_folder(run, "n1") / "cancel.json").exists()
