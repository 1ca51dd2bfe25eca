"""The nodes of a fleet as rows of text: a grid of cells, the worst, the silent, what differs. For pane and commands.

A row is a list of spans, each a text with the role that a theme gives a colour.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from llmval_tui.actions.headline import Figure, headline
from llmval_tui.fleet.differences import text
from llmval_tui.fleet.launch import How
from llmval_tui.fleet.node_state import NodeState
from llmval_tui.fleet.outliers import TO_SIGMA
from llmval_tui.fleet.overview import NodeView, Overview, metrics_of, worst
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.definitions import define
from llmval_tui.telemetry.sample import GpuSample
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import age, cut, fit, fit_middle, number, short_age
from llmval_tui.terminal.glyphs import NODE_SIGNS, Glyphs

Span = tuple[str, str]
Spans = list[Span]

WORST = 6  # nodes that are listed with their reasons
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
        """The terminal rows that so many nodes take."""
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
    value = node.metrics.get(metric) if metric is not None and overview.how == How.COLLECTIVE else None
    figure = headline({metric: value})[0] if metric is not None and value is not None else None
    return number(figure.value) if figure is not None else ""


def signed(share: float) -> str:
    """A deviation: `-0.7`, `+12.3`; without a sign if it rounds to zero."""
    shown = f"{100 * share:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown


def remarkable(overview: Overview, metric: str, node: NodeView) -> bool:
    """Whether a node's figure is worse by more than noise explains. Of few nodes nobody can say so."""
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


# What stands above and below the grid.


def figure_of(metric: str | None) -> Figure | None:
    """How a metric is called on screens."""
    if metric is None:
        return None
    found = headline({metric: None})[0]
    return found if found.unit or found.better else Figure(metric, found.label, define(metric).unit, "")


def metric_names(overview: Overview) -> list[str]:
    """The metrics by which nodes can be shown, those of a run's headline first."""
    names = metrics_of(overview)
    first = [figure.name for figure in headline(dict.fromkeys(names))]
    return [*(name for name in first if name in names), *(name for name in names if name not in first)]


def title_spans(overview: Overview, metric: str | None, width: int) -> Spans:
    """Which step and which figure the grid is about, and how the run stands."""
    figure = figure_of(metric)
    what = f" step {overview.step}" if overview.step else f" {len(overview.nodes)} nodes"
    parts: Spans = [(what, "title")]
    if figure is not None:
        parts.append((f", {figure.label} {figure.unit}".rstrip(), "text"))
    if overview.how:
        over = "once over all nodes" if overview.how == "collective" else "on each node"
        parts.append((f"  {len(overview.nodes)} nodes, {over}", "muted"))
    if overview.refused:
        return _cut_spans([*parts, ("  refused", "warn")], width)
    if overview.job:
        parts.append((f"  {clean_line(overview.job)}", "busy" if overview.outcome is None else "muted"))
    if overview.outcome is not None:
        parts.append((f"  {overview.outcome}", {"pass": "good", "fail": "bad"}.get(overview.outcome, "warn")))
    return _cut_spans(parts, width)


def count_spans(overview: Overview, glyphs: Glyphs, width: int) -> Spans:
    """How many nodes are in each state, the most urgent first."""
    counts = Counter(node.state for node in overview.nodes)
    parts: Spans = []
    for state, sign in NODE_SIGNS.items():
        if counts[state]:
            parts.append((f" {glyphs.sign(sign)} {counts[state]} {sign.word} ", sign.role))
    return _cut_spans(parts or [(" no node is known yet", "muted")], width)


def statistics_text(overview: Overview, metric: str | None) -> str:
    """Median and spread of each group, and the smallest slowness that could be found; empty without a figure."""
    if metric is None or metric not in overview.statistics:
        return ""
    figure = figure_of(metric)
    unit = f" {figure.unit}" if figure is not None and figure.unit else ""
    groups = sorted(overview.statistics[metric].groups.items(), key=lambda item: (-item[1].n, item[0]))
    ruled = [(name, one) for name, one in groups if one.smallest_findable is not None]
    parts = []
    for name, one in ruled or groups[:1]:
        said = f"median {number(one.median)}{unit} of {one.n}"
        if one.mad is not None and one.median:
            said += f", spread {percent(TO_SIGMA * one.mad / abs(one.median))}"
        if one.smallest_findable is not None:
            said += f", {percent(one.smallest_findable)} slower could be found"
        elif one.reason:
            said += f" ({one.reason})"
        parts.append(f"{clean_line(name)}: {said}" if len(ruled) > 1 and name else said)
    few = sum(one.n for _, one in groups) - sum(one.n for _, one in (ruled or groups[:1]))
    if few:
        parts.append(f"{few} node{'s' if few != 1 else ''} of other kinds, too few to compare")
    return "; ".join(parts)


def percent(share: float) -> str:
    """A share as people read it: `3.0 %`."""
    return f"{100 * share:.1f} %"


def worst_rows(
    overview: Overview, metric: str | None, glyphs: Glyphs, width: int, order: str = "deviation",
    states: frozenset[NodeState] | None = None, count: int = WORST,
) -> list[Spans]:  # fmt: skip
    """The worst nodes with figure and reason. Nodes in order are listed only if the operator asks for their state."""
    shown = worst(overview, metric, order, states)
    if states is None and order == "deviation":
        shown = [
            node
            for node in shown
            if node.reason or node.different or (metric is not None and remarkable(overview, metric, node))
        ] or shown
    names = dict(zip((n.name for n in overview.nodes), short_names([n.name for n in overview.nodes]), strict=True))
    label = min(LARGEST_LABEL, max((cell_len(names[node.name]) for node in shown[:count]), default=1))
    rows: list[Spans] = []
    for node in shown[:count]:
        sign = NODE_SIGNS[node.state]
        deviation = overview.deviation(metric, node) if metric is not None else None
        own = own_figure(overview, metric, node) or glyphs.dash
        figure = f"{signed(deviation)} %" if deviation is not None else own
        warn = metric is not None and remarkable(overview, metric, node)
        head: Spans = [
            (f" {fit_middle(names[node.name], label, glyphs.ellipsis)} ", "title"),
            (f"{glyphs.sign(sign)} {sign.word:<12} ", sign.role),
            (f"{figure:>8}  ", "warn" if warn else "text"),
        ]
        room = width - sum(cell_len(one) for one, _ in head) - 1
        rows.append([*head, (cut(reason_of(node), room, glyphs.ellipsis), "text")])
    return rows


def reason_of(node: NodeView) -> str:
    """Why a node is listed, in one line."""
    parts = [clean_line(node.reason)] if node.reason else []
    if node.state in (NodeState.NO_ANSWER, NodeState.LOST):
        parts.insert(0, f"last sample {_ago(node.age_s)}" if node.age_s is not None else "no sample ever")
    if node.different:
        more = f" and {len(node.different) - 3} more" if len(node.different) > 3 else ""
        parts.append(f"differs in {', '.join(node.different[:3])}{more}")
    return "; ".join(parts) or (f"phase {node.phase}" if node.phase and node.state is NodeState.RUNNING else "")


def _ago(seconds: float) -> str:
    return age(seconds) if seconds < 2 else f"{age(seconds)} ago"


def silent_text(overview: Overview, width: int) -> str:
    """The nodes that do not answer, each with the age of its last sample; empty if all answer."""
    names = dict(zip((n.name for n in overview.nodes), short_names([n.name for n in overview.nodes]), strict=True))
    shown = [
        f"{names[node.name]} {short_age(node.age_s) if node.age_s is not None else 'never'}" for node in overview.silent
    ]
    if not shown:
        return ""
    text_ = f"{len(shown)} silent, last sample: "
    for at in range(len(shown), 0, -1):
        more = f" and {len(shown) - at} more" if at < len(shown) else ""
        whole = f"{text_}{', '.join(shown[:at])}{more}"
        if cell_len(whole) <= width:
            return whole
    return f"{len(shown)} silent"


def difference_rows(overview: Overview, glyphs: Glyphs, width: int, count: int) -> list[Spans]:
    """What differs from the majority, a row for each key; the last row says how many keys are left."""
    found = overview.differences
    shown = found if len(found) <= count else found[: max(0, count - 1)]
    key = min(32, max((cell_len(one.key) for one in shown), default=1))
    rows: list[Spans] = []
    for one in shown:
        most = "no majority" if one.majority is None else f"most {clean_line(text(one.majority))}"
        by_value: dict[str, list[str]] = {}
        for name, value in one.nodes.items():
            by_value.setdefault(clean_line(text(value)), []).append(name)
        who = "; ".join(f"{_names(nodes)} {value}" for value, nodes in by_value.items())
        head: Spans = [(f" {fit(clean_line(one.key), key, glyphs.ellipsis)}  ", "title")]
        room = width - key - 4
        tail = f"  ({cut(most, max(12, room // 3), glyphs.ellipsis)})"
        role = "bad" if one.key == "gpu_count" else "text"
        shown_who = cut(who, room - cell_len(tail), glyphs.ellipsis)
        rows.append([*head, (shown_who, role), (tail, "muted")])
    if len(shown) < len(found):
        left = ", ".join(one.key for one in found[len(shown) :])
        rows.append([(cut(f" {len(found) - len(shown)} more: {left}", width - 1, glyphs.ellipsis), "muted")])
    return rows


def _names(nodes: Sequence[str]) -> str:
    return ", ".join(nodes[:4]) + (f" and {len(nodes) - 4} more" if len(nodes) > 4 else "")


def node_rows(node: NodeView, glyphs: Glyphs, width: int) -> list[Spans]:
    """The chosen node: its figures, its GPUs, and why it is listed."""
    sign = NODE_SIGNS[node.state]
    first: Spans = [
        (f" {node.name} ", "title"),
        (f"{glyphs.sign(sign)} {sign.word}", sign.role),
    ]
    for figure in headline(node.metrics) if node.metrics else ():
        first.append((f"  {figure.label} {number(figure.value)} {figure.unit}".rstrip(), "text"))
    if node.group:
        first.append((f"  {node.group}", "muted"))
    second: Spans = []
    if node.gpus:
        power = [gpu.power_w for gpu in node.gpus if gpu.power_w is not None]
        watts = f"{min(power):.0f} to {max(power):.0f} W" if power else "power n/a"
        heat = f"{node.hottest_c:.0f} °C at most" if node.hottest_c is not None else "temperature n/a"
        used = [gpu.sm_util_percent for gpu in node.gpus if gpu.sm_util_percent is not None]
        util = f"util {min(used):.0f} to {max(used):.0f} %" if used else "util n/a"
        second += [
            (f" {len(node.gpus)} GPU{'s' if len(node.gpus) != 1 else ''} ", "muted"),
            (power_bars(node.gpus, glyphs), "chart"),
        ]
        second.append((f"  {watts}, {heat}, {util}", "text"))
        if xids := [f"XID {gpu.xid} on GPU {gpu.index}" for gpu in node.gpus if gpu.xid]:
            second.append((f"  {', '.join(xids)}", "bad"))
    if node.age_s is not None:
        second.append((f"  sample {_ago(node.age_s)}", "muted"))
    said = reason_of(node) or "; ".join(node.notes)
    third: Spans = (
        [(f" {cut(said, width - 2, glyphs.ellipsis)}", "text" if reason_of(node) else "muted")] if said else []
    )
    return [_cut_spans(row, width) for row in (first, second, third)]


def heading_spans(title: str, note: str, width: int, glyphs: Glyphs) -> Spans:
    """A heading with a rule and a note at its end."""
    rule = glyphs.rule * max(0, width - cell_len(title) - cell_len(note) - 4)
    return [(f" {title} ", "accent"), (rule, "track"), (f" {note} ", "muted")]


def _cut_spans(parts: Spans, width: int) -> Spans:
    """The spans that fit; the first that does not is cut."""
    found: Spans = []
    for one, role in parts:
        if cell_len(one) >= width:
            return [*found, (cut(one, width, "…"), role)]
        found.append((one, role))
        width -= cell_len(one)
    return found
