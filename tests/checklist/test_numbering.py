"""The shown numbers never contradict the numbers that the list itself gives."""

from pathlib import Path

import pytest

from llmval_tui.checklist.model import Checklist, parse
from llmval_tui.foundation.errors import Refused


def read(text: str) -> Checklist:
    return parse(text.encode(), Path("list.md"))


@pytest.mark.parametrize(
    ("titles", "numbers"),
    [
        (["Install", "Load"], ["1", "2"]),
        (["2. Two", "7) Seven"], ["2", "7"]),
        (["2. Two", "2. Again", "3. Three"], ["A", "B", "3"]),
        (["Before", "1. Install", "2. Load"], ["A", "1", "2"]),
        (["40B models", "8 GPUs"], ["1", "2"]),
        (["1 Install", "2 Load"], ["1", "2"]),
        (["1.1 Rack", "1.2 Cable", "2.1 Boot"], ["1.1", "1.2", "2.1"]),
        (["Step 7: Load", "Step 7.5: Soak", "Step 8: Report"], ["7", "7.5", "8"]),
        (["Phase 2 — Load", "**Phase 3** Soak"], ["2", "3"]),
        (["12:30 Meeting", "10-minute soak"], ["1", "2"]),
    ],
)
def test_sections(titles: list[str], numbers: list[str]) -> None:
    checklist = read("## Empty\n\n" + "".join(f"## {title}\n- [ ] x\n" for title in titles))
    assert [section.number for section in checklist.sections] == numbers
    assert [section.title for section in checklist.sections] == titles
    assert [step.number for step in checklist.steps] == [f"{number}.1" for number in numbers]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("- [ ] a\n  - [ ] b\n- [ ] c\n", ["1.1", "1.2", "1.3"]),
        ("7. [ ] a\n8. [ ] b\n", ["1.7", "1.8"]),
        ("1. [ ] a\n1. [ ] b\n", ["1.1", "1.2"]),  # a browser shows 1 and 2
        ("1. [ ] a\n2. plain\n3. [ ] c\n", ["1.1", "1.3"]),
        ("1. [ ] a\n   1. [ ] b\n   2. [ ] c\n2. [ ] d\n   - [ ] e\n", ["1.1", "1.1.1", "1.1.2", "1.2", "1.2.1"]),
        ("- [ ] a\n\n1. [ ] b\n2. [ ] c\n", ["1.3", "1.1", "1.2"]),
        ("1. [ ] a\n\ntext\n\n1. [ ] b\n", ["1.1", "1.2"]),  # two lists from 1: counted
        ("- [ ] Step 7: a\n- [ ] Step 9: b\n", ["1.7", "1.9"]),
        ("- [ ] **7.** a\n- [ ] 8) b\n", ["1.7", "1.8"]),
        ("- [ ] Step 7.5: a\n- [ ] b\n", ["7.5", "1.2"]),
        ("- [ ] 3.1 a\n- [ ] 3.2 b\n", ["3.1", "3.2"]),
        ("- [ ] 1.5 GB are free\n- [ ] b\n", ["1.1", "1.2"]),
        # 1.2 is the list's own name of the first item, so the second may not be called so.
        ("- [ ] 1.2: a\n- [ ] b\n", ["1.2", "A.2"]),
        ("## 7. Load\n" + "- [ ] x\n" * 5 + "## 7.5 Soak\n- [ ] y\n", ["A.1", "A.2", "A.3", "A.4", "A.5", "B.1"]),
    ],
)
def test_items(text: str, numbers: list[str]) -> None:
    assert [step.number for step in read(text).steps] == numbers


def test_a_step_is_found_by_the_number_of_the_list() -> None:
    checklist = read("# Before\n1. [ ] rack\n2. [ ] cable\n# Load\n3. [ ] soak\n- [ ] Step 7.5: report\n")
    for wanted, text in (("3", "soak"), ("3.", "soak"), ("step 3", "soak"), ("Step 7.5", "Step 7.5: report"),
                         ("2.3", "soak"), ("1.2", "cable")):  # fmt: skip
        assert checklist.step(wanted).text == text
    twice = read("# A\n1. [ ] a\n# B\n1. [ ] b\n")
    with pytest.raises(Refused, match=r"matches 2 steps .*: 1\.1, 2\.1"):
        twice.step("1")


def test_parents() -> None:
    steps = read("1. [ ] a\n   - plain\n     - [ ] b\n       - [ ] c\n   - [ ] d\n2. [ ] e\n").steps
    assert [(step.number, step.parent) for step in steps] == [
        ("1.1", None), ("1.1.1", "1.1"), ("1.1.1.1", "1.1.1"), ("1.1.2", "1.1"), ("1.2", None),
    ]  # fmt: skip
