"""`on-fail=` in the comments of headings and lists."""

from pathlib import Path

import pytest

from llmval_tui.checklist.model import parse
from llmval_tui.foundation.errors import Refused

STOP = "<!-- llmval: on-fail=stop -->"


def directives(text: str) -> list[str | None]:
    return [section.directives.get("on-fail") for section in parse(text.encode(), Path("list.md")).sections]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"# List\n\n## 1. A {STOP}\n- [ ] a\n\n## 2. B\n- [ ] b\n", ["stop", None]),
        (f"# List\n\n## 1. A\n\n{STOP}\n\n- [ ] a\n\n## 2. B\n- [ ] b\n", ["stop", None]),
        (f"# List {STOP}\n\n## 1. A\n- [ ] a\n\n## 2. B\n- [ ] b\n", ["stop", "stop"]),
        (f"{STOP}\n\n# List\n\n## 1. A\n- [ ] a\n", ["stop"]),
        (f"{STOP}\n\n- [ ] a\n", ["stop"]),
        (f"# List\n\n## A {STOP}\n### B\n- [ ] b\n### C\n- [ ] c\n## D\n- [ ] d\n", ["stop", "stop", None]),
        (f"# List {STOP}\n## A\n- [ ] a\n## B <!-- llmval: on-fail=continue -->\n- [ ] b\n", ["stop", "continue"]),
        ("# List\n<!-- llmval: power tables begin -->\n- [ ] a\n", [None]),
        (f"# List\n```\n{STOP}\n```\n- [ ] a\n", [None]),
    ],
)
def test_a_comment_holds_for_its_heading_and_the_headings_below_it(text: str, expected: list[str | None]) -> None:
    assert directives(text) == expected


def test_the_comment_is_not_part_of_the_title() -> None:
    section = parse(f"## 1. Burn-in {STOP}\n- [ ] a\n".encode(), Path("list.md")).sections[0]
    assert (section.title, section.steps[0].section) == ("1. Burn-in", "1. Burn-in")


@pytest.mark.parametrize("body", ["on-fail=halt", "onfail=stop", "on-fail=stop action=command"])
def test_a_comment_that_a_heading_cannot_have_is_refused(body: str) -> None:
    with pytest.raises(Refused, match="line 1: the llmval comment of a section contains"):
        directives(f"## A <!-- llmval: {body} -->\n- [ ] a\n")
