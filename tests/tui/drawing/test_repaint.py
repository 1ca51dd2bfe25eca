"""When a widget of rows builds its rows again."""

import pytest

from llmval_tui.tui.widgets.row_widget import RowWidget


class _Counting(RowWidget):
    def __init__(self) -> None:
        super().__init__()
        self.repaints = 0

    def repaint(self) -> None:
        self.repaints += 1


def test_the_clock_draws_only_what_nothing_else_has_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    widget = _Counting()
    widget.repaint_if_older(0.9)
    assert widget.repaints == 1  # it was never built
    widget.built_s = 100.0
    now = 100.8
    widget.repaint_if_older(0.9)
    assert widget.repaints == 1
    now = 100.9
    widget.repaint_if_older(0.9)
    assert widget.repaints == 2
