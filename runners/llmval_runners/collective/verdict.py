"""The verdict of a run: one word with its reason, and the exit code.

The rules are those of the dashboard's judge (`llmval_tui/actions/judges/collective_bandwidth.py`), which applies them
again to the record; a test holds the two together.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llmval_runners.collective import expected
from llmval_runners.process.errors import UNDECIDED_EXIT

SCHEMA_VERSION, KIND = 1, "collective_bandwidth"
GOOD, BAD, UNDECIDED = 0, 1, UNDECIDED_EXIT
COUNTER_TOLERANCE = 0.02  # by which the NVLink counters may differ from what was sent
ANOTHER_WAY = 0.90  # if they saw a smaller share, the data took another way
SMALLEST_COMPARED = 16 << 20  # bytes: below, a figure is a latency, which varies more than a baseline's tolerance


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ok`, `failed`, `slow`, `inconclusive` or `ended early`, and the reason."""

    word: str
    reason: str
    exit_code: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def verdict_of(record: Mapping[str, Any]) -> Verdict:
    """Judge a record. The first rule that applies decides:

    ended early; wrong results; data that took another way than NVLink; links that are down; a slow GPU or pair; a share
    below its bound; less than the baseline; one rank, or something that was not measured; counters that do not fit; no
    bound; else ok.
    """
    if record["ended_early"]:
        return Verdict("ended early", record["ended_early"], UNDECIDED)
    for word, problem in (
        ("failed", wrong(record)),
        ("slow", another_way(record)),
        ("slow", inactive(record)),
        ("slow", slow(record)),
        ("slow", below_bound(record)),
        ("slow", below_baseline(record)),
    ):
        if problem:
            return Verdict(word, problem, BAD)
    for problem in (missing(record), strange_counters(record), unbounded(record)):
        if problem:
            return Verdict("inconclusive", problem, UNDECIDED)
    return Verdict("ok", "every result is right, no GPU or pair is slow, and the links carry what they should", GOOD)


def wrong(record: Mapping[str, Any]) -> str:
    """The first wrong result; empty if there is none."""
    for one in record["rows"]:
        if one["wrong"] or one["wrong_int32"]:
            count = (one["wrong"] or 0) + (one["wrong_int32"] or 0)
            first = f" ({one['first_wrong']})" if one["first_wrong"] else ""
            return f"{one['operation']} of {one['bytes']:,} bytes, {one['mode']}: {count:,} wrong elements{first}"
    fabric = record.get("fabric")
    for one in fabric["links"] if fabric else []:
        if one["wrong"]:
            return f"{' and '.join(one['nodes'])}: {one['wrong']:,} wrong elements arrived"
    if fabric and fabric["ring"]["wrong"]:
        return f"the ring of nodes: {fabric['ring']['wrong']:,} wrong elements arrived"
    for one in record["pairs"]["cells"]:
        if one["wrong"]:
            return f"{one['method']} {one['from']}→{one['to']}: {one['wrong']:,} wrong elements arrived"
    return ""


def another_way(record: Mapping[str, Any]) -> str:
    """Data that the NVLink counters did not see although NVLink connects the GPUs."""
    for one in judged_counters(record):
        shares = [share for share in (one["tx_share"], one["rx_share"]) if share is not None]
        if shares and min(shares) < ANOTHER_WAY:
            what = {"send_recv": "NCCL's send and receive", "all_reduce": "the all-reduce"}.get(
                one["method"], f"the copies by {one['method'].replace('_', ' ')}"
            )
            return (
                f"NVLink carried {min(shares):.0%} of {what} at rank {one['rank']}: the rest took another way "
                "(NCCL_P2P_DISABLE, NCCL_P2P_LEVEL, IOMMU or ACS)"
            )
    return ""


def judged_counters(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The readings that can be compared: an all-reduce of more than two ranks need not be a ring, and with NVLS the
    switch adds."""
    return [
        one for one in record["counters"]["readings"] if one["method"] != "all_reduce" or len(record["gpus"]) == 2
    ]  # fmt: skip


def inactive(record: Mapping[str, Any]) -> str:
    """GPUs with NVLinks that are not up, where NVLink connects the ranks."""
    if record["line"]["kind"] != expected.NVLINK:
        return ""
    found = [
        f"rank {gpu['rank']} on {gpu['host']}: {gpu['nvlink']['active']} of {gpu['nvlink']['links']} NVLinks are active"
        for gpu in record["gpus"]
        if gpu["nvlink"]["inactive"]
    ]
    return "; ".join(found[:3]) + (f" and {len(found) - 3} more GPUs" if len(found) > 3 else "")


def slow(record: Mapping[str, Any]) -> str:
    """The GPUs and pairs that are slower than the others."""
    fabric = record.get("fabric") or {}
    found = dict.fromkeys(
        [*(slow_part(one) for one in fabric.get("slow", [])), *(slow_name(one) for one in record["slow"])]
    )
    return "; ".join(list(found)[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def slow_part(one: Mapping[str, Any]) -> str:
    """A slow node or link in words."""
    what = f"node {one['nodes'][0]}" if one["what"] == "node" else f"the link between {' and '.join(one['nodes'])}"
    if one["places"]:
        what += f" (GPU {', '.join(map(str, one['places']))})"
    return f"{what} {one['shortfall']:.0%} slower than the others ({one['gb_per_s']:.1f} GB/s each way)"


def slow_name(one: Mapping[str, Any]) -> str:
    """A slow GPU or pair in words."""
    how = f"{one['method'].replace('_', ' ')}{', ' + one['access'] if one['access'] else ''}"
    hosts = ", ".join(dict.fromkeys(one["hosts"]))
    what = (
        f"pair {one['ranks'][0]}→{one['ranks'][1]}" if one["what"] == "pair" else f"GPU {one['ranks'][0]} {one['what']}"
    )
    return f"{what} {one['shortfall']:.0%} slower than the others ({how}; {hosts})"


def below_bound(record: Mapping[str, Any]) -> str:
    """A bandwidth below its bound: the all-reduce, else the slowest pair in relation to its bound."""
    found = bound_of(record)
    if found is not None and found[0] < found[1]:
        return f"all-reduce busbw {found[0]:.1f} GB/s, at least {found[1]:.1f} expected ({found[2]})"
    worst: tuple[float, str] | None = None
    for one in record["pairs"]["cells"]:
        bound = cell_bound(record, one)
        if bound is None or one["share_of_line"] is None or one["share_of_line"] >= bound.share:
            continue
        text = (
            f"{one['method'].replace('_', ' ')} {one['from']}→{one['to']}: {one['gb_per_s']:.1f} GB/s is "
            f"{one['share_of_line']:.0%} of the line rate, at least {bound.share:.0%} expected"
        )
        if worst is None or one["share_of_line"] / bound.share < worst[0]:
            worst = one["share_of_line"] / bound.share, text
    return worst[1] if worst else ""


def bound_of(record: Mapping[str, Any]) -> tuple[float, float, str] | None:
    """The all-reduce's busbw at the largest size, its least value in GB/s, and the origin of that; None without one."""
    busbw = record["summary"].get("all_reduce_busbw_gb_per_s")
    if busbw is None:
        return None
    if (stated := record["settings"]["min_busbw_gb_per_s"]) is not None:
        return busbw, stated, "--min-busbw"
    line = record["line"]
    bound = expected.all_reduce_bound(line["kind"], len(record["gpus"]))
    if bound is None or line["gb_per_s"] is None:
        return None
    return busbw, bound.share * line["gb_per_s"], f"{bound.share:.0%} of {line['gb_per_s']:g} GB/s of {line['kind']}"


def cell_bound(record: Mapping[str, Any], cell: Mapping[str, Any]) -> expected.Bound | None:
    """The bound of a pair's cell; None if none is known."""
    path = next(
        (one for one in record["pair_paths"] if (one["from"], one["to"]) == (cell["from"], cell["to"])), None
    )  # fmt: skip
    return None if path is None else expected.pair_bound(path["kind"], cell["method"])


def below_baseline(record: Mapping[str, Any]) -> str:
    """The figure that is furthest below the baseline."""
    baseline = record["baseline"]
    if baseline is None:
        return ""
    least = 1 - baseline["tolerance_percent"] / 100
    low = [one for one in baseline["compared"] if one["ratio"] < least]
    if not low:
        return ""
    one = min(low, key=lambda item: float(item["ratio"]))
    return f"{one['what']}: {one['now']:.1f} GB/s, the baseline has {one['before']:.1f} ({one['ratio'] - 1:+.1%})"


def missing(record: Mapping[str, Any]) -> str:
    """What was asked for and not measured."""
    if len(record["gpus"]) == 1:
        return "one rank: nothing crosses a link, so only the copy within the GPU was measured"
    for one in record["rows"]:
        if one["reason"]:
            return f"{one['operation']}, {one['mode']}: {one['reason']}"
    for one in record["pairs"]["cells"]:
        if one["reason"]:
            return f"{one['method']} {one['from']}→{one['to']}: {one['reason']}"
    if (baseline := record["baseline"]) and not baseline["compared"]:
        return "the baseline has no figure of the same operation, size and mode"
    return ""


def strange_counters(record: Mapping[str, Any]) -> str:
    """Counters that differ from what was sent by more than the tolerance."""
    for one in judged_counters(record):
        for name in ("tx_share", "rx_share"):
            if one[name] is not None and abs(one[name] - 1) > COUNTER_TOLERANCE:
                return (
                    f"the NVLink counter of rank {one['rank']} saw {one[name]:.1%} of its {one['method']} data: other "
                    "traffic ran on the links, or NCCL's protocol added to it"
                )
    return ""


def unbounded(record: Mapping[str, Any]) -> str:
    """Why the figures have nothing to be compared with."""
    if record["baseline"] is not None or bound_of(record) is not None:
        return ""
    if record["backend"] == "gloo":
        return "these ranks are on CPUs, so no link of a GPU was measured"
    if "all_reduce_busbw_gb_per_s" not in record["summary"]:
        return "the all-reduce was not measured, and it is what the bound is for: add it to --operations"
    why = record["line"]["reason"] or f"no reference is known for {record['line']['kind']}"
    return f"there is no bound for this topology ({why}): pass --min-busbw or --baseline"
