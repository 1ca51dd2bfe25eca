"""Studies side by side, as Markdown for docs/torch_compile_playbook.md. Every figure comes from their results."""

from pathlib import Path
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import read_json

_GIB = 1024**3
_COLUMNS = (
    "mode", "compiled", "cache", "compile, s", "step, ms", "eager, ms", "speed-up", "peak, GiB", "eager peak, GiB",
    "graphs", "breaks", "recompilations",
)  # fmt: skip
FASTER, SLOWER_PERCENT = 5.0, 3.0  # the goals of `smart` compared with the whole model


def table(folders: list[Path]) -> str:
    """A row for each study, with its own eager steps; and a comparison of `smart` with `default`.

    Raises:
        Refused: a folder has no result, a study has no figures, or the workloads differ.
    """
    studies = [_study(folder) for folder in folders]
    work = studies[0]["workload"]
    for folder, study in zip(folders, studies, strict=True):
        if study["workload"] != work or study["versions"]["torch"] != studies[0]["versions"]["torch"]:
            raise Refused(f"{folder} ran another workload or another torch than {folders[0]}: compare like with like.")
    devices = f"{work['tensor_parallel_gpus']} × {work['device_name']}"
    ran = f"{work['model']} ({work['weights']}, {work['dtype']}), one prefill"
    size = f"{work['batch_size']} × {work['sequence_length']} tokens on {devices}"
    when = f"torch {studies[0]['versions']['torch']}, {studies[0]['started_utc'][:10]}"
    lines = [
        f"{ran} of {size}, {when}. Medians of {work['steps']} steps, of the slowest rank.",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
    ]
    lines += [_row(study) for study in studies]
    return "\n".join(lines + _smart_comparison(studies)) + "\n"


def _study(folder: Path) -> dict[str, Any]:
    result = read_json(Layout(folder).result)
    if result is None or result.get("kind") != "compile_repro":
        raise Refused(f"{folder} has no result of a study: name the --output-dir of a study.")
    if result["injected"] is not None or result["compiled"] is None:
        raise Refused(f"{folder} has no figures of a compile to show: {result['summary']}.")
    return result


def _row(study: dict[str, Any]) -> str:
    compiled, how, eager = study["compiled"], study["compile"], study["eager"]
    cells = (
        how["compile_mode"] if how["backend"] == "inductor" else f"{how['compile_mode']}, {how['backend']}",
        compiled["compiled"] + (" (fell back)" if compiled["fallback"] else ""),
        how["cache"],
        f"{compiled['compile_s']:.1f}",
        f"{compiled['median_step_s'] * 1e3:.1f}",
        f"{eager['median_step_s'] * 1e3:.1f}" if eager else "–",
        f"{study['speed_up']:.2f}×" if study["speed_up"] else "–",
        _peak(compiled),
        _peak(eager) if eager else "–",
        compiled["graphs"],
        compiled["graph_breaks"],
        compiled["recompilations"],
    )
    return f"| {' | '.join(map(str, cells))} |"


def _peak(steps: dict[str, Any]) -> str:
    peak = steps["peak_memory_bytes"]
    return "not known" if peak is None else f"{peak / _GIB:.1f}"


def _smart_comparison(studies: list[dict[str, Any]]) -> list[str]:
    by_mode = {study["compile"]["compile_mode"]: study for study in studies}
    if not {"smart", "default"} <= by_mode.keys():
        return []
    smart, whole = by_mode["smart"], by_mode["default"]
    faster = whole["compiled"]["compile_s"] / max(smart["compiled"]["compile_s"], 1e-9)
    slower = 100 * (smart["compiled"]["median_step_s"] / whole["compiled"]["median_step_s"] - 1)
    reached = faster >= FASTER and slower <= SLOWER_PERCENT and smart["compiled"]["fallback"] is None
    cold = all(study["compile"]["cache"] == "cold" for study in (smart, whole))
    figures = f"`smart` compiles {faster:.1f} times as fast as the whole model, and its step takes {slower:+.1f} %."
    goal = f"Goal: at least {FASTER:g} times, at most +{SLOWER_PERCENT:g} %, from cold caches"
    return ["", f"{figures} {goal}: **{'reached' if reached and cold else 'not reached'}**."]
