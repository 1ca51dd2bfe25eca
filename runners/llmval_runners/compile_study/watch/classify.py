"""From the ranks' places to one verdict: what hangs, on which rank, and why it is thought so.

Pure, and able to say "unknown".
"""

from typing import Any

from llmval_runners.compile_study.watch.stall_location import (
    COLLECTIVE,
    GONE,
    RUNNING,
    STOPPED,
    UNKNOWN,
    Finding,
    place,
)

DESYNC = "collective_desync"


def classify(evidence: dict[str, Any]) -> dict[str, Any]:
    """The verdict: `kind`, `ranks` at fault, `operation` (of a collective), `reasons`, and every rank's own finding.

    `evidence["ranks"]` holds the ranks that had not finished. A rank that waits for others (in a collective, or for a
    device that may be in one) is blamed only when all wait, and then only if their records differ.
    """
    ranks = {item["rank"]: item for item in evidence["ranks"]}
    findings = [place(item) for item in evidence["ranks"]]
    own = [finding for finding in findings if not finding.waits]
    if own:
        kind, at_fault, operation, reasons = _own_fault(own, ranks, len(findings))
    elif findings:
        kind, at_fault, operation, reasons = _desync(findings, ranks)
    else:
        kind, at_fault, operation, reasons = UNKNOWN, [], "", ["no rank that was still running had left a heartbeat"]
    return {
        "kind": kind,
        "ranks": at_fault,
        "operation": operation or None,
        "reasons": reasons,
        "findings": [
            {
                "rank": f.rank,
                "kind": f.kind,
                "where": f.where or None,
                "operation": f.operation or None,
                "reasons": f.reasons,
            }
            for f in findings
        ],
    }


def _own_fault(
    own: list[Finding], ranks: dict[int, dict[str, Any]], count: int
) -> tuple[str, list[int], str, list[str]]:
    """Some ranks are stuck by themselves; of several kinds, the known one that moved last the longest ago."""
    known = [f for f in own if f.kind not in (UNKNOWN, RUNNING)] or own
    first = max(known, key=lambda f: ranks[f.rank]["idle_s"])
    same = sorted(f.rank for f in known if f.kind == first.kind)
    reasons = [f"rank {first.rank}: {reason}" for reason in first.reasons]
    if count > len(own):
        reasons.append(f"the other {count - len(own)} unfinished ranks wait for it in a collective or for their device")
    others = [f"rank {f.rank} in {f.kind}" for f in own if f.kind != first.kind]
    if others:
        reasons.append(f"also stuck, and moved more recently or less clearly: {', '.join(others)}")
    if first.kind in (GONE, STOPPED):
        reasons.append("a rank that no longer runs is a cause outside of the compiler")
    return (UNKNOWN if first.kind == RUNNING else first.kind), same, "", reasons


def _desync(findings: list[Finding], ranks: dict[int, dict[str, Any]]) -> tuple[str, list[int], str, list[str]]:
    """Everybody waits.

    Who entered fewer collectives, or as many but at another place of the program, is out of step.
    """
    counted = {f.rank: ranks[f.rank]["beat"]["sequence"] for f in findings}
    waiting = ", ".join(
        f"rank {f.rank} in {f.operation or f.kind} (collective {counted[f.rank]}, {_position(ranks[f.rank])})"
        for f in findings
    )
    reasons = [f"every unfinished rank waits: {waiting}"]
    if len(findings) < 2 or None in counted.values():
        return UNKNOWN, [], "", [*reasons, "there is nothing to compare it with"]
    if len(set(counted.values())) > 1:
        least = min(counted.values())
        behind = sorted(rank for rank, value in counted.items() if value == least)
        reasons.append(f"rank {_list(behind)} entered {least} collectives, others up to {max(counted.values())}")
        return DESYNC, behind, _missing(ranks, behind, least), reasons
    # As many collectives each: a rank that is further in the program has left one out on the way.
    farthest = max(ranks[f.rank]["beat"]["progress_order"] for f in findings)
    ahead = sorted(f.rank for f in findings if ranks[f.rank]["beat"]["progress_order"] == farthest)
    if len(ahead) < len(findings):
        behind = [f for f in findings if f.rank not in ahead]
        reasons.append(
            f"all entered {next(iter(counted.values()))} collectives, yet rank {_list(ahead)} is already at "
            f"{_position(ranks[ahead[0]])} and rank {_list([f.rank for f in behind])} still at "
            f"{_position(ranks[behind[0].rank])}: "
            f"rank {_list(ahead)} left one out"
        )
        return DESYNC, ahead, behind[0].operation, reasons
    differ = _first_difference(ranks)
    if differ is not None:
        sequence, odd, operation, text = differ
        reasons.append(text)
        return DESYNC, odd, operation, [*reasons, f"the flight recorders differ first at collective {sequence}"]
    kinds = {f.kind for f in findings}
    what = (
        "a transport or a kernel that does not finish"
        if kinds == {COLLECTIVE}
        else "a kernel on the device, or a transport, that does not finish"
    )
    return UNKNOWN, [], findings[0].operation, [*reasons, f"all agree on what they wait for, which points to {what}"]


def _missing(ranks: dict[int, dict[str, Any]], behind: list[int], least: int) -> str:
    """The first collective that the ranks behind did not enter, by another rank's flight recorder."""
    for rank, item in ranks.items():
        if rank not in behind:
            for entry in item["collectives"]:
                if entry["sequence"] == least + 1:
                    return entry["operation"]
    return ""


def _first_difference(ranks: dict[int, dict[str, Any]]) -> tuple[int, list[int], str, str] | None:
    """Where the flight recorders first disagree: sequence, ranks in the minority, the majority's, and in words."""
    records = {rank: {entry["sequence"]: entry for entry in item["collectives"]} for rank, item in ranks.items()}
    common = set.intersection(*(set(record) for record in records.values())) if records else set()
    for sequence in sorted(common):
        said: dict[tuple[str, str], list[int]] = {}
        for rank, record in records.items():
            said.setdefault((record[sequence]["operation"], str(record[sequence]["sizes"])), []).append(rank)
        if len(said) > 1:
            odd = min(said, key=lambda key: (len(said[key]), -said[key][0]))
            most = max(said, key=lambda key: len(said[key]))
            text = "; ".join(f"rank {_list(who)}: {operation} {sizes}" for (operation, sizes), who in said.items())
            return sequence, sorted(said[odd]), most[0], text
    return None


def _position(item: dict[str, Any]) -> str:
    beat = item["beat"]
    return f"phase {beat['phase']}" + (f", step {beat['step']}" if beat["step"] else "")


def _list(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
