"""fleet.json: valid by its schema, read back as written, and the same bytes for the same content."""

from dataclasses import replace

import pytest

from llmval_tui.actions.gates.artifacts import schema_problem
from llmval_tui.fleet.record import (
    Difference,
    Fleet,
    GroupStatistics,
    MetricStatistics,
    NodeOutcome,
    NodeResult,
    fleet_bytes,
    read_fleet,
    write_fleet,
)
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.store import Run

NODES = {
    "n2": NodeResult(NodeOutcome.LOST, "nothing was heard of it for 20 s"),
    "n1": NodeResult(
        NodeOutcome.PASS, None, {"tok_s": 10.5, "mfu": None}, "m1", "b1", {"driver": "580"}, "H200", "0" * 64
    ),
}
FLEET = Fleet(
    1,
    "run-1",
    "slurm",
    "each",
    NODES,
    ["n2"],
    {"tok_s": MetricStatistics("higher", {"H200": GroupStatistics(1, 10.5, 0.0, None)})},
    [Difference("driver", "580", {"n2": None})],
)


def test_it_is_read_back_as_it_was_written_and_fits_its_schema(tmp_path):
    path = write_fleet(tmp_path, FLEET)
    assert read_fleet(tmp_path) == FLEET
    assert schema_problem(path, "fleet") is None


def test_the_order_in_which_nodes_reported_does_not_change_the_bytes():
    turned = replace(FLEET, nodes=dict(reversed(NODES.items())))
    assert fleet_bytes(turned) == fleet_bytes(FLEET)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "fleet.json").write_text('{"schema": 1')
    with pytest.raises(Refused, match=r"fleet\.json is damaged"):
        read_fleet(tmp_path)
    assert read_fleet(tmp_path / "other") is None


def test_the_folder_of_a_node_has_an_id_and_the_workspace_of_its_run(tmp_path):
    run = Run(tmp_path / "artifacts" / "runs" / "r1" / "nodes" / "n1")
    assert (run.id, run.workspace) == ("r1.n1", tmp_path)
    assert Run(tmp_path / "artifacts" / "runs" / "r1").workspace == tmp_path
