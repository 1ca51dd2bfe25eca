"""The gates of a compile study: its finding, whether it is evidence, and the comparison of two studies.

Two findings answer the question, and both pass: "did not reproduce here" with figures of the compiled model, and a hang
with a bundle that names kind and rank. A study that runs out of time without a stall was slow or endless. Nobody can
tell which, so it is inconclusive. An injected hang is never evidence.
"""

from pathlib import PurePosixPath
from typing import Any

from llmval_tui.actions.api import Judged
from llmval_tui.actions.command.argv import value_of
from llmval_tui.actions.command.runner_catalog import ARCHIVE, COMPILE_SCHEMA
from llmval_tui.actions.gates.artifacts import read_valid, unreadable
from llmval_tui.actions.judges.compile_bundle import packed
from llmval_tui.actions.section_runs import command_of
from llmval_tui.foundation.text import GIB, clean_line
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run

DID_NOT_REPRODUCE, HANG, TIMEOUT = "did_not_reproduce", "hang", "timeout"
_NOTHING_COMPILED = "nothing"  # `compiled.compiled` begins with it if only eager was left
_STALLED_IN = "compil"  # the phases from the first compiled call on: "compile", "compiled warm-up", "compiled"


def read_study(run: Run, artifact: Artifact) -> dict[str, Any] | None:
    """The result of a study; None if it is missing or not in the format."""
    return read_valid(run.workspace / artifact.path, COMPILE_SCHEMA)


def judge_compile_study(run: Run, artifact: Artifact) -> Judged:
    """Gates, metrics and a sentence for one study."""
    result = read_study(run, artifact)
    if result is None:
        return [unreadable(artifact, "result", "a compile study's result")], {}, "no result"
    gates = [
        _not_injected(result),
        _answer(result),
        _compiled(result),
        _finite(result),
        _exit_agrees(run, artifact, result),
        _bundle(run, artifact, result),
        _as_asked(run, artifact, result),
    ]
    return gates, metrics_of(result), finding(result)


def finding(result: dict[str, Any]) -> str:
    """The finding of the study in one sentence."""
    verdict = result["verdict"]
    if result["outcome"] == HANG and verdict:
        return f"reproduced: {_where(verdict)}"
    return clean_line(str(result["summary"]))


def metrics_of(result: dict[str, Any]) -> dict[str, float | None]:
    """The figures of a study, by name with unit; a missing figure is None."""
    eager, compiled = result["eager"] or {}, result["compiled"] or {}
    difference = compiled.get("difference_to_eager") or {}
    values: dict[str, Any] = {
        "compile_s": compiled.get("compile_s"),
        "eager_step_ms": _times(eager.get("median_step_s"), 1e3),
        "compiled_step_ms": _times(compiled.get("median_step_s"), 1e3),
        "speed_up": result["speed_up"],
        "eager_peak_memory_gib": _times(eager.get("peak_memory_bytes"), 1 / GIB),
        "compiled_peak_memory_gib": _times(compiled.get("peak_memory_bytes"), 1 / GIB),
        "graph_breaks": compiled.get("graph_breaks"),
        "recompilations": compiled.get("recompilations"),
        "same_best_token_share": difference.get("same_best_token"),
    }
    return {name: None if value is None else float(value) for name, value in values.items()}


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _where(verdict: dict[str, Any]) -> str:
    ranks = ", ".join(map(str, verdict["ranks"]))
    what = f"{verdict['kind']}, rank {ranks}" if ranks else f"{verdict['kind']}, no rank named"
    return clean_line(f"{what}, {verdict['operation']}" if verdict["operation"] else what)


def _not_injected(result: dict[str, Any]) -> Gate:
    injected, bound = result["injected"], "no injected hang"
    if injected is None:
        return Gate("not injected", Outcome.PASS, "none", bound)
    return Gate("not injected", Outcome.INVALID, str(injected), bound, "an injected hang is not evidence")


def _answer(result: dict[str, Any]) -> Gate:
    name, bound = "answer", "a hang with kind and rank, or “did not reproduce here” with figures"
    outcome, verdict, summary = result["outcome"], result["verdict"], clean_line(str(result["summary"]))
    if outcome == DID_NOT_REPRODUCE:
        return Gate(name, Outcome.PASS, summary, bound)
    if outcome == HANG:
        if verdict is None:
            return Gate(name, Outcome.INCONCLUSIVE, summary, bound, "it hung at an unknown location")
        if not any(str(phase).startswith(_STALLED_IN) for phase in result["last_phase"].values()):
            reason = "it hung before anything was compiled, so it was not torch.compile that hung"
            return Gate(name, Outcome.INCONCLUSIVE, finding(result), bound, reason)
        return Gate(name, Outcome.PASS, finding(result), bound, clean_line("; ".join(verdict["reasons"][:2])))
    if outcome == TIMEOUT:
        reason = "it made progress until --timeout, so it was slow or endless: pass a longer --timeout"
        return Gate(name, Outcome.INCONCLUSIVE, summary, bound, reason)
    if outcome == "interrupted":
        return Gate(name, Outcome.INCONCLUSIVE, summary, bound, "it did not run to its end")
    return Gate(name, Outcome.FAIL, summary, bound, "the study failed: see its logs")


def _compiled(result: dict[str, Any]) -> Gate:
    name, bound = "compiled", "a compiled step was timed, as the command asks"
    compiled = result["compiled"]
    if result["outcome"] != DID_NOT_REPRODUCE:
        return Gate(name, Outcome.PASS, "not reached", bound)
    if compiled is None:
        if result["compile"]["skip_compile"]:
            return Gate(name, Outcome.PASS, "eager only, as --skip-compile asks", bound)
        return Gate(name, Outcome.INCONCLUSIVE, "nothing", bound, "no compiled step was timed")
    if str(compiled["compiled"]).startswith(_NOTHING_COMPILED):
        return Gate(name, Outcome.INCONCLUSIVE, "nothing", bound, clean_line(str(compiled["fallback"])))
    return Gate(name, Outcome.PASS, str(compiled["compiled"]), bound, clean_line(str(compiled["fallback"] or "")))


def _finite(result: dict[str, Any]) -> Gate:
    """The runner accepts NaN logits, but a step that computes NaN proves nothing, however fast it is."""
    name, bound = "logits finite", "no logit is NaN or infinite"
    difference = (result["compiled"] or {}).get("difference_to_eager")
    if difference is None:
        return Gate(name, Outcome.PASS, "not compared", bound)
    if not difference.get("eager_finite", True):
        reason = "the logits of the eager model are not finite, so the model or its weights are broken"
        return Gate(name, Outcome.FAIL, "not in the eager model", bound, reason)
    if not difference.get("finite", True):
        reason = "the compiled model computes NaN or infinite logits, the eager one does not"
        return Gate(name, Outcome.FAIL, "not in the compiled model", bound, reason)
    return Gate(name, Outcome.PASS, "yes", bound)


def _exit_agrees(run: Run, artifact: Artifact, result: dict[str, Any]) -> Gate:
    """One program writes the exit code and the result, so they must agree."""
    label = command_of(run, artifact).label
    code = next((item.exit_code for item in run.status().commands if item.label == label), None)
    allowed = {0: (DID_NOT_REPRODUCE,), 3: (HANG, TIMEOUT)}.get(code) if code is not None else None
    agrees = allowed is None or result["outcome"] in allowed
    return Gate(
        "exit and result agree",
        Outcome.PASS if agrees else Outcome.INVALID,
        f"exit {'unknown' if code is None else code}, {result['outcome']}",
        "0 with no hang, 3 with a hang or out of time",
        "" if agrees else "the result belongs to another run, or the runner contradicts itself",
    )


def _bundle(run: Run, artifact: Artifact, result: dict[str, Any]) -> Gate:
    folder = PurePosixPath(artifact.path).parent
    found = packed(run.workspace / folder)
    bound = "an archive that agrees with its manifest"
    problem = found.problem
    if not problem and result["outcome"] in (HANG, TIMEOUT) and not any(n.startswith("stacks/") for n in found.files):
        problem = "it contains no stacks, so nothing shows where it hung"
    measured = f"{len(found.files)} files, {ARCHIVE} SHA-256 {found.sha256[:12]}" if found.sha256 else "none"
    return Gate("bundle", Outcome.FAIL if problem else Outcome.PASS, measured, bound, problem)


def _as_asked(run: Run, artifact: Artifact, result: dict[str, Any]) -> Gate:
    words = tuple(command_of(run, artifact).argv)
    ran = {**result["workload"], **result["compile"]}
    asked = {
        name: value_of(words, f"--{name.replace('_', '-')}")
        for name in (
            "model", "sequence_length", "batch_size", "tensor_parallel_gpus", "steps", "device", "compile_mode",
            "backend",
        )
    }  # fmt: skip
    stated = {name: value for name, value in asked.items() if value not in (None, "auto")}
    if checkpoint := value_of(words, "--checkpoint"):
        stated["weights"] = checkpoint
    other = [f"{name} {ran.get(name)} instead of {value}" for name, value in stated.items() if str(ran[name]) != value]
    measured = "; ".join(other) or ", ".join(f"{name} {ran[name]}" for name in stated)
    return Gate("ran as asked", Outcome.FAIL if other else Outcome.PASS, measured, "it ran as the command asks")


def side_by_side(flags: str, one: dict[str, Any], other: dict[str, Any]) -> Judged:
    """Compare two studies, `one` with the flags and `other` without, and judge whether they are comparable."""
    differing = [
        f"{name} {one['workload'].get(name)} against {other['workload'].get(name)}"
        for name in sorted(one["workload"].keys() | other["workload"].keys())
        if one["workload"].get(name) != other["workload"].get(name)
    ]
    if one["versions"]["torch"] != other["versions"]["torch"]:
        differing.append(f"torch {one['versions']['torch']} against {other['versions']['torch']}")
    same = Gate(
        "same workload",
        Outcome.INVALID if differing else Outcome.PASS,
        "; ".join(differing) or "yes",
        "both studies ran the same on the same machine",
        "a difference may come from the workload" if differing else "",
    )
    left, right = metrics_of(one), metrics_of(other)
    ratios = {f"{name}_ratio": _ratio(left[name], right[name]) for name in _COMPARED}
    rows = [
        f"{title} {_show(left[name], unit)} against {_show(right[name], unit)}"
        for name, (title, unit) in _COMPARED.items()
    ]
    text = f"with {flags} against without: {', '.join(rows)}"
    return [same, Gate("side by side", Outcome.PASS, text, "recorded, not judged")], ratios, text


_COMPARED = {
    "compile_s": ("compile", "s"),
    "compiled_step_ms": ("compiled step", "ms"),
    "speed_up": ("speed-up over eager", "×"),
    "compiled_peak_memory_gib": ("peak memory", "GiB"),
}


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _show(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown"
    return f"{value:.2f}×" if unit == "×" else f"{value:.4g} {unit}"
