"""`llmval fleet` and `llmval status --nodes`."""

import json

import pytest

from benchmarks.fleet_workspace import make_fleet
from llmval_tui.cli import main


@pytest.fixture
def workspace(tmp_path):
    make_fleet(tmp_path, 16, slow=[2], failed=[4], silent=[6], fewer=[7])
    return tmp_path


def run(capsys, *words):
    code = main(list(words))
    taken = capsys.readouterr()
    return code, taken.out, taken.err


def test_one_screen_has_grid_worst_silent_and_differences(workspace, capsys):
    code, out, _ = run(capsys, "fleet", "--workspace", str(workspace))
    assert code == 0
    lines = out.splitlines()
    assert len(lines) <= 48 and max(map(len, lines)) <= 120
    for part in ("completed QPS", "n16", "1 silent", "Worst", "n03 ▼ slow", "Configuration", "gpu_count", "n08 7"):
        assert part in out, part


def test_another_figure_and_ascii(workspace, capsys):
    code, out, _ = run(capsys, "fleet", "--workspace", str(workspace), "--figure", "tpot_p50_ms", "--ascii")
    assert code == 0 and "TPOT p50" in out and out.isascii()
    code, _, err = run(capsys, "fleet", "--workspace", str(workspace), "--figure", "speed")
    assert code == 2 and "completed_qps" in err


def test_json_has_every_node(workspace, capsys):
    code, out, _ = run(capsys, "fleet", "--workspace", str(workspace), "--json")
    found = json.loads(out)
    assert code == 0 and len(found["nodes"]) == 16 and list(found["silent"]) == ["n07"]
    assert found["nodes"]["n03"]["state"] == "slow" and found["nodes"]["n03"]["deviation"]["completed_qps"] < -0.04
    assert found["differences"][0]["key"] == "gpu_count"


def test_without_a_run_on_nodes_it_says_what_to_do(tmp_path, capsys):
    code, _, err = run(capsys, "fleet", "--workspace", str(tmp_path))
    assert code == 2 and "--nodes" in err and "--exporter" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--exporter", "nonsense"), "no URL"),
        (("nothing",), "no run is called"),
    ],
)
def test_bad_input_is_one_sentence(workspace, capsys, words, said):
    code, _, err = run(capsys, "fleet", "--workspace", str(workspace), *words)
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1
