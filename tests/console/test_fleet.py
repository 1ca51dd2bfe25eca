"""`llmval fleet` and `llmval status --nodes`."""

import json

import pytest

from benchmarks.fleet_workspace import make_fleet, make_refused_fleet
from llmval_tui.actions.nodes.verdict import judge_fleet
from llmval_tui.actions.section_runs import newest_of_each_step
from llmval_tui.cli import main
from llmval_tui.console.doctor_nodes import Answer, lines_of
from llmval_tui.console.fleet import node_lines, screen_of
from llmval_tui.fleet.follower import FleetFollower
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.glyphs import glyphs


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
        (("--exporter", "nonsense"), "not a URL"),
        (("nothing",), "no run is called"),
    ],
)
def test_bad_input_is_one_sentence(workspace, capsys, words, said):
    code, _, err = run(capsys, "fleet", "--workspace", str(workspace), *words)
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_status_lists_the_nodes_of_each_step(workspace, capsys):
    code, out, _ = run(capsys, "status", "--workspace", str(workspace), "--nodes", "--readonly")
    assert code == 0 and "n03 ▼ slow" in out and "n16 ✓ passed" in out and "n08" in out
    code, out, _ = run(capsys, "status", "--workspace", str(workspace), "--nodes", "--readonly", "--json")
    (nodes,) = json.loads(out)["nodes"].values()
    assert nodes["nodes"]["n07"]["state"] == "lost"
    assert "nodes" not in json.loads(run(capsys, "status", "--workspace", str(workspace), "--readonly", "--json")[1])


def test_a_damaged_fleet_json_hides_no_other_run(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    damaged, good = make_fleet(tmp_path / "a", 2), make_fleet(tmp_path / "b", 2, failed=())
    (damaged.folder / "fleet.json").write_text("{")
    lines = node_lines([damaged, good], glyphs(False), 80)
    assert "fleet.json is damaged" in " ".join(lines) and any("✓ passed" in line for line in lines)
    assert all(cell_len(line) <= 80 for line in lines)


def test_a_reason_is_whole_on_80_columns(tmp_path):
    run = make_fleet(tmp_path, 12, slow=[2], failed=(), silent=(), fewer=())
    (reason,) = (node.reason for node in FleetFollower(run).look().nodes if node.reason)
    for lines in (node_lines([run], glyphs(False), 80), screen_of(FleetFollower(run).look(), None, glyphs(False), 80)):
        assert all(cell_len(line) <= 80 for line in lines)
        assert reason in " ".join(" ".join(lines).split())


def test_a_refused_run_is_not_a_result_of_its_item(tmp_path, capsys):
    """Of a report it takes neither the verdict nor the place of an earlier run."""
    refused = make_refused_fleet(tmp_path, 2, "n1 and n2 are one machine: name each machine once.")
    code, out, _ = run(capsys, "runs", "--workspace", str(tmp_path))
    assert code == 0 and "refused" in out and "inconclusive" not in out and "nodes" not in out
    code, out, _ = run(capsys, "runs", "--workspace", str(tmp_path), "--json", "--outcome", "refused")
    assert [line["run_id"] for line in json.loads(out)["runs"]] == [refused.id]
    assert newest_of_each_step([refused]) == []
    assert judge_fleet(refused).metrics == {}


def test_a_refused_run_has_one_word_and_its_reason(tmp_path, capsys):
    make_refused_fleet(tmp_path, 2, "n1 and n2 are one machine: name each machine once.")
    code, out, _ = run(capsys, "status", "--workspace", str(tmp_path), "--nodes", "--readonly")
    assert code == 0 and "⊘ refused" in out and "inconclusive" not in out
    assert "n1 and n2 are one machine" in out and "○ not started" in out and "lost" not in out
    (step,) = json.loads(run(capsys, "status", "--workspace", str(tmp_path), "--readonly", "--json")[1])["steps"]
    assert step["state"] == "refused"
    found = json.loads(run(capsys, "fleet", "--workspace", str(tmp_path), "--json")[1])
    assert found["refused"].startswith("n1 and n2") and found["nodes"]["n1"]["state"] == "not started"


CHECKS = {"checks": [{"name": "torch", "state": "ok", "found": "2.11", "consequence": ""}], "configuration": {}}


def test_what_doctor_says_of_nodes_fits_80_columns():
    check = {"name": "x", "state": "missing", "found": "not found", "consequence": "why this matters " * 8}
    answers = {
        "n1": Answer((check,), {"gpu_count": 8}),
        "n2": Answer((check,), {"gpu_count": 7}),
        "n3": Answer(silent="n3 cannot be reached (ssh: connect to host n3 port 22: No route to host): " * 2),
    }
    lines = lines_of(answers, width=80)
    assert all(cell_len(line) <= 80 for line in lines)
    said = " ".join(" ".join(lines).split())
    assert "2 nodes that answered" in said
    assert answers["n3"].silent.strip() in said and check["consequence"].strip() in said, "nothing is cut"


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """A stand-in for ssh: what it prints for each node is in a file of that name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "ssh"
    script.write_text(
        "#!/bin/sh\n"
        'for word; do case $word in n[0-9]*) node=$word;; esac; done\n'
        f'cat {folder}/$node.json 2>/dev/null && exit 0\n'
        'echo "ssh: Could not resolve hostname $node: Name or service not known" >&2; exit 255\n'
    )  # fmt: skip
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def test_doctor_asks_every_node_and_compares_them(ssh, tmp_path, capsys):
    for number in range(1, 5):
        answer = CHECKS | {"configuration": {"gpu_count": 8, "driver": "580.1", "kernel": "5.15"}}
        if number == 2:
            answer["configuration"] = {"gpu_count": 7, "driver": "570.1", "kernel": "5.15"}
        if number == 3:
            lost = {"name": "torch", "state": "missing", "found": "not installed", "consequence": "pip install torch"}
            answer["checks"] = [lost]
        (ssh / f"n{number}.json").write_text(json.dumps(answer))
    code, out, _ = run(capsys, "doctor", "--nodes", "n[1-5]", "--workspace", str(tmp_path))
    lines = out.splitlines()
    assert code == 2 and lines[0].startswith("✗ n5 does not resolve")
    assert lines[1] == "✗ n2: 7 of 8 GPUs answer"
    assert "✗ torch: not installed on n3" in out and "pip install torch" in out
    assert "driver" in out and "n2 570.1" in out
    assert "✓ 3 of 4 nodes that answered have the configuration of most" in out
    assert run(capsys, "doctor", "--nodes", "n[1-4]", "--workspace", str(tmp_path))[0] == 0, "all answered"
    code, out, _ = run(capsys, "doctor", "--nodes", "n[1-5]", "--workspace", str(tmp_path), "--json")
    found = json.loads(out)
    assert (
        code == 2
        and "does not resolve" in found["nodes"]["n5"]["silent"]
        and found["differences"][0]["key"] == "gpu_count"
    )


def test_a_node_that_answers_something_else_is_named(ssh, tmp_path, capsys):
    (ssh / "n1.json").write_text("Welcome to n1\n")
    code, out, _ = run(capsys, "doctor", "--nodes", "n1", "--workspace", str(tmp_path))
    assert code == 2 and "n1 answered with something else" in out
    code, _, err = run(capsys, "doctor", "--nodes", "n[1-", "--workspace", str(tmp_path))
    assert code == 2 and "bracket" in err
