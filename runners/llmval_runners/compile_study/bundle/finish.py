"""The result of a study: outcome, figures and a summary, from the files in its folder.

It reads only files, so the watchdog can write the result too if the runner was killed.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmval_runners.compile_study.bundle.layout import ARCHIVE, MANIFEST, PARTIAL, Layout
from llmval_runners.process.files import read_json, write_json

DID_NOT_REPRODUCE, HANG, TIMEOUT, FAILED, INTERRUPTED = "did_not_reproduce", "hang", "timeout", "failed", "interrupted"
EXIT = {DID_NOT_REPRODUCE: 0, HANG: 3, TIMEOUT: 3, FAILED: 1, INTERRUPTED: 1}
WORTH_IT_PERCENT = 5.0  # a smaller gain is not worth the compile (docs/torch_compile_playbook.md)


def write_result(
    layout: Layout, *, signal_number: int | None = None, notes: list[str] | None = None, gone: bool = False
) -> dict[str, Any]:
    """Write and return `result.json`. `gone`: runner and watchdog were killed, so an incomplete run did not fail."""
    run = read_json(layout.run) or {}
    stalls = (read_json(layout.stalls) or {}).get("stalls", [])
    ending, codes = read_json(layout.ending), read_json(layout.exit_codes) or {}
    ranks = [figures for rank in range(run["ranks"]) if (figures := read_json(layout.figures(rank))) is not None]
    beats = {rank: beat for rank in range(run["ranks"]) if (beat := read_json(layout.beat(rank))) is not None}
    errors = [error for rank in range(run["ranks"]) if (error := read_json(layout.error(rank))) is not None]
    done = len(beats) == run["ranks"] and all(beat["phase"] == "done" for beat in beats.values())
    outcome = _outcome(done, ending, stalls, interrupted=gone or signal_number is not None)
    eager, compiled = _phase(ranks, "eager"), _phase(ranks, "compiled")
    # The verdict is that of the first stall that did not recover. A stall that recovered was only slow.
    verdict = next((stall for stall in stalls if not stall["recovered"]), None)
    result = {
        "v": 1,
        "kind": "compile_repro",
        "outcome": outcome,
        "summary": "",
        "started_utc": run["started_utc"],
        "duration_s": round(time.monotonic() - run["started_mono_s"], 3) if run.get("boot_id") == boot_id() else None,
        "workload": run["workload"],
        "compile": {key: run["options"][key] for key in ("compile_mode", "backend", "skip_compile", "skip_eager")}
        | {
            "compiled": compiled and compiled["compiled"],
            "fallback": compiled and compiled["fallback"],
            "cache": "kept, may be warm" if run["keep_cache"] else "cold",
        },
        "eager": eager
        and {
            key: eager[key]
            for key in ("step_s", "median_step_s", "first_call_s", "peak_memory_bytes", "peak_memory_source")
        },
        "compiled": compiled,
        "speed_up": eager["median_step_s"] / compiled["median_step_s"] if eager and compiled else None,
        "worth_it": None,
        "verdict": verdict and {key: verdict[key] for key in _VERDICT_KEYS},
        "stalls": stalls,
        "ended_by": ending and ending["why"],
        "signal": signal_number,
        "last_phase": {str(rank): beat["phase"] for rank, beat in sorted(beats.items())},
        "errors": errors,
        "rank_exit_codes": codes.get("ranks", {}),
        "first_failure": codes.get("first_failure"),
        "injected": run["options"].get("inject_hang"),
        "ablation": _ablation(layout),
        "notes": [*(notes or []), *run.get("notes", [])],
        "versions": run["versions"],
        "files": sorted(
            {p.name for p in layout.root.iterdir() if p.is_file() and p.name != PARTIAL and p.name[0] != "."}
            | {ARCHIVE, MANIFEST, layout.result.name}
        ),
    }
    if result["speed_up"] is not None:
        result["worth_it"] = 100 * (result["speed_up"] - 1) >= WORTH_IT_PERCENT and not not_finite(result)
    result["summary"] = sentence(result)
    json.dumps(result, allow_nan=False)
    write_json(layout.result, result, indent=1)
    return result


_VERDICT_KEYS = (
    "kind",
    "ranks",
    "operation",
    "reasons",
    "findings",
    "started_after_s",
    "verdict_after_s",
    "stack_sources",
    "recovered",
)


def sentence(result: dict[str, Any]) -> str:
    """The result in one line."""
    outcome, verdict = result["outcome"], result["verdict"]
    if outcome in (HANG, TIMEOUT) and verdict:
        ranks = ", ".join(map(str, verdict["ranks"])) or "none named"
        what = f"{verdict['kind']}, rank {ranks}" + (f", {verdict['operation']}" if verdict["operation"] else "")
        return ("hang: " if outcome == HANG else "not finished in time: ") + what
    if outcome == FAILED:
        first, how = min(result["errors"], key=lambda error: error["t_ns"], default=None), result["first_failure"]
        if first is not None:
            what = f"{first['type']}: {headline(first['message'], 200)}"
            return f"failed: rank {first['rank']} in phase {first['phase']}: {what}"
        return (
            f"failed: rank {how['rank']}: {how['how']}"
            if how
            else "failed: the ranks ended without a result; see logs/"
        )
    if outcome == INTERRUPTED:
        by = "its runner and its watchdog were killed" if result["signal"] is None else f"by signal {result['signal']}"
        return f"interrupted, {by}: the figures measured before are kept"
    if result["compiled"] is None and result["eager"] is None:
        return "did not reproduce here: no figures"
    if result["compiled"] is None:
        return f"did not reproduce here: eager only, {result['eager']['median_step_s'] * 1e3:.1f} ms a step"
    compiled = result["compiled"]
    speed = f", {result['speed_up']:.2f}× of eager" if result["speed_up"] else ""
    return (
        f"did not reproduce here: compiled in {compiled['compile_s']:.1f} s, "
        f"{compiled['median_step_s'] * 1e3:.1f} ms a step{speed}, "
        f"{compiled['graph_breaks']} graph breaks, {compiled['recompilations']} recompilations"
        + (f"; fell back to {compiled['compiled']}" if compiled["fallback"] else "")
        + (f"; {wrong}" if (wrong := not_finite(result)) else "")
    )


def headline(message: str, limit: int) -> str:
    """The first line that is not empty; if it ends in a colon, as Dynamo's do, with the next line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no message"]
    return (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])[:limit]


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _outcome(done: bool, ending: dict[str, Any] | None, stalls: list[dict[str, Any]], *, interrupted: bool) -> str:
    if ending is not None:
        stalled = any(stall["why"] == "stalled" and not stall["recovered"] for stall in stalls)
        return HANG if ending["why"] == "stalled" or stalled else TIMEOUT
    if done:
        return DID_NOT_REPRODUCE
    return INTERRUPTED if interrupted else FAILED


def _phase(ranks: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """Merge the ranks that ran this phase: times of the slowest rank in each step, counts of the worst rank."""
    found = [figures["phases"][name] for figures in ranks if name in figures["phases"]]
    if not found:
        return None
    steps = [max(times) for times in zip(*(item["step_s"] for item in found), strict=False)]
    memory = [item["peak_memory"]["bytes"] for item in found if item["peak_memory"]["bytes"] is not None]
    merged = {
        "step_s": steps,
        "median_step_s": statistics.median(steps),
        "first_call_s": max(item["first_call_s"] for item in found),
        "peak_memory_bytes": max(memory) if memory else None,
        "peak_memory_source": found[0]["peak_memory"]["source"] + ", the largest of the ranks",
    }
    if name == "eager":
        return merged
    worst = max(found, key=lambda item: item["at_end"]["graph_breaks"])
    most = max(found, key=lambda item: item["at_end"]["recompilations"])
    differences = [item["difference"] for item in found if item["difference"] is not None]
    return merged | {
        "compiled": found[0]["compiled"],
        "fallback": found[0]["fallback"],
        "compile_s": max(item["compile_s"] for item in found),
        "import_s": max(item["import_s"] for item in found),
        "graphs": max(item["at_end"]["graphs"] for item in found),
        "graph_breaks": worst["at_end"]["graph_breaks"],
        "graph_break_reasons": worst["at_end"]["graph_break_reasons"],
        "recompilations": most["at_end"]["recompilations"],
        "recompilation_reasons": most["at_end"]["recompilation_reasons"],
        "cache_hits": sum(item["at_first_call"]["cache_hits"] for item in found),
        "cache_misses": sum(item["at_first_call"]["cache_misses"] for item in found),
        "difference_to_eager": _worst(differences) if differences else None,
    }


def _worst(differences: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst of all ranks. A figure is null if any rank has none, because its logits are not finite."""

    def of(worst: Callable[[list[float]], float], name: str) -> float | None:
        values = [item[name] for item in differences]
        return None if None in values else worst(values)

    return {
        "max_abs": of(max, "max_abs"),
        "max_relative": of(max, "max_relative"),
        "same_best_token": of(min, "same_best_token"),
        # Earlier studies did not record these two. They had finite logits, or they would not have finished.
        "finite": all(item.get("finite", True) for item in differences),
        "eager_finite": all(item.get("eager_finite", True) for item in differences),
    }


def not_finite(result: dict[str, Any]) -> str:
    """Says which logits are NaN or infinite; "" if none are, or none were compared."""
    difference = (result["compiled"] or {}).get("difference_to_eager") or {}
    if not difference.get("eager_finite", True):
        return "the eager model's logits are NaN or infinite"
    return "" if difference.get("finite", True) else "compiled logits are NaN or infinite, but eager ones are not"


def _ablation(layout: Layout) -> list[dict[str, Any]]:
    value = read_json(layout.root / "ablation.json")
    return value["variants"] if value else []
