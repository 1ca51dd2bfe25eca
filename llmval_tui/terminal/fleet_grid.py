"""The nodes of a fleet as a grid of cells: name, state, deviation, and the power of each GPU if there is room.

A row is a list of spans, each a text with the role that a theme gives a colour.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from llmval_tui.actions.headline import headline
from llmval_tui.fleet.launch import LaunchKind
from llmval_tui.fleet.node_state import NodeState
from llmval_tui.fleet.overview import NodeView, Overview
from llmval_tui.telemetry.sample import GpuSample
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import fit, fit_middle, number, short_age
from llmval_tui.terminal.glyphs import NODE_SIGNS, Glyphs

Span = tuple[str, str]
Spans = list[Span]

LARGEST_LABEL = 14
FULL_POWER_W = 700.0  # of the bars, where no limit is known
_LEAST_LARGE = 16  # terminal columns of a cell with eight GPUs and a temperature
_SMALL, _TINY = 9, 7  # of one with sign and deviation


@dataclass(frozen=True, slots=True)
class Grid:
    """How the cells are laid out."""

    columns: int
    cell: int  # terminal columns of a cell
    lines: int  # rows of a cell: 1, or 2 with the power of each GPU
    label: int  # terminal columns of the label before each row; 0: each cell has its name

    def rows(self, count: int) -> int:
        """The terminal rows for this many nodes."""
        return -(-count // self.columns) * self.lines


def lay_out(names: Sequence[str], width: int, height: int) -> Grid:
    """The largest cells with which the nodes fit into this room; the smallest ones if none do, and then it scrolls."""
    longest = max((cell_len(name) for name in names), default=1)
    name = min(longest, LARGEST_LABEL)
    large, label = max(name + 12, _LEAST_LARGE), name + 2
    grids = []
    for cell, lines, before in ((large, 2, 0), (_SMALL, 1, label), (_TINY, 1, label)):
        columns = max(1, (width - before) // cell)
        even = columns // 8 * 8  # rows of 8, 16 … nodes are easier to count in
        if even and Grid(even, cell, lines, before).rows(len(names)) <= height:
            columns = even
        grids.append(Grid(min(columns, max(1, len(names))), cell, lines, before))
    return next((grid for grid in grids if grid.rows(len(names)) <= height), grids[-1])


def short_names(names: Sequence[str]) -> list[str]:
    """The names without what all of them end in after a dot, and without a long common beginning; addresses whole."""
    if any(_is_address(name) for name in names):
        return list(names)
    domain = {name.partition(".")[2] for name in names}
    short = [name.partition(".")[0] for name in names] if len(domain) == 1 else list(names)
    head = _common_start(short).rstrip("0123456789")
    if len(short) > 1 and len(head) > 4 and max(map(len, short)) > LARGEST_LABEL:
        short = [name[len(head) :] or name for name in short]
    return short


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _common_start(names: Sequence[str]) -> str:
    first, last = min(names, default=""), max(names, default="")
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:same]


def grid_rows(
    overview: Overview, metric: str | None, grid: Grid, glyphs: Glyphs, cursor: str | None = None
) -> list[Spans]:
    """All rows of the grid; the cell of the node `cursor` has the cursor's sign."""
    nodes, names = overview.nodes, short_names([node.name for node in overview.nodes])
    rows: list[Spans] = []
    for start in range(0, len(nodes), grid.columns):
        part = list(zip(nodes[start : start + grid.columns], names[start : start + grid.columns], strict=True))
        first: Spans = []
        if grid.label:
            first.append((f" {fit_middle(part[0][1], grid.label - 2, glyphs.ellipsis)} ", "muted"))
        for node, name in part:
            first += _cell(overview, metric, node, name, grid, glyphs, node.name == cursor)
        rows.append(_joined(first))
        if grid.lines > 1:
            rows.append([span for node, _ in part for span in _gpus_cell(node, grid, glyphs)])
    return rows


def _joined(spans: Spans) -> Spans:
    """The same row in fewer spans: blanks take the role of their neighbour. A large grid has thousands of them."""
    found: Spans = []
    for part, role in spans:
        if found and (role == found[-1][1] or part.isspace()):
            found[-1] = found[-1][0] + part, found[-1][1]
        elif found and found[-1][0].isspace():
            found[-1] = found[-1][0] + part, role
        else:
            found.append((part, role))
    return found


def _cell(
    overview: Overview, metric: str | None, node: NodeView, name: str, grid: Grid, glyphs: Glyphs, chosen: bool
) -> Spans:
    sign = NODE_SIGNS[node.state]
    mark: Span = (glyphs.cursor if chosen else " ", "accent")
    figure, role = _figure(overview, metric, node)
    if not grid.label:
        head = fit_middle(name, grid.cell - 12, glyphs.ellipsis)
        return [
            mark,
            (f"{head} ", "title" if chosen else "text"),
            (f"{glyphs.sign(sign)} ", sign.role),
            (f"{figure:>6}  " if figure else fit(sign.word, 8, glyphs.ellipsis), role if figure else sign.role),
        ]
    room = grid.cell - 2
    shown = figure if cell_len(figure) <= room else figure.removesuffix(" %")
    return [mark, (glyphs.sign(sign), sign.role), (f"{shown or glyphs.dash:>{room}}", "key" if chosen else role)]


def _figure(overview: Overview, metric: str | None, node: NodeView) -> Span:
    """What a cell says of a node beside its state: the deviation, how far it is, or since when it is silent."""
    if node.state in (NodeState.NO_ANSWER, NodeState.LOST):
        return short_age(node.age_s) if node.age_s is not None else "", "warn"
    deviation = overview.deviation(metric, node) if metric is not None else None
    if deviation is not None and metric is not None and node.state not in (NodeState.RUNNING, NodeState.QUEUED):
        return signed(deviation), "warn" if remarkable(overview, metric, node) else "text"
    if (own := own_figure(overview, metric, node)) and node.state not in (NodeState.RUNNING, NodeState.QUEUED):
        return own, "text"
    if node.state is NodeState.RUNNING and node.fraction is not None:
        return f"{node.fraction:.0%}".replace("%", " %"), "busy"
    if node.state is NodeState.ANSWERS:
        power = _total_power(node.gpus)
        return (f"{power:.0f} W" if power is not None else ""), "text"
    return "", "muted"


def own_figure(overview: Overview, metric: str | None, node: NodeView) -> str:
    """The figure of a node's own replicas in one launch, where nothing is compared; "" if it is not known."""
    value = node.metrics.get(metric) if metric is not None and overview.how == LaunchKind.COLLECTIVE else None
    figure = headline({metric: value})[0] if metric is not None and value is not None else None
    return number(figure.value) if figure is not None else ""


def signed(share: float) -> str:
    """A deviation: `-0.7`, `+12.3`; without a sign if it rounds to zero."""
    shown = f"{100 * share:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def remarkable(overview: Overview, metric: str, node: NodeView) -> bool:
    """Whether a node's figure is worse by more than noise explains. With few nodes that is not known."""
    worse, group = overview.worse(metric, node), overview.group(metric, node)
    return worse is not None and group is not None and worse > (group.smallest_findable or math.inf)


def _gpus_cell(node: NodeView, grid: Grid, glyphs: Glyphs) -> Spans:
    room = grid.cell - 3
    hottest = node.hottest_c
    heat = f"{hottest:.0f} °" if hottest is not None else "n/a"
    bars = power_bars(node.gpus, glyphs)[: room - 5]
    return [(f"  {fit(bars, room - 5)}{heat:>5} ", "chart" if bars else "muted")]


def power_bars(gpus: Sequence[GpuSample], glyphs: Glyphs) -> str:
    """One bar a GPU: its power from 0 to its limit; a dot where it is not known."""
    steps = glyphs.ramp
    found = ""
    for gpu in gpus:
        if gpu.power_w is None:
            found += glyphs.dot
            continue
        share = gpu.power_w / (gpu.power_limit_w or FULL_POWER_W)
        found += steps[max(0, min(len(steps) - 1, round(share * (len(steps) - 1))))]
    return found


def _total_power(gpus: Sequence[GpuSample]) -> float | None:
    known = [gpu.power_w for gpu in gpus if gpu.power_w is not None]
    return sum(known) if known else None
