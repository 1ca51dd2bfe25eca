"""The last screen of a sweep, from the records of its cells."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from llmval_runners.measure.limits import Limit, Power, clauses, limit_of, peak_of
from llmval_runners.process.errors import FAILED_EXIT, GOOD_EXIT, UNDECIDED_EXIT
from llmval_runners.process.screen import Screen, figure, gib, plural
from llmval_runners.process.verdict import Verdict, ended_early

ALL_REFUSED = "every cell was refused"
Record = Mapping[str, Any]


def verdict_of(records: Sequence[Record | None], early: str | None) -> Verdict:
    """`records`: of every cell that was asked for; None: it has not run. `early`: why the sweep ended before it."""
    statuses = Counter(record["status"] if record else "missing" for record in records)
    done = f"{len(records) - statuses['missing']} of {plural(len(records), 'cell')} measured"
    if early:
        return ended_early(f"{early} ({done})")
    counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(statuses.items()))
    first = next(
        (f"{record['cell']}: {record['reasons'][0]}" for record in records if record and record["reasons"]), ""
    )
    because = f"{counted}; {first}" if first else counted
    if statuses["refused"] == len(records):
        return Verdict("failed", f"{ALL_REFUSED}: {first}", FAILED_EXIT)
    if statuses["failed"] or statuses["missing"]:
        return Verdict("failed", because, FAILED_EXIT)
    if statuses["invalid"] or statuses["no_energy"]:
        return Verdict("invalid" if statuses["invalid"] else "inconclusive", because, UNDECIDED_EXIT)
    return Verdict("ok", counted, GOOD_EXIT)


def last_screen(records: Sequence[Record | None], verdict: Verdict, folder: str) -> str:
    """The screen, at most 80 columns wide. `folder` of the records."""
    found = [record for record in records if record]
    screen = Screen(str(verdict))
    rows = [(record, name, phase) for record in found for name, phase in record["phases"].items()]
    if rows:
        names = ("prefill", "decode")
        limits = [(one, [_limit(record, phase) for record, name, phase in rows if name == one]) for one in names]
        screen.row("limited by", *clauses(limits))
    for wanted in ("prefill", "decode"):
        unit = "in" if wanted == "prefill" else "out"
        share = "MFU" if wanted == "prefill" else "MBU"
        screen.table(
            f"{wanted} ({unit} tokens)",
            ("tokens/s", "W", "tokens/J", share),
            [(_title(record), _cells(phase, share.lower())) for record, name, phase in rows if name == wanted],
        )
    peak = max((phase["peak_memory_bytes"] or 0 for _, _, phase in rows), default=0)
    screen.row("memory", f"peak {gib(peak)} on one GPU" if peak else "n/a on a CPU" if rows else None)
    screen.row(
        "tokens/J",
        "* not valid; the cell's file says which rule it breaks" if _any_invalid(rows) else "gross, GPUs alone",
    )
    missing = next((phase["energy_missing"] for _, _, phase in rows if phase["energy_missing"]), None)
    if missing:
        screen.row("power", f"n/a ({missing})")
    for (status, reason), titles in _not_measured(found).items():
        screen.row(status, ", ".join(titles), reason)
    if found:
        screen.row("ran", *_ran(found[0]))
    screen.row("record", folder)
    return screen.text()


def _not_measured(found: Sequence[Record]) -> dict[tuple[str, str], list[str]]:
    """The cells without figures by their status and reason, so that a reason that many share is said once."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for record in found:
        if record["status"] in ("refused", "failed"):
            by_reason.setdefault((record["status"], record["reasons"][0]), []).append(_title(record))
    return by_reason


def _limit(record: Record, phase: Mapping[str, Any]) -> Limit:
    """The limit of a phase (`measure.limits`). A throttle reason counts by its mean share over trials and GPUs."""
    shares = [gpu["throttle_share"] for trial in phase["trials"] for gpu in trial["gpus"]]
    limits = [gpu.get("power_limit_w") for gpu in record["identity"]["gpus"]]
    means = None
    if shares and None not in shares:
        reasons = {reason for share in shares for reason in share}
        means = {reason: fmean(share.get(reason, 0.0) for share in shares) for reason in reasons}
    power = Power(phase["power_w"], sum(limits) if limits and None not in limits else None, means)
    peaks = phase["utilisation_of_peak"]
    unknown = (peaks["missing"] or "").split(": ")[0]  # what follows is that there is no MFU and MBU
    return limit_of([peak_of("MFU", peaks["mfu"]), peak_of("MBU", peaks["mbu"])], power, unknown)


def _title(record: Record) -> str:
    model = record["model"]
    return f"{model['layers']}L d{model['d_model']} {record['mode']} batch {record['batch_size']}"


def _cells(phase: Mapping[str, Any], share: str) -> list[str]:
    peaks = phase["utilisation_of_peak"][share]
    efficiency = figure(phase["tokens_per_joule"])
    return [
        figure(phase["tokens_per_s"], 0),
        figure(phase["power_w"], 0),
        efficiency if phase["valid"] or phase["tokens_per_joule"] is None else f"{efficiency}*",
        f"{100 * peaks[-1]['value']:.1f} %" if peaks else "n/a",
    ]


def _any_invalid(rows: Sequence[tuple[Record, str, Mapping[str, Any]]]) -> bool:
    return any(not phase["valid"] and phase["tokens_per_joule"] is not None for _, _, phase in rows)


def _ran(record: Record) -> list[str]:
    identity, settings = record["identity"], record["settings"]
    gpus = Counter(gpu["name"] for gpu in identity["gpus"])
    where = ", ".join(f"{count} × {name}" for name, count in gpus.items()) or f"CPU ({identity['cpu']})"
    return [
        f"sequence {record['sequence_length']:,}",
        f"{plural(settings['trials'], 'trial')} of {settings['window_s']:g} s",
        f"attention {settings['attention_backend']}, {'compiled' if settings['compile'] else 'not compiled'}",
        where,
        f"torch {identity['torch']}",
    ]
