"""The gates of a power sweep: every cell is valid or refused with a reason, and its origin is known."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.argv import value_of, values_of
from llmval_tui.actions.judges.power_cell import problems_of, read_cell
from llmval_tui.actions.section_runs import command_of
from llmval_tui.foundation.files import read_json, sha256_of
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs import artifact_snapshot
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

_BY_STATUS = {
    "valid": Outcome.PASS,
    "refused": Outcome.PASS,  # the machine cannot run it; the reason is the result
    "invalid": Outcome.INVALID,
    "no_energy": Outcome.INCONCLUSIVE,
    "failed": Outcome.FAIL,
}
_SETTINGS = {*("window_s", "warmup_s", "trials", "phases", "attention_backend", "compile", "device", "devices", "seed")}

_GPU = {"uuid", "power_limit_w"}


def judge_power_sweep(run: Run, artifact: Artifact) -> Judged:
    """Gates, metrics and a sentence for a sweep; `artifact` is its manifest."""
    manifest = _manifest(run.workspace / artifact.path)
    if manifest is None:
        reason = f"{artifact.path} is missing, or not in the format"
        gate = Gate("sweep", Outcome.INVALID, "not readable", "a sweep's manifest", reason)
        return [gate], {}, "no sweep to judge"
    folder = run.workspace / Path(artifact.path).parent
    cells: dict[str, dict[str, Any]] = {}
    gates = []
    for name in map(str, manifest["order"]):
        cell, problem = read_cell(folder / f"{name}.json")
        if cell is None:
            missing = not (folder / f"{name}.json").is_file()
            outcome = Outcome.INCONCLUSIVE if missing else Outcome.FAIL
            gates.append(_cell_gate(name, outcome, "missing" if missing else "not valid", problem))
            continue
        cells[name] = cell
        if (found := _status_gate(cell)) is not None:
            gates.append(found)
    counts = Counter(cell["status"] for cell in cells.values())
    counted = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"
    gates.insert(0, _some_valid(counts, counted))
    gates += [
        _as_asked(run, artifact, manifest, cells),
        _one_machine(run, manifest["identity"], cells),
        _measured_by(run, folder, list(cells)),
    ]
    return gates, _metrics(cells, counts), f"{len(cells)} of {len(manifest['order'])} cells: {counted}"


def _manifest(path: Path) -> dict[str, Any] | None:
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != "power_sweep":
        return None
    settings = value.get("settings")
    gpus = value["identity"].get("gpus") if isinstance(value.get("identity"), dict) else None
    whole = isinstance(value.get("order"), list) and isinstance(settings, dict) and settings.keys() >= _SETTINGS
    whole = whole and isinstance(gpus, list) and all(isinstance(gpu, dict) and gpu.keys() >= _GPU for gpu in gpus)
    return value if whole else None


def _cell_gate(name: str, outcome: Outcome, measured: str, reason: str) -> Gate:
    return Gate(f"cell {name}", outcome, measured, "valid, or refused with the reason", clean_line(reason))


def _status_gate(cell: dict[str, Any]) -> Gate | None:
    """None for a valid cell: eighteen gates that pass would hide the one that does not."""
    status = cell["status"]
    # Missing energy is the most important reason, but comes last in the file.
    ordered = sorted(cell["reasons"], key=lambda reason: "energy is not available" not in reason)
    reasons = "; ".join(ordered[:3])
    if status == "valid":
        problems = problems_of(cell)
        if not problems:
            return None
        return _cell_gate(cell["cell"], Outcome.INVALID, "claims to be valid", f"it is not: {'; '.join(problems[:3])}")
    return _cell_gate(cell["cell"], _BY_STATUS[status], status, reasons)


def _some_valid(counts: Counter[str], counted: str) -> Gate:
    good = counts["valid"] > 0
    reason = "" if good else "no cell has a valid figure for energy"
    return Gate("cells", Outcome.PASS if good else Outcome.INCONCLUSIVE, counted, "at least one valid cell", reason)


def _as_asked(run: Run, artifact: Artifact, manifest: dict[str, Any], cells: dict[str, dict[str, Any]]) -> Gate:
    """The manifest against the flags of the command, and the settings of each cell against the manifest."""
    words, settings = tuple(command_of(run, artifact).argv), manifest["settings"]
    asked, ran = _asked_cells(words), {str(name) for name in manifest["order"]}
    other = []
    if asked != ran:
        other.append(
            f"{len(asked - ran)} cells of the command are missing, {len(ran - asked)} cells are not in the command"
        )
    stated = {
        "window_s": value_of(words, "--window-s"),
        "warmup_s": value_of(words, "--warmup-s"),
        "trials": value_of(words, "--trials"),
    }
    other += [
        f"{name} {settings[name]:g} instead of {value}"
        for name, value in stated.items()
        if value is not None and float(settings[name]) != float(value)
    ]
    backend, device = value_of(words, "--attention-backend"), value_of(words, "--device")
    if backend is not None and settings["attention_backend"] != backend:
        other.append(f"attention {settings['attention_backend']} instead of {backend}")
    if device not in (None, "auto") and settings["device"] != device:
        other.append(f"device {settings['device']} instead of {device}")
    if settings["compile"] is ("--skip-compile" in words):
        other.append("compiled, which --skip-compile forbids" if settings["compile"] else "not compiled")
    other += _setting_mismatches(run, words, settings)
    other += [f"{name} has other settings than the sweep" for name in cells if cells[name]["settings"] != settings][:3]
    measured = "; ".join(other) or (
        f"{len(ran)} cells, windows of {settings['window_s']:g} s, {settings['trials']} a phase, "
        f"{settings['attention_backend']}, {'compiled' if settings['compile'] else 'not compiled'}"
    )
    return Gate("ran as asked", Outcome.FAIL if other else Outcome.PASS, measured, "it ran as the command asks")


def _setting_mismatches(run: Run, words: tuple[str, ...], settings: dict[str, Any]) -> list[str]:
    """The differences in phases, GPUs and seed between the command (or the runner's defaults) and the settings."""
    phases = values_of(words, "--phases") or ["prefill", "decode"]
    devices, on_gpu = values_of(words, "--devices"), settings["device"] == "cuda"
    planned = run.intent.params.get("gpu_indices")
    wanted: list[int] = [int(word) for word in dict.fromkeys(devices) if word.isdecimal()] or [0]
    if devices == ["all"]:
        wanted = list(range(len(planned or settings["devices"])))
    asked = {
        "phases": [phase for phase in ("prefill", "decode") if phase in phases],
        "devices": wanted if on_gpu else [],
        "seed": int(value_of(words, "--seed") or 0),
    }
    return [f"{name} {settings[name]} instead of {value}" for name, value in asked.items() if settings[name] != value]


def _asked_cells(words: tuple[str, ...]) -> set[str]:
    """The names of the cells in a command, with the runner's defaults for missing flags."""
    models = zip(
        *(values_of(words, f"--model-{name}") for name in ("layers", "d-model", "heads", "d-ff")), strict=False
    )
    batches, modes = values_of(words, "--batch-size") or ["1"], values_of(words, "--modes") or ["bf16"]
    length = value_of(words, "--sequence-length") or "4096"
    return {
        f"{layers}L-d{width}-h{heads}-ff{ff}-s{length}-b{batch}-{mode}"
        for (layers, width, heads, ff), batch, mode in product(models, batches, modes)
    }


def _one_machine(run: Run, identity: dict[str, Any], cells: dict[str, dict[str, Any]]) -> Gate:
    """The machine of the cells against the machine of the sweep, and that against the node of the run."""
    other = []
    for name, cell in cells.items():
        own, sweep = _machine(cell["identity"], cell["mode"]), _machine(identity, cell["mode"])
        other += [
            f"{name} was measured with {what} {own[what]} instead of {sweep[what]}"
            for what in own
            if None not in (own[what], sweep[what]) and own[what] != sweep[what]
        ]
    node, host = run.intent.host.get("name"), identity.get("host")
    if node and host and node != host:
        other.append(f"the sweep was measured on host {host}, the run on {node}")
    there = {gpu.get("uuid") for gpu in (run.intent.host.get("gpu") or {}).get("gpus") or ()} - {None}
    foreign = [uuid for gpu in identity["gpus"] if (uuid := str(gpu["uuid"])).startswith("GPU-") and uuid not in there]
    if there and foreign:  # a MIG instance is not in the node's list of GPUs
        other.append(f"the node of the run has no {', '.join(foreign)}")
    return Gate(
        "machine",
        Outcome.INVALID if other else Outcome.PASS,
        clean_line("; ".join(other[:3])) or f"{host}, {_machine(identity, '')['GPU'] or 'no GPU'}",
        "every cell measured on the machine of the run",
        "measure these cells again into another --output-dir" if other else "",
    )


def _machine(identity: dict[str, Any], mode: str) -> dict[str, Any]:
    """The same fields that the runner compares to resume cells; Transformer Engine only for modes that use it."""
    gpus = identity["gpus"]
    limits = [gpu["power_limit_w"] for gpu in gpus]
    found = {
        "GPU": ", ".join(str(gpu["uuid"]) for gpu in gpus) or None,
        "power limit": None if None in limits else ", ".join(f"{limit:g} W" for limit in limits) or None,
        "driver": identity.get("driver"),
        "torch": identity.get("torch"),
    }
    return found | ({"transformer_engine": identity.get("transformer_engine")} if mode == "fp8_te" else {})


def _measured_by(run: Run, folder: Path, names: list[str]) -> Gate:
    """The runs that measured the cells: this one, or an earlier one whose evidence has the same hash."""
    workspace = run.workspace.resolve()
    before = artifact_snapshot.read_snapshots(run).before or {}
    earlier: Counter[str] = Counter()
    unknown = []
    backed = _evidence_of_others(run)
    for name in names:
        path = (folder / f"{name}.json").resolve()
        relative = str(path.relative_to(workspace))
        if before.get(relative) != artifact_snapshot.file_identity(path):
            continue
        source = backed.get((relative, sha256_of(path)))
        earlier.update([source] if source else [])
        unknown += [] if source else [name]
    own = len(names) - earlier.total() - len(unknown)
    parts = [f"{own} by this run", *(f"{count} by run {source}" for source, count in sorted(earlier.items()))]
    return Gate(
        "measured by",
        Outcome.INCONCLUSIVE if unknown else Outcome.PASS,
        ", ".join(parts),
        "each cell by this run, or by an earlier run that it resumed",
        f"no run is on record for {', '.join(unknown[:3])}" if unknown else "",
    )


def _evidence_of_others(run: Run) -> dict[tuple[str, str], str]:
    """(Path, SHA-256) → the earlier run with that evidence, among runs of the same preset."""
    found: dict[tuple[str, str], str] = {}
    for other in RunStore(run.workspace).runs():
        verdict = other.verdict() if other.order < run.order and other.intent.preset == run.intent.preset else None
        for item in verdict.evidence if verdict else ():
            found.setdefault((item.path, item.sha256), other.id)
    return found


def _metrics(cells: dict[str, dict[str, Any]], counts: Counter[str]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {f"cells_{status}": float(counts[status]) for status in _BY_STATUS}
    rows = [
        (name, phase) for cell in cells.values() if cell["status"] == "valid" for name, phase in cell["phases"].items()
    ]
    for name in ("prefill", "decode"):
        mine = [phase for phase_name, phase in rows if phase_name == name]
        if mine:
            metrics[f"best_{name}_tokens_per_joule"] = max(phase["tokens_per_joule"] for phase in mine)
            metrics[f"best_{name}_tokens_per_s"] = max(phase["tokens_per_s"] for phase in mine)
    return metrics
