"""What of many rows is in sight: a window over them that keeps the cursor in it, and the scroll bar beside it."""

from collections.abc import Callable, Sequence

from llmval_tui.tui.drawing.rows import Row, fit_spans


def nearest_target(rows: Sequence[Row], index: int, direction: int) -> int:
    """The nearest_target row that can be chosen, looked for first in `direction`."""
    count = len(rows)
    ahead = range(index, count) if direction > 0 else range(index, -1, -1)
    behind = range(index, -1, -1) if direction > 0 else range(index, count)
    return next((i for i in (*ahead, *behind) if rows[i].target is not None), 0)


def scroll_to_cursor(rows: Sequence[Row], top: int, cursor: int | None, height: int) -> tuple[int, int | None]:
    """The first row in sight, and the cursor, which is on a row that can be chosen and in sight; None: no cursor."""
    count = len(rows)
    if cursor is not None:
        cursor = nearest_target(rows, max(0, min(cursor, count - 1)), 1)
        top = min(top, cursor)
        top = max(top, cursor - height + 1)
    return max(0, min(top, count - height)), cursor


def visible_rows(
    rows: Sequence[Row], top: int, width: int, height: int, mark: Callable[[int, Row], Row], ascii_only: bool
) -> list[Row]:
    """The rows from `top` on as they are shown, each marked as `mark` does it, with the scroll bar."""
    shown = [mark(top + y, r) for y, r in enumerate(rows[top : top + height])]
    return [with_scrollbar(r, y, width, height, top, len(rows), ascii_only) for y, r in enumerate(shown)]


def highlight(shown: Row, focused: bool) -> Row:
    """A row that can be chosen with the cursor on it."""
    return shown if shown.target is None else Row(shown.spans, "cursor" if focused else "idle", shown.target)


def with_scrollbar(shown: Row, y: int, width: int, height: int, top: int, count: int, ascii_only: bool) -> Row:
    """The row with the scroll bar's cell in its last column, where there is more than fits."""
    if count <= height:
        return shown
    length = max(1, height * height // count)
    start = round(top * (height - length) / max(1, count - height))
    inside = start <= y < start + length
    sign = ("#" if inside else "|") if ascii_only else ("┃" if inside else "│")
    spans = (*fit_spans(shown.spans, width - 1), (sign, "muted" if inside else "track"))
    return Row(spans, shown.background, shown.target)
