"""The environment item: the document's block, applied and refused changes, and the runs that get the variables."""

import json
import platform
import subprocess
import sys

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.command.environment import newest_export, section_environment
from llmval_tui.actions.documents.env_block import environment_block
from llmval_tui.actions.gates.topology import judge_topology
from llmval_tui.actions.registry import action_named
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.records import Command, Outcome
from llmval_tui.telemetry.nvml.source import NvmlSource
from tests.helpers import fake_pynvml
from tests.helpers.workspace import write_verdict

LIST = """# L

## 1. A
- [ ] Export NCCL env (`docs/p.md`).
- [ ] Run `python x.py`

## 2. B
- [ ] Run `python y.py`
"""
DOCUMENT = """# P

```bash
export WRONG=1
```

<!-- llmval:env pcie -->
```
export NCCL_P2P_LEVEL=PCI
```

<!-- llmval:env nvlink -->
```bash
# why
export NCCL_P2P_LEVEL=NVL   # NVLink only
export NCCL_P2P_DISABLE=0 NCCL_NVLS_ENABLE=1
export QUOTED="it's here"
```
"""


def test_the_named_block_is_read():
    assert environment_block(DOCUMENT, "p.md") == {
        "NCCL_P2P_LEVEL": "NVL",
        "NCCL_P2P_DISABLE": "0",
        "NCCL_NVLS_ENABLE": "1",
        "QUOTED": "it's here",
    }
    assert environment_block(DOCUMENT, "p.md", "pcie") == {"NCCL_P2P_LEVEL": "PCI"}
    assert environment_block("```\nls\n```\n\n```sh\nexport A=1\n```\n", "p.md") == {"A": "1"}


def test_the_bundled_playbook_is_read():
    text = (bundled("docs") / "nvlink_pcie_playbook.md").read_text(encoding="utf-8")
    assert environment_block(text, "playbook")["NCCL_P2P_LEVEL"] == "NVL"


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("export A=$(curl x)", "line 2: only a shell could compute A"),
        ("export A=1\nrm -rf /", "line 3: “rm -rf /” is not an export line"),
        ("export A", "“A” is not NAME=value"),
        ("export A='x", "a quote is not closed"),
        ("ls", "no code block with export lines"),
    ],
)
def test_a_block_that_needs_a_shell_is_refused_with_its_line(block, words):
    with pytest.raises(Refused, match=words.replace("(", r"\(")):
        environment_block(f"```\n{block}\n```\n", "p.md")


def exported(workspace, monkeypatch, inventory, environment):
    workspace.write("docs/p.md", DOCUMENT)
    workspace.write("x.py", "")
    workspace.write("y.py", "")
    context = workspace.context(LIST, "1.1", environment=environment)
    proposal = workspace.propose(LIST, "1.1", environment=environment)
    assert proposal.refusal is None
    run = workspace.run(context, proposal)
    monkeypatch.setattr("llmval_tui.actions.steps.env_export.gpu_inventory", lambda: inventory)
    assert perform.main([str(run.folder)]) == 0
    return proposal, run


def test_export_is_shown_performed_judged_and_given_to_its_section(workspace, monkeypatch, capsys):
    environment = {"PATH": "/bin", "NCCL_P2P_DISABLE": "1", "NCCL_NVLS_ENABLE": "0"}
    inventory = {"error": "there is no NVIDIA driver here"}
    proposal, run = exported(workspace, monkeypatch, inventory, environment)
    text = "\n".join(proposal.details)
    assert "NCCL_P2P_LEVEL: (not set) → NVL" in text
    assert "NCCL_P2P_DISABLE: 1 → 0" in text
    assert "NCCL_NVLS_ENABLE: stays 0" in text
    assert "NCCL_P2P_DISABLE=1 is left over" in text
    assert "left over" in capsys.readouterr().out
    record = json.loads((workspace.folder / f"artifacts/env/{run.id}.json").read_text())
    wanted = {"NCCL_P2P_LEVEL": "NVL", "NCCL_P2P_DISABLE": "0", "QUOTED": "it's here"}
    assert record["variables"] == wanted
    script = workspace.folder / f"artifacts/env/{run.id}.sh"
    shown = subprocess.run(
        ["bash", "-c", f". {script}; echo $QUOTED; env"], capture_output=True, text=True, env={}, check=True
    )
    assert "it's here" in shown.stdout
    assert "NVLS" not in shown.stdout
    gates = {gate.name: gate for gate in action_named("env_export").judge(run)[0]}
    assert gates["variables"].outcome is Outcome.PASS
    assert gates["topology"].outcome is Outcome.INCONCLUSIVE

    step = workspace.context(LIST, "1.2").step
    checklist = workspace.context(LIST).checklist
    assert section_environment(workspace.store, checklist, step) == {}, "not judged yet"
    workspace.judge(run, Outcome.INCONCLUSIVE)
    assert section_environment(workspace.store, checklist, step) == wanted
    inside = workspace.propose(LIST, "1.2", environment=environment)
    assert inside.commands[0].env == wanted
    assert inside.commands[0].display.startswith("NCCL_P2P_LEVEL=NVL ")
    assert any(run.id in line for line in inside.details)
    assert any("the shell has 1, the run gets 0" in line for line in inside.details)
    assert workspace.propose(LIST, "2.1").commands[0].env == {}, "another section gets nothing"
    workspace.judge(run, Outcome.FAIL)
    assert newest_export(workspace.store, checklist, "1. A") is None


def test_no_older_export_stands_in_for_the_newest(workspace, monkeypatch):
    _, older = exported(workspace, monkeypatch, {"gpus": []}, {})
    workspace.judge(older, Outcome.PASS)
    given = workspace.propose(LIST, "1.2")
    assert given.commands[0].env != {} and given.deviations == ()
    _, newer = exported(workspace, monkeypatch, {"gpus": []}, {})
    words = {None: "is not judged yet", Outcome.FAIL: "was judged fail", Outcome.INVALID: "was judged invalid"}
    for outcome, word in words.items():
        if outcome is not None:
            workspace.judge(newer, outcome)
        withheld = workspace.propose(LIST, "1.2")
        assert withheld.commands[0].env == {}
        assert withheld.deviations == (f"without the section's environment: its newest export, run {newer.id}, {word}",)
        assert workspace.propose(LIST, "2.1").deviations == (), "another section has no export"
    workspace.judge(newer, Outcome.INCONCLUSIVE)
    again = workspace.propose(LIST, "1.2")
    assert again.commands[0].env == given.commands[0].env and again.deviations == ()
    assert any(newer.id in line for line in again.details)


def test_a_record_that_was_changed_fails(workspace, monkeypatch):
    _, run = exported(workspace, monkeypatch, {"gpus": []}, {})
    path = workspace.folder / f"artifacts/env/{run.id}.json"
    path.write_text(path.read_text().replace("NVL", "PCI"))
    assert action_named("env_export").judge(run)[0][0].outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("change", "outcome", "words"),
    [
        (lambda gpus: None, Outcome.PASS, ""),
        (lambda gpus: gpus[2].down.add(5), Outcome.FAIL, "links that are not active: GPU 2: 17 of 18 (link 5)"),
        (lambda gpus: gpus[3].untold.add(17), Outcome.FAIL, "same kind: GPU 3 has 17 of 18"),
        (
            lambda gpus: setattr(gpus[1], "links", 0),
            Outcome.FAIL,
            "PCIe fallback between 3 pairs: 0–1 PXB, 1–2 PXB, 1–3 PXB",
        ),
    ],
)
def test_from_the_driver_to_the_verdict(workspace, monkeypatch, capsys, change, outcome, words):
    """The item with a fake NVML that reports every pair and every link."""
    fake = fake_pynvml
    gpus = [fake.FakeGpu(index) for index in range(4)]
    change(gpus)
    monkeypatch.setitem(sys.modules, "pynvml", fake.FakeNvml(*gpus))
    source = NvmlSource()
    source.open()
    _, run = exported(workspace, monkeypatch, source.inventory(), {})
    source.close()
    gate = {gate.name: gate for gate in action_named("env_export").judge(run)[0]}["topology"]
    assert (gate.outcome, gate.reason) == (outcome, gate.reason) and words in gate.reason
    assert "GPU0      X" in capsys.readouterr().out
    kept = json.loads((workspace.folder / f"artifacts/env/{run.id}.json").read_text())["inventory"]
    assert len(kept["gpus"][0]["nvlink_states"]) == 18
    assert [len(row) for row in kept["topology"]["links"]] == [4] * 4


def test_peers_that_cannot_read_one_another_are_named():
    found = inventory(("X", "NV18"), ("NV18", "X"))
    found["topology"]["p2p"] = [["X", "disabled_by_regkey"], ["disabled_by_regkey", "X"]]
    gate = judge_topology(found)
    assert gate.outcome is Outcome.INCONCLUSIVE
    assert "0–1 disabled_by_regkey" in gate.reason


@pytest.mark.parametrize("value", ["1", "2"])
@pytest.mark.parametrize("now", [{}, {"NCCL_NVLS_ENABLE": "0"}])
def test_multicast_is_never_turned_on(workspace, value, now):
    exports = f"export NCCL_NVLS_ENABLE={value} TORCH_SYMM_MEM_DISABLE_MULTICAST=0 A=1"
    workspace.write("docs/p.md", f"<!-- llmval:env -->\n```\n{exports}\n```\n")
    proposal = workspace.propose(LIST, "1.1", environment=now)
    assert proposal.params["variables"] == {"A": "1"}
    assert any("would turn NVLink multicast on" in line for line in proposal.details)


def inventory(*rows, active=18):
    gpus = [{"index": i, "nvlink_links": 18, "nvlink_links_active": active} for i in range(len(rows))]
    return {"gpus": gpus, "topology": {"gpus": list(range(len(rows))), "links": [list(row) for row in rows]}}


@pytest.mark.parametrize(
    ("found", "chosen", "outcome", "words"),
    [
        (inventory(("X", "NV18"), ("NV18", "X")), None, Outcome.PASS, ""),
        (inventory(("X", "PHB"), ("PHB", "X")), None, Outcome.FAIL, "PCIe fallback between 1 pairs: 0–1 PHB"),
        (inventory(("X", None), (None, "X")), None, Outcome.INCONCLUSIVE, "reports no link"),
        (inventory(("X", "NV18"), ("NV18", "X"), active=17), None, Outcome.FAIL, "GPU 0: 17 of 18"),
        (inventory(("X",)), None, Outcome.INCONCLUSIVE, "no pair"),
        ({"gpus": []}, None, Outcome.INCONCLUSIVE, "no GPU"),
        ({"error": "it hangs"}, None, Outcome.INCONCLUSIVE, "it hangs"),
        (
            inventory(("X", "NV18", "SYS"), ("NV18", "X", "SYS"), ("SYS", "SYS", "X")),
            [0, 1],
            Outcome.PASS,
            "",
        ),
    ],
)
def test_topology(found, chosen, outcome, words):
    gate = judge_topology(found, chosen)
    assert gate.outcome is outcome
    assert words in gate.reason


def test_an_export_of_another_checklist_is_not_this_sections(workspace, monkeypatch):
    _, run = exported(workspace, monkeypatch, {"gpus": []}, {})
    workspace.judge(run, Outcome.PASS)
    mine, others = workspace.context(LIST, "1.2"), workspace.context(LIST, "1.2", name="other.md")
    assert section_environment(workspace.store, mine.checklist, mine.step) != {}
    assert section_environment(workspace.store, others.checklist, others.step) == {}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NCCL_P2P_LEVEL": "PCI"}, "NCCL_P2P_LEVEL=PCI in the environment is not a level of NCCL, which ignores it"),
        ({"NCCL_P2P_LEVEL": "LOC"}, "NCCL_P2P_LEVEL=LOC is left over in the environment and hides NVLink"),
        ({"NCCL_P2P_LEVEL": "0"}, "NCCL_P2P_LEVEL=0 is left over in the environment and hides NVLink"),
        ({"NCCL_NET_GDR_LEVEL": "5"}, "NCCL_NET_GDR_LEVEL=5 in the environment is a legacy number: write one of LOC,"),
        ({"NCCL_NET_GDR_LEVEL": "NVL"}, "NCCL_NET_GDR_LEVEL=NVL in the environment is not a level"),
    ],
)
def test_a_level_that_nccl_does_not_know_is_named(workspace, variables, words):
    workspace.write("docs/p.md", DOCUMENT)
    details = "\n".join(workspace.propose(LIST, "1.1", environment=variables).details)
    assert words in details


def test_a_level_of_the_block_is_checked_too(workspace):
    workspace.write("docs/p.md", "<!-- llmval:env nvlink -->\n```\nexport NCCL_P2P_LEVEL=PCI\n```\n")
    assert "NCCL_P2P_LEVEL=PCI in the block is not a level" in "\n".join(workspace.propose(LIST, "1.1").details)


@pytest.mark.parametrize(
    ("outcome", "ranks", "expected", "words"),
    [
        (Outcome.PASS, 2, Outcome.PASS, ""),
        (Outcome.PASS, 1, Outcome.INCONCLUSIVE, "it measured 1 of 2 GPUs"),
        (Outcome.FAIL, 2, Outcome.FAIL, "GPU 1 is slow"),
    ],
)
def test_the_newest_measurement_of_the_links_is_a_gate(workspace, monkeypatch, outcome, ranks, expected, words):
    context = workspace.context("Run `torchrun --nproc_per_node=2 collective_bandwidth.py`", name="links.md")
    command = Command("main", ["torchrun", "/opt/runners/collective_bandwidth.py"], "torchrun …")
    figures = {"all_reduce_busbw_gb_per_s": 329.7, "pair_min_gb_per_s": 393.7, "ranks": float(ranks)}
    for host, result in ((platform.node(), outcome), ("another", Outcome.FAIL)):
        measured = workspace.run(context, commands=[command], host={"name": host})
        write_verdict(measured, result, metrics=figures, summary="GPU 1 is slow")
    trial = workspace.run(context, commands=[command], host={"name": platform.node()}, preset="smoke")
    write_verdict(trial, Outcome.INCONCLUSIVE, metrics=figures)
    proposal, run = exported(workspace, monkeypatch, inventory(("X", "NV18"), ("NV18", "X")), {})
    kept = proposal.params["measured_links"]
    assert kept is not None and any(kept in line for line in proposal.details)
    gate = {gate.name: gate for gate in action_named("env_export").judge(run)[0]}["links, measured"]
    assert gate.outcome is expected and words in gate.reason
    assert gate.measured == f"all-reduce 329.7 GB/s, slowest pair 393.7 GB/s (run {kept})"


def test_without_a_measurement_of_the_links_the_item_says_so(workspace, monkeypatch):
    proposal, run = exported(workspace, monkeypatch, inventory(("X", "NV18"), ("NV18", "X")), {})
    assert any("was not measured here" in line for line in proposal.details)
    assert [gate.name for gate in action_named("env_export").judge(run)[0]] == ["variables", "topology"]
