"""The grid of nodes and the rows below it."""

import pytest

from benchmarks.fleet_workspace import make_fleet
from llmval_tui.fleet.follower import FleetFollower
from llmval_tui.fleet.node_state import NodeState
from llmval_tui.fleet.overview import NodeView, Overview
from llmval_tui.fleet.record import Difference
from llmval_tui.terminal import fleet_grid, fleet_rows
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.glyphs import glyphs

SIGNS = glyphs(False)


def lines(rows):
    return ["".join(text for text, _ in row) for row in rows]


@pytest.fixture
def overview(tmp_path):
    return FleetFollower(make_fleet(tmp_path, 16, slow=[2], failed=[4], silent=[6], fewer=[7])).look()


@pytest.mark.parametrize(
    ("nodes", "width", "height", "columns", "label"),
    [
        (64, 80, 8, 8, True),
        (512, 160, 32, 16, True),
        (512, 160, 26, 22, True),
        (64, 160, 20, 8, False),
        (4, 80, 8, 4, False),
    ],
)
def test_nodes_fit_into_their_room(nodes, width, height, columns, label):
    names = [f"n{at:03}" if nodes > 99 else f"n{at:02}" for at in range(nodes)]
    grid = fleet_grid.lay_out(names, width, height)
    assert (grid.columns, bool(grid.label)) == (columns, label)
    assert grid.rows(nodes) <= height


@pytest.mark.parametrize("width", [60, 80, 94, 120, 160])
def test_no_row_is_wider_than_its_room(overview, width):
    for height in (3, 8, 40):
        grid = fleet_grid.lay_out([node.name for node in overview.nodes], width, height)
        rows = fleet_grid.grid_rows(overview, "completed_qps", grid, SIGNS, "n03")
        assert len(rows) == grid.rows(len(overview.nodes))
        assert max(map(cell_len, lines(rows))) <= width
    for rows in (
        [fleet_rows.title_spans(overview, "completed_qps", width), fleet_rows.count_spans(overview, SIGNS, width)],
        fleet_rows.worst_rows(overview, "completed_qps", SIGNS, width),
        fleet_rows.difference_rows(overview, SIGNS, width, 5),
        fleet_rows.node_rows(overview.node("n03"), SIGNS, width),
        [fleet_rows.heading_spans("Worst six", "a note", width, SIGNS)],
    ):
        assert max(map(cell_len, lines(rows))) <= width, rows


def test_a_cell_has_the_sign_and_the_deviation_and_a_silent_one_its_age(overview):
    text = "\n".join(lines(fleet_grid.grid_rows(overview, "completed_qps", fleet_grid.Grid(8, 9, 1, 5), SIGNS, "n03")))
    assert "✗" in text and "▼" in text and SIGNS.cursor + "▼" in text
    silent = next(part for part in text.split("∅")[1:])
    assert silent.split()[0] == "now"


def test_the_node_with_fewer_gpus_is_first_and_the_slow_one_has_its_reason(overview):
    rows = lines(fleet_rows.worst_rows(overview, "completed_qps", SIGNS, 160))
    assert rows[0].split()[0] == "n08" and "7 of 8 GPUs" in rows[0]
    slow = next(row for row in rows if row.split()[0] == "n03")
    assert "slow" in slow and "measured again" in slow


def test_only_nodes_of_a_state_are_listed_if_asked(overview):
    rows = lines(fleet_rows.worst_rows(overview, None, SIGNS, 120, "name", frozenset({NodeState.FAILED})))
    assert [row.split()[0] for row in rows] == ["n05"]


def test_silent_nodes_have_the_age_of_their_last_sample():
    nodes = [NodeView(f"n{at}", NodeState.NO_ANSWER, age_s=60.0 * at or None) for at in range(8)]
    text = fleet_rows.silent_text(Overview(tuple(nodes)), 60)
    assert text == "8 silent, last sample: n0 never, n1 1m, n2 2m and 5 more"[: len(text)] and cell_len(text) <= 60
    assert fleet_rows.silent_text(Overview(()), 60) == ""


def test_few_nodes_have_no_outlier_word(tmp_path):
    overview = FleetFollower(make_fleet(tmp_path, 4, slow=[2], failed=[], silent=[], fewer=[])).look()
    text = fleet_rows.statistics_text(overview, "completed_qps")
    assert "fewer than 8" in text and "could be found" not in text
    grid = fleet_grid.grid_rows(overview, "completed_qps", fleet_grid.Grid(4, 9, 1, 5), SIGNS)
    assert all(role != "warn" for _, role in grid[0]), "nor its colour"
    assert "slow" not in "\n".join(lines(fleet_rows.worst_rows(overview, "completed_qps", SIGNS, 120)))


def test_more_differences_than_rows_are_counted():
    found = tuple(Difference(f"key{at}", "a", {"n1": "b"}) for at in range(9))
    rows = lines(fleet_rows.difference_rows(Overview((), differences=found), SIGNS, 80, 4))
    assert len(rows) == 4 and rows[-1].strip().startswith("6 more: key3")
    assert "n1 b" in rows[0] and "most a" in rows[0]


def test_names_lose_what_all_have_in_common():
    assert fleet_grid.short_names(["a1.x.net", "a2.x.net"]) == ["a1", "a2"]
    assert fleet_grid.short_names(["a1.x.net", "a2.y.net"]) == ["a1.x.net", "a2.y.net"]
    assert fleet_grid.short_names(["a-very-long-name-001", "a-very-long-name-012"]) == ["001", "012"]
    assert fleet_grid.short_names(["127.0.0.1"]) == ["127.0.0.1"]
    assert fleet_grid.short_names(["10.1.0.7", "10.2.0.7"]) == ["10.1.0.7", "10.2.0.7"]
    assert fleet_grid.short_names([]) == []
