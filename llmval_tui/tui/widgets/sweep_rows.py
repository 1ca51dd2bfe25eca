"""The power sweep: a grid of modes and batches for each model, then the reasons of invalid cells."""

from collections.abc import Sequence

from llmval_tui.terminal.format import NOT_AVAILABLE, fit, number, wrap
from llmval_tui.terminal.glyphs import CELL_SIGNS, Glyphs, Sign
from llmval_tui.tui.data.run_follower import RunSnapshot
from llmval_tui.tui.data.sweep import SweepCell, SweepSnapshot
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.widgets.sparkline import nice_top
from llmval_tui.tui.widgets.text_rows import heading, labelled, paragraph, progress_rows, trace_rows

MODE = 12  # terminal columns of a mode's name
WIDEST = 26  # terminal columns of a grid cell, if there is room
NARROWEST = 15
PHASES = ("prefill", "decode")


def sweep_rows(run: RunSnapshot, sweep: SweepSnapshot, width: int, glyphs: Glyphs) -> list[Row]:
    """All rows: progress, the running cell with its power, the grids, the reasons."""
    # Without the row of the phase, which is shown with the running cell.
    rows = progress_rows(run, width, glyphs)[1:] if run.alive else []
    if sweep.problem:
        rows += labelled("note", sweep.problem, "warn", width)
    rows += running_rows(sweep, width, glyphs)
    models = list(dict.fromkeys(cell.model for cell in sweep.cells))
    for model in models:
        rows += grid_rows(model, [cell for cell in sweep.cells if cell.model == model], sweep.running, width, glyphs)
    return rows + legend_rows(width, glyphs) + reason_rows(sweep.cells, width, glyphs)


def running_rows(sweep: SweepSnapshot, width: int, glyphs: Glyphs) -> list[Row]:
    """The running cell: its phase, and its power since it began."""
    if sweep.running is None:
        return labelled("cell", sweep.doing, "busy", width) if sweep.doing else []
    rows = labelled("cell", sweep.running, "title", width) + labelled("doing", sweep.doing, "busy", width)
    if not sweep.power:
        return [*rows, *labelled("power", "no reading yet (NVML is needed)", "muted", width)]
    seen = [value for value in sweep.power if value is not None]
    top = nice_top([max(seen, default=None)], 100.0)
    return rows + trace_rows(sweep.power, sweep.power_first, "power", "W", top, width, glyphs)


def grid_rows(model: str, cells: Sequence[SweepCell], running: str | None, width: int, glyphs: Glyphs) -> list[Row]:
    """One model: a row of cells for each mode; in a narrow pane the batches are split into several bands."""
    name, note = model_name(model), "prefill / decode"
    rows = heading(name, width, glyphs, note if len(name) + len(note) + 6 <= width else "")
    modes = list(dict.fromkeys(cell.mode for cell in cells))
    batches = sorted({cell.batch for cell in cells})
    by_place = {(cell.mode, cell.batch): cell for cell in cells}
    room = max(NARROWEST, width - MODE - 1)
    across = max(1, min(len(batches), room // NARROWEST))
    share = min(WIDEST, room // across)
    best = {phase: best_of(cells, phase) for phase in PHASES}
    for start in range(0, len(batches), across):
        band = batches[start : start + across]
        rows.append(
            row((fit(" tokens/J", MODE), "muted"), *((fit(f"batch {batch}", share), "muted") for batch in band))
        )
        for mode in modes:
            first: list[Span] = [(fit(f" {mode}", MODE, glyphs.ellipsis), "title")]
            second: list[Span] = [(" " * MODE, "text")]
            for batch in band:
                cell = by_place.get((mode, batch))
                sign = sign_of(cell, running)
                text = f"{glyphs.sign(sign)} {sign.word}" if cell else "not in the sweep"
                first.append((fit(text, share), sign.role if cell else "muted"))
                second.append((fit("  " + figures(cell, best, glyphs), share, glyphs.ellipsis), "text"))
            rows += [row(*first), row(*second)]
    return rows


def sign_of(cell: SweepCell | None, running: str | None) -> Sign:
    if cell is None:
        return CELL_SIGNS[None]
    return CELL_SIGNS["running"] if cell.name == running else CELL_SIGNS[cell.status]


def figures(cell: SweepCell | None, best: dict[str, float | None], glyphs: Glyphs) -> str:
    """Tokens per joule of prefill and decode; tokens per second with the unit if energy was not measured."""
    if cell is None or not cell.phases:
        return ""
    parts = [cell.phase(name) for name in PHASES]
    if cell.status == "no_energy":
        return " / ".join(number(part.tokens_per_s) if part else glyphs.dash for part in parts) + " tok/s"
    texts = []
    for name, part in zip(PHASES, parts, strict=True):
        value = part.tokens_per_joule if part else None
        peak = glyphs.peak if value is not None and value == best[name] else ""
        texts.append(glyphs.dash if part is None else f"{number(value)}{peak}")
    return " / ".join(texts)


def best_of(cells: Sequence[SweepCell], phase: str) -> float | None:
    """The highest tokens per joule among the valid cells of a model."""
    found = [part.tokens_per_joule for cell in cells if cell.status == "valid" and (part := cell.phase(phase))]
    return max((value for value in found if value is not None), default=None)


def legend_rows(width: int, glyphs: Glyphs) -> list[Row]:
    text = (
        f"{glyphs.peak} is the best of its model; {NOT_AVAILABLE}: the phase is not valid; "
        "tok/s: energy was not measured, so only tokens per second"
    )
    return [row(), *paragraph(text, "muted", width)]


def reason_rows(cells: Sequence[SweepCell], width: int, glyphs: Glyphs) -> list[Row]:
    """The reasons of invalid cells; cells with the same reasons are grouped."""
    groups: dict[tuple[str, tuple[str, ...]], list[SweepCell]] = {}
    for cell in cells:
        if cell.status not in (None, "valid"):
            groups.setdefault((str(cell.status), cell.reasons), []).append(cell)
    rows = heading("Why cells are not valid", width, glyphs) if groups else []
    for (status, reasons), same in groups.items():
        sign = CELL_SIGNS[status]
        names = ", ".join(cell.name for cell in same)
        for index, line in enumerate(wrap(names, width - 16)):
            head = f" {glyphs.sign(sign)} {sign.word}" if not index else ""
            rows.append(row((fit(head, 14), sign.role), (line, "title")))
        for reason in merge_reasons(reasons) or ["no reason was given"]:
            for index, line in enumerate(wrap(reason, width - 19)):
                rows.append(row((" " * 14 + (f"{glyphs.bullet} " if not index else "  "), "muted"), (line, "text")))
    return rows


def merge_reasons(reasons: Sequence[str]) -> list[str]:
    """Merge equal reasons of prefill and decode: `prefill, decode: …`."""
    found: dict[str, list[str]] = {}
    for reason in reasons:
        phase, colon, rest = reason.partition(": ")
        known = bool(colon) and phase in PHASES
        found.setdefault(rest if known else reason, []).extend([phase] if known else [])
    return [f"{', '.join(phases)}: {reason}" if phases else reason for reason, phases in found.items()]


def model_name(model: str) -> str:
    """`32L-d5120-h40-ff20480-s4096` in words."""
    layers, d_model, heads, d_ff, length = model.split("-")
    stack = "1 layer" if layers == "1L" else f"{layers[:-1]} layers"
    return f"{stack}, d {d_model[1:]}, {heads[1:]} heads, ff {d_ff[2:]}, {int(length[1:]):,} tokens"
