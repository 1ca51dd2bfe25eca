"""Makes one verdict from the evidence of all ranks: the kind of stall, the ranks at fault, and the reasons.

Pure functions. The verdict can be "unknown".
"""

from dataclasses import replace
from typing import Any

from llmval_runners.compile_study.watch.stall_location import (
    COLLECTIVE,
    COMPILED_CODE,
    DEVICE,
    GONE,
    STOPPED,
    UNKNOWN,
    Finding,
    locate,
)

DESYNC = "collective_desync"
Evidence = dict[str, Any]  # of one rank, as `evidence.collect` returns it
Verdict = tuple[str, list[int], str, list[str]]  # kind, ranks at fault, operation, reasons


def classify(evidence: dict[str, Any]) -> dict[str, Any]:
    """The verdict: `kind`, `ranks` at fault, `operation` (of a collective), `reasons`, and the finding of every rank.

    `evidence["ranks"]` holds the ranks that had not finished. A rank may wait for others, in a collective or for a
    device that is in one. Such ranks are blamed only if all ranks wait and their records differ.
    """
    ranks = {item["rank"]: item for item in evidence["ranks"]}
    findings = _behind_others([locate(item) for item in evidence["ranks"]], ranks)
    stuck = [finding for finding in findings if not finding.waits]
    if stuck:
        kind, at_fault, operation, reasons = _stuck(stuck, ranks, len(findings))
    elif findings:
        kind, at_fault, operation, reasons = _all_wait(findings, ranks)
    else:
        kind, at_fault, operation, reasons = UNKNOWN, [], "", ["no unfinished rank had left a heartbeat"]
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


def _behind_others(findings: list[Finding], ranks: dict[int, Evidence]) -> list[Finding]:
    """Measuring a kernel waits for the device. If a collective is open there, another rank may be what it waits for.

    It is not if every other unfinished rank has entered that collective and waits in it: then the kernel is.
    """
    measuring = [f for f in findings if f.behind_collective]
    others = [f for f in findings if not f.behind_collective]
    entered = {f.rank: ranks[f.rank]["beat"]["sequence"] or 0 for f in findings}
    most = max((entered[f.rank] for f in measuring), default=0)
    if others and all(f.kind == COLLECTIVE and entered[f.rank] >= most for f in others):
        return findings
    return [replace(f, kind=COLLECTIVE, waits=True) if f.behind_collective else f for f in findings]


def _stuck(stuck: list[Finding], ranks: dict[int, Evidence], unfinished: int) -> Verdict:
    """Some ranks are stuck by themselves. Among known kinds, the rank that stopped moving first decides."""
    known = [f for f in stuck if f.kind not in (UNKNOWN, COMPILED_CODE)] or stuck
    first = max(known, key=lambda f: ranks[f.rank]["idle_s"])
    same = sorted(f.rank for f in known if f.kind == first.kind)
    reasons = [f"rank {first.rank}: {reason}" for reason in first.reasons]
    if unfinished > len(stuck):
        waiting = unfinished - len(stuck)
        reasons.append(f"the other {waiting} unfinished ranks wait for it in a collective or for their device")
    others = [f"rank {f.rank} in {f.kind}" for f in stuck if f.kind != first.kind]
    if others:
        reasons.append(f"also stuck, but moved more recently or with less evidence: {', '.join(others)}")
    if first.kind in (GONE, STOPPED):
        reasons.append("a rank that no longer runs is a cause outside of the compiler")
    return first.kind, same, first.operation, reasons


def _all_wait(findings: list[Finding], ranks: dict[int, Evidence]) -> Verdict:
    """All ranks wait. A rank is out of step if it entered fewer collectives, or as many at another place."""
    entered = {f.rank: ranks[f.rank]["beat"]["sequence"] for f in findings}
    waiting = ", ".join(
        f"rank {f.rank} in {f.operation or f.kind} (collective {entered[f.rank]}, {_position(ranks[f.rank])})"
        for f in findings
    )
    reasons = [f"every unfinished rank waits: {waiting}"]
    place = findings[0].kind if len({f.kind for f in findings}) == 1 else UNKNOWN
    if len(findings) < 2:
        # A device that waits alone is this rank's own. A collective has other ranks, and nothing is known of them.
        at_fault = [findings[0].rank] if place == DEVICE else []
        return place, at_fault, findings[0].operation, [*reasons, "there is nothing to compare it with"]
    own_kernel = [f.rank for f in findings if f.kind == DEVICE and _all_done(ranks[f.rank])]
    if own_kernel and all(f.kind == COLLECTIVE for f in findings if f.rank not in own_kernel):
        reasons.append(
            f"rank {_list(own_kernel)} waits for its device although each of its collectives has ended: one of its own "
            "kernels does not finish, and the other ranks wait for it"
        )
        return DEVICE, own_kernel, "", reasons
    if None in entered.values():
        return place, [], findings[0].operation, [*reasons, "not every rank counts its collectives"]
    if len(set(entered.values())) > 1:
        least = min(entered.values())
        late = sorted(rank for rank, value in entered.items() if value == least)
        reasons.append(f"rank {_list(late)} entered {least} collectives, others up to {max(entered.values())}")
        return DESYNC, late, _missing_operation(ranks, late, least), reasons
    # With equal counts, a rank that is further in the program has skipped a collective on the way.
    farthest = max(ranks[f.rank]["beat"]["progress_order"] for f in findings)
    ahead = sorted(f.rank for f in findings if ranks[f.rank]["beat"]["progress_order"] == farthest)
    if len(ahead) < len(findings):
        behind = [f for f in findings if f.rank not in ahead]
        reasons.append(
            f"all entered {next(iter(entered.values()))} collectives, but rank {_list(ahead)} is already at "
            f"{_position(ranks[ahead[0]])} and rank {_list([f.rank for f in behind])} still at "
            f"{_position(ranks[behind[0].rank])}: rank {_list(ahead)} skipped one"
        )
        return DESYNC, ahead, behind[0].operation, reasons
    difference = _first_difference(ranks)
    if difference is not None:
        sequence, odd, operation, text = difference
        reasons.append(text)
        return DESYNC, odd, operation, [*reasons, f"the flight recorders differ first at collective {sequence}"]
    suspect = (
        "a transport or a kernel that does not finish"
        if {f.kind for f in findings} == {COLLECTIVE}
        else "a kernel on the device, or a transport, that does not finish"
    )
    reasons.append(f"all ranks wait for the same operation, which points to {suspect}")
    return place, [], findings[0].operation, reasons


def _all_done(item: Evidence) -> bool:
    """Whether the rank's flight recorder has collectives, and all of them have ended."""
    return bool(item["collectives"]) and all(entry["done"] for entry in item["collectives"])


def _missing_operation(ranks: dict[int, Evidence], late: list[int], least: int) -> str:
    """The first collective that the late ranks did not enter, from another rank's flight recorder."""
    for rank, item in ranks.items():
        if rank not in late:
            for entry in item["collectives"]:
                if entry["sequence"] == least + 1:
                    return str(entry["operation"])
    return ""


def _first_difference(ranks: dict[int, Evidence]) -> tuple[int, list[int], str, str] | None:
    """The first collective at which the flight recorders differ.

    Returns its sequence number, the ranks in the minority, the majority's operation, and a description.
    """
    records = {rank: {entry["sequence"]: entry for entry in item["collectives"]} for rank, item in ranks.items()}
    common = set.intersection(*(set(record) for record in records.values())) if records else set()
    for sequence in sorted(common):
        by_call: dict[tuple[str, str], list[int]] = {}
        for rank, record in records.items():
            by_call.setdefault((record[sequence]["operation"], str(record[sequence]["sizes"])), []).append(rank)
        if len(by_call) > 1:
            odd = min(by_call, key=lambda key: (len(by_call[key]), -by_call[key][0]))
            most = max(by_call, key=lambda key: len(by_call[key]))
            text = "; ".join(f"rank {_list(who)}: {operation} {sizes}" for (operation, sizes), who in by_call.items())
            return sequence, sorted(by_call[odd]), most[0], text
    return None


def _position(item: Evidence) -> str:
    beat = item["beat"]
    return f"phase {beat['phase']}" + (f", step {beat['step']}" if beat["step"] else "")


def _list(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks))
