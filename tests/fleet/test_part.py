"""One node's part of a run: it writes only into its own folder; of a launch over all, the first has the result."""

import pytest

from llmval_tui.fleet.launch import LaunchKind
from llmval_tui.fleet.part import RANK, not_movable, part_of
from llmval_tui.runs.records import Artifact, Command
from tests.fleet.conftest import said_by

LAUNCH = ["python", "launch.py", "--logs", "{run}/logs", "--", "--nnodes=2", "x.py", "--out", "artifacts/x.json"]


def part(run, name, first="n1"):
    return part_of(run, name, run.intent.nodes, said_by(name), said_by(first))


def test_every_node_writes_into_its_own_folder(make_fleet_run):
    command = Command(
        "main", ["x", "--out=artifacts/x.json", "./artifacts/y", "{run}/log", "artifacts/other"], "x", tee="artifacts/t"
    )
    artifacts = (Artifact("artifacts/x.json", "load_test"), Artifact("artifacts/y"))
    criteria = [{"source": "artifacts/x.json", "text": "a"}, {"source": "output", "text": "b"}]
    run = make_fleet_run(commands=(command,), artifacts=artifacts, criteria=criteria)
    own = part(run, "n2")
    folder = run.folder / "nodes" / "n2"
    results = folder / "results" / "artifacts"
    assert own.commands[0].argv == ["x", f"--out={results}/x.json", f"{results}/y", f"{folder}/log", "artifacts/other"]
    relative = str(results.relative_to(run.workspace))
    assert own.commands[0].tee == f"{relative}/t"
    assert own.artifacts == [Artifact(f"{relative}/x.json", "load_test"), Artifact(f"{relative}/y")]
    assert own.params["outputs"] == {"main": [f"{relative}/x.json", f"{relative}/y"]}
    assert [one["source"] for one in own.params["criteria"]] == [f"{relative}/x.json", "output"]
    assert (own.run_id, own.tick, own.launcher, own.nodes) == (f"{run.id}.n2", False, None, [])
    assert own.host == said_by("n2").host


def test_a_launch_over_all_nodes_meets_at_the_first_and_only_the_first_has_the_result(make_fleet_run):
    command = Command("main", LAUNCH, "torchrun", nproc=4)
    artifacts = (Artifact("artifacts/x.json"),)
    run = make_fleet_run(
        how=LaunchKind.COLLECTIVE, commands=(command,), artifacts=artifacts, criteria=[{"source": "exit"}]
    )
    first, second = part(run, "n1"), part(run, "n2")
    meeting = ["--rdzv-endpoint=10.0.0.1:4711", f"--rdzv-id={run.id}"]
    assert first.commands[0].argv[5:8] == ["--node-rank=0", *meeting]
    assert second.commands[0].argv[5:8] == ["--node-rank=1", *meeting]
    assert (len(first.artifacts), len(second.artifacts)) == (1, 0)
    assert (len(first.params["criteria"]), second.params["criteria"], second.params[RANK]) == (1, [], 1)


def test_an_output_that_no_word_names_is_found(tmp_path):
    command = Command("main", ["x", "--output-json", "artifacts/x.json"], "x", tee="artifacts/t.txt")
    named = [Artifact("artifacts/x.json"), Artifact("artifacts/x.journal.jsonl"), Artifact("artifacts/t.txt")]
    assert not_movable(named, [command], tmp_path) is None
    assert not_movable([Artifact("artifacts/report.html")], [command], tmp_path) == "artifacts/report.html"


@pytest.mark.parametrize(
    ("heads", "visible", "expected"),
    [
        ([0, 1], {"CUDA_VISIBLE_DEVICES": "1, 3"}, [1, 3]),
        ([0, 1], {}, None),  # the head's GPUs are not the node's
        ([0, 1], {"CUDA_VISIBLE_DEVICES": "GPU-0123"}, None),
        ([], {"CUDA_VISIBLE_DEVICES": "1"}, []),  # it runs on the CPU
    ],
)
def test_a_node_that_was_given_some_gpus_is_judged_by_them(make_fleet_run, heads, visible, expected):
    run, node = make_fleet_run(gpu_indices=heads), said_by("n1", environment=visible)
    assert part_of(run, "n1", run.intent.nodes, node, node).params["gpu_indices"] == expected
