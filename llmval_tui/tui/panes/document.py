"""The Document pane: Markdown as it is on disk, with the chosen item marked."""

from collections.abc import Sequence

from llmval_tui.terminal.cell_width import cell_len, set_cell_size
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.text_rows import paragraph


class DocumentPane(ScrollPane):
    """The checklist's source, docs/TODO.md, or a document named by the item."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="document")
        self.state = state
        self.left = 0
        self.needle = ""
        self._last_mark: tuple[str, int | None] | None = None

    def content(self, width: int) -> Sequence[Row]:
        document = self.state.snapshot.document
        if document is None:
            return [row(), row((" nothing to show yet", "muted"))]
        place = document.names.index(document.name) + 1
        note = f" {place} of {len(document.names)}: [ ] for the others" if len(document.names) > 1 else ""
        rows = [row((f" {document.name}", "title"), (f" {note}", "muted"))]
        if document.problem:
            rows += paragraph(document.problem, "warn", width)
        digits = len(str(len(document.lines)))
        for number, line in enumerate(document.lines, 1):
            marked = number == document.mark
            spans: list[Span] = [(f" {number:>{digits}} ", "accent" if marked else "muted")]
            spans += self._line(line, width - digits - 2)
            rows.append(row(*spans, background="idle" if marked else "screen"))
        mark = (document.name, document.mark)
        if mark != self._last_mark:
            # Scroll to a new item once; after that the operator scrolls.
            self._last_mark = mark
            if document.mark is not None:
                self.top = max(0, document.mark + 1 - self.size.height // 3)
        return rows

    def _line(self, line: str, width: int) -> list[Span]:
        if self.left:
            line = cut_left(line, self.left)
        role = "title" if line.startswith("#") else "text"
        if cell_len(line) > width:
            line = set_cell_size(line, width - 1) + self.glyphs.ellipsis
        if self.needle and (at := line.casefold().find(self.needle.casefold())) >= 0:
            end = at + len(self.needle)
            return [(line[:at], role), (line[at:end], "key"), (line[end:], role)]
        return [(line, role)]

    def find(self, direction: int) -> bool:
        """Scroll to the next line with the needle; False if there is none."""
        document = self.state.snapshot.document
        if document is None or not self.needle:
            return False
        wanted = self.needle.casefold()
        matches = [index + 1 for index, line in enumerate(document.lines) if wanted in line.casefold()]
        later = [p for p in matches if p > self.top] if direction > 0 else [p for p in matches if p < self.top]
        if not matches:
            return False
        self.top = (later or matches)[0 if direction > 0 else -1]
        self.repaint()
        return True

    def shift(self, columns: int) -> None:
        self.left = max(0, self.left + columns)
        self.repaint()


def cut_left(line: str, columns: int) -> str:
    """The line without its first `columns` terminal columns."""
    if line.isascii():
        return line[columns:]
    taken = 0
    for index, character in enumerate(line):
        if taken >= columns:
            return line[index:]
        taken += cell_len(character)
    return ""
