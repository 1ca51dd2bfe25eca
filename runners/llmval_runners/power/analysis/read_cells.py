"""Reads a cell of `precision_power_sweep.py` (`docs/schemas/power_cell.schema.json`)."""

import hashlib
from collections import Counter
from typing import Any

from llmval_runners.power.analysis.record import Machine, ResultRow, UnsupportedFile, number

SCHEMA = 1
STATUSES = ("valid", "invalid", "no_energy", "refused", "failed")


def read_cell(path: str, record: dict[str, Any]) -> tuple[list[ResultRow], Machine]:
    """One row per phase, and the machine. A refused or failed cell has no phases.

    Raises:
        UnsupportedFile: the record has another schema, or lacks a required value.
    """
    if record.get("schema") != SCHEMA:
        raise UnsupportedFile(
            f"it is a cell of schema {record.get('schema')!r}, but this analyzer reads schema {SCHEMA}"
        )
    if record.get("status") not in STATUSES:
        raise UnsupportedFile(f"its status is {record.get('status')!r}, which is not one of {', '.join(STATUSES)}")
    try:
        machine = _machine(record)
        rows = [_row(path, record, name, phase, machine) for name, phase in record["phases"].items()]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UnsupportedFile(f"it is a cell that lacks {error}") from error
    return rows, machine


def _row(path: str, record: dict[str, Any], name: str, phase: dict[str, Any], machine: Machine) -> ResultRow:
    settings, peak_shares = record["settings"], phase["utilisation_of_peak"]
    rules = {rule["name"]: rule["measured"] for rule in phase["rules"]}
    valid = phase["valid"] is True
    if valid and phase["tokens_per_joule"] is None:
        raise UnsupportedFile(f"its {name} is marked valid but has no tokens_per_joule")
    if valid and not all(rule["ok"] for rule in phase["rules"]):
        raise UnsupportedFile(f"its {name} is marked valid but breaks a rule")
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
    return ResultRow(
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
        mfu=peak_shares["mfu"][0]["value"] if peak_shares["mfu"] else None,
        mbu=peak_shares["mbu"][0]["value"] if peak_shares["mbu"] else None,
        window_s=min(trial["window_s"] for trial in phase["trials"]),
        baseline_grade=phase["baseline_grade"],
        gpu_uuids=tuple(gpu["uuid"] for gpu in record["identity"]["gpus"]),
        **figures,
    )


def _machine(record: dict[str, Any]) -> Machine:
    identity = record["identity"]
    gpus = identity["gpus"]
    names = Counter(gpu["name"] for gpu in gpus)
    gpu_text = ", ".join(f"{count} × {name}" for name, count in names.items()) or f"no GPU ({identity['cpu']})"
    limits = [gpu["power_limit_w"] for gpu in gpus]
    limit_text = ", ".join(sorted({"unknown" if limit is None else f"{limit:g} W" for limit in limits}))
    host_gpus = identity.get("host_gpu_uuids")  # absent in cells of earlier releases, null without NVML
    gpu_set = hashlib.sha256("\n".join(sorted(host_gpus)).encode()).hexdigest()[:8] if host_gpus else None
    host = f"{identity['host']} (GPU set {gpu_set})" if gpu_set else identity["host"]
    label = f"{host}: {gpu_text}" + (f" at {limit_text}" if gpus else "")
    driver = f", driver {identity['driver']}" if identity["driver"] else ""
    return Machine(
        f"{label}{driver}, torch {identity['torch']}",
        identity["host"],
        gpu_text,
        identity["driver"],
        limits,
        identity["torch"],
        record["ended_utc"][:10],
        gpu_set,
    )
