"""Freezing all that an item runs: several commands, working folders, outputs, scripts and their values."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.command.item import fill_script, frozen_script
from llmval_tui.actions.gates.exit import exit_gates
from llmval_tui.actions.reading.model import Kind, Reading, WrittenCommand, WrittenScript
from llmval_tui.actions.steps.command import CommandAction
from llmval_tui.foundation.errors import Refused
from llmval_tui.runs.records import Artifact, CommandStatus, Outcome

OWN = "python own.py"


def commands(*texts: str, folder: str | None = None) -> Reading:
    written = tuple(WrittenCommand(text, 10 + number, folder) for number, text in enumerate(texts))
    return Reading(Kind.COMMANDS if texts[1:] else Kind.COMMAND, "", "command", written)


def script(text: str, *placeholders: str) -> Reading:
    return Reading(Kind.SCRIPT, "", "command", script=WrittenScript(text, 12, "bash", placeholders))


def proposed(workspace: Any, reading: Reading, **changes: Any) -> Proposal:
    workspace.write("own.py", "")
    workspace.write("sub/own.py", "")
    workspace.write("sub/tool", "#!/bin/sh\n").chmod(0o755)
    return CommandAction().propose(replace(workspace.context("An item"), reading=reading, **changes))


def test_several_commands_have_their_own_logs_and_lines(workspace) -> None:
    proposal = proposed(workspace, commands(f"{OWN} --output-json a.json", f"{OWN} 2 > b.txt", f"{OWN} 3"))
    assert [(c.label, c.line, c.needs_success) for c in proposal.commands] == [
        ("main", 10, False),
        ("main2", 11, True),
        ("main3", 12, True),
    ]
    assert proposal.artifacts == (Artifact("a.json"), Artifact("b.txt"))
    assert proposal.params["outputs"] == {"main": ["a.json"], "main2": ["b.txt"], "main3": []}
    assert proposal.summary == "Runs 3 commands in order (own.py, own.py, own.py); all must pass."


def test_everything_of_a_command_is_relative_to_its_folder(workspace) -> None:
    proposal = proposed(workspace, commands("./tool --output r.json > log.txt", "python own.py", folder="sub"))
    first, second = proposal.commands
    assert (first.argv, first.cwd, first.tee) == (["./tool", "--output", "r.json"], "sub", "sub/log.txt")
    assert first.display == "(cd sub && ./tool --output r.json > log.txt)"
    assert second.argv[1:] == ["own.py"]
    assert proposal.artifacts == (Artifact("sub/r.json"), Artifact("sub/log.txt"))


def test_a_later_command_may_use_a_folder_that_an_earlier_one_makes(workspace) -> None:
    made = WrittenCommand("python -m json.tool", 11, "made")
    proposal = proposed(workspace, replace(commands(OWN), commands=(WrittenCommand(OWN, 10), made)))
    assert proposal.commands[1].cwd == "made"
    with pytest.raises(Refused, match="no folder made"):
        proposed(workspace, replace(commands(OWN), commands=(made,)))
    with pytest.raises(Refused, match="outside of the workspace"):
        proposed(workspace, commands(OWN, folder=".."))


@pytest.mark.parametrize("text", [f"{OWN} >> all.txt", f"{OWN} | tee -a all.txt"])
def test_an_appended_output_is_proved_by_the_bytes_of_this_run(workspace, text: str) -> None:
    proposal = proposed(workspace, commands(text))
    command = proposal.commands[0]
    assert (command.tee, command.append, command.appended_file) == ("all.txt", True, "appended.main.txt")
    assert proposal.artifacts == (Artifact("artifacts/runs/{run_id}/appended.main.txt"),)
    assert f"appends to {command.tee}" in proposal.details


def test_an_output_that_is_written_twice_is_refused(workspace) -> None:
    with pytest.raises(Refused, match=r"two commands of the item write log\.txt"):
        proposed(workspace, commands(f"{OWN} > log.txt", f"{OWN} | tee log.txt"))
    assert len(proposed(workspace, commands(f"{OWN} > log.txt", f"{OWN} >> log.txt")).commands) == 2


def test_files_that_the_words_promise_are_artifacts(workspace) -> None:
    reading = replace(commands(f"{OWN} > log.txt"), evidence=("log.txt", "results/", "./report.json"))
    assert [item.path for item in proposed(workspace, reading).artifacts] == ["log.txt", "results", "report.json"]
    with pytest.raises(Refused, match="outside of the workspace"):
        proposed(workspace, replace(reading, evidence=("/etc/passwd",)))


def test_a_script_is_frozen_with_its_hash(workspace) -> None:
    text = "for i in 1 2; do echo $i; done | tac"
    proposal = proposed(workspace, script(text))
    command = proposal.commands[0]
    assert command.argv == ["bash", "-euo", "pipefail", "{run}/main.sh"]
    assert command.display == "bash -euo pipefail main.sh"
    assert command.script is not None and command.line == 12
    assert command.script.text == text + "\n"
    assert command.script.sha256 == hashlib.sha256((text + "\n").encode()).hexdigest()
    assert proposal.summary == "Runs a script of 1 line with bash and judges its exit code."


def test_a_script_has_no_smoke_preset(workspace) -> None:
    context = workspace.context("An item", preset="smoke")
    with pytest.raises(Refused, match="no short form of scripts"):
        CommandAction().propose(replace(context, reading=script("true")))


@pytest.mark.parametrize(
    "value", ["x; touch pwned", "$(touch pwned)", "`id`", "a b", "'", '"', "a\nb", "", "*", "~", "#x"]
)
def test_a_value_is_never_code_of_a_script(value: str) -> None:
    by_environment = fill_script(WrittenScript('echo "$POD"', 1, "bash", ("POD",)), {"POD": value})
    assert (by_environment.text, dict(by_environment.environment)) == ('echo "$POD"', {"POD": value})
    with pytest.raises(Refused, match="could read as code"):
        fill_script(WrittenScript("echo <pod>", 1, "bash", ("pod",)), {"pod": value})


def test_plain_values_and_missing_values_of_a_script() -> None:
    written = WrittenScript("kubectl logs <pod> -n <ns>", 1, "bash", ("pod", "ns"))
    assert fill_script(written, {"pod": "web-1.2", "ns": "a/b"}).text == "kubectl logs web-1.2 -n a/b"
    with pytest.raises(Refused, match="needs a value for ns"):
        fill_script(written, {"pod": "web"})


def test_a_file_of_a_script_ends_with_a_line_break() -> None:
    assert frozen_script("main2", "true").name == "main2.sh"
    assert frozen_script("main", "true").text == frozen_script("main", "true\n").text == "true\n"


def ended(workspace: Any, proposal: Proposal, codes: list[int | None], **status: Any) -> Any:
    found = [CommandStatus(c.label, exit_code=code) for c, code in zip(proposal.commands, codes, strict=False)]
    for name, value in status.items():
        setattr(found[0], name, value)
    return workspace.run(workspace.context("An item"), proposal, status={"commands": found})


def test_each_command_has_a_gate_with_its_line(workspace) -> None:
    proposal = proposed(workspace, commands(OWN, OWN, OWN))
    gates = exit_gates(ended(workspace, proposal, [0, 4]))
    assert [(gate.name, gate.line, gate.outcome, gate.measured) for gate in gates] == [
        ("exit: main", 10, Outcome.PASS, "exit 0"),
        ("exit: main2", 11, Outcome.FAIL, "exit 4"),
        ("exit: main3", 12, Outcome.INCONCLUSIVE, "not started"),
    ]
    assert gates[2].reason == "main2 did not succeed"


def test_a_timeout_and_retries_are_in_the_gate(workspace) -> None:
    proposal = proposed(workspace, commands(OWN))
    proposal = replace(proposal, commands=(replace(proposal.commands[0], timeout_s=90.0),))
    late = exit_gates(ended(workspace, proposal, [0], timed_out=True))[0]
    assert (late.outcome, late.measured, late.bound) == (
        Outcome.FAIL,
        "timed out after 90 s",
        "exit code 0 within 90 s",
    )
    again = exit_gates(ended(workspace, proposal, [0], failed_attempts=["exit 1", "exit 1"]))[0]
    assert (again.outcome, again.measured) == (Outcome.PASS, "exit 0, after 2 failed attempts (exit 1)")
