"""Rows of a pane: least heights by rank, then wishes, and no row stays blank while a block could use it."""

import random

from llmval_tui.terminal.share_rows import Block, share_rows

HEAD = Block("head", 2, 2, 0)
FIGURES = Block("figures", 3, 4, 1)
CHART = Block("chart", 4, 8, 2, most=9, grows=1)
TABLE = Block("table", 2, 5, 3)
LOG = Block("log", 2, 4, 4, grows=2)
ALL = (LOG, CHART, TABLE, HEAD, FIGURES)


def test_wishes_come_in_the_order_of_the_ranks() -> None:
    assert share_rows(ALL, 13) == {"head": 2, "figures": 3, "chart": 4, "table": 2, "log": 2}
    assert share_rows(ALL, 16) == {"head": 2, "figures": 4, "chart": 6, "table": 2, "log": 2}
    assert share_rows(ALL, 23) == {"head": 2, "figures": 4, "chart": 8, "table": 5, "log": 4}


def test_what_is_left_goes_to_charts_and_then_to_the_log() -> None:
    assert share_rows(ALL, 30) == {"head": 2, "figures": 4, "chart": 9, "table": 5, "log": 10}


def test_the_least_important_block_goes_first() -> None:
    assert share_rows(ALL, 12)["log"] == 0
    assert share_rows(ALL, 9) == {"head": 2, "figures": 3, "chart": 4, "table": 0, "log": 0}
    assert share_rows(ALL, 4) == {"head": 2, "figures": 0, "chart": 0, "table": 2, "log": 0}


def test_no_row_is_blank_while_a_block_is_below_its_wish() -> None:
    chance = random.Random(3)
    for _ in range(500):
        blocks = []
        for rank in range(chance.randint(1, 7)):
            least = chance.randint(0, 6)
            wish = least + chance.randint(0, 6)
            blocks.append(
                Block(str(rank), least, wish, rank, most=wish + chance.randint(0, 3), grows=chance.randint(0, 2))
            )
        height = chance.randint(0, 40)
        rows = share_rows(blocks, height)
        left = height - sum(rows.values())
        assert left >= 0
        for block in blocks:
            assert rows[block.name] == 0 or block.least <= rows[block.name] <= (block.most or 99)
            if left and rows[block.name]:
                assert rows[block.name] >= block.wish and (not block.grows or rows[block.name] == block.most)


def test_a_late_block_waits_for_the_wishes_of_the_others() -> None:
    host = Block("host", 1, 1, 1, late=True)
    assert share_rows((HEAD, CHART, host), 10) == {"head": 2, "chart": 8, "host": 0}
    assert share_rows((HEAD, CHART, host), 11) == {"head": 2, "chart": 8, "host": 1}
