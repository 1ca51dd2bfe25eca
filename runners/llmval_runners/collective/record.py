"""The record of a run: plain dictionaries, described by docs/schemas/collective_bandwidth.schema.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from llmval_runners.collective import expected
from llmval_runners.collective.operations import Operation
from llmval_runners.collective.pairs import Measured
from llmval_runners.collective.timing import Timing


def row(
    operation: Operation, mode: str, elements: int, dtype: torch.dtype, ranks: int, timing: Timing | str, repeats: int,
    check: tuple[int, str] | None, integers: tuple[int, str] | None,
) -> dict[str, Any]:  # fmt: skip
    """One collective at one size. `timing`: or the reason why there is none. `check` and `integers`: wrong elements and
    the first of them in words, of the measured type and of int32; None: not checked."""
    reason = timing if isinstance(timing, str) else None
    found = None if isinstance(timing, str) else timing
    first_wrong = next((one[1] for one in (check, integers) if one and one[1]), None)
    nbytes = elements * dtype.itemsize
    # One rank moves nothing between GPUs: an all-reduce in place does nothing at all, and its time says nothing.
    algbw = nbytes / found.median_s / 1e9 if found and found.median_s > 0 and ranks > 1 else None

    def us(seconds: float | None) -> float | None:
        return None if seconds is None else 1e6 * seconds

    return {
        "operation": operation.name,
        "mode": mode,
        "bytes": nbytes,
        "elements": elements,
        "dtype": str(dtype).removeprefix("torch."),
        "iterations": found.iterations if found else None,
        "repeats": repeats,
        "time_us": us(found.median_s if found else None),
        "time_us_min": us(found.least_s if found else None),
        "time_us_max": us(found.most_s if found else None),
        "time_us_mean_over_ranks": us(found.mean_s if found else None),
        "algbw_gb_per_s": algbw,
        "busbw_gb_per_s": None if algbw is None else algbw * operation.bus_factor(ranks),
        "wrong": check[0] if check else None,
        "wrong_int32": integers[0] if integers else None,
        "first_wrong": first_wrong,
        "reason": reason,
    }


def cell(measured: Measured, path: Mapping[str, Any] | None) -> dict[str, Any]:
    """One bandwidth of a pair. `path`: of `pair_paths`; None: within one GPU."""
    one = measured.cell
    line = None if path is None or path["line_gb_per_s"] is None else path["line_gb_per_s"] * one.directions
    rate = measured.gb_per_s
    return {
        "from": one.source,
        "to": one.target,
        "method": one.method,
        "access": one.access,
        "directions": one.directions,
        "gb_per_s": rate,
        "gb_per_s_min": measured.least_gb_per_s,
        "gb_per_s_max": measured.most_gb_per_s,
        "gb_per_s_again": None,
        "share_of_line": rate / line if line and rate is not None else None,
        "wrong": measured.wrong,
        "peer_access": measured.peer_access,
        "sent_bytes": measured.sent,
        "source_tx_bytes": measured.tx,
        "target_rx_bytes": measured.rx,
        "reason": measured.reason or None,
    }


def counter_readings(
    cells: Sequence[Mapping[str, Any]], paths: Mapping[tuple[int, int], Mapping[str, Any]]
) -> list[Any]:
    """What the NVLink counters of each GPU saw of the pairs' copies, by method; only of pairs with NVLink."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for one in cells:
        path = paths.get((one["from"], one["to"]))
        if path is None or path["kind"] != expected.NVLINK or one["sent_bytes"] is None:
            continue
        method = "send_recv" if one["method"] == "nccl" else one["method"]
        for rank, sent, seen, value in (
            (one["from"], "sent_bytes", "tx_bytes", one["source_tx_bytes"]),
            (one["to"], "received_bytes", "rx_bytes", one["target_rx_bytes"]),
        ):
            if value is None:
                continue
            reading = found.setdefault((method, rank), empty_reading(method, rank))
            reading[sent] += one["sent_bytes"]
            reading[seen] += value
    return [with_shares(reading) for _, reading in sorted(found.items())]


def empty_reading(method: str, rank: int) -> dict[str, Any]:
    return {"method": method, "rank": rank, "sent_bytes": 0, "tx_bytes": 0, "received_bytes": 0, "rx_bytes": 0}


def with_shares(reading: dict[str, Any]) -> dict[str, Any]:
    """The reading with the counters' shares of what was sent and received."""
    sent, received = reading["sent_bytes"], reading["received_bytes"]
    return reading | {
        "tx_share": reading["tx_bytes"] / sent if sent else None,
        "rx_share": reading["rx_bytes"] / received if received else None,
    }


def summary(record: Mapping[str, Any]) -> dict[str, float | None]:
    """The main figures: busbw of each operation at its largest size (of the modes the faster one), the time of the
    smallest all-reduce, the shares of the line rate, and the slowest and the typical pair."""
    rows = [one for one in record["rows"] if one["time_us"] is not None]
    found: dict[str, float | None] = {}
    for name in dict.fromkeys(one["operation"] for one in record["rows"]):
        mine = [one for one in rows if one["operation"] == name]
        largest = max((one["bytes"] for one in mine), default=None)
        found[f"{name}_busbw_gb_per_s"] = max(
            (one["busbw_gb_per_s"] for one in mine if one["bytes"] == largest and one["busbw_gb_per_s"] is not None),
            default=None,
        )
    reduced = [one for one in rows if one["operation"] == "all_reduce"]
    if reduced:
        smallest = min(one["bytes"] for one in reduced)
        found["all_reduce_smallest_us"] = min(one["time_us"] for one in reduced if one["bytes"] == smallest)
    busbw, line = found.get("all_reduce_busbw_gb_per_s"), record["line"]["gb_per_s"]
    found["all_reduce_share_of_line"] = busbw / line if busbw is not None and line else None
    one_way = [one for one in record["pairs"]["cells"] if one["directions"] == 1 and one["gb_per_s"] is not None]
    copies = [one for one in one_way if one["method"] == "copy_engine" and one["access"] == "write"]
    of_pairs = sorted(one["gb_per_s"] for one in copies or one_way if one["from"] != one["to"])
    found["pair_min_gb_per_s"] = of_pairs[0] if of_pairs else None
    found["pair_median_gb_per_s"] = of_pairs[len(of_pairs) // 2] if of_pairs else None
    shares = [one["share_of_line"] for one in copies if one["share_of_line"] is not None]
    found["pair_min_share_of_line"] = min(shares) if shares else None
    if fabric := record.get("fabric"):
        rates = sorted(one["gb_per_s"] for one in fabric["links"])
        found["node_link_min_gb_per_s"], found["node_link_median_gb_per_s"] = rates[0], rates[len(rates) // 2]
        found["node_ring_gb_per_s"] = fabric["ring"]["gb_per_s"]
    local = [one["gb_per_s"] for one in copies if one["from"] == one["to"]]
    found["local_copy_gb_per_s"] = local[0] if local else None
    return found
