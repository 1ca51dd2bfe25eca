"""A viewport over a long list of rows: keeps the cursor visible and draws the scroll bar."""

from collections.abc import Callable, Sequence

from llmval_tui.tui.drawing.rows import Row, fit_spans


def nearest_target(rows: Sequence[Row], index: int, direction: int) -> int:
    """The index of the nearest row with a target, searched first in `direction`."""
    count = len(rows)
    ahead = range(index, count) if direction > 0 else range(index, -1, -1)
    back = range(index, -1, -1) if direction > 0 else range(index, count)
    return next((i for i in (*ahead, *back) if rows[i].target is not None), 0)


def scroll_to_cursor(rows: Sequence[Row], top: int, cursor: int | None, height: int) -> tuple[int, int | None]:
    """The new top row and cursor. The cursor moves to a row with a target, and the top so that it is visible."""
    count = len(rows)
    if cursor is not None:
        cursor = nearest_target(rows, max(0, min(cursor, count - 1)), 1)
        top = min(top, cursor)
        top = max(top, cursor - height + 1)
    return max(0, min(top, count - height)), cursor


def visible_rows(
    rows: Sequence[Row], top: int, width: int, height: int, decorate: Callable[[int, Row], Row], ascii_only: bool
) -> list[Row]:
    """The visible rows from `top` on, each changed by `decorate(index, row)`, with the scroll bar."""
    shown = [decorate(top + y, r) for y, r in enumerate(rows[top : top + height])]
    return [with_scrollbar(r, y, width, height, top, len(rows), ascii_only) for y, r in enumerate(shown)]


def highlight(shown: Row, focused: bool) -> Row:
    """The row as it looks under the cursor; rows without a target do not change."""
    return shown if shown.target is None else Row(shown.spans, "cursor" if focused else "idle", shown.target)


def with_scrollbar(shown: Row, y: int, width: int, height: int, top: int, count: int, ascii_only: bool) -> Row:
    """The row with the scroll bar in its last column, if there are more rows than fit. `y` is its visible position."""
    if count <= height:
        return shown
    length = max(1, height * height // count)
    start = round(top * (height - length) / max(1, count - height))
    inside = start <= y < start + length
    sign = ("#" if inside else "|") if ascii_only else ("┃" if inside else "│")
    spans = (*fit_spans(shown.spans, width - 1), (sign, "muted" if inside else "track"))
    return Row(spans, shown.background, shown.target)
