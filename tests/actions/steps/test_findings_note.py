"""The findings of a long-context run go into a document only after the operator accepts them."""

import json
from copy import deepcopy

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.accept import accept, accepted
from llmval_tui.actions.documents.findings_section import BEGIN, END, with_section
from llmval_tui.actions.registry import action_named
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.records import Outcome, worst
from tests.helpers.long_context_results import LIST, PATH, result_of


@pytest.fixture
def noted(workspace, long_context_run):
    """Runs item 4.1 with a result, then item 4.2; returns the judged run of 4.2."""

    def make(result=None, **changes):
        source = long_context_run(result, **changes)
        workspace.judge(source, Outcome.PASS)
        return note(workspace)

    return make


def note(workspace):
    proposal = workspace.propose(LIST, "4.2")
    assert proposal.refusal is None, proposal.refusal
    run = workspace.run(workspace.context(LIST, "4.2"), proposal)
    assert perform.main([str(run.folder)]) == 0
    gates, _, _, question = action_named("findings_note").judge(run)
    workspace.judge(run, worst(gates), question)
    return run, worst(gates), question


def test_from_no_document_to_two_sections(workspace, noted):
    path = workspace.folder / "docs/f.md"
    run, outcome, question = noted()
    assert outcome is Outcome.INCONCLUSIVE
    assert not path.exists(), "nothing is written before the operator accepts"
    assert question["diff"].startswith("--- /dev/null")
    accept(run)
    text = path.read_text()
    assert "### 2026-01-02: llama-3.1-8b, 8 × NVIDIA H200, weights float8_e4m3fn, KV cache float8_e4m3fn" in text
    assert "| 65,536 | passed | 1.50 | 1.50 | +0.06 | 2.50 | 2.000 | 32768 | 40.0 | 2001.0 | 5.000 | 60.0 |" in text
    assert "SHA-256 `" in text
    assert worst(action_named("findings_note").judge(run)[0]) is Outcome.PASS
    assert accepted(run)["by"]

    _, outcome, question = note(workspace)
    assert (outcome, question) == (Outcome.PASS, None), "the same run is not noted twice"

    run, _, question = noted(result_of(32768, 65536))
    assert all(not line.startswith("-") or line.startswith("---") for line in question["diff"].splitlines())
    accept(run)
    assert path.read_text().startswith(text.partition(END)[0].rstrip()), "appended after the existing text"
    assert path.read_text().count("### 2026-01-02") == 2


def test_the_operators_words_and_line_ends_stay(workspace, noted):
    document = (
        "# P\r\n\r\nMine.\r\n\r\n" + f"{BEGIN}\r\nNot measured yet. Run it.\r\nMy note.\r\n{END}\r\n\r\nMore.\r\n"
    )
    path = workspace.write("docs/f.md", document)
    run, *_ = noted()
    accept(run)
    new = path.read_bytes().decode()
    assert "\n" not in new.replace("\r\n", "")
    assert new.startswith(document.partition("Not measured")[0])
    assert new.endswith(document.partition(END)[2])
    assert "My note.\r\n" in new
    assert "Not measured yet" not in new


def test_an_edit_meanwhile_and_a_changed_artifact_are_refused(workspace, noted):
    path = workspace.write("docs/f.md", f"{BEGIN}\n{END}\n")
    run, *_ = noted()
    path.write_text(path.read_text() + "vim\n")
    with pytest.raises(Refused, match="was edited after"):
        accept(run)
    workspace.write(PATH, json.dumps(result_of(32768)))
    proposal = workspace.propose(LIST, "4.2")
    again = workspace.run(workspace.context(LIST, "4.2"), proposal)
    assert perform.main([str(again.folder)]) != 0


def test_without_a_finding_the_item_is_refused(workspace, long_context_run):
    assert "no long-context run of this section has passed yet" in (workspace.propose(LIST, "4.2").refusal or "")
    workspace.write("docs/f.md", f"{END}\n{BEGIN}\n")
    workspace.judge(long_context_run(), Outcome.PASS)
    assert "repair its markers" in (workspace.propose(LIST, "4.2").refusal or "")


def test_text_of_a_result_cannot_break_the_table(workspace, noted):
    result = deepcopy(result_of(32768, 65536))
    result["identity"]["attention_kernel"] = f"a | b\n{END}\x1b[2J"
    run, *_ = noted(result)
    accept(run)
    text = (workspace.folder / "docs/f.md").read_text()
    assert text.count(END) == 1
    assert "\x1b" not in text


def test_the_playbook_takes_a_section():
    text = (bundled("docs") / "long_context_playbook.md").read_text()
    new = with_section(text, ["### x", ""], "p")
    assert new.partition(BEGIN)[0] == text.partition(BEGIN)[0]
    assert "### x" in new
    assert "Not measured yet" not in new
    assert with_section(new, ["### y", ""], "p").index("### x") < with_section(new, ["### y", ""], "p").index("### y")
