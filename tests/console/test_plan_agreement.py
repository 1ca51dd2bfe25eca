"""The dry run and the plan agree item by item; a failure ends a plan if it was asked to."""

import json
from typing import Any

import pytest

from llmval_tui.plans.records import Plan, plans
from tests.console.conftest import Workspace
from tests.helpers.trusted import trust

LIST = """# List

## 1. First
- [x] Done before.
- [ ] Run: `python ok.py --output-json artifacts/ok.json`
- [ ] Run: `python broken.py`
- [ ] Run: `python ok.py --output-json ../outside.json`
- [ ] Ask the network team whether the cables are labelled.
- [ ] Attach what they left. <!-- llmval: action=collect_logs bundle=artifacts/bundle -->

## 2. Second
- [ ] Run: `python ok.py --output-json artifacts/second.json`
- [ ] Recorded after it passed. <!-- llmval: action=gated_todo -->

## 3. Third
- [ ] Run: `python broken.py`
- [ ] Recorded after it passed. <!-- llmval: action=gated_todo -->
"""
EXPECTED = {
    "1.1": "skipped: ticked",
    "1.2": "runs",
    "1.3": "runs",
    "1.5": "by hand",
    "1.6": "runs after 1.2 and 1.3 have ended",
    "2.1": "runs",
    "2.2": "runs after 2.1 passes",
    "3.1": "runs",
    "3.2": "runs after 3.1 passes",
}
RESULTS = {
    "1.2": "pass",
    "1.3": "fail",
    "1.5": "by hand",
    "1.6": "pass",
    "2.1": "pass",
    "2.2": "pass",
    "3.1": "fail",
    "3.2": "not run",
}


def write(workspace: Workspace, text: str) -> None:
    workspace.checklist.write_text(text)
    trust(workspace.checklist)


def results(done: Any) -> dict[str, str]:
    return {item["number"]: item["outcome"] for item in json.loads(done.stdout)["results"]}


def newest_plan(workspace: Workspace) -> Plan:
    return plans(workspace.folder)[0]


def test_the_dry_run_and_the_plan_agree_item_by_item(workspace: Workspace) -> None:
    write(workspace, LIST)
    dry = json.loads(workspace.llmval("run", "--all", "--dry-run", "--json", check=2).stdout)
    said = {item["step"]: item["expected"] for item in (*dry["steps"], *dry["skipped"])}
    refused = said.pop("1.4")
    assert refused.startswith("refused: ") and "outside of the workspace" in refused
    assert said == EXPECTED
    shown = workspace.llmval("run", "--all", "--dry-run", check=2).stdout
    assert "2.2  Recorded after it passed.\n  plan: runs after 2.1 passes" in shown
    done = workspace.llmval("run", "--all", "--json", check=1)
    assert results(done) == {**RESULTS, "1.4": "refused"}
    messages = {item["number"]: item["message"] for item in json.loads(done.stdout)["results"]}
    assert messages["3.2"] == "it rests on 3.1, which failed"
    assert f"refused: {messages['1.4']}" == refused
    planned = {step.number: step.expected for step in newest_plan(workspace).intent.steps}
    assert planned == {**{key: value for key, value in EXPECTED.items() if key != "1.1"}, "1.4": refused}


STOP, GO_ON = "<!-- llmval: on-fail=stop -->", "<!-- llmval: on-fail=continue -->"
BROKEN, OK = "- [ ] Run: `python broken.py`", "- [ ] Run: `python ok.py a`"


@pytest.mark.parametrize(
    ("lines", "flags", "runs_on"),
    [
        (["## 1. A", BROKEN, OK], ["--fail-fast"], False),
        (["## 1. A", BROKEN, OK], [], True),
        (["## 1. A", f"{BROKEN} {STOP}", OK], [], False),
        ([f"## 1. A {STOP}", f"{BROKEN} {GO_ON}", OK], [], True),
        ([f"## 1. A {STOP}", BROKEN, "## 2. B", OK], [], False),
        (["## 1. A", BROKEN, f"## 2. B {STOP}", OK], [], True),
    ],
)
def test_a_failure_ends_the_plan_if_it_was_asked_to(
    workspace: Workspace, lines: list[str], flags: list[str], runs_on: bool
) -> None:
    write(workspace, "\n".join([*lines, ""]))
    done = workspace.llmval("run", "--all", "--json", *flags, check=1)
    found = json.loads(done.stdout)["results"]
    assert [item["outcome"] for item in found] == ["fail", "pass" if runs_on else "not run"]
    if not runs_on:
        assert found[1]["message"] == "1.1 failed"


def test_a_wrong_on_fail_is_refused(workspace: Workspace) -> None:
    write(workspace, "## 1. A\n- [ ] Run: `python ok.py a` <!-- llmval: on-fail=halt -->\n")
    assert "write on-fail=stop or continue" in workspace.llmval("run", "1.1", "--json", check=2).stdout


def test_steps_by_hand_do_not_change_the_exit_code(workspace: Workspace) -> None:
    write(workspace, "## 1. A\n- [ ] Run: `python ok.py a`\n- [ ] Ask the network team about cables.\n")
    assert results(workspace.llmval("run", "--all", "--json", check=0)) == {"1.1": "pass", "1.2": "by hand"}
    only = workspace.llmval("run", "--all", "--json", check=2)  # nothing was run, which is not a pass
    assert results(only) == {"1.2": "by hand"}
    workspace.llmval("run", "--all", "--dry-run", check=2)


def test_the_lines_of_several_steps_carry_their_numbers(workspace: Workspace) -> None:
    write(workspace, "## 1. A\n- [ ] Run: `python ok.py a`\n- [ ] Run: `python broken.py`\n")
    lines = workspace.llmval("run", "--all", check=1).stdout.splitlines()
    heads = [line for line in lines if line.startswith("▸")]
    assert [head.split()[1] for head in heads] == ["1.1", "1.2"]
    second = lines.index(heads[1])
    between = lines[lines.index(heads[0]) + 1 : second]
    assert all(line.startswith("1.1 │ ") for line in between[:-1])
    assert between[-1].startswith("✓ 1.1  pass, ticked")
    assert any(line.startswith("1.1 │ ✓ exit: main") for line in between)
    rest = lines[second + 1 : next(index for index, line in enumerate(lines) if line.startswith("✗ 1.2"))]
    assert rest and all(line.startswith("1.2 │ ") for line in rest)
    alone = workspace.llmval("run", "1.2", check=1).stdout
    assert "1.2 │" not in alone and "    $ python broken.py" in alone
