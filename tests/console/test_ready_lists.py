"""The ready lists: `llmval new` writes them, a CPU runs them, and with faked tools each criterion counts."""

import json
import re
import sys
from pathlib import Path

import pytest

from llmval_tui.checklist.model import load
from llmval_tui.console.new import ready_lists
from tests.console.conftest import Workspace
from tests.helpers.trusted import trust

HARDWARE = ("node_acceptance", "burn_in_24h")

# What the tools print on a healthy node with eight H200; a fault replaces one answer.
HEALTHY = {
    "--query-gpu=name": "NVIDIA H200\n" * 8,
    "--query-gpu=memory.total": "143771\n" * 8,
    "--query-gpu=power.max_limit": "700.00\n" * 8,
    "--query-gpu=driver_version": "580.95.05\n" * 8,
    "--query-gpu=vbios_version": "96.00.99.00.01\n" * 8,
    "-q": "    Fabric\n        State                             : Completed\n"
    "        Status                            : Success\n" * 8,
    "--query-gpu=persistence_mode": "Enabled\n" * 8,
    "--query-gpu=ecc.mode.current": "Enabled\n" * 8,
    "--query-gpu=ecc.errors.uncorrected.aggregate.total": "0\n" * 8,
    "--query-remapped-rows": "0, 0\n" * 8,
    "topo": "".join(f"GPU{i}\t" + "\t".join(" X " if i == j else "NV18" for j in range(8)) + "\n" for i in range(8)),
    "nvlink -s": "".join(
        f"GPU {i}: NVIDIA H200 (UUID: GPU-{i})\n" + "".join(f"\t Link {j}: 26.562 GB/s\n" for j in range(18))
        for i in range(8)
    ),
    "nvlink -e": "GPU 0: NVIDIA H200\n"
    + "".join(
        f"\t Link {j}: Replay Errors: 0\n\t Link {j}: Recovery Errors: 0\n\t Link {j}: CRC Errors: 0\n"
        for j in range(18)
    ),
    "--query-gpu=pcie.link.gen.max": "5, 16\n" * 8,
    "--query-gpu=power.limit": "700.00, 700.00\n" * 8,
    "--query-gpu=clocks_event_reasons.applications_clocks_setting": "Not Active\n" * 8,
    "--query-gpu=compute_mode": "Default, Disabled\n" * 8,
}
# For each question a node that must not be accepted.
FAULTS = {
    "--query-gpu=name": "NVIDIA H200\n" * 7,
    "--query-gpu=memory.total": "143771\n" * 7 + "81559\n",
    "--query-gpu=power.max_limit": "700.00\n" * 7 + "600.00\n",
    "--query-gpu=driver_version": "570.86.15\n" * 8,
    "--query-gpu=vbios_version": "96.00.99.00.01\n" * 7 + "96.00.A5.00.03\n",
    "-q": "State : Completed\nStatus : Success\n" * 7 + "State : In Progress\nStatus : N/A\n",
    "--query-gpu=persistence_mode": "Enabled\n" * 7 + "Disabled\n",
    "--query-gpu=ecc.mode.current": "Enabled\n" * 7 + "Disabled\n",
    "--query-gpu=ecc.errors.uncorrected.aggregate.total": "0\n" * 7 + "1\n",
    "--query-remapped-rows": "0, 0\n" * 7 + "1, 0\n",
    "topo": HEALTHY["topo"].replace("NV18", "PHB", 1),
    "nvlink -s": HEALTHY["nvlink -s"].replace("Link 3: 26.562 GB/s", "Link 3: <inactive>", 1),
    "nvlink -e": HEALTHY["nvlink -e"].replace("CRC Errors: 0", "CRC Errors: 12", 1),
    "--query-gpu=pcie.link.gen.max": "5, 16\n" * 7 + "5, 8\n",
    "--query-gpu=power.limit": "700.00, 700.00\n" * 7 + "500.00, 700.00\n",
    "--query-gpu=clocks_event_reasons.applications_clocks_setting": "Not Active\n" * 7 + "Active\n",
    "--query-gpu=compute_mode": "Default, Disabled\n" * 7 + "Exclusive_Process, Disabled\n",
}


@pytest.fixture
def tools(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with faked tools; `answers.json` in it says what nvidia-smi prints."""
    folder = workspace.folder / "bin"
    folder.mkdir()
    (folder / "answers.json").write_text(json.dumps(HEALTHY))
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\n"
        "answers = json.loads((pathlib.Path(__file__).parent / 'answers.json').read_text())\n"
        "asked = ' '.join(sys.argv[1:])\n"
        "best = max((key for key in answers if asked.startswith(key)), key=len)\n"
        "print(answers[best], end='')\n"
    )
    program.chmod(0o755)
    for name in ("dcgmi", "nvbandwidth", "all_reduce_perf", "journalctl", "lscpu"):
        (folder / name).write_text("#!/bin/sh\necho something\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin")
    return folder


def plan_of(workspace: Workspace, *arguments: str) -> list[dict]:
    done = workspace.llmval("run", "--all", "--dry-run", "--json", *arguments, timeout=120)
    return json.loads(done.stdout)["steps"]


def confirm_scripts(workspace: Workspace, path: Path) -> None:
    """Answer the open questions about scripts, which `never_ask` does not cover."""
    for one in json.loads(workspace.llmval("review", str(path), "--json").stdout).get("questions", []):
        workspace.llmval("review", str(path), f"--answer={one['code']}=run", check=0)


def test_every_ready_list_is_offered_with_a_sentence(workspace: Workspace) -> None:
    shown = {
        one["name"]: one["about"] for one in json.loads(workspace.llmval("new", "--json", check=0).stdout)["lists"]
    }
    assert next(iter(shown)) == "llm_validation" and {*HARDWARE, "serving_acceptance"} <= set(shown)
    files = {path.stem for path in (Path(__file__).parents[2] / "docs" / "lists").glob("*.md")}
    assert set(shown) == {"llm_validation", *files}
    assert all(20 < len(about) < 200 for about in shown.values())
    assert "burn_in_24h" in workspace.llmval("new", check=0).stdout


@pytest.mark.parametrize("name", sorted(ready_lists()))
def test_it_writes_the_list_with_the_documents_that_it_names(workspace: Workspace, name: str) -> None:
    folder = workspace.folder / "site"
    folder.mkdir()
    done = json.loads(workspace.llmval("new", name, "--workspace", str(folder), "--json", check=0).stdout)
    target = folder / done["list"]
    assert target.read_bytes() == ready_lists()[name].source.read_bytes()
    for named in re.findall(r"docs/[a-zA-Z0-9_]+\.md", target.read_text()):
        assert (folder / named).exists(), named
    assert load(target).steps
    # Again it changes nothing, and says so.
    again = json.loads(workspace.llmval("new", name, "--workspace", str(folder), "--json", check=0).stdout)
    assert again["written"] == [] and set(again["kept"]) == {*done["written"]}


def test_a_file_of_the_operator_is_never_replaced(workspace: Workspace) -> None:
    mine = workspace.folder / "node_acceptance.md"
    mine.write_text("# Mine\n\n- [x] Done\n")
    figures = workspace.folder / "docs" / "acceptance_figures.md"
    figures.unlink(missing_ok=True)
    figures.write_text("my figures")
    refused = workspace.llmval("new", "node_acceptance", check=2)
    assert "--output" in refused.stderr and mine.read_text().startswith("# Mine")
    other = json.loads(workspace.llmval("new", "node_acceptance", "-o", "site/node.md", "--json", check=0).stdout)
    assert (other["written"], other["kept"]) == (["site/node.md"], ["docs/acceptance_figures.md"])
    assert figures.read_text() == "my figures"
    assert "leads outside" in workspace.llmval("new", "burn_in_24h", "-o", "../x.md", check=2).stderr
    assert "take one of" in workspace.llmval("new", "no_such_list", check=2).stderr
    assert "--readonly" in workspace.llmval("new", "burn_in_24h", "--readonly", check=2).stderr


@pytest.mark.parametrize("name", HARDWARE)
def test_every_criterion_has_a_source_and_no_other_word_is_a_demand(
    workspace: Workspace, tools: Path, name: str
) -> None:
    workspace.llmval("new", name, check=0)
    checklist = load(workspace.folder / f"{name}.md")
    assert all(step.directives.get("source") for step in checklist.steps)
    trust(checklist.path, "dcgmi", "nvbandwidth", "all_reduce_perf", "nvidia-smi", "journalctl", "lscpu")
    confirm_scripts(workspace, checklist.path)
    planned = plan_of(workspace, "--checklist", f"{name}.md")
    for step, one in zip(checklist.steps, planned, strict=True):
        stated = step.directives.get("expect", "")
        # Without GPUs the runners are refused, after their words were read.
        assert one["expected"] == "runs" or "GPU" in (one["refusal"] or ""), (step.number, one["expected"])
        assert len(one["criteria"]) == len(stated.split("\n") if stated else []), (step.number, one["criteria"])
    smoke = plan_of(workspace, "--checklist", f"{name}.md", "--preset", "smoke")
    short = "skipped: the smoke preset has no short form of "
    assert {one["expected"].split(short)[0] for one in smoke} == {"runs", ""}


@pytest.mark.parametrize("name", HARDWARE)
def test_without_the_tools_items_are_skipped_with_the_reason(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    empty = workspace.folder / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    workspace.llmval("new", name, check=0)
    planned = plan_of(workspace, "--checklist", f"{name}.md", "--preset", "smoke")
    skipped = [one for one in planned if one["expected"].startswith("skipped")]
    assert {one["expected"] for one in planned if one not in skipped} == {"runs"}
    assert any("nvidia-smi is not installed or not on PATH" in one["expected"] for one in skipped)


@pytest.mark.slow
def test_a_healthy_node_passes_the_questions_to_nvidia_smi_and_each_fault_fails(
    workspace: Workspace, tools: Path
) -> None:
    workspace.llmval("new", "node_acceptance", check=0)
    path = workspace.folder / "node_acceptance.md"
    asked = {
        step.number: step for step in load(path).steps if "nvidia-smi" in " ".join([*step.spans, str(step.blocks)])
    }
    trust(path, "nvidia-smi")
    confirm_scripts(workspace, path)
    answered_by = {
        number: max(
            (key for key in HEALTHY if f"nvidia-smi {key}" in " ".join([*step.spans, str(step.blocks)])), key=len
        )
        for number, step in asked.items()
    }
    assert set(answered_by.values()) == set(HEALTHY) == set(FAULTS)

    def outcomes() -> dict[str, str]:
        done = workspace.llmval("run", *asked, "--json", "--no-tick", "--checklist", str(path), timeout=600)
        assert "results" in done.stdout, done.stdout + done.stderr
        return {one["number"]: f"{one['outcome']}: {one['message']}" for one in json.loads(done.stdout)["results"]}

    assert {number: text for number, text in outcomes().items() if not text.startswith("pass")} == {}
    (tools / "answers.json").write_text(json.dumps(FAULTS))
    assert {number: text for number, text in outcomes().items() if not text.startswith("fail")} == {}


def test_a_folder_without_the_default_list_names_the_one_that_it_has(workspace: Workspace) -> None:
    folder = workspace.folder / "site"
    folder.mkdir()
    (folder / "README.md").write_text("# No list\n")
    (folder / "node.md").write_text("- [ ] Kernel: `uname -r`\n")
    assert "--checklist node.md" in workspace.llmval("status", "--workspace", str(folder), check=2).stderr
