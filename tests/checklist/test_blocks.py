"""An item's content: its paragraphs, plain bullets, fences, quotations and tables, and no nested task item."""

from pathlib import Path

import pytest

from llmval_tui.checklist.model import Step, parse


def steps(text: str) -> tuple[Step, ...]:
    return parse(text.encode(), Path("list.md")).steps


LIST = """\
- [ ] First `a
  b` and <!-- llmval: action=command -->``c ` d`` <!-- mine -->end

  Second `x \\
  y`.
  - bullet `one`
    more
    1. deeper
  - [ ] task `inner`
    ```sh
    inner
    ```
  > quoted `q`
  >
  > ```
  > in a quotation
  > ```

  ```bash title="x"
  run \\
    me
  ```
  | a | b |
  |---|---|
  | `c` | d |

      indented

  Last. <!-- llmval: bundle=artifacts/x -->
"""


def test_blocks_in_their_order() -> None:
    outer, inner = steps(LIST)
    assert [(block.kind, block.text, block.line) for block in outer.blocks] == [
        ("paragraph", "First `a\nb` and``c ` d``end", 1),
        ("paragraph", "Second `x \\\ny`.", 4),
        ("bullet", "bullet `one`\nmore", 6),
        ("bullet", "deeper", 8),
        ("quote", "quoted `q`", 13),
        ("quote", "in a quotation\n", 15),
        ("fence", "run \\\n  me\n", 19),
        ("table", "a", 23),
        ("table", "b", 23),
        ("table", "`c`", 25),
        ("table", "d", 25),
        ("fence", "indented\n", 27),
        ("paragraph", "Last.", 29),
    ]
    assert [(block.kind, block.text) for block in inner.blocks] == [
        ("paragraph", "task `inner`"), ("fence", "inner\n"),
    ]  # fmt: skip
    assert outer.directives == {"action": "command", "bundle": "artifacts/x"}
    assert [block.language for block in outer.blocks if block.kind == "fence"] == ["bash", ""]
    assert inner.parent == outer.number


def test_spans_keep_their_line_breaks_and_know_their_place() -> None:
    outer, _ = steps(LIST)
    first, second = outer.blocks[:2]
    assert [span.content for span in first.spans] == ["a\nb", "c ` d"]
    assert [first.text[span.start : span.end] for span in first.spans] == ["`a\nb`", "``c ` d``"]
    assert [span.content for span in second.spans] == ["x \\\ny"]
    assert outer.spans == ("a b", "c ` d")


FRONT = "---\nname: Acceptance\nabout: one node\nlabels: [gpu]\ntasks:\n  - x\n# comment\n---\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_front_matter_is_not_content(newline: str, mark: bytes) -> None:
    text = (FRONT + "\n- [ ] first\n").replace("\n", newline)
    checklist = parse(mark + text.encode(), Path("list.md"))
    (step,) = checklist.steps
    assert (checklist.title, step.section, step.line) == ("list.md", "list.md", 10)
    assert checklist.source[step.mark_offset - 1 : step.mark_offset + 2] == b"[ ]"


@pytest.mark.parametrize(
    "text",
    [
        "---\n- [ ] first\n---\n",
        "---\nnote: x\n- [ ] first\n---\n",
        "---\nJust a line.\n---\n\n- [ ] first\n",
        "\n" + FRONT + "\n- [ ] first\n",
        "---\nname: x\n\n- [ ] first\n",
    ],
)
def test_lines_that_are_not_front_matter_stay_content(text: str) -> None:
    assert [step.text for step in steps(text)] == ["first"]


@pytest.mark.parametrize("blank", ["\u00a0", "\u0085", "\u2028"])
def test_white_space_that_github_does_not_take_makes_no_box(blank: str) -> None:
    assert [step.text for step in steps(f"- [ ]{blank}no box\n- [ ] a box\n")] == ["a box"]


def test_what_stands_above_an_item() -> None:
    found = steps(
        "# A\n\nOn the head node:\n\n- [ ] a\n- If it fails\n  more\n  - deeper\n    - [ ] b\n\n# B\n- [ ] c\n\n"
        "Text.\n\n```\ncode\n```\n\n1. [ ] d\n   - [ ] e\n"
    )
    assert {step.text: step.introduction for step in found} == {
        "a": ("On the head node:",),
        "b": ("On the head node:", "If it fails\nmore", "deeper"),
        "c": (),
        "d": (),
        "e": (),
    }


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2028"])
def test_a_box_after_a_space_that_markdown_does_not_know_is_not_a_task(blank: str) -> None:
    """markdown-it-py drops such blanks at the start of a paragraph; cmark-gfm does not."""
    text = f"- [ ] a\n* {blank}[x] b\n* {blank}\n  [x] c\n- [ ] d\n"
    assert [step.text for step in parse(text.encode(), Path("list.md")).steps] == ["a", "d"]


def test_an_item_that_ends_in_a_pipe_above_a_rule_is_not_a_table() -> None:
    assert [step.text for step in parse(b"- [ ] a\n- [x] b |\n---\n", Path("list.md")).steps] == ["a", "b |"]
    table = b"- [ ] a\n\n  x | y\n  --|--\n  1 | 2\n"
    assert [block.kind for block in parse(table, Path("list.md")).steps[0].blocks][1:] == ["table"] * 4
