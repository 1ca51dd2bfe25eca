"""One launch over nodes: each node has the figures of its own replicas, never those of all."""

import json

import pytest

from llmval_tui.actions.nodes.replicas import figures_of_nodes
from llmval_tui.actions.nodes.verdict import judge_fleet
from llmval_tui.fleet.follower import FleetFollower
from llmval_tui.fleet.launch import LaunchKind
from llmval_tui.fleet.part import part_of
from llmval_tui.foundation.files import write_json
from llmval_tui.runs.records import Artifact, Command
from llmval_tui.runs.store import Run
from llmval_tui.terminal import fleet_grid, fleet_rows
from llmval_tui.terminal.glyphs import glyphs
from tests.actions.nodes.test_verdict import ended, judged
from tests.fleet.conftest import make_fleet_run, said_by  # noqa: F401  (a fixture)
from tests.runners.load_test.test_replicas import record as load_record
from tests.runners.load_test.test_replicas import window
from tests.runners.long_context.test_together import own_record
from tests.runners.long_context.test_together import record as long_record

NODES = ("n1", "n2", "n3")


@pytest.fixture
def launch(make_fleet_run):  # noqa: F811
    """A launch over some nodes that left a record."""

    def make(record, schema: str, ranks: int, nodes: tuple[str, ...] = NODES) -> Run:
        command = Command("main", ["launch", "--", "--out", "artifacts/x.json"], "x", nproc=ranks)
        artifact = Artifact("artifacts/x.json", schema)
        run = make_fleet_run(how=LaunchKind.COLLECTIVE, nodes=nodes, commands=(command,), artifacts=(artifact,))
        first = said_by(nodes[0])
        path = run.workspace / part_of(run, nodes[0], nodes, first, first).artifacts[0].path
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record))
        return run

    return make


def test_a_load_test_has_the_figures_of_each_node(launch):
    run = launch(load_record([window(0, 0.1), window(1, 0.2), window(2, 0.7)]), "load_test", 1)
    found = figures_of_nodes(run, NODES)
    assert [found[name]["ttft_sched_p50_ms"] for name in NODES] == pytest.approx([100, 200, 700])
    assert [found[name]["requests"] for name in NODES] == [16, 16, 16]


def test_several_replicas_of_a_node_are_its_figures(launch):
    run = launch(load_record([window(0, 0.1), window(1, 0.1), window(2, 0.7)]), "load_test", 2, ("n1", "n2"))
    found = figures_of_nodes(run, ("n1", "n2"))
    assert [found[name]["requests"] for name in ("n1", "n2")] == [32, 16]
    assert found["n1"]["offered_qps"] == pytest.approx(2 * found["n2"]["offered_qps"])


def test_a_long_context_record_has_the_figures_of_each_node(launch):
    run = launch(long_record(own_record(), own_record(2.0)), "long_context", 8, ("n1", "n2"))
    found = figures_of_nodes(run, ("n1", "n2"))
    steps = [found[name]["decode_step_ms_65536"] for name in ("n1", "n2")]
    assert steps[1] == pytest.approx(2 * steps[0])


def test_a_record_without_replicas_on_these_nodes_has_no_figures(launch):
    assert figures_of_nodes(launch({"llmval": 1}, "load_test", 1), NODES) == {}


def test_a_replica_over_nodes_and_a_record_of_other_nodes_have_no_figures(launch):
    made = load_record([window(0), window(1), window(2)])
    assert figures_of_nodes(launch(made, "load_test", 1, ("n1", "n2")), ("n1", "n2")) == {}, "rank 2 is on no node"


def test_the_screen_shows_each_nodes_own_figure(launch):
    run = launch(load_record([window(0, 0.1), window(1, 0.2), window(2, 0.7)]), "load_test", 1)
    ended(run)
    for name in NODES:
        judged(run, name, completed_qps=99.0)
    verdict = judge_fleet(run)
    write_json(run.folder / "verdict.json", verdict)
    assert verdict.metrics["completed_qps"] == 99.0, "the run's figures are those of all"
    overview = FleetFollower(run).look()
    assert overview.statistics == {} and "ttft_sched_p99_ms" in fleet_rows.metric_names(overview)
    rows = fleet_rows.worst_rows(overview, "ttft_sched_p99_ms", glyphs(False), 80)
    figures = {words[0]: words[3] for words in ("".join(text for text, _ in row).split() for row in rows)}
    assert figures == {"n1": "100", "n2": "200", "n3": "700"}
    grid = fleet_grid.grid_rows(overview, "ttft_sched_p99_ms", fleet_grid.lay_out(NODES, 80, 8), glyphs(False))
    assert all(figure in "".join(text for text, _ in grid[0]) for figure in ("100", "200", "700"))
