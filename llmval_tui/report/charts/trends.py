"""The figures of a run beside those of earlier runs: one plot each, one mark a run."""

from llmval_tui.report.blocks import Block, Heading, Plots
from llmval_tui.report.charts.axes import tick_label, ticks
from llmval_tui.report.charts.chart import marker, polyline, rule, svg, text
from llmval_tui.report.facts import RunFacts
from llmval_tui.report.key_figures import KeyFigure
from llmval_tui.report.pages.markup import esc

LEAST_EARLIER = 2  # with fewer, the table says as much as a plot
WIDTH, LEFT, RIGHT = 470, 56, 20  # so wide that two stand side by side
_TOP, _BOTTOM, _HEIGHT = 30, 132, 160


def trend_blocks(run: RunFacts, name: str) -> list[Block]:
    """A plot of each figure that has enough earlier runs.

    Args:
        name: makes the ids of the plots unique in the page.
    """
    shown = [one for one in run.figures if one.value is not None and len(one.trend.earlier) >= LEAST_EARLIER]
    if not shown:
        return []
    caption = (
        "Earlier runs of this item on this host with this preset, oldest first, and this run last. Invalid and "
        "inconclusive runs are left out. A dashed line is the bound."
    )
    return [Heading(3, "Trend over runs"), Plots(caption, [_plot(one, f"{name}{at}") for at, one in enumerate(shown)])]


def _plot(one: KeyFigure, name: str) -> str:
    values = [*one.trend.earlier, *([] if one.value is None else [one.value])]
    bound = None if one.bound is None else one.bound.value * one.factor
    high = max([*values, *([] if bound is None else [bound])]) or 1.0
    marks = ticks(0.0, high, 4)
    top = max(marks[-1], high)

    def y(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * value / top

    def x(at: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at + 0.5) / len(values)

    step = marks[1] - marks[0] if len(marks) > 1 else marks[0]
    title = f"{one.label}, {one.unit}" if one.unit else one.label
    parts = [f'<text class="label" x="{LEFT}" y="13">{esc(f"{one.label}: {one.shown}")}</text>']
    for mark in marks:
        parts.append(rule("grid", LEFT, y(mark), WIDTH - RIGHT, y(mark)))
        parts.append(text(LEFT - 6, y(mark) + 4, tick_label(mark, step), "end"))
    if bound is not None:
        parts.append(rule("limit", LEFT, y(bound), WIDTH - RIGHT, y(bound)))
    path = polyline([(x(at), y(value)) for at, value in enumerate(values)])
    parts.append(f'<path class="line s0" d="{path}"/>')
    parts += [marker(0, x(at), y(value), 0) for at, value in enumerate(values)]
    parts.append(text(x(len(values) - 1), _BOTTOM + 18, "this run", "middle"))
    parts.append(text(x(0), _BOTTOM + 18, "oldest", "middle"))
    return svg(name, title, f"{one.shown}, {one.trend.sentence}", _HEIGHT, "".join(parts), WIDTH)
