"""The last screen of a run, from its record: verdict, bandwidths, the matrix of the pairs, what ran, where it lies."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from llmval_runners.collective import expected, verdict

WIDTH = 80
_LABEL = 18
_MOST_RANKS = 8  # of a matrix: a row of numbers has 72 columns then


def last_screen(record: Mapping[str, Any], where: str) -> str:
    """The screen, at most 80 columns wide. `where`: where the record lies."""
    found = record["verdict"]
    lines = _wrapped("", f"{found['word']}: {found['reason']}" if found["reason"] else found["word"])
    lines += ["", *_row("limited by", limits(record)), *_collectives(record), *_matrix(record)]
    lines += _row("links", _links(record))
    lines += _row("NVLink counters", _counters(record))
    lines += _row("ran", _ran(record))
    if record["warnings"]:
        lines += _row("note", record["warnings"][:3])
    lines += _row("record", [where])
    return "\n".join(lines)


def limits(record: Mapping[str, Any]) -> list[str]:
    """What limits large messages, and what small ones. The first rule of the verdict that applies decides for large:

    another way than NVLink; links that are down; a slow GPU, pair or node; else the links, if the all-reduce reaches
    the share of their line rate that healthy machines reach (`expected.ALL_REDUCE_BOUNDS`). A small message is limited
    by the latency of a call.
    """
    large = next((text for rule in (verdict.another_way, verdict.inactive, verdict.slow) if (text := rule(record))), "")
    return [f"large messages: {large.split('; ')[0] or _links_limit(record)}", *_latency(record)]


def _links_limit(record: Mapping[str, Any]) -> str:
    line, share = record["line"], record["summary"].get("all_reduce_share_of_line")
    if record["backend"] == "gloo":
        return "n/a (these ranks are on CPUs)"
    if share is None or line["gb_per_s"] is None:
        return f"n/a ({line['reason'] or 'the all-reduce was not measured'})"
    figures = f"all-reduce {100 * share:.0f} % of {line['gb_per_s']:g} GB/s"
    bound = expected.all_reduce_bound(line["kind"], len(record["gpus"]))
    if bound is None:
        return f"n/a ({figures}; no reference is known for {line['kind']})"
    if share < bound.share:
        return f"not seen; not the links ({figures}, healthy nodes reach {100 * bound.share:.0f} %)"
    return f"the {line['kind']} links ({figures}, healthy nodes reach {100 * bound.share:.0f} % or more)"


def _latency(record: Mapping[str, Any]) -> list[str]:
    rows = [one for one in record["rows"] if one["operation"] == "all_reduce" and one["time_us"] is not None]
    if not rows:
        return []
    least = min(rows, key=lambda one: (one["bytes"], one["time_us"]))
    return [
        f"small ones: latency, {number(least['time_us'], 2)} us for an all-reduce of {size_text(least['bytes'])} bytes"
    ]


def size_text(nbytes: int) -> str:
    """`8`, `512K`, `1G`, as nccl-tests takes them; not a power of 1024: the bytes."""
    for unit, factor in (("T", 2**40), ("G", 2**30), ("M", 2**20), ("K", 2**10)):
        if nbytes >= factor and nbytes % factor == 0:
            return f"{nbytes // factor}{unit}"
    return f"{nbytes:,}"


def number(value: float | None, digits: int = 1) -> str:
    return "n/a" if value is None else f"{value:,.{digits}f}"


def rate(value: float | None) -> str:
    """A bandwidth in GB/s with two places, or as many as a small one needs for two digits: small messages are slow."""
    if value is None or value >= 0.1 or value <= 0:
        return number(value, 2)
    return f"{value:.{min(9, 1 - math.floor(math.log10(value)))}f}"


def _collectives(record: Mapping[str, Any]) -> list[str]:
    rows = record["rows"]
    if not rows:
        return []
    lines = [f"{'collective':{_LABEL}}{'size':>12}{'time, us':>14}{'algbw':>12}{'busbw GB/s':>12}{'wrong':>8}"]
    for name in dict.fromkeys(one["operation"] for one in rows):
        mine = [one for one in rows if one["operation"] == name]
        done = [one for one in mine if one["time_us"] is not None]
        if not done:
            lines += _row(name, [mine[0]["reason"] or "not measured"])
            continue
        ends = [one for one in done if one["bytes"] in (min(o["bytes"] for o in done), max(o["bytes"] for o in done))]
        for at in dict.fromkeys(one["bytes"] for one in ends):
            best = min((one for one in ends if one["bytes"] == at), key=lambda one: float(one["time_us"]))
            bad = sum((one["wrong"] or 0) + (one["wrong_int32"] or 0) for one in mine if one["bytes"] == at)
            lines.append(
                f"{name:{_LABEL}}{size_text(at):>12}{number(best['time_us'], 2):>14}"
                f"{rate(best['algbw_gb_per_s']):>12}{rate(best['busbw_gb_per_s']):>12}{bad:>8,}"
            )
    return lines


def _matrix(record: Mapping[str, Any]) -> list[str]:
    """The one-way bandwidths: by the copy engine, or else by send and receive; without a matrix its slowest pair."""
    cells = [one for one in record["pairs"]["cells"] if one["directions"] == 1 and one["access"] in (None, "write")]
    methods = {one["method"] for one in cells if one["gb_per_s"] is not None}
    method = next((one for one in ("copy_engine", "nccl", "gloo", "sm") if one in methods), None)
    if method is None:
        return []
    by_pair = {(one["from"], one["to"]): one["gb_per_s"] for one in cells if one["method"] == method}
    ranks = sorted({rank for pair in by_pair for rank in pair})
    title = f"pairs, {method.replace('_', ' ')}, one way, GB/s from row to column"
    if len(ranks) > _MOST_RANKS:
        known = {pair: value for pair, value in by_pair.items() if value is not None}
        low = min(known, key=lambda pair: known[pair])
        slowest = f"slowest {low[0]}→{low[1]} {known[low]:.1f}"
        return _row(f"{len(known)} pairs", [title, slowest, f"typical {sorted(known.values())[len(known) // 2]:.1f}"])
    lines = [title, f"{'':4}" + "".join(f"{rank:>9}" for rank in ranks)]
    for one in ranks:
        values = [number(by_pair[one, other]) if (one, other) in by_pair else "-" for other in ranks]
        lines.append(f"{one:>4}" + "".join(f"{value:>9}" for value in values))
    return lines


def _links(record: Mapping[str, Any]) -> list[str]:
    line, found = record["line"], []
    if line["gb_per_s"] is None:
        found.append(f"line rate n/a ({line['reason'] or 'unknown'})")
    else:
        found.append(f"{line['kind']}, {line['gb_per_s']:g} GB/s a direction")
        share = record["summary"].get("all_reduce_share_of_line")
        if share is not None:
            found.append(f"the all-reduce reached {share:.0%} of it")
    inactive = [gpu for gpu in record["gpus"] if gpu["nvlink"] and gpu["nvlink"]["inactive"]]
    found += [f"rank {gpu['rank']}: {len(gpu['nvlink']['inactive'])} links not active" for gpu in inactive[:3]]
    return found


def _counters(record: Mapping[str, Any]) -> list[str]:
    readings = record["counters"]["readings"]
    if not readings:
        return [f"n/a ({record['counters']['reason']})"]
    found = []
    for method in dict.fromkeys(one["method"] for one in readings):
        shares = [
            share for one in readings if one["method"] == method for share in (one["tx_share"], one["rx_share"])
        ]  # fmt: skip
        known = [share for share in shares if share is not None]
        if known:
            found.append(f"{method.replace('_', ' ')} {min(known):.1%} to {max(known):.1%} of what was sent")
    return found or ["n/a"]


def _ran(record: Mapping[str, Any]) -> list[str]:
    versions, settings = record["versions"], record["settings"]
    names = ", ".join(sorted({gpu["name"] for gpu in record["gpus"]}))
    ranks, nodes = len(record["gpus"]), record["nodes"]
    nccl = f", NCCL {versions['nccl']}" if versions["nccl"] else ""
    return [
        f"{ranks} rank{'s' if ranks > 1 else ''} on {nodes} node{'s' if nodes > 1 else ''}, {names}",
        f"torch {versions['torch']}{nccl}",
        f"{settings['dtype']}, {size_text(settings['min_bytes'])} to {size_text(settings['max_bytes'])} bytes",
    ]


def _row(label: str, parts: Sequence[str]) -> list[str]:
    return _wrapped(f"{label:{_LABEL}}", "; ".join(parts))


def _wrapped(label: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip
    return wrapped or [label.rstrip()]
