"""The TOML file beside a list: what is read, what is refused, and what writing keeps."""

from pathlib import Path

import pytest

from llmval_tui.actions.review.model import Answer, Decision
from llmval_tui.actions.review.record import record_answers
from llmval_tui.actions.review.settings import settings_of, settings_path
from llmval_tui.foundation.errors import Refused

HASH = "ab" * 32
WHOLE = f"""\
# Ours.
folder = "bench"
never_ask = ["pytest", "scripts/check.py"]

[values]
pod = "worker-0"  # of the staging cluster

[env]
NCCL_DEBUG = "WARN"

[python]
path = "/opt/venv/bin/python"

[[bounds]]
item = "Measure the bandwidth"
expect = ["stdout /busbw (\\\\S+)/ >= 400"]

[[answer]]
section = "Checks"
item = "Run `make test`"
answer = "run"
sha256 = "{HASH}"
commands = ["make test"]
scripts = {{ "Makefile" = "{HASH}" }}
by = "anna"
when = "2026-11-29T02:00:00Z"
"""


@pytest.fixture
def checklist(tmp_path: Path) -> Path:
    return tmp_path / "acceptance.md"


def test_the_file_is_named_after_the_list(checklist):
    assert settings_path(checklist).name == "acceptance.llmval.toml"


def test_a_list_without_a_file_has_empty_settings(checklist):
    found = settings_of(checklist, checklist.parent)
    assert (found.values, found.env, found.answers, found.python) == ({}, {}, (), None)


def test_every_setting_is_read(checklist):
    settings_path(checklist).write_text(WHOLE)
    found = settings_of(checklist, checklist.parent)
    assert found.values == {"pod": "worker-0"}
    assert found.env == {"NCCL_DEBUG": "WARN"}
    assert (found.python, found.folder) == ("/opt/venv/bin/python", "bench")
    assert found.never_ask == {"pytest", "scripts/check.py"}
    assert found.bounds[0].expect == (r"stdout /busbw (\S+)/ >= 400",)
    [answer] = found.answers
    assert (answer.decision, answer.by, answer.scripts) == (Decision.RUN, "anna", {"Makefile": HASH})


ANSWER = f'[[answer]]\nsection = "S"\nitem = "I"\nanswer = "run"\nsha256 = "{HASH}"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[values\n", "line 1"),
        ("folder = \n", "is not TOML"),
        ("\nnever_ask = [\n", "at the end, line 2"),
        ('folder = """\nx\n', "at the end, line 2"),
        ('never_ask = ["sudo"]\n', "line 1: sudo starts any program"),
        ("colour = 1\n", "line 1: there is no setting 'colour'"),
        ("\n[value]\npod = 'x'\n", "line 2: there is no setting 'value'"),
        ("values = 3\n", "values must be a table"),
        ("[values]\npod = 3\n", "line 2: pod in [values] must be text in quotes"),
        ('[values]\n"a b" = "x"\n', "is not the name of a placeholder"),
        ('[values]\ndate = "20260101"\n', "leave date out"),
        ('[values]\npod = "a\\u0007b"\n', "control or invisible"),
        ('[env]\n"A B" = "x"\n', "is not the name of an environment variable"),
        ("[env]\nA = true\n", "must be text in quotes"),
        ('python = "python3"\n', "[python] has one setting"),
        ('[python]\nversion = "3"\n', "[python] has one setting"),
        ("folder = 3\n", "folder must be text in quotes"),
        ('folder = "../x"\n', "leads outside of the workspace"),
        ('folder = "/etc"\n', "leads outside of the workspace"),
        ('never_ask = "make"\n', "must be a list of programs"),
        ('never_ask = ["rm"]\n', "line 1: rm asks each time"),
        ("bounds = 3\n", "must be a list of tables"),
        ('[[bounds]]\nitem = "x"\n', "line 1: [[bounds]] has no expect"),
        ('[[bounds]]\nitem = "x"\nexpect = "y"\n', "must be a list of criteria"),
        ('[[bounds]]\nitem = "x"\nexpect = ["y"]\ncolour = 1\n', "has no 'colour'"),
        ("[[answer]]\nitem = 'x'\n", "line 1: [[answer]] has no section"),
        (ANSWER.replace('"run"', '"maybe"'), 'must be "run" or "manual" or "skip"'),
        (ANSWER.replace(HASH, "abc"), "must be a SHA-256"),
        (ANSWER + "occurrence = 0\n", "must be a number from 1"),
        (ANSWER + "colour = 1\n", "has no 'colour'"),
        (ANSWER + "\n" + ANSWER, "line 7: there are two answers for the item “I” (the first is in line 1)"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(checklist, text, said):
    settings_path(checklist).write_text(text)
    with pytest.raises(Refused) as refused:
        settings_of(checklist, checklist.parent)
    assert said in str(refused.value)
    assert "acceptance.llmval.toml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_utf8_is_refused(checklist):
    settings_path(checklist).write_bytes(b"folder = '\xff'\n")
    with pytest.raises(Refused, match="not UTF-8"):
        settings_of(checklist, checklist.parent)


def answer(item: str = "Run `make test`", decision: Decision = Decision.RUN, **changes) -> Answer:
    fields = {"commands": ("make test",), "scripts": {"Makefile": HASH}, "by": "bert", "when": "2026-12-01T00:00:00Z"}
    return Answer("Checks", item, 1, decision, HASH, **{**fields, **changes})


def test_writing_keeps_comments_and_order_and_replaces_the_answer_of_the_same_item(checklist):
    path = settings_path(checklist)
    path.write_text(WHOLE)
    record_answers(checklist, checklist.parent, [answer(decision=Decision.SKIP), answer("Another")], {"node": "n1"})
    text = path.read_text()
    assert text.startswith("# Ours.\n") and "# of the staging cluster" in text
    assert text.index("[values]") < text.index("[env]") < text.index("[[bounds]]") < text.index("[[answer]]")
    found = settings_of(checklist, checklist.parent)
    assert [(one.item, one.decision, one.by) for one in found.answers] == [
        ("Run `make test`", Decision.SKIP, "bert"),
        ("Another", Decision.RUN, "bert"),
    ]
    assert found.values == {"pod": "worker-0", "node": "n1"}


def test_a_new_file_is_small_and_readable(checklist):
    record_answers(checklist, checklist.parent, [answer()])
    text = settings_path(checklist).read_text()
    assert "acceptance.md" in text.splitlines()[0]
    assert settings_of(checklist, checklist.parent).answers == (answer(),)


HOSTILE = ['say "hi" \\ now', "a ]] [[answer]] b", "# no comment", "'''", '"""', "tab\there", "umlaut ü “…”", "a\\nb"]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_of_an_item_survives_writing_and_reading(checklist, text):
    wanted = answer(text, commands=(text, "line 1\nline 2"), by=text)
    record_answers(checklist, checklist.parent, [wanted], {"pod": "x"})
    record_answers(checklist, checklist.parent, [wanted])
    assert settings_of(checklist, checklist.parent).answers == (wanted,)


def test_a_wrong_file_is_not_written_over(checklist):
    path = settings_path(checklist)
    path.write_text("colour = 1\n")
    with pytest.raises(Refused, match="colour"):
        record_answers(checklist, checklist.parent, [answer()])
    assert path.read_text() == "colour = 1\n"
