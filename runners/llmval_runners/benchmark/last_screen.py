"""The last screen of an engine benchmark, from its record."""

import math
from collections.abc import Mapping
from typing import Any

from llmval_runners.measure.limits import NEAR, NOT_SEEN, Limit, Peak, clauses, limit_of, percent
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT
from llmval_runners.process.screen import Screen, figure, gib, plural
from llmval_runners.process.verdict import Verdict, ended_early

_METRICS = {"of_copy": "MBU", "of_gemm": "MFU", "of_gemm_fp8": "MFU"}
_SHARES = ("of_copy", "of_gemm", "of_gemm_fp8", "of_modelled")


def verdict_of(rows: list[dict[str, Any]], early: str | None = None) -> Verdict:
    """Failed if a row is below its own bound. `early`: why the run ended before all rows were measured."""
    if early is not None:
        return ended_early(early)
    below = [
        f"{title(row)} reaches {row['of_roofline']:.0%} of its modelled time, and {row['bound']:.0%} are to reach"
        for row in rows
        if "bound" in row and row["of_roofline"] < row["bound"]
    ]
    if below:
        return Verdict("failed", "; ".join(below), FAILED_EXIT)
    return Verdict("ok", f"{plural(len(rows), 'row')} measured", GOOD_EXIT)


def title(row: Mapping[str, Any]) -> str:
    if row["row"] == "all_reduce":
        return f"all_reduce {row['all_reduce']} {row['bytes']:,} B"
    return f"{row['row']} {row['backend']} {row['precision']} {row['batch']}×{row['context']:,}"


def last_screen(record: Mapping[str, Any], where: str) -> str:
    """The screen, at most 80 columns wide. `where` the record lies."""
    verdict, rows = record["verdict"], record["rows"]
    screen = Screen(f"{verdict['word']}: {verdict['reason']}")
    engine = [row for row in rows if row["row"] != "all_reduce"]
    if engine:
        kinds = dict.fromkeys(row["row"] for row in engine)
        limits = [(kind, [_limit(row) for row in engine if row["row"] == kind]) for kind in kinds]
        screen.row("limited by", *clauses(limits))
    screen.table(
        "row, batch×context", ("time", "tokens/s", "of ceiling"), [(title(row), _cells(row)) for row in engine]
    )
    screen.table(
        "all-reduce",
        ("us a call", "algbw GB/s", "busbw GB/s"),
        [(title(row)[11:], _sum_cells(row)) for row in rows if row["row"] == "all_reduce"],
    )
    ceilings = record["ceilings"]
    screen.row(
        "ceilings, measured",
        *[f"{name[:-6]} {value / 1e12:.3g} TFLOP/s" for name, value in ceilings.items() if name.endswith("_flops")],
        f"copy {ceilings['copy_bytes_per_s'] / 1e12:.3g} TB/s (read and written)" if ceilings else None,
    )
    screen.row("of ceiling", "decode: bytes read against the copy (MBU); prefill: FLOPs against GEMM (MFU)")
    peak = record["peak_allocated_bytes"]
    screen.row("memory", "n/a on a CPU" if peak is None else f"peak {gib(peak)} allocated on rank 0")
    screen.row("power", "not measured here: precision_power_sweep.py does")
    screen.row("ran", record["model"], f"{plural(record['tensor_parallel'], 'rank')} on {record['device']}")
    screen.row("record", where)
    return screen.text()


def _limit(row: Mapping[str, Any]) -> Limit:
    """The limit of a row (`measure.limits`), by its share of a measured ceiling. The saturated row's model has both."""
    peaks = [Peak(metric, row[key], "the measured rate") for key, metric in _METRICS.items() if key in row]
    if not peaks and (share := row.get("of_modelled")) is not None:
        figures = f"{percent(share)} of the modelled rate of both"
        return Limit("compute and memory bandwidth", figures) if share >= NEAR else Limit(NOT_SEEN, figures)
    return limit_of(peaks, unknown="no ceiling was measured")


def _cells(row: Mapping[str, Any]) -> list[str]:
    unit = str(row["unit"]).split(" ", maxsplit=1)[0]
    time = "" if unit == "tokens/s" else f"{_three(row['value'])} {unit}"
    share = next((f"{100 * row[key]:.1f} %" for key in _SHARES if key in row), "n/a")
    return [time, figure(row.get("tokens_per_s"), 0), share]


def _sum_cells(row: Mapping[str, Any]) -> list[str]:
    return [figure(row["value"]), figure(row["bytes_per_s"] / 1e9, 2), figure(row.get("busbw_gb_per_s"), 2)]


def _three(value: float) -> str:
    """At least three significant digits."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if value else "0"
