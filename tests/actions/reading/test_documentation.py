"""docs/checklists.md says what the code does: the rules, the examples of `expect=`, and the settings."""

import re
from pathlib import Path

from llmval_tui.actions.command.runner_catalog import RUNNERS
from llmval_tui.actions.criteria.expect import parse_expect
from llmval_tui.actions.reading.builtins import RUNNER_NAMES
from llmval_tui.actions.reading.read import RULES
from llmval_tui.actions.review.settings import parse_settings
from llmval_tui.foundation.paths import bundled

PAGE = (bundled("docs") / "checklists.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below the row `heading`."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    table = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]


def test_the_rules_are_those_of_the_page_in_order() -> None:
    documented = [cells[0].replace(r"\|", "|") for cells in rows("| the item … |")]
    assert documented == [rule.condition for rule in RULES]


def test_every_example_of_expect_is_understood() -> None:
    examples = [cells[0].strip("`") for cells in rows("| example | holds if |")]
    assert len(examples) == 8
    for example in examples:
        parse_expect(example)
    for stated in re.findall(r'expect="([^"]+)"', PAGE.partition("## Criteria")[2].partition("`expect=")[0]):
        parse_expect(stated)


def test_the_example_of_the_settings_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = parse_settings(example, tmp_path / "list.llmval.toml", tmp_path)
    assert settings.folder == "bench" and settings.values == {"pod": "validator-7x2k"} and len(settings.bounds) == 1
    parse_expect(settings.bounds[0].expect[0])


def test_the_lists_of_our_runners_agree() -> None:
    assert set(RUNNER_NAMES) == set(RUNNERS)
