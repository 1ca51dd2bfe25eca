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
        _check_kinds(record)
        machine = _machine(record)
        rows = [_row(path, record, name, phase, machine) for name, phase in record["phases"].items()]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UnsupportedFile(f"it is a cell that lacks {error}") from error
    return rows, machine


def _check_kinds(record: dict[str, Any]) -> None:
    """Refuse a value of another kind than the sweep writes. Figures are checked where they are read."""
    identity = record["identity"]
    texts = [record[name] for name in ("cell", "mode", "ended_utc")] + [record["model"]["name"], identity["host"]]
    texts += [gpu[name] for gpu in identity["gpus"] for name in ("name", "uuid")]
    texts += [value for value in (identity["driver"], identity["torch"], identity["cpu"]) if value is not None]
    texts += [reason for phase in record["phases"].values() for reason in phase["reasons"]]
    texts += identity.get("host_gpu_uuids") or []
    whole = [record["batch_size"], record["sequence_length"]]
    flags = [phase[name] for phase in record["phases"].values() for name in ("valid", "baseline_grade")]
    for kind, values in ((str, texts), (int, whole), (bool, flags)):
        odd = next((value for value in values if type(value) is not kind), None)
        if odd is not None:
            raise UnsupportedFile(f"it is a cell that lacks a {kind.__name__} and has {str(odd)[:40]} in its place")


def _optional(value: Any, name: str) -> float | None:
    return None if value is None else number(value, name)


def _row(path: str, record: dict[str, Any], name: str, phase: dict[str, Any], machine: Machine) -> ResultRow:
    settings, peak_shares = record["settings"], phase["utilisation_of_peak"]
    rules = {
        rule["name"]: _optional(rule["measured"], rule["name"])
        for rule in phase["rules"]
        if rule["name"] in ("cv_percent", "disagreement_percent")
    }
    valid = phase["valid"] is True
    if valid and phase["tokens_per_joule"] is None:
        raise UnsupportedFile(f"its {name} is marked valid but has no tokens_per_joule")
    if valid and not all(rule["ok"] for rule in phase["rules"]):
        raise UnsupportedFile(f"its {name} is marked valid but breaks a rule")
    figures = {
        key: _optional(phase[key], f"{name}.{key}")
        for key in (
            "tokens_per_s",
            "power_w",
            "tokens_per_joule",
            "joules_per_token",
            "tokens_per_joule_net",
            "joules_per_token_net",
        )
    }
    if valid and any((figures[key] or 0) <= 0 for key in ("tokens_per_s", "tokens_per_joule")):
        raise UnsupportedFile(f"its {name} is marked valid but has a rate or efficiency that is not above 0")
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
        mfu=_optional(peak_shares["mfu"][0]["value"], "mfu") if peak_shares["mfu"] else None,
        mbu=_optional(peak_shares["mbu"][0]["value"], "mbu") if peak_shares["mbu"] else None,
        window_s=min(number(trial["window_s"], "window_s") for trial in phase["trials"]),
        baseline_grade=phase["baseline_grade"],
        gpu_uuids=tuple(gpu["uuid"] for gpu in record["identity"]["gpus"]),
        **figures,
    )


def _machine(record: dict[str, Any]) -> Machine:
    identity = record["identity"]
    gpus = identity["gpus"]
    names = Counter(gpu["name"] for gpu in gpus)
    gpu_text = ", ".join(f"{count} × {name}" for name, count in names.items()) or f"no GPU ({identity['cpu']})"
    limits = [_optional(gpu["power_limit_w"], "power_limit_w") for gpu in gpus]
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
