"""The validity of one cell of a power sweep, recomputed from its trials; the file's own "valid" is not trusted."""

import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from llmval_tui.actions.command.runner_catalog import POWER_CELL_SCHEMA
from llmval_tui.actions.gates.artifacts import schema_problem
from llmval_tui.foundation.files import read_json

MIN_WINDOW_S, MIN_WARMUP_S, MIN_TRIALS = 10.0, 5.0, 3
MAX_CV_PERCENT, MAX_DISAGREEMENT_PERCENT, MIN_UTILISATION_PERCENT = 2.0, 5.0, 70.0
_SLOWED = ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake")
_RELATIVE = 1e-6  # rounding error of doubles after a few divisions, with a large margin
_ENERGY_RELATIVE = 2e-3  # a GPU's own window differs from the trial's by less than one step of its energy counter


def read_cell(path: Path) -> tuple[dict[str, Any] | None, str]:
    """The record of a cell, or None and the reason."""
    if not path.is_file():
        return None, "it has no result: run the item again, which continues with the missing cells"
    problem = schema_problem(path, POWER_CELL_SCHEMA)
    if problem is not None:
        return None, f"its file is not valid: {problem}"
    value = read_json(path)
    return (value, "") if isinstance(value, dict) else (None, "its file is not the record of a cell")


def problems_of(cell: dict[str, Any]) -> list[str]:
    """The reasons why a cell that claims to be valid is not, by its own trials; [] if it is valid."""
    found = [] if cell["identity"]["gpus"] else ["it names no GPU"]
    if set(cell["phases"]) != set(wanted := cell["settings"]["phases"]):
        found.append(f"{' and '.join(cell['phases'])} measured, {' and '.join(wanted)} asked for")
    return found + [f"{name}: {problem}" for name in cell["phases"] for problem in phase_problems(cell, name)]


def phase_problems(cell: dict[str, Any], name: str) -> list[str]:
    """As `problems_of`, for one phase of a cell."""
    phase, gpus = cell["phases"][name], len(cell["identity"]["gpus"])
    trials = phase["trials"]
    found = [] if phase["valid"] is True else ["it does not claim to be valid"]
    step = cell["batch_size"] * (cell["sequence_length"] if name == "prefill" else 1) * gpus
    if phase["tokens_per_step"] != step:
        found.append(f"{phase['tokens_per_step']} tokens a step, its batch makes {step} on {gpus} GPUs")
    if len(trials) < MIN_TRIALS:
        found.append(f"{len(trials)} trials instead of at least {MIN_TRIALS}")
    if phase["warmup_s"] < MIN_WARMUP_S:
        found.append(f"a warm-up of {phase['warmup_s']:.3g} s instead of at least {MIN_WARMUP_S:g} s")
    for trial in trials:
        found += _trial_problems(trial, gpus) + _rate_problems(trial, phase["tokens_per_step"])
    for rate in ("tokens_per_s", "tokens_per_joule"):
        values = [trial[rate] for trial in trials if trial[rate] is not None]
        if (cv := cv_percent(values)) is not None and cv > MAX_CV_PERCENT:
            found.append(f"{rate} varies by {cv:.2f} %")
    if all(trial["energy_j"] for trial in trials):
        found += _sum_problems(phase, trials)
    else:
        found.append("a trial has no energy")
    return list(dict.fromkeys(found))


def _trial_problems(trial: dict[str, Any], gpus: int) -> list[str]:
    found = []
    if len(trial["gpus"]) != gpus:
        found.append(f"a trial reports {len(trial['gpus'])} GPUs instead of {gpus}")
    if trial["window_s"] < MIN_WINDOW_S:
        found.append(f"a window of {trial['window_s']:.3g} s instead of at least {MIN_WINDOW_S:g} s")
    for gpu in trial["gpus"]:
        energy, integrated = gpu["energy_j"], gpu["integrated_j"]
        if energy is None or integrated is None:
            found.append("the energy counter or its cross-check is missing")
        elif 100 * abs(energy - integrated) > MAX_DISAGREEMENT_PERCENT * energy * (1 + _RELATIVE):
            found.append(f"counter {energy:.4g} J and integrated power {integrated:.4g} J differ by more than 5 %")
        utilisation, throttling = gpu["utilisation_percent"], gpu["throttle_share"]
        if utilisation is None or utilisation <= MIN_UTILISATION_PERCENT:
            shown = "unknown" if utilisation is None else f"{utilisation:.0f} %"
            found.append(f"GPU utilisation {shown}")
        if throttling is None:
            found.append("throttling is unknown")
        elif slowed := [name for name in _SLOWED if throttling.get(name)]:
            found.append(f"the GPU throttled: {', '.join(slowed)}")
    return found


def _rate_problems(trial: dict[str, Any], tokens_per_step: int) -> list[str]:
    """The sums of a trial that differ from its steps and the counters of its GPUs."""
    tokens, energy, seconds = trial["tokens"], trial["energy_j"], trial["window_s"]
    counted = [(gpu["energy_j"], gpu["window_s"]) for gpu in trial["gpus"]]
    own = [
        ("tokens", tokens, trial["steps"] * tokens_per_step, _RELATIVE),
        ("tokens_per_s", trial["tokens_per_s"], tokens / seconds, _RELATIVE),
    ]
    if energy:
        own.append(("tokens_per_joule", trial["tokens_per_joule"], tokens / energy, _RELATIVE))
    if energy and all(joules and own_seconds for joules, own_seconds in counted):
        total = sum(joules / own_seconds for joules, own_seconds in counted) * seconds
        own.append(("energy_j", energy, total, _ENERGY_RELATIVE))
    return [
        f"a trial's {name} is {stated}, but its steps, window and counters give {value:.6g}"
        for name, stated, value, relative in own
        if stated is None or not math.isclose(stated, value, rel_tol=relative)
    ]


def _sum_problems(phase: dict[str, Any], trials: list[dict[str, Any]]) -> list[str]:
    tokens, energy = sum(trial["tokens"] for trial in trials), sum(trial["energy_j"] for trial in trials)
    own = {
        "tokens_per_s": fmean(trial["tokens"] / trial["window_s"] for trial in trials),
        "tokens_per_joule": tokens / energy,
        "joules_per_token": energy / tokens if tokens else math.inf,
        "power_w": energy / sum(trial["window_s"] for trial in trials),
    }
    return [
        f"{name} is {phase[name]}, but its trials give {value:.6g}"
        for name, value in own.items()
        if phase[name] is None or not math.isclose(phase[name], value, rel_tol=_RELATIVE)
    ]


def cv_percent(values: list[float]) -> float | None:
    """Coefficient of variation in per cent (sample standard deviation / mean); None for fewer than two values."""
    if len(values) < 2 or not fmean(values):
        return None
    return 100 * stdev(values) / fmean(values)
