"""The summary as one SVG: throughput against efficiency, one panel per phase and machine, the front as a line.

Written by hand, since runners must not depend on a plot library. All colours have medium lightness and there is no
background, so the plot is readable on white and on dark. Models also differ in shape and batch sizes have labels, so
no information is in colour alone.
"""

import math
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 560, 400  # of one panel
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 46, 56
COLUMNS = 2
TEXT, GRID = "#767676", "#9a9a9a"
COLOURS = {  # contrast ≥ 3 on white and on black
    "fp16": "#2f81f7",
    "bf16": "#d97706",
    "fp8_te": "#0f9d6b",
    "fp8_native": "#c2468f",
}
MODE_NAMES = {"fp16": "FP16", "bf16": "BF16", "fp8_te": "FP8 (TE)", "fp8_native": "FP8 (native)"}
SHAPES = ("circle", "square", "triangle", "diamond")
PHASE_NAMES = {"prefill": "Prefill", "decode": "Decode"}

Row = dict[str, Any]


def render(summary: dict[str, Any]) -> str:
    """The text of the SVG. If no cell is valid, the plot says so."""
    rows: list[Row] = summary["cells"]
    panels = list(dict.fromkeys((row["machine"], row["phase"], row["sequence_length"]) for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = min(max(len(panels), 1), COLUMNS)
    legend_lines = math.ceil((len(models) + len({row["mode"] for row in rows}) + 1) / (2 * columns))
    width, height = columns * WIDTH, math.ceil(max(len(panels), 1) / COLUMNS) * HEIGHT + 24 * legend_lines + 44
    title = "Energy efficiency and throughput of the valid cells"
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    style = f'font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" {size} {style}>',
        f"<title>{title}</title>",
        _label(width / 2, 22, title, size=16, anchor="middle", weight="600"),
    ]
    if not rows:
        parts.append(
            _label(width / 2, height / 2, "No valid cell: see the summary for the reasons.", size=14, anchor="middle")
        )
    for index, (machine, phase, length) in enumerate(panels):
        panel_rows = [
            row for row in rows if (row["machine"], row["phase"], row["sequence_length"]) == (machine, phase, length)
        ]
        pareto_fronts = [
            p for p in summary["pareto"] if (p["machine"], p["phase"], p["sequence_length"]) == (machine, phase, length)
        ]
        x, y = index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT + 30
        head = f"{PHASE_NAMES.get(phase, phase)}, sequence {length}"
        parts.append(
            f'<g transform="translate({x} {y})">{_panel(panel_rows, pareto_fronts, models, head, machine)}</g>'
        )
    parts.append(_legend(rows, models, width, height - 24 * legend_lines))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(rows: Sequence[Row], pareto_fronts: Sequence[Row], models: Sequence[str], head: str, machine: str) -> str:
    x_ticks = _ticks(max(row["tokens_per_s"] for row in rows))
    y_ticks = _ticks(max(row["tokens_per_joule"] for row in rows))

    def at(row: Row) -> tuple[float, float]:
        across, up = row["tokens_per_s"] / x_ticks[-1], row["tokens_per_joule"] / y_ticks[-1]
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [_label(LEFT, 18, head, size=14, weight="600"), _label(LEFT, 34, machine, size=10)]
    for tick in x_ticks:
        x = LEFT + tick / x_ticks[-1] * (right - LEFT)
        parts.append(
            _line(x, TOP, x, bottom, GRID, 0.5, "0.35") + _label(x, bottom + 16, f"{tick:,g}", anchor="middle")
        )
    for tick in y_ticks:
        y = bottom - tick / y_ticks[-1] * (bottom - TOP)
        parts.append(_line(LEFT, y, right, y, GRID, 0.5, "0.35") + _label(LEFT - 8, y + 4, f"{tick:,g}", anchor="end"))
    parts.append(_line(LEFT, bottom, right, bottom, TEXT, 1) + _line(LEFT, TOP, LEFT, bottom, TEXT, 1))
    parts.append(_label((LEFT + right) / 2, HEIGHT - 16, "throughput, tokens/s", anchor="middle"))
    middle = (TOP + bottom) / 2
    parts.append(
        f'<g transform="rotate(-90 16 {middle:.1f})">'
        f"{_label(16, middle + 4, 'efficiency, tokens/J (gross)', anchor='middle')}</g>"
    )
    for found in pareto_fronts:
        points = [at(row) for name in found["cells"] for row in rows if row["cell"] == name]
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{TEXT}" stroke-width="1.5" stroke-dasharray="5 3"/>'
            )
    on_front = {name for found in pareto_fronts for name in found["cells"]}
    labels: list[tuple[float, float]] = []
    for row in sorted(rows, key=lambda row: row["cell"] not in on_front):
        x, y = at(row)
        title = (
            f"{row['cell']}: {row['tokens_per_s']:,.1f} tokens/s, {row['tokens_per_joule']:.4g} tokens/J, "
            f"{'on' if row['cell'] in on_front else 'not on'} the front"
        )
        mark = _mark(
            x,
            y,
            SHAPES[models.index(row["model"]) % len(SHAPES)],
            COLOURS.get(row["mode"], TEXT),
            row["cell"] in on_front,
        )
        parts.append(f"<g><title>{escape(title)}</title>{mark}</g>")
        # A label that would overlap another is left out (the title has it). Cells on the front come first.
        if all(abs(x - other_x) > 18 or abs(y - other_y) > 10 for other_x, other_y in labels):
            labels.append((x, y))
            parts.append(_label(x + 8, y - 6, f"b{row['batch_size']}", size=10))
    return "".join(parts)


def _legend(rows: Sequence[Row], models: Sequence[str], width: float, top: float) -> str:
    modes = [mode for mode in COLOURS if any(row["mode"] == mode for row in rows)]
    items = [(_mark(0, 0, "circle", COLOURS[mode], True), MODE_NAMES[mode]) for mode in modes]
    items += [(_mark(0, 0, SHAPES[index % len(SHAPES)], TEXT, True), model) for index, model in enumerate(models)]
    if rows:
        items.append(
            (
                _line(-9, 0, 9, 0, TEXT, 1.5, dash="5 3"),
                "front: filled cells, no other cell is both faster and more efficient",
            )
        )
    across = 2 * max(round(width / WIDTH), 1)
    step = (width - LEFT) / across
    return "".join(
        f'<g transform="translate({LEFT + index % across * step:.0f} {top + index // across * 24:.0f})">'
        f"{mark}{_label(14, 4, text)}</g>"
        for index, (mark, text) in enumerate(items)
    )


def _mark(x: float, y: float, shape: str, colour: str, filled: bool) -> str:
    style = f'fill="{colour if filled else "none"}" stroke="{colour}" stroke-width="2"'
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {style}/>'
    corners = {
        "square": ((-5, -5), (5, -5), (5, 5), (-5, 5)),
        "triangle": ((0, -6), (6, 5), (-6, 5)),
        "diamond": ((0, -7), (7, 0), (0, 7), (-7, 0)),
    }
    points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners[shape])
    return f'<polygon points="{points}" {style}/>'


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: float, opacity: str = "1", dash: str = "none"
) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}" '
        f'stroke-opacity="{opacity}" stroke-dasharray="{dash}"/>'
    )


def _label(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "400") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _ticks(largest: float) -> list[float]:
    """Ticks from 0 to at least `largest`, in steps of 1, 2 or 5 times a power of ten."""
    rough = largest / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    count = math.ceil(largest / step - 1e-9)
    return [round(index * step, 12) for index in range(count + 1)]
