"""The gates of a record of collective_bandwidth.py: complete, right, as fast as the links allow, no GPU or pair slow.

The rules are those of the runner's `collective/verdict.py`; the judge applies them to the record again and does not
trust its verdict, its shares or its list of slow pairs.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.runner_catalog import COLLECTIVE_SCHEMA
from llmval_tui.actions.gates.artifacts import read_valid, unreadable
from llmval_tui.actions.judges.slow_pairs import slow_in, slow_nodes_in
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run

NVLINK, PCIE = "NVLink", "PCIe"
COUNTER_TOLERANCE, ANOTHER_WAY = 0.02, 0.90
# Least shares of the line rate; docs/collectives.md has the sources.
ALL_REDUCE_SHARE = {2: 0.60, 3: 0.70}  # by ranks; 3 and more
PAIR_SHARE = {("copy_engine", NVLINK): 0.75, ("copy_engine", PCIE): 0.55, ("nccl", NVLINK): 0.20}
_RELATIVE = 1e-6


def judge_collective_bandwidth(run: Run, artifact: Artifact) -> Judged:
    """Gates, metrics and a sentence for a record."""
    record = read_valid(run.workspace / artifact.path, COLLECTIVE_SCHEMA)
    if record is None:
        return [unreadable(artifact, "record", "a record of collective_bandwidth.py")], {}, "no record to judge"
    between = _nodes(record) if record["settings"]["pairs"] == "rounds" else _pairs(record)
    gates = [_complete(record), _results(record), _figures(record), _links(record), between]
    gates += [gate for gate in (_share(record), _counters(record), _baseline(record)) if gate is not None]
    return gates, metrics_of(record), _sentence(record)


def metrics_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    """busbw of each collective at its largest size (the faster mode), µs of the smallest all-reduce, and the pairs."""
    found: dict[str, float | None] = {}
    for name in record["settings"]["operations"]:
        found[f"{name}_busbw_gb_per_s"] = _largest_busbw(record, name)
    reduced = [one for one in record["rows"] if one["operation"] == "all_reduce" and one["time_us"] is not None]
    if reduced:
        smallest = min(one["bytes"] for one in reduced)
        found["all_reduce_smallest_us"] = min(one["time_us"] for one in reduced if one["bytes"] == smallest)
    busbw, line = found.get("all_reduce_busbw_gb_per_s"), record["line"]["gb_per_s"]
    if busbw is not None and line:
        found["all_reduce_of_line_percent"] = 100 * busbw / line
    copies = sorted(one["gb_per_s"] for one in _one_way(record))
    if copies:
        found["pair_min_gb_per_s"], found["pair_median_gb_per_s"] = copies[0], copies[len(copies) // 2]
    if (fabric := record.get("fabric")) and fabric["links"]:
        rates = sorted(one["gb_per_s"] for one in fabric["links"])
        found["node_link_min_gb_per_s"], found["node_link_median_gb_per_s"] = rates[0], rates[len(rates) // 2]
        found["node_ring_gb_per_s"] = fabric["ring"]["gb_per_s"]
    found["wrong"] = float(sum((one["wrong"] or 0) + (one["wrong_int32"] or 0) for one in record["rows"]))
    found["ranks"] = float(len(record["gpus"]))
    return found


def _one_way(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cells of the matrix that people look at: copies that the source writes; else send and receive."""
    cells = [
        one for one in record["pairs"]["cells"]
        if one["directions"] == 1 and one["gb_per_s"] is not None and one["from"] != one["to"]
    ]  # fmt: skip
    return [one for one in cells if (one["method"], one["access"]) == ("copy_engine", "write")] or [
        one for one in cells if one["access"] is None
    ]


def _largest_busbw(record: Mapping[str, Any], operation: str) -> float | None:
    done = [one for one in record["rows"] if one["operation"] == operation and one["busbw_gb_per_s"] is not None]
    largest = max((one["bytes"] for one in done), default=None)
    return max((float(one["busbw_gb_per_s"]) for one in done if one["bytes"] == largest), default=None)


def _sentence(record: Mapping[str, Any]) -> str:
    busbw, copies = _largest_busbw(record, "all_reduce"), [one["gb_per_s"] for one in _one_way(record)]
    parts = [f"{len(record['gpus'])} ranks on {record['nodes']} node{'s' if record['nodes'] > 1 else ''}"]
    parts += [f"all-reduce {busbw:.1f} GB/s busbw"] if busbw is not None else []
    if fabric := record.get("fabric"):
        parts.append(f"{len(fabric['links'])} links of {len(fabric['nodes'])} nodes")
    parts += [f"pairs {min(copies):.1f} to {max(copies):.1f} GB/s"] if copies else []
    return ", ".join(parts)


def _complete(record: Mapping[str, Any]) -> Gate:
    settings, ranks = record["settings"], len(record["gpus"])
    name, bound = "complete", "every collective and pair that was asked for, on two ranks or more"
    timed = {(one["operation"], one["mode"]) for one in record["rows"] if one["time_us"] is not None}
    cells = [one for one in record["pairs"]["cells"] if one["gb_per_s"] is not None]
    measured = f"{len(timed)} collectives and modes, {len(cells)} bandwidths of pairs, {ranks} ranks"
    problem = ""
    if record["ended_early"]:
        problem = str(record["ended_early"])
    elif ranks == 1:
        problem = "one rank: nothing crosses a link"
    elif lost := [
        f"{operation} ({mode})"
        for operation in settings["operations"]
        for mode in settings["modes"]
        if (operation, mode) not in timed
    ]:
        problem = f"not measured: {', '.join(lost)}"
    elif settings["pairs"] == "rounds" and (missing := _rounds_missing(record)):
        problem = missing
    elif settings["pairs"] == "all" and (without := _pairs_without_figure(record)):
        problem = f"not measured: {', '.join(without[:3])}{' and more' if len(without) > 3 else ''}"
    else:
        reasons = [one["reason"] for one in (*record["rows"], *record["pairs"]["cells"]) if one["reason"]]
        problem = str(reasons[0]) if reasons else ""
    return Gate(name, Outcome.INCONCLUSIVE if problem else Outcome.PASS, measured, bound, clean_line(problem))


def _rounds_missing(record: Mapping[str, Any]) -> str:
    fabric = record.get("fabric")
    if not fabric:
        return "the pairs of nodes were not measured"
    count = len(fabric["nodes"])
    lost = count * (count - 1) // 2 - len(fabric["links"])
    return f"{lost} pairs of nodes were not measured" if lost else ""


def _pairs_without_figure(record: Mapping[str, Any]) -> list[str]:
    ranks = range(len(record["gpus"]))
    known = {
        (one["from"], one["to"])
        for one in record["pairs"]["cells"]
        if one["gb_per_s"] is not None and one["directions"] == 1
    }
    return [f"pair {one}→{other}" for one in ranks for other in ranks if one != other and (one, other) not in known]


def _results(record: Mapping[str, Any]) -> Gate:
    name, bound = "results", "every size and pair checked, 0 wrong elements"
    rows, cells = record["rows"], record["pairs"]["cells"]
    checks = [one["wrong"] for one in (*rows, *cells) if not one["reason"]]
    fabric = record.get("fabric")
    checks += [one["wrong"] for one in (*fabric["links"], fabric["ring"])] if fabric else []
    checks += [one["wrong_int32"] for one in rows if not one["reason"] and one["dtype"] != "int32"]
    wrong = sum(count or 0 for count in checks)
    if wrong:
        bad = next((one for one in rows if one["wrong"] or one["wrong_int32"]), None)
        if bad is not None:
            what = f"{bad['operation']} of {bad['bytes']} bytes, {bad['mode']}: {bad['first_wrong'] or ''}"
        else:
            bad = next((one for one in cells if one["wrong"]), None)
            what = f"{bad['method']} {bad['from']}→{bad['to']}" if bad is not None else "between nodes"
        return Gate(name, Outcome.FAIL, f"{wrong:,} wrong elements", bound, clean_line(what))
    unchecked = sum(count is None for count in checks)
    if unchecked or not checks:
        return Gate(name, Outcome.INCONCLUSIVE, f"{unchecked} of {len(checks)} not checked", bound)
    return Gate(name, Outcome.PASS, f"{len(checks)} checks", bound)


def _figures(record: Mapping[str, Any]) -> Gate:
    """Whether the bandwidths follow from sizes and times."""
    ranks = len(record["gpus"])
    factors = {"all_reduce": 2 * (ranks - 1) / ranks, "broadcast": 1.0, "send_recv": 1.0}
    wrong = []
    for one in record["rows"]:
        if not one["time_us"]:
            continue
        algbw = one["bytes"] / one["time_us"] / 1e3
        busbw = algbw * factors.get(one["operation"], (ranks - 1) / ranks)
        pairs = [("algbw_gb_per_s", algbw), ("busbw_gb_per_s", busbw)] if ranks > 1 else []
        wrong += [
            f"{one['operation']} of {one['bytes']} bytes: {key} is {one[key]}, but size and time give {value:.4g}"
            for key, value in pairs
            if one[key] is None or not math.isclose(one[key], value, rel_tol=_RELATIVE)
        ]
    measured = f"{len(record['rows'])} figures"
    reason = clean_line("; ".join(wrong[:2]))
    bound = "each follows from its size and time"
    return Gate("figures", Outcome.INVALID if wrong else Outcome.PASS, measured, bound, reason)


def _links(record: Mapping[str, Any]) -> Gate:
    """Whether the driver lists an NVLink that is not up; on a machine without NVLink there is nothing to be up."""
    name, bound = "links", "every NVLink is active"
    kinds = ", ".join(sorted({str(one["path"] or one["kind"]) for one in record["pair_paths"]})) or "no pair"
    down = [
        f"rank {gpu['rank']} on {gpu['host']}: {gpu['nvlink']['active']} of {gpu['nvlink']['links']}"
        for gpu in record["gpus"]
        if gpu["nvlink"] and gpu["nvlink"]["inactive"]
    ]
    if down and record["line"]["kind"] == NVLINK:
        return Gate(name, Outcome.FAIL, kinds, bound, clean_line("; ".join(down[:4])))
    unknown = next((gpu["links_unknown"] for gpu in record["gpus"] if gpu["links_unknown"]), None)
    if unknown:
        return Gate(name, Outcome.INCONCLUSIVE, "unknown", bound, clean_line(str(unknown)))
    return Gate(name, Outcome.PASS, kinds, bound)


def _pairs(record: Mapping[str, Any]) -> Gate:
    """Whether a GPU or a pair is slower than the others, or slower than its path allows."""
    name, bound = "pairs", "none slower than the others, none below its share of the line rate"
    cells = [one for one in record["pairs"]["cells"] if one["gb_per_s"] is not None and one["from"] != one["to"]]
    if not cells:
        return Gate(name, Outcome.INCONCLUSIVE, "no pair", bound, "no pair was measured: leave out --pairs none")
    slow = slow_in(record)
    low = _low_pairs(record, cells)
    measured = f"{len(cells)} bandwidths"
    if slow or low:
        reasons = ([f"slower than the others: {', '.join(slow[:4])}"] if slow else []) + low[:2]
        return Gate(name, Outcome.FAIL, measured, bound, clean_line("; ".join(reasons)))
    compared = [one for one in record["pairs"]["compared"] if one["smallest_findable"] is not None]
    if not compared and record["line"]["gb_per_s"] is None:
        why = "too few pairs of one kind to compare, and no line rate to compare them with"
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, why)
    findable = max((one["smallest_findable"] for one in compared), default=None)
    reason = "" if findable is None else f"a pair that is {findable:.0%} slower would have been found"
    return Gate(name, Outcome.PASS, measured, bound, reason)


def _nodes(record: Mapping[str, Any]) -> Gate:
    """Whether a node, or the link between two, is slower than the others."""
    name, bound = "nodes", "no node and no link between two is slower than the others, in two measurements"
    fabric = record.get("fabric")
    if not fabric:
        return Gate(name, Outcome.INCONCLUSIVE, "no pair of nodes", bound, "the rounds were not measured")
    measured = f"{len(fabric['links'])} links of {len(fabric['nodes'])} nodes"
    if fabric["reason"]:
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, clean_line(str(fabric["reason"])))
    if slow := slow_nodes_in(fabric):
        return Gate(name, Outcome.FAIL, measured, bound, clean_line(f"slower than the others: {', '.join(slow[:6])}"))
    limits = (("node", fabric["smallest_findable_node"]), ("link", fabric["smallest_findable_link"]))
    found = [f"a {what} that is {limit:.0%} slower" for what, limit in limits if limit is not None]
    return Gate(name, Outcome.PASS, measured, bound, f"{' and '.join(found)} would have been found" if found else "")


def _low_pairs(record: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[str]:
    paths = {(one["from"], one["to"]): one for one in record["pair_paths"]}
    found: dict[str, float] = {}
    for one in cells:
        path = paths[one["from"], one["to"]]
        least, line = PAIR_SHARE.get((one["method"], path["kind"])), path["line_gb_per_s"]
        if least is None or not line:
            continue
        share = one["gb_per_s"] / (line * one["directions"])
        if share < least:
            how = one["method"].replace("_", " ")
            text = f"{how} {one['from']}→{one['to']} has {share:.0%} of the line rate, at least {least:.0%} expected"
            found[text] = share / least
    return sorted(found, key=lambda text: found[text])


def _share(record: Mapping[str, Any]) -> Gate:
    """The all-reduce at its largest size against the stated bound, or the share of the line rate."""
    name = "all-reduce"
    busbw, line, ranks = _largest_busbw(record, "all_reduce"), record["line"], len(record["gpus"])
    if busbw is None:
        why = "the all-reduce was not measured" if ranks > 1 else "one rank: nothing crosses a link"
        return Gate(name, Outcome.INCONCLUSIVE, "no figure", "its busbw at the largest size", why)
    measured, stated = f"{busbw:.1f} GB/s", record["settings"]["min_busbw_gb_per_s"]
    if line["gb_per_s"]:
        measured += f", {busbw / line['gb_per_s']:.0%} of {line['gb_per_s']:g} GB/s ({line['kind']})"
    if stated is not None:
        outcome = Outcome.PASS if busbw >= stated else Outcome.FAIL
        return Gate(name, outcome, measured, f"at least {stated:g} GB/s (--min-busbw)")
    if line["kind"] == NVLINK and line["gb_per_s"]:
        least = ALL_REDUCE_SHARE[min(ranks, 3)]
        outcome = Outcome.PASS if busbw >= least * line["gb_per_s"] else Outcome.FAIL
        return Gate(name, outcome, measured, f"at least {least:.0%} of the line rate")
    if record["baseline"] is not None:
        return Gate(name, Outcome.PASS, measured, "as in the baseline, see its gate")
    why = line["reason"] or f"no reference is known for {line['kind']}"
    if record["backend"] == "gloo":
        why = "these ranks are on CPUs, so no link of a GPU was measured"
    bound = "a bound for this topology"
    return Gate(name, Outcome.INCONCLUSIVE, measured, bound, f"{clean_line(why)}: pass --min-busbw or --baseline")


def _counters(record: Mapping[str, Any]) -> Gate | None:
    """What the NVLink counters saw; no gate without a reading. An all-reduce of more ranks than two may be no ring.

    Without counters the shares of the line rate remain: nothing but NVLink reaches them.
    """
    name, bound = "NVLink counters", "98 % to 102 % of what was sent"
    readings = [
        one for one in record["counters"]["readings"] if one["method"] != "all_reduce" or len(record["gpus"]) == 2
    ]
    shares = [
        (counted / moved, one)
        for one in readings
        for counted, moved in ((one["tx_bytes"], one["sent_bytes"]), (one["rx_bytes"], one["received_bytes"]))
        if moved
    ]
    if not shares:
        return None
    low, least = min(shares, key=lambda pair: pair[0])
    high, most = max(shares, key=lambda pair: pair[0])
    measured = f"{low:.1%} to {high:.1%}"
    if low < ANOTHER_WAY:
        why = f"the rest of the {least['method']} data at rank {least['rank']} took another way (NCCL_P2P_DISABLE?)"
        return Gate(name, Outcome.FAIL, measured, bound, why)
    if low < 1 - COUNTER_TOLERANCE or high > 1 + COUNTER_TOLERANCE:
        odd = most if high > 1 + COUNTER_TOLERANCE else least
        why = f"{odd['method']} at rank {odd['rank']}: other traffic ran, or NCCL's protocol added to it"
        return Gate(name, Outcome.INCONCLUSIVE, measured, bound, why)
    return Gate(name, Outcome.PASS, measured, bound)


def _baseline(record: Mapping[str, Any]) -> Gate | None:
    """Every figure against the earlier record that the command names."""
    baseline = record["baseline"]
    if baseline is None:
        return None
    compared, tolerance = baseline["compared"], baseline["tolerance_percent"]
    name, bound = "baseline", f"no figure more than {tolerance:g} % below {clean_line(baseline['path'])}"
    if not compared:
        return Gate(name, Outcome.INCONCLUSIVE, "nothing", bound, "it has no figure of the same operation and size")
    low = sorted(
        (one for one in compared if one["now"] < (1 - tolerance / 100) * one["before"]),
        key=lambda one: float(one["now"] / one["before"]),
    )
    worst = "; ".join(f"{one['what']} {one['now']:.1f} instead of {one['before']:.1f} GB/s" for one in low[:3])
    outcome = Outcome.FAIL if low else Outcome.PASS
    return Gate(name, outcome, f"{len(compared)} figures, {len(low)} lower", bound, clean_line(worst))
