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
