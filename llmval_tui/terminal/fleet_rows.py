"""The rows above and below the grid of a fleet: the counts, the worst, the silent, what differs."""

from collections import Counter
from collections.abc import Sequence

from llmval_tui.actions.headline import Figure, headline
from llmval_tui.fleet.differences import text
from llmval_tui.fleet.node_state import NodeState
from llmval_tui.fleet.outliers import TO_SIGMA
from llmval_tui.fleet.overview import NodeView, Overview, metrics_of, worst
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.definitions import define
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.fleet_grid import LARGEST_LABEL, Spans, own_figure, power_bars, remarkable, short_names, signed
from llmval_tui.terminal.format import age, cut, fit, fit_middle, number, short_age, wrap
from llmval_tui.terminal.glyphs import NODE_SIGNS, Glyphs

WORST = 6  # nodes that are listed with their reasons


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
    states: frozenset[NodeState] | None = None, count: int = WORST, whole: bool = False,
) -> list[Spans]:  # fmt: skip
    """The worst nodes with figure and reason. Nodes in order are listed only if the operator asks for their state.

    `whole`: a reason that does not fit goes on in the next rows, and is not cut.
    """
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
        first, *rest = wrap(reason_of(node), room) if whole else [cut(reason_of(node), room, glyphs.ellipsis)]
        rows.append([*head, (first, "text")])
        rows += [[(" " * (width - room - 1), "text"), (part, "text")] for part in rest]
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
