"""`needs=` and `smoke=as-written`: items that are left out, and those that a preset leaves as they are."""

from pathlib import Path

import pytest

from llmval_tui.actions.api import Proposal
from llmval_tui.actions.command.argv import parse_argv
from llmval_tui.actions.command.outputs import take_outputs
from llmval_tui.actions.registry import propose
from llmval_tui.checklist.model import parse
from llmval_tui.foundation.errors import Refused

QUERY = "Run `printf hello`."


def refusal(proposal: Proposal) -> str:
    return proposal.refusal or ""


def test_an_item_whose_program_is_missing_is_skipped_before_anything_is_asked(workspace) -> None:
    found = propose(workspace.context(f"{QUERY} <!-- llmval: needs=no-such-program -->"))
    assert found.is_skip and refusal(found).startswith("no-such-program is not installed") and not found.unreviewed
    two = propose(workspace.context(f'{QUERY} <!-- llmval: needs="no-such-program, sh, nor-this" -->'))
    assert refusal(two).startswith("no-such-program and nor-this are not installed")
    there = propose(workspace.context(f"{QUERY} <!-- llmval: needs=sh -->"))
    assert there.refusal is None and not there.is_skip


def test_a_value_that_names_no_program_is_refused(workspace) -> None:
    found = propose(workspace.context(f"{QUERY} <!-- llmval: needs=a;b -->"))
    assert not found.is_skip and "write needs=dcgmi" in refusal(found)


def test_a_heading_says_it_for_its_items_and_an_item_for_itself(tmp_path) -> None:
    text = b"# L\n\n## 1. S <!-- llmval: needs=no-such-program -->\n- [ ] Run `printf a`.\n"
    checklist = parse(text, tmp_path / "l.md")
    assert checklist.section_of(checklist.steps[0]).directives == {"needs": "no-such-program"}
    with pytest.raises(Refused, match=r"on-fail=stop or continue and needs=PROGRAM"):
        parse(b"# L\n\n## 1. S <!-- llmval: timeout=3 -->\n- [ ] Run `printf a`.\n", tmp_path / "l.md")


def test_the_smoke_preset_leaves_out_what_it_cannot_make_short(workspace) -> None:
    found = propose(workspace.context(QUERY, preset="smoke"))
    assert found.is_skip and "no short form of printf" in refusal(found)
    as_written = propose(workspace.context(f"{QUERY} <!-- llmval: smoke=as-written -->", preset="smoke"))
    assert as_written.refusal is None
    assert as_written.deviations == ("smoke preset: the command is as written",)
    wrong = propose(workspace.context(f"{QUERY} <!-- llmval: smoke=yes -->", preset="smoke"))
    assert not wrong.is_skip and "write smoke=as-written" in refusal(wrong)


def test_the_source_of_a_criterion_is_in_the_proposal(workspace) -> None:
    found = propose(workspace.context(f'{QUERY} <!-- llmval: source="the order" -->'))
    assert "its criteria come from: the order" in found.details


def test_a_criterion_on_words_that_are_not_a_command_says_what_to_write(workspace) -> None:
    found = propose(workspace.context('- `nonsense` <!-- llmval: expect="stdout not empty" -->'))
    assert "add action=command" in refusal(found)


@pytest.mark.parametrize("command", ["df --output=pcent /", "kubectl get pods --output json", "lsblk --output NAME"])
def test_an_output_that_is_a_format_promises_no_file(command) -> None:
    found = take_outputs(parse_argv(command.split()), None, None, Path("/"))
    assert found.artifacts == []
    with_file = take_outputs(parse_argv(["tool", "--output", "x.json"]), None, None, Path("/"))
    assert [one.path for one in with_file.artifacts] == ["x.json"]


def test_a_program_that_reports_alone_is_a_command(workspace) -> None:
    assert [one.argv for one in propose(workspace.context("At least two cores: `nproc`")).commands] == [["nproc"]]


def test_a_heading_that_needs_a_program_does_not_skip_what_a_person_does(workspace) -> None:
    text = "# L\n\n## 1. S <!-- llmval: needs=no-such-program -->\n- [ ] Ask the site team.\n"
    found = propose(workspace.context(text))
    assert not found.is_skip and found.action == "manual" and "no-such-program" not in (found.refusal or "")
