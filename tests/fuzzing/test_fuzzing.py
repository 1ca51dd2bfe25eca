"""A small part of `make fuzz`: the same targets, by seed and by hypothesis."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing.__main__ import TARGETS
from fuzzing.commands import Bash, case
from fuzzing.documents import Reference
from fuzzing.target import BytesAsRandom, Target, Wrong, fuzz
from llmval_tui.checklist import command
from llmval_tui.checklist.command import ParsedCommand

FEW = {"commands": 1500, "documents": 400, "folders": 25, "load_tests": 40, "checkpoints": 30}
QUICK = [target for target in TARGETS.values() if target.name not in ("folders", "load_tests", "checkpoints")]


def _skip(target: Target) -> None:
    if reason := target.needs():
        pytest.skip(reason)


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_nothing_is_wrong(target: Target) -> None:
    _skip(target)
    done = fuzz(target, FEW.get(target.name, 200), seed=7)
    assert done.wrong == []
    assert done.outcomes.total() == done.cases > 0


@pytest.mark.parametrize("target", QUICK, ids=lambda target: target.name)
def test_nothing_is_wrong_with_a_case_that_hypothesis_chooses(target: Target) -> None:
    _skip(target)

    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def attempt(chance: random.Random) -> None:
        assert target.case(chance)

    attempt()


@pytest.mark.parametrize("target", QUICK, ids=lambda target: target.name)
def test_bytes_make_a_case_too(target: Target) -> None:
    _skip(target)
    for number in range(20):
        assert target.case(BytesAsRandom(random.Random(number).randbytes(200)))
    assert target.case(BytesAsRandom(b""))


def test_a_wrong_reading_of_a_command_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParsedCommand, "argv", property(lambda self: [word.value.strip("a") for word in self.words]))
    with pytest.raises(Wrong, match="for bash"):
        for number in range(1000):
            case(random.Random(number))


def test_a_command_that_bash_alone_refuses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_check_command_word", lambda token: None)
    found = fuzz(TARGETS["commands"], 3000, seed=1)
    assert found.failed


def test_a_bash_that_ends_is_started_again() -> None:
    bash = Bash()
    try:
        assert bash.reading("exit 3") is None
        assert bash.reading("args 'a b' c") == ["W", "args", "a b", "c", "V", "", "", ""]
    finally:
        bash.close()


def test_the_tasks_of_cmark_gfm_are_known_by_line() -> None:
    _skip(TARGETS["documents"])
    found = Reference("- [ ] a\n- [x] b\n\n> - [ ] c\n")
    assert (found.tasks, found.items) == ({1: False, 2: True}, {4})
