"""What a plan says about its items before it starts."""

from pathlib import Path

import pytest

from llmval_tui.actions.api import Condition, Options, Proposal
from llmval_tui.actions.reading.model import Kind, Reading
from llmval_tui.checklist.model import Step, parse
from llmval_tui.foundation.errors import ExitCode
from llmval_tui.plans.items import rest_text
from llmval_tui.plans.preview import preview
from llmval_tui.plans.records import SKIPPED, Rest, StepResult, exit_code_of
from llmval_tui.runs.records import Artifact, Outcome

LIST = parse(b"## 1. A\n- [ ] a\n- [ ] b\n- [ ] c\n## 2. B\n- [ ] d\n- [x] e\n", Path("list.md"))
LOAD = Artifact("r.json", "load_test")


def proposal(action: str, refusal: str | None = None, **changes: object) -> Proposal:
    return Proposal(action, "", refusal=refusal, **changes)  # type: ignore[arg-type]


def sentences(*proposals: Proposal, options: Options | None = None, demo: bool = False) -> list[str]:
    steps: list[Step] = list(LIST.steps)
    items = preview(list(zip(steps, proposals, strict=False)), options or Options(), demo=demo)
    return [item.sentence for item in items]


NOT_YET = proposal("gated_todo", "item 1.1 has not run yet", not_yet=True)
DRIFT = proposal("baseline_drift", "no load test has passed yet", not_yet=True)
TABLE = proposal("table_update", "no summary has passed yet", not_yet=True)
COMMAND = proposal("command", artifacts=(LOAD,))
REFUSED = proposal("command", "there is no x.py")
MANUAL = Reading(Kind.MANUAL, "", "manual")
ASK = Reading(Kind.ASK, "", "command", question="Is it on this node?")


@pytest.mark.parametrize(
    ("proposals", "expected"),
    [
        ([COMMAND, NOT_YET], ["runs", "runs after 1.1 passes"]),
        ([COMMAND, COMMAND, NOT_YET], ["runs", "runs", "runs after 1.1 and 1.2 pass"]),
        ([COMMAND, COMMAND, DRIFT], ["runs", "runs", "runs after 1.1 or 1.2 passes"]),
        # One of them cannot run, so nothing that needs all of them will.
        ([COMMAND, REFUSED, NOT_YET], ["runs", "refused: there is no x.py", "refused: item 1.1 has not run yet"]),
        ([COMMAND, REFUSED, DRIFT], ["runs", "refused: there is no x.py", "runs after 1.1 passes"]),
        # The result of another schema is not a load test.
        ([proposal("command"), DRIFT], ["runs", "refused: no load test has passed yet"]),
        # What a summary will write is not known before its files are there.
        (
            [proposal("command"), proposal("summary", "no file matches", not_yet=True), TABLE],
            ["runs", "runs after 1.1 has ended", "runs after 1.2 passes"],
        ),
        # A refusal that no run ends stays one.
        ([COMMAND, proposal("gated_todo", "bad item")], ["runs", "refused: bad item"]),
        # Another section.
        ([COMMAND, MANUAL, MANUAL, NOT_YET], ["runs", "by hand", "by hand", "refused: item 1.1 has not run yet"]),
        ([proposal("env_export"), COMMAND], ["runs", "runs after 1.1, without the variables if it fails"]),
        ([COMMAND, proposal("bug_report", "none ended", not_yet=True)], ["runs", "runs after 1.1 has ended"]),
        ([COMMAND, COMMAND, proposal("collect_logs")], ["runs", "runs", "runs after 1.1 and 1.2 have ended"]),
        # An earlier run is there, but the plan will run the item again: that one decides.
        ([COMMAND, proposal("gated_todo")], ["runs", "runs after 1.1 passes"]),
        ([proposal("command", reading=ASK, refusal="x")], ["asks first: Is it on this node?"]),
        ([proposal("command", unreviewed="Does own.py only read?")], ["asks first: Does own.py only read?"]),
    ],
)
def test_each_item_says_what_will_happen(proposals: list[Proposal | Reading], expected: list[str]) -> None:
    made = [proposal("manual", "do it by hand", reading=one) if isinstance(one, Reading) else one for one in proposals]
    assert sentences(*made) == expected


def test_a_trial_run_does_not_count_outside_a_demo() -> None:
    smoke = Options(preset="smoke")
    assert sentences(COMMAND, NOT_YET, options=smoke, demo=True)[1] == "runs after 1.1 passes"
    assert sentences(COMMAND, NOT_YET, options=smoke)[1] == (
        "refused: 1.1 will be a smoke run, which does not count here: run it in full"
    )


def test_skipped_steps_are_shown_in_their_place() -> None:
    steps = LIST.steps
    items = preview([(steps[3], COMMAND)], Options(), demo=False, skipped=[(steps[4], "ticked"), (steps[0], "ticked")])
    assert [(item.step.number, item.sentence, item.is_planned) for item in items] == [
        ("1.1", "skipped: ticked", False),
        ("2.1", "runs", True),
        ("2.2", "skipped: ticked", False),
    ]


def test_an_item_without_its_tool_is_skipped_and_has_a_result() -> None:
    missing = proposal("command", "dcgmi is not installed", is_skip=True)
    (item,) = preview([(LIST.steps[0], missing)], Options(), demo=False)
    assert (item.sentence, item.is_planned) == ("skipped: dcgmi is not installed", True)
    # Its demand was not shown, so the plan has not passed.
    skipped, passed = StepResult("1.1", SKIPPED), StepResult("1.2", Outcome.PASS)
    assert exit_code_of([skipped, passed], cancelled=False) is ExitCode.UNDECIDED
    assert exit_code_of([skipped, StepResult("1.2", Outcome.FAIL)], cancelled=False) is ExitCode.FAILED


def test_a_group_is_not_planned() -> None:
    group = proposal("manual", "", reading=Reading(Kind.MANUAL, "", "manual", is_group=True))
    (item,) = preview([(LIST.steps[0], group)], Options(), demo=False)
    assert (item.sentence, item.is_planned) == ("group: its box follows the items below it", False)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        (Rest(["1.1"], Condition.PASSES, True), "after 1.1 passes"),
        (Rest(["1.1", "1.2", "1.3"], Condition.PASSES, True), "after 1.1, 1.2 and 1.3 pass"),
        (Rest(["1.1", "1.2"], Condition.NOT_FAILED), "after 1.1 and 1.2, without the variables if they fail"),
    ],
)
def test_a_condition_in_words(rest: Rest, expected: str) -> None:
    assert rest_text(rest) == expected
