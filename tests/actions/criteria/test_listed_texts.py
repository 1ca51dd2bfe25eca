"""Several texts in one demand: none of them may be lost."""

from pathlib import Path

import pytest

from llmval_tui.actions.reading.read import read_item
from llmval_tui.checklist.model import parse


def criteria(item: str):
    checklist = parse(f"# L\n\n## A\n- [ ] {item}\n".encode(), Path("list.md"))
    step = checklist.steps[0]
    return read_item(step, checklist.sections[0], checklist).criteria


@pytest.mark.parametrize(
    ("words", "comparison", "bounds"),
    [
        ("contains neither `FAILED` nor `NODE_FAIL`", "not contains", ["FAILED", "NODE_FAIL"]),
        ("shows `A`, `B` and `C`", "contains", ["A", "B", "C"]),
        ("reports `ready` and `healthy`", "contains", ["ready", "healthy"]),
    ],
)
def test_each_text_is_a_criterion(words: str, comparison: str, bounds: list[str]) -> None:
    found = criteria(f"Run `make state` and check that it {words}")
    assert [(one.comparison, one.bound) for one in found] == [(comparison, bound) for bound in bounds]


@pytest.mark.parametrize(
    "item",
    [
        "Run `make state`: it reports `A` or `B`",
        "IB counters stay at zero: `perfquery -x`",
        "`sacct -X` contains neither FAILED nor NODE_FAIL",
        "Only ports 22 and 443 are open: `nmap localhost`",
    ],
)
def test_a_demand_that_no_table_reads_is_not_lost(item: str) -> None:
    assert any(one.unreadable for one in criteria(item))
