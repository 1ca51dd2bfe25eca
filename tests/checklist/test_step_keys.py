"""The keys and fingerprints of steps in records: they hold no secret, and a step is found by them again."""

import subprocess
import sys
from pathlib import Path

from llmval_tui.checklist.model import Checklist, parse
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.foundation.masked_text import MASK
from tests.helpers.secret_kinds import KINDS

ONE_LINE = {kind: (line, secret) for kind, (line, secret) in KINDS.items() if line.isprintable() and "`" not in line}


def list_of(*items: str, title: str = "1. Part") -> Checklist:
    lines = "".join(f"- [ ] {item}\n" for item in items)
    return parse(f"# L\n\n## {title}\n{lines}".encode(), Path("list.md"))


def test_no_recorded_key_has_a_secret_of_any_kind_and_each_finds_its_step() -> None:
    checklist = list_of(*(f"Run `{line}`" for line, _ in ONE_LINE.values()))
    keys = [step.recorded_key for step in checklist.steps]
    assert len(ONE_LINE) > 60
    for (kind, (_, secret)), key in zip(ONE_LINE.items(), keys, strict=True):
        assert secret not in key.text, kind
    assert len(set(keys)) == len(keys)
    assert [checklist.find(key) for key in keys] == list(checklist.steps)


def test_a_step_without_a_secret_is_recorded_as_it_is_written() -> None:
    checklist = list_of("Run: `python x.py --max-tokens 8`", "**same**", "**same**", "a `****` of stars")
    assert [step.recorded_key for step in checklist.steps] == [step.key for step in checklist.steps]


def test_items_that_differ_only_in_a_secret_are_different_steps() -> None:
    texts = [f"Run `x --api-key {key}`" for key in ("first-key-123", MASK, "second-key", "first-key-123")]
    checklist = list_of(*texts)
    text = f"Run `x --api-key {MASK}`"
    # The one that is written so keeps its key, and the others come after it.
    assert [step.recorded_key[1:] for step in checklist.steps] == [(text, 2), (text, 1), (text, 3), (text, 4)]
    assert [checklist.find(step.recorded_key) for step in checklist.steps] == list(checklist.steps)


def test_a_secret_in_a_title_is_masked_too() -> None:
    checklist = list_of("x", title="2. With glpat-AbCdEfGhIjKlMnOpQrSt")
    (step,) = checklist.steps
    assert step.recorded_key == StepKey(f"2. With {MASK}", "x", 1)
    assert checklist.find(step.recorded_key) == step


def test_a_record_with_the_text_as_it_is_written_names_its_step() -> None:
    """As an older llmval wrote it: then the occurrence is that among items with the very same text."""
    checklist = list_of("Run `x --api-key first-key-123`", "Run `x --api-key second-key`")
    assert [checklist.find(StepKey(step.section, step.text, 1)) for step in checklist.steps] == list(checklist.steps)
    assert checklist.find(StepKey("1. Part", f"Run `x --api-key {MASK}`", 3)) is None


def test_another_secret_makes_no_other_item_and_other_words_do() -> None:
    first, other, changed = (
        list_of(text).steps[0]
        for text in (
            "Run `x --password hunter2 --rate 4`", "Run `x --password swordfish --rate 4`",
            "Run `x --password hunter2 --rate 5`",
        )
    )  # fmt: skip
    assert first.fingerprint == other.fingerprint != changed.fingerprint
    assert first.has_fingerprint(other.fingerprint)
    assert not first.has_fingerprint(changed.fingerprint)


def test_the_fingerprint_of_an_older_llmval_still_holds_for_its_own_text() -> None:
    old = "1-e07ed6dc7ad10963"  # of this item, from the version that did not leave out secrets
    assert list_of("Run `x --password hunter2`").steps[0].has_fingerprint(old)
    assert not list_of("Run `x --password swordfish`").steps[0].has_fingerprint(old)


def test_a_look_at_a_list_without_secrets_needs_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "list.md").write_text("# L\n\n## A\n- [ ] Run: `python x.py --api-key X`\n- [ ] same\n")
    code = (
        "import sys; from pathlib import Path; from llmval_tui.checklist.model import load\n"
        "found = load(Path('list.md'))\n"
        "assert all(found.find(step.key) and found.key_of(tuple(step.key)) == step.key for step in found.steps)\n"
        "assert not found.steps[0].has_fingerprint('1-0')\n"
        "sys.exit('llmval_tui.foundation.redaction' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
