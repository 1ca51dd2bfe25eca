"""The Artifacts pane: each file of the run with size, SHA-256, and whether it has changed since it was judged."""

from collections.abc import Sequence

from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal.format import size, wrap
from llmval_tui.tui.data.artifacts import ArtifactLine
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.text_rows import artifact_rows, heading, labelled


class ArtifactsPane(ScrollPane):
    """The files of the shown run; `y` copies the path under the cursor."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="artifacts")
        self.state = state
        self.cursor = 0

    def copied(self) -> str | None:
        return self.target

    def content(self, width: int) -> Sequence[Row]:
        state = self.state
        detail = state.detail
        if detail is None or detail.run is None:
            rows = [row(), row((" No run yet, so no artifacts.", "muted"))]
            promised = detail.proposal.artifacts if detail and detail.proposal else ()
            return rows + artifact_rows(promised, width, "will leave")
        rows = heading("Artifacts", width, self.glyphs, f"run {detail.runs - detail.back} of {detail.runs}")
        rows += labelled("run folder", f"artifacts/runs/{detail.run.id}", "code", width)
        if not detail.artifacts:
            rows.append(row((" This run leaves no files but its own records.", "muted")))
        for item in detail.artifacts:
            rows += self._item(item, width)
        rows += [row(), *labelled("proof", "llmval verify hashes every file again", "muted", width)]
        return rows

    def _item(self, item: ArtifactLine, width: int) -> list[Row]:
        sign = {True: ("+" if self.glyphs.ascii else "✓"), False: ("!" if self.glyphs.ascii else "✗"), None: "-"}[
            item.intact
        ]
        role = {True: "good", False: "bad", None: "muted"}[item.intact]
        lines = wrap(clean_line(item.path), width - 4)
        rows = [row(), row((f" {sign} ", role), (lines[0], "title"), target=item.path)]
        rows += [row((f"   {line}", "title")) for line in lines[1:]]
        rows.append(row(("   ", "text"), (item.state, role), (f"  {size(item.bytes)}", "text")))
        digest = item.sha256 or "n/a: it is hashed when the run is judged"
        rows += [row((f"   {line}", "muted")) for line in wrap(f"SHA-256 {digest}", width - 4)]
        return rows
