"""The Fleet pane: all nodes of a run as a grid of cells, the worst with their reasons, what differs between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events

from llmval_tui.fleet.node_state import NEEDS_A_PERSON, NodeState
from llmval_tui.fleet.overview import ORDERS, NodeView, Overview
from llmval_tui.foundation.text import clean_line
from llmval_tui.terminal import fleet_grid, fleet_rows
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.fleet_grid import Grid, Spans
from llmval_tui.terminal.format import cut, wrap
from llmval_tui.terminal.glyphs import NODE_SIGNS
from llmval_tui.tui.data.screen_state import NEEDS_YOU, ScreenState
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.text_rows import paragraph

LEAST_GRID = 3  # rows that the grid keeps in a low pane
NODE_ROWS = 2  # for the node under the cursor; a third with its reason if there is room


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the grid was drawn."""

    grid: Grid
    first: int  # row of the pane
    rows: int
    top: int  # rows of the grid that are scrolled away


class FleetPane(ScrollPane):
    """A cell a node; the keys move from cell to cell, Enter opens the node's ordinary panes."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="fleet")
        self.state = state
        self.chosen: str | None = None  # name of the node under the cursor
        self.metric: str | None = None  # None: the first of the headline
        self.order = ORDERS[0]
        self.shown_state: str | None = None  # list only nodes with this word; None: all that are remarkable
        self.needle = ""
        self._place: _Place | None = None

    @property
    def overview(self) -> Overview | None:
        return self.state.snapshot.fleet

    @property
    def node(self) -> NodeView | None:
        """The node under the cursor; the first one if it is gone."""
        overview = self.overview
        if overview is None or not overview.nodes:
            return None
        return overview.node(self.chosen) or overview.nodes[0]

    @property
    def target(self) -> str | None:
        node = self.node
        return node.name if node is not None else None

    def copied(self) -> str | None:
        return f"ssh {self.target}" if self.target is not None else None

    def rows(self, width: int, height: int) -> Sequence[Row]:
        overview, node = self.overview, self.node
        if overview is None or node is None:
            why = "No run was on several nodes yet." if overview is None else "No node of this run is known yet."
            return [
                row(),
                row((f" {why}", "muted")),
                *paragraph("Start one: llmval run --nodes n[1-64] STEP", "muted", width),
            ]
        metrics = fleet_rows.metric_names(overview)
        metric = self.metric if self.metric in metrics else metrics[0] if metrics else None
        head = self._head(overview, metric, width)
        names = fleet_grid.short_names([one.name for one in overview.nodes])
        below = 1 + fleet_rows.WORST + NODE_ROWS
        room = max(LEAST_GRID, height - len(head) - below)
        grid = fleet_grid.lay_out(names, width, room)
        drawn = fleet_grid.grid_rows(overview, metric, grid, self.glyphs, node.name)
        shown = min(len(drawn), room)
        self._keep_in_sight(overview, node, grid, shown, len(drawn))
        self._place = _Place(grid, len(head), shown, self.top)
        found = [*head, *drawn[self.top : self.top + shown]]
        left = height - len(found)
        spare = left - below
        if spare > 1:
            found.append([])
            spare -= 1
        found += self._worst(overview, metric, width)
        found += fleet_rows.node_rows(node, self.glyphs, width)
        spare = height - len(found)
        if overview.differences and spare > 2:
            note = f"{len(overview.differences)} differ from the majority"
            found += [
                fleet_rows.heading_spans("Configuration", note, width, self.glyphs),
                *fleet_rows.difference_rows(overview, self.glyphs, width, spare - 1),
            ]
        return [row(*spans) for spans in found[:height]]

    def _head(self, overview: Overview, metric: str | None, width: int) -> list[Spans]:
        counts = fleet_rows.count_spans(overview, self.glyphs, width)
        rows = [fleet_rows.title_spans(overview, metric, width), counts]
        said = fleet_rows.statistics_text(overview, metric)
        room = width - sum(cell_len(text) for text, _ in counts)
        if said and cell_len(said) + 3 <= room:
            rows[1] = [*counts, (f"  {said}", "muted")]
        elif said:
            rows.append([(cut(f" {said}", width - 1, self.glyphs.ellipsis), "muted")])
        if overview.refused:
            rows += [[(f" {line}", "bad")] for line in wrap(clean_line(overview.refused), width - 2)]
        if silent := fleet_rows.silent_text(overview, width - 2):
            rows.append([(f" {silent}", "warn")])
        return rows

    def _worst(self, overview: Overview, metric: str | None, width: int) -> list[Spans]:
        words = self._states(overview)
        states = words.get(self.shown_state) if self.shown_state is not None else None
        title = "Worst six" if self.shown_state is None else f"Only {self.shown_state}"
        hint = self.themed_app.keymap.hint
        keys = ((hint("order"), f"by {self.order}"), (hint("state"), "state"), (hint("open"), "its panes"))
        note = "   ".join(f"{key} {text}" for key, text in keys if key)
        heading = fleet_rows.heading_spans(title, note, width, self.glyphs)
        shown = fleet_rows.worst_rows(overview, metric, self.glyphs, width, self.order, states)
        return [heading, *shown, *[[]] * (fleet_rows.WORST - len(shown))]

    @staticmethod
    def _states(overview: Overview) -> dict[str, frozenset[NodeState]]:
        """The words that `.` goes through, with the states that each shows; only those that occur."""
        present = {node.state for node in overview.nodes}
        words = {NODE_SIGNS[state].word: frozenset({state}) for state in NODE_SIGNS if state in present}
        return {NEEDS_YOU: NEEDS_A_PERSON, **words} if present & NEEDS_A_PERSON else words

    def _keep_in_sight(self, overview: Overview, node: NodeView, grid: Grid, shown: int, total: int) -> None:
        """Keep the cursor's row in sight."""
        at = next(index for index, one in enumerate(overview.nodes) if one.name == node.name)
        first = at // grid.columns * grid.lines
        self.top = max(0, min(self.top, total - shown, first))
        self.top = max(self.top, first + grid.lines - shown)

    def content(self, width: int) -> Sequence[Row]:
        return self.rows(width, self.size.height)

    # Moving.

    @property
    def _index(self) -> int:
        overview, node = self.overview, self.node
        if overview is None or node is None:
            return 0
        return next(index for index, one in enumerate(overview.nodes) if one.name == node.name)

    def _go(self, index: int) -> None:
        overview = self.overview
        if overview is not None and overview.nodes:
            self.chosen = overview.nodes[max(0, min(index, len(overview.nodes) - 1))].name
            self.repaint()

    def move_aside(self, step: int) -> bool:
        """To the node at the left or right; False at the left edge, where the list comes next."""
        columns = self._place.grid.columns if self._place is not None else 1
        if step < 0 and self._index % columns == 0:
            return False
        self._go(self._index + step)
        return True

    def neighbour(self, name: str, step: int) -> str | None:
        """The node before or after one, for panes that show a single node; the cursor goes along."""
        overview = self.overview
        if overview is None or overview.node(name) is None:
            return None
        self.chosen = name
        self._go(self._index + step)
        return self.chosen

    def action_move(self, rows: int) -> None:
        columns = self._place.grid.columns if self._place is not None else 1
        wanted = self._index + rows * columns
        overview = self.overview
        if overview is not None and 0 <= wanted < len(overview.nodes):
            self._go(wanted)

    def action_page(self, pages: float) -> None:
        place = self._place
        rows = max(1, place.rows // place.grid.lines) if place is not None else 1
        columns = place.grid.columns if place is not None else 1
        self._go(self._index + round(pages * rows) * columns)

    def action_end(self, direction: int) -> None:
        self._go(0 if direction < 0 else len(self.overview.nodes) - 1 if self.overview is not None else 0)

    def find(self, direction: int) -> bool:
        """Go to the next node whose name has the text in it; False if there is none."""
        overview = self.overview
        if overview is None:
            return False
        found = [at for at, node in enumerate(overview.nodes) if self.needle.casefold() in node.name.casefold()]
        if not found:
            return False
        if direction > 0:
            at = next((at for at in found if at > self._index), found[0])
        else:
            at = next((at for at in reversed(found) if at < self._index), found[-1])
        self._go(at)
        return True

    def next_state(self) -> None:
        overview = self.overview
        if overview is None:
            return
        words: list[str | None] = [None, *self._states(overview)]
        now = self.shown_state if self.shown_state in words else None
        self.shown_state = words[(words.index(now) + 1) % len(words)]
        self.repaint()

    def next_order(self) -> None:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self.repaint()

    def next_figure(self) -> None:
        """Compare the nodes by another figure."""
        overview = self.overview
        names = fleet_rows.metric_names(overview) if overview is not None else []
        if names:
            now = names.index(self.metric) if self.metric in names else 0
            self.metric = names[(now + 1) % len(names)]
            self.repaint()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-1)

    def on_click(self, event: events.Click) -> None:
        place, overview = self._place, self.overview
        if place is None or overview is None or not place.first <= event.y < place.first + place.rows:
            return
        line = (event.y - place.first + place.top) // place.grid.lines
        column = (event.x - place.grid.label) // place.grid.cell
        index = line * place.grid.columns + column
        if event.x < place.grid.label or column >= place.grid.columns or index >= len(overview.nodes):
            return
        if event.chain > 1 and overview.nodes[index].name == self.chosen:
            self.post_message(self.Opened(self, overview.nodes[index].name))
        self._go(index)
