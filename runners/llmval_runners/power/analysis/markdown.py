"""The summary as Markdown tables, between the markers of `docs/power_efficiency_baselines.md`."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

BEGIN = "<!-- llmval:power:begin -->"
END = "<!-- llmval:power:end -->"
MODE_NAMES = {
    "fp16": "FP16",
    "bf16": "BF16",
    "fp8_te": "FP8 (Transformer Engine)",
    "fp8_native": "FP8 (torch._scaled_mm)",
}
PHASE_NAMES = {"prefill": "Prefill", "decode": "Decode", "serving": "Serving"}


def render(summary: dict[str, Any], path: str, sha256: str) -> str:
    """The whole block, markers included. `path` and `sha256` identify the summary's JSON."""
    lines: list[str] = []
    for machine in summary["machines"]:
        rows = [row for row in summary["cells"] if row["machine"] == machine["id"]]
        lines += [_identity(machine, _cards(rows), path, sha256), ""]
        lines += _tables(rows, summary) if rows else ["No cell of this machine is valid.", ""]
    if not summary["machines"]:
        lines += ["The summary has no cells of a sweep.", ""]
    lines += _comparisons(summary) + _best(summary) + _external(summary) + _without_figures(summary)
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join([BEGIN, *lines, END]) + "\n"


def _cards(rows: list[dict[str, Any]]) -> int:
    """How many GPUs, or sets of GPUs that measure one cell together, these cells ran on."""
    return len({tuple(row["gpu_uuids"]) for row in rows})


def _identity(machine: dict[str, Any], cards: int, path: str, sha256: str) -> str:
    limits = sorted({limit for limit in machine["power_limit_w"] if limit is not None})
    limit = ", ".join(f"{value:g} W" for value in limits) or "not known"
    gpu_set = f" (GPU set {machine['gpu_set']})" if machine["gpu_set"] else ""
    several = f", cells from {cards} such cards" if cards > 1 else ""
    return (
        f"Host {_text(machine['host'])}{gpu_set}; {_text(machine['gpus'])}{several}; driver "
        f"{_text(machine['driver'] or 'not known')}; power limit {limit}; "
        f"{machine['date']}; summary `{path}`, SHA-256 `{sha256}`."
    )


def _tables(rows: list[dict[str, Any]], summary: dict[str, Any]) -> list[str]:
    lines = []
    for key in dict.fromkeys((row["model"], row["phase"], row["sequence_length"]) for row in rows):
        model, phase, length = key
        group = [row for row in rows if (row["model"], row["phase"], row["sequence_length"]) == key]
        windows = min(row["window_s"] for row in group)
        utilisation = "MBU" if phase == "decode" else "MFU"
        head = f"**{PHASE_NAMES[phase]}, {_text(model)}, sequence {length}**"
        note = "" if all(row["baseline_grade"] for row in group) else " (short of a published baseline's 60 s)"
        cards = _cards(group)
        on = f", on {cards} cards" if cards > 1 else ", on one card" if _cards(rows) > 1 else ""
        lines += [f"{head}, windows of {windows:.0f} s{note}{on}, {_text(group[0]['how'])}:", ""]
        lines += _table(
            (
                "batch",
                "precision",
                "tokens/s",
                "W",
                "tokens/J",
                "tokens/J, idle subtracted",
                "J/token",
                f"{summary['currency']} per million tokens",
                utilisation,
                "variation",
            ),
            (
                (
                    row["batch_size"],
                    MODE_NAMES.get(row["mode"], row["mode"]),
                    _figure(row["tokens_per_s"]),
                    _figure(row["power_w"]),
                    _figure(row["tokens_per_joule"]),
                    _figure(row["tokens_per_joule_net"]),
                    _figure(row["joules_per_token"]),
                    _figure(row["cost_per_million_tokens"]),
                    _percent(row["mbu" if phase == "decode" else "mfu"]),
                    f"{row['cv_percent']:.2f} %" if row["cv_percent"] is not None else "–",
                )
                for row in group
            ),
        )
    price = f"{summary['price_per_kwh']:g} {summary['currency']}/kWh, PUE {summary['pue']:g}"
    return [*lines, f"Energy cost at {price}. Gross unless a column says otherwise; GPU energy only.", ""]


def _comparisons(summary: dict[str, Any]) -> list[str]:
    if not summary["comparisons"]:
        return []
    rows = (
        (
            PHASE_NAMES[row["phase"]],
            row["model"],
            row["batch_size"],
            MODE_NAMES.get(row["mode"], row["mode"]),
            MODE_NAMES.get(row["against"], row["against"]),
            f"{row['throughput_ratio']:.2f}×",
            f"{row['tokens_per_joule_ratio']:.2f}×",
            "the same" if row["same_gpus"] else "another of its kind",
        )
        for row in summary["comparisons"]
    )
    return [
        "**FP8 against 16 bits**, same shape and batch:",
        "",
        *_table(("phase", "model", "batch", "precision", "against", "tokens/s", "tokens/J", "GPU"), rows),
    ]


def _best(summary: dict[str, Any]) -> list[str]:
    if not summary["best"]:
        return []
    rows = (
        (
            PHASE_NAMES[r["phase"]],
            r["model"],
            r["most_efficient"],
            _figure(r["tokens_per_joule"]),
            r["fastest"],
            _figure(r["tokens_per_s"]),
        )
        for r in summary["best"]
    )
    return [
        "**Best cell of each model:**",
        "",
        *_table(("phase", "model", "most efficient", "tokens/J", "fastest", "tokens/s"), rows),
    ]


def _external(summary: dict[str, Any]) -> list[str]:
    if not summary["external"]:
        return []
    rows = (
        (
            row["how"],
            row["model"],
            _figure(row["tokens_per_s"]),
            _figure(row["power_w"]),
            _figure(row["tokens_per_joule"]),
            "n/a" if row["failed_requests"] is None else f"{row['failed_requests']:g}",
            row["source"],
        )
        for row in summary["external"]
    )
    head = ("tool", "model", "output tokens/s", "W", "output tokens/J", "failed requests", "file")
    return ["**Measured by other tools**, not ranked: one run, energy not cross-checked:", "", *_table(head, rows)]


def _without_figures(summary: dict[str, Any]) -> list[str]:
    rows: list[tuple[Any, ...]] = [
        (row["cell"], row["phase"], row["status"], "; ".join(row["reasons"])) for row in summary["invalid"]
    ]
    rows += [(row["cell"], "–", row["status"], "; ".join(row["reasons"])) for row in summary["refused"]]
    rows += [(name, "–", "missing", "the sweep has no result for it") for name in summary["missing"]]
    if not rows:
        return []
    return ["**Cells without a figure:**", "", *_table(("cell", "phase", "state", "reason"), rows)]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(_text(value) for value in row)} |" for row in rows]
    return [*lines, ""]


def _text(value: Any) -> str:
    """One line that cannot break the table or end the block: file and host names may contain anything."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _figure(value: float | None) -> str:
    """Four significant digits with thousands separators, never in exponent form."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{3 - math.floor(math.log10(abs(value)))}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
