"""The headline figures of a run: value, bound, whose bound it is, and how far the value is from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmval_tui.actions.bounds import BASELINE, Bound
from llmval_tui.actions.headline import Figure, headline
from llmval_tui.runs.records import Gate, Outcome
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import NOT_AVAILABLE, duration, fit, number, wrap
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.drawing.rows import Row, Span

NO_BOUND = "no bound set"
MOST_FIGURES = 3
# The figure that is asked for beside the one that was reached: "26.78 of 28.00 QPS".
_OF = {"completed_qps": "offered_qps"}
# Of the same latency, another statistic may have the bound; then that one is shown.
_SIBLINGS = {
    "ttft_sched_p99_ms": ("ttft_p99_ms", "ttft_p50_ms"),
    "ttft_p99_ms": ("ttft_p50_ms",),
    "tpot_p50_ms": ("tpot_p99_ms",),
}
_LABELS = {"ttft_sched_p99_ms": "TTFT p99 from arrival", "ttft_p99_ms": "TTFT p99 from dispatch",
           "ttft_p50_ms": "TTFT p50", "tpot_p99_ms": "TPOT p99"}  # fmt: skip
# During a run, runners report the figures of the last 5 s.
_WINDOW = ", last 5 s"
# What stands below each figure of an ended run, if there is room.
_BESIDE = {
    "completed_qps": ("output_tokens_per_s", "", "tokens/s"),
    "ttft_sched_p99_ms": ("ttft_sched_p50_ms", "p50 ", "ms"),
    "ttft_p99_ms": ("ttft_p50_ms", "p50 ", "ms"),
    "tpot_p50_ms": ("tpot_p99_ms", "p99 ", "ms"),
    "tpot_p99_ms": ("tpot_p50_ms", "p50 ", "ms"),
}


@dataclass(frozen=True, slots=True)
class ShownFigure:
    """A figure with what it is compared with."""

    label: str
    value: float | None
    unit: str
    of: float | None = None
    bound: Bound | None = None
    ramp: bool = False  # the load still rises, so that the figure has no verdict yet
    beside: str = ""
    live: bool = False  # of the last seconds, and not of the whole run
    missed_s: float = 0.0  # seconds of the run so far in which it was not within its bound
    decides: bool = True  # whether a gate of the item stands behind the bound

    @property
    def of_baseline(self) -> bool:
        """Whether the bound is the baseline's, which no gate of the run itself has."""
        return self.bound is not None and self.bound.set_by == BASELINE

    @property
    def holds(self) -> bool | None:
        """Whether it is within its bound; None without a bound or a value, or while the load rises."""
        if self.bound is None or self.value is None or self.ramp:
            return None
        return self.bound.holds(self.value)


def figures_of(
    metrics: Mapping[str, float | None],
    bounds: Mapping[str, Bound],
    *,
    ramp: bool = False,
    baseline: Mapping[str, Bound] | None = None,
    live: bool = False,
    asked_qps: float | None = None,
    missed_s: Mapping[str, float] | None = None,
) -> list[ShownFigure]:
    """The headline figures of a run's metrics, live or of its verdict. A bound wins over that of the baseline.

    `asked_qps`: the rate that the command asks for; what arrived in the last seconds varies about it. `missed_s`: by
    metric, the time so far in which it was not within its bound.
    """
    found = []
    for one in headline(metrics):
        figure = _bounded_sibling(one, metrics, bounds)
        bound = bounds.get(figure.name) or (baseline or {}).get(figure.name)
        beside = ""
        if figure.name in _BESIDE:
            name, prefix, unit = _BESIDE[figure.name]
            if metrics.get(name) is not None:
                beside = f"{prefix}{number(metrics[name])} {unit}"
        rising = ramp and bound is not None and bound.comparison.startswith(">")
        of = metrics.get(_OF.get(figure.name, ""))
        if of is not None and live and asked_qps is not None:
            of = asked_qps
        label = _LABELS.get(figure.name, figure.label)
        if live and figure.name.endswith(("_qps", "_ms")):
            label += _WINDOW
        missed = (missed_s or {}).get(figure.name, 0.0) if figure.name in bounds else 0.0
        found.append(ShownFigure(label, figure.value, figure.unit, of, bound, rising, beside, live, missed))
    return found[:MOST_FIGURES]


def _bounded_sibling(figure: Figure, metrics: Mapping[str, float | None], bounds: Mapping[str, Bound]) -> Figure:
    if figure.name in bounds:
        return figure
    for name in _SIBLINGS.get(figure.name, ()):
        if name in bounds and name in metrics:
            return Figure(name, figure.label, figure.unit, figure.better, metrics[name])
    return figure


def distance(value: float, bound: Bound) -> str:
    """How far a value is from its bound, in words: `8 % above`, `2 % short`, `6.1 times it`."""
    if bound.value == 0:
        return "" if bound.holds(value) else f"{number(value)} over"
    share = value / bound.value - 1
    if bound.comparison.startswith("<"):
        if share >= 1:
            return f"{number(value / bound.value)} times it"
        return f"{share:.0%} over".replace("%", " %") if share > 0 else f"{-share:.0%} below".replace("%", " %")
    return f"{share:.0%} above".replace("%", " %") if share >= 0 else f"{-share:.0%} short".replace("%", " %")


def steady(value: float | None) -> str:
    """A figure with three digits, zeros included, so that its width stays the same while it changes."""
    if value is None or value != value:
        return NOT_AVAILABLE
    size = abs(value)
    return f"{value:,.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


def value_text(figure: ShownFigure) -> str:
    """The value with what it is of, and its unit."""
    if figure.value is None:
        return NOT_AVAILABLE
    if figure.of is not None and figure.live:  # in a few seconds more may complete than was asked for
        return f"{steady(figure.value)} {figure.unit}, asked {number(figure.of)}"
    of = f" of {steady(figure.of)}" if figure.of is not None else ""
    return f"{steady(figure.value)}{of}{' ' if figure.unit else ''}{figure.unit}"


def bound_text(figure: ShownFigure, width: int, glyphs: Glyphs) -> Span:
    """The bound, whose it is and the distance; the distance goes first if there is no room."""
    bound = figure.bound
    if bound is None:
        return NO_BOUND, "muted"
    sign = {"<=": "≤", ">=": "≥"}.get(bound.comparison, bound.comparison)
    sign = bound.comparison if glyphs.ascii else sign
    text = f"{sign} {number(bound.value)} {bound.set_by}"
    holds = figure.holds
    if holds is None:
        why = "ramp" if figure.ramp else "not known yet"
        return f"{text} {glyphs.dot} {why}", "muted"
    role = "good" if holds else "warn" if figure.of_baseline or not figure.decides else "bad"
    if figure.of_baseline and figure.live:
        role = "muted"  # the last seconds vary by more than a baseline allows: only the whole run is compared with it
    elif not holds and (figure.of_baseline or not figure.decides):
        text = f"! {text}"
    else:
        text = f"{glyphs.sign(OUTCOME_SIGNS[Outcome.PASS if holds else Outcome.FAIL])} {text}"
    far = distance(figure.value or 0.0, bound)
    if figure.live and holds and not figure.of_baseline:
        # The last seconds alone say little: what counts is whether it was kept all the time.
        far = "kept so far"
        if figure.missed_s:
            text, role, far = f"! {text.partition(' ')[2]}", "warn", f"missed {duration(figure.missed_s)}"
    whole = f"{text}, {far}" if far else text
    return whole if cell_len(whole) < width - 1 else text, role


def has_slo_gate(gates: Sequence[Gate]) -> bool:
    """Whether a service level is a gate of the item; else its mark decides nothing."""
    return any(gate.name.lower().startswith("slo") for gate in gates)


def undecided_rows(figures: Sequence[ShownFigure], gates: Sequence[Gate], width: int) -> list[Row]:
    """What the marks of figures mean if no gate of the item decides about them."""
    said = []
    slo = [figure for figure in figures if figure.holds is False and figure.bound and figure.bound.set_by == "SLO"]
    if slo and not has_slo_gate(gates):
        said.append("the SLO is not a gate of this item, so it does not decide")
    if any(figure.holds is False and figure.of_baseline for figure in figures):
        said.append(
            "! below the baseline: not a gate either"
            if slo
            else "! below the baseline, which is not a gate of this item"
        )
    text = "; ".join(said)
    return [Row(((f" {line}", "muted"),)) for line in wrap(text, width - 2)] if text else []


def _in_one_row(figure: ShownFigure, width: int, glyphs: Glyphs) -> Row:
    """Value, label and bound of a figure, if three do not fit side by side. A cut figure would be another number."""
    failed = figure.holds is False and not figure.of_baseline
    spans: list[Span] = [(f" {value_text(figure)}", "bad" if failed else "title")]
    label, (bound, role) = figure.label.partition(",")[0].partition(" from ")[0], bound_text(figure, 0, glyphs)
    for text, kind in ((label, "muted"), (bound if figure.bound is not None else "", role)):
        if text and sum(cell_len(part) for part, _ in spans) + 2 + cell_len(text) <= width:
            spans.append((f"  {text}", kind))
    return Row(tuple(spans))


def _label(label: str, room: int) -> str:
    """The label; without room, not from when a latency counts, because the window of a live one is more important."""
    if cell_len(label) <= room or _WINDOW not in label:
        return label
    return label.partition(" from ")[0].removesuffix(_WINDOW) + _WINDOW


def figure_rows(figures: Sequence[ShownFigure], width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Label, value and bound below each other, the figures side by side; the fourth row has what is beside them."""
    if not figures:
        return []
    share = (width - 1) // MOST_FIGURES
    if any(cell_len(value_text(figure)) >= share for figure in figures):
        return [_in_one_row(figure, width, glyphs) for figure in figures[:height]]
    lines: list[list[Span]] = [[], [], [], []]
    for figure in figures:
        lines[0].append((_label(figure.label, share - 1), "muted"))
        failed = figure.holds is False and not figure.of_baseline and figure.decides
        role = "bad" if failed else "warn" if figure.value is None else "title"
        lines[1].append((value_text(figure), role))
        lines[2].append(bound_text(figure, share, glyphs))
        lines[3].append((figure.beside, "muted"))
    return [
        Row(((" ", "text"), *((fit(text, share - 1, glyphs.ellipsis) + " ", role) for text, role in line)))
        for line in lines[: min(height, 4 if any(figure.beside for figure in figures) else 3)]
    ]
