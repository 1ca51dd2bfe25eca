"""The last screen of a compile study, from its result."""

from collections.abc import Mapping
from typing import Any

from llmval_runners.compile_study.bundle import finish
from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.process.errors import FAILED_EXIT, UNDECIDED_EXIT
from llmval_runners.process.screen import Screen, figure, gib, plural
from llmval_runners.process.verdict import Verdict

_WORDS = {
    finish.DID_NOT_REPRODUCE: "ok", finish.HANG: "hang", finish.TIMEOUT: "timeout", finish.FAILED: "failed",
    finish.INTERRUPTED: "ended early",
}  # fmt: skip


def verdict_of(result: Mapping[str, Any]) -> Verdict:
    """Failed, too, if a model's logits are not finite."""
    outcome, summary = result["outcome"], str(result["summary"])
    code = UNDECIDED_EXIT if outcome == finish.INTERRUPTED else finish.EXIT[outcome]
    if outcome == finish.DID_NOT_REPRODUCE and (wrong := finish.not_finite(dict(result))):
        return Verdict("failed", wrong, FAILED_EXIT)
    word = _WORDS[outcome]
    return Verdict(word, summary.removeprefix(f"{word}: "), code)


def last_screen(result: Mapping[str, Any], verdict: Verdict, layout: Layout) -> str:
    """The screen, at most 80 columns wide."""
    screen, work = Screen(str(verdict)), result["workload"]
    tokens = work["sequence_length"] * work["batch_size"]
    phases = [(name, result[name]) for name in ("eager", "compiled") if result[name]]
    screen.table(
        "prefill",
        ("ms a step", "in tokens/s", "first, s", "peak memory"),
        [
            (
                name,
                [
                    figure(1e3 * phase["median_step_s"]),
                    figure(tokens / phase["median_step_s"], 0),
                    figure(phase["first_call_s"]),
                    gib(phase["peak_memory_bytes"]),
                ],
            )
            for name, phase in phases
        ],
    )
    if compiled := result["compiled"]:
        worth = {True: "worth it", False: "not worth it", None: None}[result["worth_it"]]
        speed = result["speed_up"]
        screen.row("speed-up", f"{speed:.2f}× of eager" if speed else "n/a (no eager run)", worth)
        screen.row(
            "compiling",
            f"{compiled['compile_s']:.1f} s",
            plural(compiled["graphs"], "graph"),
            plural(compiled["graph_breaks"], "graph break"),
            plural(compiled["recompilations"], "recompilation"),
            f"cache {result['compile']['cache']}",
        )
        difference = compiled["difference_to_eager"]
        if difference and difference["max_relative"] is not None:
            same = difference["same_best_token"]
            screen.row(
                "against eager",
                f"largest relative difference {difference['max_relative']:.2g}",
                None if same is None else f"same best token {100 * same:.1f} %",
            )
    if stall := result["verdict"]:
        screen.row(
            "stalled", stall["kind"], f"rank {', '.join(map(str, stall['ranks'])) or 'not named'}", stall["operation"]
        )
    if not phases:
        screen.row("last phase", *[f"rank {rank}: {phase}" for rank, phase in result["last_phase"].items()])
    for note in result["notes"]:
        screen.row("note", note)
    screen.row(
        "ran",
        f"{work['model']}, {work['dtype']}, {work['batch_size']} × {work['sequence_length']:,} tokens",
        f"{result['compile']['backend']}, mode {result['compile']['compile_mode']}",
        f"{plural(work['tensor_parallel_gpus'], 'rank')} on {work['device_name']}",
    )
    screen.row("record", str(layout.result))
    screen.row("bundle", str(layout.archive))
    return screen.text()
