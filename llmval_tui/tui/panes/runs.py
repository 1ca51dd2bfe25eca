"""The Runs pane: all runs of the chosen step, their figures over time, and two of them side by side."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from llmval_tui.actions.headline import Figure, ordinary_range
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import cut, fit, number, short_age, took, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.run_difference import Difference
from llmval_tui.tui.data.run_history import RunRow, figure_value
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row, whole_spans
from llmval_tui.tui.drawing.trend import trend_signs
from llmval_tui.tui.widgets.scroll_pane import ScrollPane
from llmval_tui.tui.widgets.step_blocks import figures_of, outcome_sign
from llmval_tui.tui.widgets.text_rows import heading, paragraph

FIGURE = 11  # cells of a figure
FIXED = 23  # cells of outcome and took
DATE, AGE, GPUS, GATES, ID = 13, 5, 5, 7, 7
ORDERS = ("newest", "took", "figure")
WIDE_BAR = 4  # cells of a run in the charts, a blank included, if there is room


class RunsPane(ScrollPane):
    """The runs of the chosen step; Enter shows one in the pane Run, Space marks, `d` compares."""

    def __init__(self, state: ScreenState) -> None:
        super().__init__(id="runs")
        self.state = state
        self.cursor = 0
        self.marked: list[str] = []  # ids of at most two runs
        self.order = "newest"
        self.outcome: str | None = None  # only runs with this word
        self._of: object = None  # the step that marks, order and outcome are about

    @property
    def history(self) -> tuple[RunRow, ...]:
        detail = self.state.detail
        return detail.history if detail is not None else ()

    def content(self, width: int) -> Sequence[Row]:
        state, glyphs = self.state, self.glyphs
        if state.key != self._of:
            self._of, self.marked, self.outcome, self.cursor = state.key, [], None, 0
        history = self.history
        if not history:
            return [row(), row((" This step has no run yet.", "muted"))]
        figures = figures_of(history)
        shown = self._shown(figures)
        rows = [self._title(width), self._heads(figures, width)]
        rows += [self._run(one, figures, width) for one in shown]
        if not shown:
            rows.append(row((f" no run is {self.outcome}", "warn")))
        rows += self._charts(figures, width)
        chosen = next((one for one in shown if one.id == self.target), None)
        if chosen is not None and chosen.reason:
            sign = outcome_sign(chosen)
            rows.append(row())
            rows += paragraph(f"{glyphs.sign(sign)} {chosen.reason}", sign.role, width)
        return rows

    def _shown(self, figures: Sequence[Figure]) -> list[RunRow]:
        found = [one for one in self.history if self.outcome in (None, outcome_sign(one).word)]
        if self.order == "took":
            found.sort(key=lambda one: -(one.took_s or 0.0))
        elif self.order == "figure" and figures:
            sign = -1 if figures[0].better == "lower" else 1  # the worst first

            def place(one: RunRow) -> tuple[bool, float]:
                value = figure_value(one, figures[0].name)
                return value is None, sign * (value or 0.0)

            found.sort(key=place)
        return found

    def _title(self, width: int) -> Row:
        step = self.state.step
        words = Counter(outcome_sign(one).word for one in self.history)
        detail = self.state.detail
        total = detail.runs if detail is not None else len(self.history)
        counts = ", ".join(f"{count} {word}" for word, count in words.items())
        parts: list[Span] = [(f" Runs of {step.number if step else ''}", "title"), (f"  {total}: {counts}", "text")]
        if self.outcome is not None:
            parts.append((f"  only {self.outcome}", "key"))
        if self.order != "newest":
            parts.append((f"  by {self.order}", "key"))
        if self.marked:
            parts.append((f"  {len(self.marked)} marked", "key"))
        hint = self.themed_app.keymap.hint
        for key, text in ((hint("state"), "outcome"), (hint("order"), "sort"), (hint("compare"), "compare two")):
            parts += [(f"  {key}", "key"), (f" {text}", "muted")] if key else []
        return row(*whole_spans(parts, width), background="bar")

    def _columns(self, figures: Sequence[Figure], width: int) -> tuple[int, bool, bool]:
        """How many figures there is room for; whether date and age; whether GPUs, gates and id have columns."""
        room = width - FIXED - AGE
        count = min(len(figures), max(0, room // FIGURE))
        room -= count * FIGURE
        dated = room >= DATE
        return count, dated, room - DATE * dated >= GPUS + GATES + ID

    def _heads(self, figures: Sequence[Figure], width: int) -> Row:
        count, dated, more = self._columns(figures, width)
        text = f"   {'outcome':<13}" + (f" {'when':<{DATE - 1}}" if dated else "") + f"{'age':>{AGE}}{'took':>6}"
        for figure in figures[:count]:
            text += f"{cut(figure.label, FIGURE - 1, self.glyphs.ellipsis):>{FIGURE}}"
        if more:
            text += f"{'GPUs':>{GPUS}}{'judged':>{GATES}}{'run':>{ID}}"
        return row((text, "muted"))

    def _run(self, one: RunRow, figures: Sequence[Figure], width: int) -> Row:
        count, dated, more = self._columns(figures, width)
        sign, now = outcome_sign(one), self.state.now()
        mark = self.glyphs.mark if one.id in self.marked else " "
        shown = self.state.run is not None and self.state.run.id == one.id
        spans: list[Span] = [
            (self.glyphs.cursor if shown else " ", "accent"),
            (mark, "key"),
            (f"{self.glyphs.sign(sign)} {sign.word:<12}", sign.role),
        ]
        if dated:
            moment = datetime.fromtimestamp(one.began_s).strftime("%d %b %H:%M") if one.began_s is not None else "n/a"
            spans.append((f" {moment:<{DATE - 1}}", "text"))
        moment_s = one.judged_s or one.began_s
        age = "now" if one.alive else short_age(now - moment_s if moment_s is not None else None)
        lasted = now - one.began_s if one.alive and one.began_s is not None else one.took_s
        spans += [(f"{age:>{AGE}}", "muted"), (f"{took(lasted) or 'n/a':>7}", "text")]
        for figure in figures[:count]:
            value = figure_value(one, figure.name)
            text = self.glyphs.dash if value is None else number(value)
            spans.append((f"{text:>{FIGURE}}", self._role(figure, value)))
        if more:
            gates = f"{one.gates[0]}/{one.gates[1]}" if one.gates is not None else self.glyphs.dash
            spans += [(f"{number(one.gpus):>{GPUS}}", "muted"), (f"{gates:>{GATES}}", "text")]
            spans.append((f"{one.id[-6:]:>{ID}}", "muted"))
        return row(*spans, target=one.id)

    def _role(self, figure: Figure, value: float | None) -> str:
        """A figure outside the ordinary range is yellow if it is the worse one."""
        span = ordinary_range([figure_value(other, figure.name) for other in self.history])
        if value is None or span is None or len(self.history) < 3:
            return "muted" if value is None else "text"
        worse = value < span[0] if figure.better == "higher" else value > span[1] if figure.better == "lower" else False
        return "warn" if worse else "text"

    def _charts(self, figures: Sequence[Figure], width: int) -> list[Row]:
        """A row of bars for each figure, oldest first: over the range of ordinary runs, `▲` and `▼` outside it."""
        judged = [one for one in reversed(self.history) if one.outcome is not None]
        if len(judged) < 2 or not figures:
            return []
        name = max(cell_len(figure.label) for figure in figures) + 3
        room = max(4, width - name - 36)
        bar = WIDE_BAR if len(judged) * WIDE_BAR <= room else 1
        judged = judged[-(room // bar) :]
        rows = [row()]
        for figure in figures:
            values = [figure_value(one, figure.name) for one in judged]
            spans: list[Span] = [(f" {figure.label:<{name - 1}}", "muted")]
            for sign, outside in trend_signs(values, self.glyphs):
                text = sign * (bar - 1) + " " if bar > 1 and not outside else fit(sign, bar)
                spans.append((text, "warn" if outside else "chart"))
            spans.append((f"  {_range_text(values, figure, self.glyphs)}", "muted"))
            rows.append(row(*spans))
        bad = ["" if one.outcome is Outcome.PASS else self.glyphs.sign(outcome_sign(one)) for one in judged]
        signs = "".join(fit(sign, bar) for sign in bad)
        if signs.strip():
            rows.append(row((" " * name + signs, "muted")))
        return rows

    def toggle_mark(self) -> None:
        """Mark the run under the cursor; the one marked first gives way to a third."""
        if self.target is None:
            return
        if self.target in self.marked:
            self.marked.remove(self.target)
        else:
            self.marked = [*self.marked[-1:], self.target]
        self.action_move(1)

    def two(self) -> tuple[RunRow, RunRow] | None:
        """The runs to compare, the older one first: both marked ones, or the one under the cursor with another."""
        ids = list(self.marked)
        if self.target is not None and self.target not in ids:
            ids.append(self.target)
        others = [one.id for one in self.history if one.outcome is not None and one.id not in ids]
        ids = (ids[:2] if len(self.marked) == 2 else ids[-2:]) + others
        rows = [one for one in self.history if one.id in ids[:2]]
        return (rows[1], rows[0]) if len(rows) == 2 else None

    def place_of(self, run_id: str | None) -> int | None:
        """How many runs of the step are newer."""
        return next((index for index, one in enumerate(self.history) if one.id == run_id), None)

    def next_state(self) -> None:
        words: list[str | None] = [None, *dict.fromkeys(outcome_sign(one).word for one in self.history)]
        now = self.outcome if self.outcome in words else None
        self.outcome = words[(words.index(now) + 1) % len(words)]
        self.repaint()

    def next_order(self) -> None:
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]
        self.repaint()


def _range_text(values: Sequence[float | None], figure: Figure, glyphs: Glyphs) -> str:
    """The range of the ordinary runs, and the furthest one outside it: `26.6 to 26.8 QPS, ▼ 24.9`."""
    span = ordinary_range(values)
    if span is None:
        return "no figure"
    text = f"{number(span[0])} to {number(span[1])} {figure.unit}".rstrip()
    outside = [value for value in values if value is not None and not span[0] <= value <= span[1]]
    if outside:
        worst = max(outside, key=lambda value: max(span[0] - value, value - span[1]))
        sign = ("v" if glyphs.ascii else "▼") if worst < span[0] else ("^" if glyphs.ascii else "▲")
        text += f", {sign} {number(worst)}"
    return text


def difference_rows(found: Sequence[Difference], names: tuple[str, str], width: int, glyphs: Glyphs) -> list[Row]:
    """Two runs side by side, for a dialog."""
    label = min(26, max(cell_len(one.name) for one in found) + 1)
    side = max(12, (width - label - 14) // 2)
    heads: list[Span] = [(fit(cut(name, side - 1, glyphs.ellipsis), side), "title") for name in names]
    rows = [row((" " * (label + 1), "text"), *heads, ("change", "muted"))]
    group = ""
    for one in found:
        if one.group != group:
            group = one.group
            rows += heading(group, width, glyphs)
        role = "muted" if one.equal else "text"
        left, right = wrap(one.first, side - 1), wrap(one.second, side - 1)
        for index in range(max(len(left), len(right))):
            first, second = (lines[index] if index < len(lines) else "" for lines in (left, right))
            name = clean_line(one.name) if not index else ""
            spans: list[Span] = [(f" {fit(name, label, glyphs.ellipsis)}", "muted")]
            spans += [(fit(first, side), role), (fit(second, side), role), (one.change if not index else "", "key")]
            rows.append(row(*spans))
    return rows
