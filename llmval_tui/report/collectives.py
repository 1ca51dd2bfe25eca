"""The part of a run's section about its collectives and the matrix of the pairs of GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmval_tui.actions.command.runner_catalog import COLLECTIVE_SCHEMA
from llmval_tui.actions.gates.artifacts import read_valid
from llmval_tui.actions.pair_matrix import PairMatrix, matrix_of
from llmval_tui.report.blocks import Badge, Block, Cell, Code, Heading, Paragraph, Table
from llmval_tui.report.figure import figure

_MOST_RANKS = 16  # of a matrix; with more, the slowest pairs are listed
_LISTED = 20


@dataclass(frozen=True, slots=True)
class CollectiveFacts:
    """A record of collective_bandwidth.py, from an artifact that is unchanged since the verdict."""

    path: str
    record: Mapping[str, Any]
    matrix: PairMatrix


def read_collectives(path: str, file: Path) -> CollectiveFacts | None:
    """The facts of a record; None if it is not valid."""
    record = read_valid(file, COLLECTIVE_SCHEMA)
    return None if record is None else CollectiveFacts(path, record, matrix_of(record))


def collective_blocks(facts: CollectiveFacts) -> list[Block]:
    """All rows of the collectives, the matrix, and what the NVLink counters saw."""
    record, matrix = facts.record, facts.matrix
    line = record["line"]
    rate = f"{line['gb_per_s']:g} GB/s ({line['kind']})" if line["gb_per_s"] else f"unknown ({line['reason']})"
    rows: list[list[Cell]] = [
        [
            one["operation"], one["mode"], f"{one['bytes']:,}", figure(one["time_us"]), figure(one["time_us_min"]),
            figure(one["time_us_max"]), figure(one["algbw_gb_per_s"]), figure(one["busbw_gb_per_s"]),
            figure(_wrong(one)),
        ]
        for one in record["rows"]
    ]  # fmt: skip
    columns = (
        "collective", "mode", "bytes", "time, µs", "fastest, µs", "slowest, µs", "algbw, GB/s", "busbw, GB/s", "wrong"
    )  # fmt: skip
    blocks: list[Block] = [
        Heading(3, f"Collectives: {facts.path}"),
        Paragraph(
            f"{len(record['gpus'])} ranks on {record['nodes']} nodes, {record['backend']}, "
            f"{record['settings']['dtype']}; line rate in one direction {rate}. algbw and busbw by the definitions of "
            "nccl-tests; the time is that of the slowest rank, the median of the repeats."
        ),
        Table("Time and bandwidth of one call", columns, rows, numbers=range(2, 9)),
    ]
    return [*blocks, *_matrix(matrix), *_counters(record)]


def _wrong(one: Mapping[str, Any]) -> float | None:
    return None if one["wrong"] is None else float(one["wrong"] + (one["wrong_int32"] or 0))


def _matrix(matrix: PairMatrix) -> list[Block]:
    if not matrix.rates:
        return [Paragraph("The pairs of GPUs were not measured.")]
    how = f"{matrix.method}, one way, GB/s; typical {figure(matrix.typical)}, line rate {figure(matrix.line_gb_per_s)}"
    blocks: list[Block] = []
    if matrix.slow_names:
        blocks.append(Paragraph(f"Slower than the others: {', '.join(matrix.slow_names)}.", caution=True))
    if len(matrix.ranks) > _MOST_RANKS:
        listed: list[list[Cell]] = [
            [f"{one} to {other}", _cell(matrix, (one, other))] for one, other in matrix.slowest(_LISTED)
        ]
        return [*blocks, Table(f"The slowest of {len(matrix.rates)} pairs, {how}", ("pair", "GB/s"), listed)]
    rows = [[str(one), *(_cell(matrix, (one, other)) for other in matrix.ranks)] for one in matrix.ranks]
    columns = ("from", *(f"to {rank}" for rank in matrix.ranks))
    return [*blocks, Table(f"From GPU to GPU, {how}", columns, rows, numbers=range(1, len(columns)))]


def _cell(matrix: PairMatrix, pair: tuple[int, int]) -> Cell:
    if pair[0] == pair[1]:
        return "–"
    text = figure(matrix.rates.get(pair))
    return Badge(text, "fail") if pair in matrix.slow else text


def _counters(record: Mapping[str, Any]) -> list[Block]:
    readings = record["counters"]["readings"]
    if not readings:
        return [Paragraph(f"NVLink counters: not available ({record['counters']['reason']}).")]
    rows: list[list[Cell]] = [
        [Code(one["method"]), str(one["rank"]), *(_percent(one[share]) for share in ("tx_share", "rx_share"))]
        for one in readings
    ]
    caption = "What NVML's NVLink counters saw of what was sent and received"
    return [Table(caption, ("data", "rank", "sent, %", "received, %"), rows, numbers=(1, 2, 3))]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
