"""Which items ask before they start, and which answer still holds."""

from dataclasses import replace
from pathlib import Path

import pytest

from llmval_tui.actions.api import Context, Proposal
from llmval_tui.actions.registry import propose
from llmval_tui.actions.review.answers import answer_to
from llmval_tui.actions.review.describe import describe
from llmval_tui.actions.review.model import Decision, ListSettings
from llmval_tui.actions.review.record import forget_answers, record_answers, write_into_list
from llmval_tui.actions.review.settings import settings_of, settings_path
from llmval_tui.checklist.model import load
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled

LIST = """# List

## 1. Part
- [ ] Run `python check.py`
- [ ] Run `uname -a`
- [ ] Run `rm -rf build`
- [ ] Run `ls <pod>`
- [ ] Run `ls`
"""


@pytest.fixture
def site(workspace):
    """A list with a script, on disk."""
    workspace.write("check.py", "print('ok')\n")
    workspace.write("list.md", LIST)
    return Site(workspace)


class Site:
    def __init__(self, workspace):
        self.workspace = workspace
        self.path: Path = workspace.folder / "list.md"

    def context(self, number: str = "1.1", **changes) -> Context:
        made = self.workspace.context(self.path.read_text(), number, **changes)
        return replace(made, settings=settings_of(self.path, self.workspace.folder))

    def propose(self, number: str = "1.1", **changes) -> Proposal:
        return propose(self.context(number, **changes))

    def answer(self, number: str = "1.1", decision: Decision = Decision.RUN, in_list: bool = False, **changes) -> None:
        context = self.context(number, **changes)
        step, when = context.step, "2026-11-29T02:00:00Z"
        proposal = propose(context)
        answer = answer_to(
            step, proposal, decision, self.workspace.folder, by="anna", when=when, in_list=in_list
        )  # fmt: skip
        if in_list:
            write_into_list(self.path, step, answer)
        else:
            record_answers(self.path, self.workspace.folder, [answer])

    def edit(self, old: str, new: str) -> None:
        text = self.path.read_text()
        assert old in text
        self.path.write_text(text.replace(old, new))


def may_start(proposal: Proposal) -> bool:
    """Whether it can run, and no question about it is open."""
    return proposal.refusal is None and proposal.unreviewed is None


def test_a_diagnostic_starts_and_a_script_asks(site):
    assert may_start(site.propose("1.2"))
    proposal = site.propose("1.1")
    assert not may_start(proposal) and "It runs check.py," in proposal.unreviewed


def test_a_torchrun_item_is_named_as_the_operator_wrote_it(site):
    """llmval starts its own launcher in the place of torchrun; the operator has never heard of that."""
    site.edit("python check.py", "torchrun --nproc_per_node=2 check.py --steps 3")
    proposal = site.propose(gpu_count=2)
    assert "It runs check.py under torchrun, which nobody has confirmed yet." in proposal.unreviewed
    lines = describe(site.context().step, proposal, site.workspace.folder)
    assert [text for label, text in lines if label == "question"] == [proposal.open_question.text]
    assert all("{run}" not in text for _, text in lines)


@pytest.mark.parametrize("name", ["check.py", "python"])
def test_a_torchrun_item_never_asks_if_the_settings_name_its_script_or_python(site, name):
    site.edit("python check.py", "torchrun --nproc_per_node=2 check.py")
    settings_path(site.path).write_text(f'never_ask = ["{name}"]\n')
    assert may_start(site.propose(gpu_count=2))
    site.edit("torchrun --nproc_per_node=2 check.py", "torchrun --nproc_per_node=2 --no-python ./check.py")
    assert not may_start(site.propose(gpu_count=2))


@pytest.mark.parametrize("in_list", [False, True], ids=["file", "comment"])
class TestAnAnswer:
    def test_run_lets_the_item_start_and_is_recorded_with_the_run(self, site, in_list):
        site.answer(in_list=in_list)
        proposal = site.propose()
        assert may_start(proposal), proposal.unreviewed or proposal.refusal
        assert proposal.params["confirmed"]["by"] == "anna"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("`python check.py`", "`python check.py --all`"),
            ("Run `python", "Please run `python"),
            ("1. Part", "1. Other"),
        ],
    )
    def test_a_changed_item_asks_again(self, site, in_list, old, new):
        site.answer(in_list=in_list)
        site.edit(old, new)
        assert not may_start(site.propose())

    def test_a_changed_script_asks_again(self, site, in_list):
        site.answer(in_list=in_list)
        site.workspace.write("check.py", "import os\n")
        assert "changed" in site.propose().unreviewed

    def test_a_tick_or_a_deviation_changes_nothing(self, site, in_list):
        site.answer(in_list=in_list)
        site.edit("- [ ] Run `python check.py`", "- [x] Run `python check.py`")
        site.path.write_text(site.path.read_text().replace("check.py`", "check.py` <!-- llmval: deviation: x -->", 1))
        assert may_start(site.propose())

    def test_manual_is_manual(self, site, in_list):
        site.answer(decision=Decision.MANUAL, in_list=in_list)
        proposal = site.propose()
        assert (proposal.action, proposal.commands) == ("manual", ())
        assert "anna decided on 2026-11-29 to do this item by hand" in proposal.refusal

    def test_skip_is_skipped(self, site, in_list):
        site.answer(decision=Decision.SKIP, in_list=in_list)
        assert "to skip this item" in site.propose().refusal

    @pytest.mark.parametrize("decision", [Decision.MANUAL, Decision.SKIP])
    def test_a_changed_item_is_not_skipped(self, site, in_list, decision):
        site.answer(decision=decision, in_list=in_list)
        site.edit("Run `python", "Please run `python")
        proposal = site.propose()
        assert proposal.refusal is None and proposal.unreviewed is not None

    def test_a_destructive_program_asks_each_time_and_a_confirmation_holds_for_what_was_shown(self, site, in_list):
        site.answer("1.3", in_list=in_list)
        question = site.propose("1.3").open_question
        assert question.each_time and "rm" in question.text
        assert may_start(site.propose("1.3", confirmed=(question.code,)))
        site.edit("rm -rf build", "rm -rf bin")
        assert not may_start(site.propose("1.3", confirmed=(question.code,)))

    def test_it_can_be_forgotten(self, site, in_list):
        before = site.path.read_bytes()
        site.answer(in_list=in_list)
        checklist = load(site.path)
        forget_answers(site.path, site.workspace.folder, [checklist.step("1.1")])
        assert not may_start(site.propose())
        assert site.path.read_bytes() == before


def test_an_answer_in_the_list_changes_nothing_but_its_comment(site):
    before = site.path.read_text()
    site.answer(in_list=True)
    first = site.path.read_text()
    assert first.count("<!--") == 1
    site.answer(decision=Decision.SKIP, in_list=True)
    after = site.path.read_text()
    assert after.count("<!-- llmval: answer=skip") == 1 and after.count("<!--") == 1
    line = next(line for line in after.splitlines() if "<!--" in line)
    assert after.replace(line, line.split(" <!--")[0]) == before


def test_two_answers_for_one_item_are_refused(site):
    site.answer()
    site.answer(decision=Decision.SKIP, in_list=True)
    assert "one in list.llmval.toml: remove one" in site.propose().refusal


@pytest.mark.parametrize("comment", ["answer=run", "answer=maybe hash=" + "a" * 32, "answer=run hash=xyz"])
def test_an_answer_that_a_person_wrote_by_hand_is_refused(site, comment):
    site.edit("check.py`", f"check.py` <!-- llmval: {comment} -->")
    assert "is not one that llmval wrote" in site.propose().refusal


class TestValues:
    def test_a_missing_value_is_asked_for(self, site):
        proposal = site.propose("1.4")
        assert proposal.open_question.missing == ("pod",) and proposal.commands == ()

    def test_a_value_of_the_file_is_used_and_recorded(self, site):
        record_answers(site.path, site.workspace.folder, [], {"pod": "check.py"})
        proposal = site.propose("1.4")
        assert proposal.commands[0].argv[1:] == ["check.py"]
        assert proposal.params["values"] == {"pod": "check.py"}

    def test_set_overrides_the_file(self, site):
        record_answers(site.path, site.workspace.folder, [], {"pod": "a"})
        assert site.propose("1.4", values={"pod": "b"}).commands[0].argv[1:] == ["b"]

    @pytest.mark.parametrize(
        "value",
        ["; rm -rf /", "$(reboot)", "`reboot`", "a b", "a|b", "> /etc/x", "&& reboot", "*", "$HOME", "'", '"', "\\",
         "<pod>", "-rf", "#x", "a\tb"],
    )  # fmt: skip
    def test_no_character_of_a_value_becomes_syntax(self, site, value):
        proposal = site.propose("1.4", values={"pod": value})
        if proposal.refusal is None:
            assert [command.argv[1:] for command in proposal.commands] == [[value]]

    def test_a_value_that_names_a_destructive_program_asks_each_time(self, site):
        site.edit("`ls <pod>`", "`<tool> x`")
        proposal = site.propose("1.4", values={"tool": "rm"})
        assert proposal.refusal or proposal.open_question.each_time


class TestSettings:
    def write(self, site, text: str) -> None:
        settings_path(site.path).write_text(text)

    def test_a_program_that_never_asks_starts(self, site):
        self.write(site, 'never_ask = ["python"]\n')
        assert may_start(site.propose("1.1"))
        assert not may_start(site.propose("1.3"))

    def test_a_script_that_never_asks_starts(self, site):
        self.write(site, 'never_ask = ["check.py"]\n')
        assert may_start(site.propose("1.1"))

    def test_variables_go_to_every_command(self, site):
        self.write(site, '[env]\nSITE = "x"\n')
        proposal = site.propose("1.2")
        assert proposal.commands[0].env["SITE"] == "x" and may_start(proposal)

    @pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "PYTHONPATH", "KUBECONFIG", "BASH_ENV"])
    def test_a_variable_that_changes_the_code_asks(self, site, name):
        self.write(site, f'[env]\n{name} = "x"\n')
        assert not may_start(site.propose("1.2"))

    def test_an_item_that_sets_a_variable_for_a_diagnostic_asks(self, site):
        site.edit("`uname -a`", "`LD_AUDIT=./x.so uname -a`")
        assert not may_start(site.propose("1.2"))

    def test_the_interpreter_of_the_settings_runs_the_scripts(self, site):
        python = site.workspace.write("venv/bin/python", "#!/bin/sh\n")
        python.chmod(0o755)
        self.write(site, '[python]\npath = "venv/bin/python"\n')
        assert site.propose("1.1").commands[0].argv[0] == str(python)

    def test_the_python_of_path_runs_the_scripts_and_is_shown(self, site, monkeypatch):
        python = site.workspace.write("other/python", "#!/bin/sh\n")
        python.chmod(0o755)
        monkeypatch.setenv("PATH", f"{python.parent}:/usr/bin:/bin")
        proposal = site.propose("1.1")
        assert proposal.commands[0].argv[0] == str(python)
        assert f"python is {python}" in proposal.details

    def test_a_missing_python_is_one_sentence(self, site, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        assert "python is not on PATH" in site.propose("1.1").refusal

    def test_the_working_folder_is_that_of_the_settings(self, site):
        (site.workspace.folder / "bench").mkdir()
        self.write(site, 'folder = "bench"\n')
        assert site.propose("1.2").commands[0].cwd == "bench"

    def test_a_working_folder_that_is_missing_is_refused(self, site):
        self.write(site, 'folder = "bench"\n')
        assert "there is no folder bench" in site.propose("1.2").refusal


def test_output_outside_the_artifacts_folder_asks(workspace):
    assert may_start(workspace.propose("Run `uname -a > artifacts/u.txt`"))
    assert not may_start(workspace.propose("Run `uname -a > docs/u.txt`"))


def test_the_bundled_list_never_asks(tmp_path, workspace):
    text = (bundled("docs") / "llm_validation_checklist.md").read_text()
    for step in workspace.context(text, "1.1", name="docs/llm_validation_checklist.md").checklist.steps:
        context = workspace.context(text, step.number, name="docs/llm_validation_checklist.md")
        proposal = propose(replace(context, settings=ListSettings(workspace=workspace.folder)))
        assert proposal.unreviewed is None, step.text


def test_a_runner_of_the_workspace_that_is_not_ours_asks(workspace):
    workspace.write("inference_server_load_test.py", "print('mine')\n")
    proposal = workspace.propose("Run `python inference_server_load_test.py --output-json artifacts/x.json`")
    assert proposal.refusal is None and proposal.unreviewed is not None


def test_a_file_that_does_not_parse_is_refused_before_any_proposal(site):
    settings_path(site.path).write_text("[values\n")
    with pytest.raises(Refused, match="line 1"):
        site.context()
