"""Reads a cell of `precision_power_sweep.py` (`docs/schemas/power_cell.schema.json`)."""

import hashlib
from collections import Counter
from typing import Any

from llmval_runners.power.analysis.record import Entry, Machine, NotUnderstood, number

SCHEMA = 1
STATUSES = ("valid", "invalid", "no_energy", "refused", "failed")


def read_cell(path: str, record: dict[str, Any]) -> tuple[list[Entry], Machine]:
    """The cell's phases, and its machine. A refused or failed cell has no phases.

    Raises:
        NotUnderstood: the record is of another schema, or lacks what one must have.
    """
    if record.get("schema") != SCHEMA:
        raise NotUnderstood(f"it is a cell of schema {record.get('schema')!r}, and this analyzer reads schema {SCHEMA}")
    if record.get("status") not in STATUSES:
        raise NotUnderstood(f"its status is {record.get('status')!r}, which is none of {', '.join(STATUSES)}")
    try:
        machine = _machine(record)
        entries = [_entry(path, record, name, phase, machine) for name, phase in record["phases"].items()]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise NotUnderstood(f"it is a cell that lacks {error}") from error
    return entries, machine


def _entry(path: str, record: dict[str, Any], name: str, phase: dict[str, Any], machine: Machine) -> Entry:
    settings, peaks = record["settings"], phase["utilisation_of_peak"]
    rules = {rule["name"]: rule["measured"] for rule in phase["rules"]}
    valid = phase["valid"] is True
    if valid and phase["tokens_per_joule"] is None:
        raise NotUnderstood(f"its {name} is called valid and has no tokens_per_joule")
    if valid and not all(rule["ok"] for rule in phase["rules"]):
        raise NotUnderstood(f"its {name} is called valid and a rule of it is not kept")
    figures = {
        key: None if phase[key] is None else number(phase[key], f"{name}.{key}")
        for key in (
            "tokens_per_s",
            "power_w",
            "tokens_per_joule",
            "joules_per_token",
            "tokens_per_joule_net",
            "joules_per_token_net",
        )
    }
    return Entry(
        source=path,
        origin="llmval",
        cell=record["cell"],
        model=record["model"]["name"],
        mode=record["mode"],
        batch_size=record["batch_size"],
        sequence_length=record["sequence_length"],
        phase=name,
        machine=machine.id,
        how=f"{settings['attention_backend']}, {'compiled' if settings['compile'] else 'not compiled'}",
        valid=valid,
        status="valid" if valid else "no_energy" if record["status"] == "no_energy" else "invalid",
        reasons=list(phase["reasons"]),
        cv_percent=rules.get("cv_percent"),
        disagreement_percent=rules.get("disagreement_percent"),
        mfu=peaks["mfu"][0]["value"] if peaks["mfu"] else None,
        mbu=peaks["mbu"][0]["value"] if peaks["mbu"] else None,
        window_s=min(trial["window_s"] for trial in phase["trials"]),
        baseline_grade=phase["baseline_grade"],
        gpu_uuids=tuple(gpu["uuid"] for gpu in record["identity"]["gpus"]),
        **figures,
    )


def _machine(record: dict[str, Any]) -> Machine:
    identity = record["identity"]
    gpus = identity["gpus"]
    names = Counter(gpu["name"] for gpu in gpus)
    told = ", ".join(f"{count} × {name}" for name, count in names.items()) or f"no GPU ({identity['cpu']})"
    limits = [gpu["power_limit_w"] for gpu in gpus]
    shown = ", ".join(sorted({"unknown" if limit is None else f"{limit:g} W" for limit in limits}))
    everything = identity.get("host_gpu_uuids")  # absent from cells of earlier releases, null without NVML
    gpu_set = hashlib.sha256("\n".join(sorted(everything)).encode()).hexdigest()[:8] if everything else None
    host = f"{identity['host']} (GPU set {gpu_set})" if gpu_set else identity["host"]
    where = f"{host}: {told}" + (f" at {shown}" if gpus else "")
    return Machine(
        f"{where}, driver {identity['driver']}, torch {identity['torch']}",
        identity["host"],
        told,
        identity["driver"],
        limits,
        identity["torch"],
        record["ended_utc"][:10],
        gpu_set,
    )
