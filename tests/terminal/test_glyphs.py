"""Signs: in ASCII a good state cannot be read as a bad one, and every output writes the same."""

from llmval_tui.console.stdio import ASCII
from llmval_tui.terminal.glyphs import CELL_SIGNS, NODE_SIGNS, OUTCOME_SIGNS, QUEUED, STEP_SIGNS

READ_AS_FAILURE = set("x!#%&0-?")
TABLES = (STEP_SIGNS, OUTCOME_SIGNS, NODE_SIGNS, CELL_SIGNS)
SIGNS = [QUEUED, *(sign for table in TABLES for sign in table.values())]


def test_no_good_state_has_an_ascii_sign_that_reads_as_failure() -> None:
    assert all(sign.ascii not in READ_AS_FAILURE for sign in SIGNS if sign.role == "good")


def test_a_sign_has_one_ascii_form_in_all_tables_and_in_printed_text() -> None:
    for sign in SIGNS:
        assert len(sign.ascii) == 1 and ({**ASCII, "?": "?"})[sign.unicode] == sign.ascii, sign


def test_two_signs_of_the_list_and_the_fleet_have_two_ascii_forms() -> None:
    """`v` was “by hand” and “slow” on one screen."""
    found: dict[str, set[str]] = {}
    for sign in [QUEUED, *(sign for table in (STEP_SIGNS, NODE_SIGNS) for sign in table.values())]:
        found.setdefault(sign.ascii, set()).add(sign.unicode)
    assert [signs for signs in found.values() if len(signs) > 1] == []
