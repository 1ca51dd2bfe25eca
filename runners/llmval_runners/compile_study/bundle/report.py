"""The bug report: Markdown with the headings of PyTorch's issue template, made from the files of the bundle."""

import re
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.process.files import read_json

REPORT = "bug_report.md"
STACK_FRAMES = 14
VERSIONS_LIMIT = 20_000  # characters of collect_env; GitHub takes 65,536 in all


def report(layout: Layout, result: dict[str, Any]) -> str:
    """The text, for https://github.com/pytorch/pytorch/issues/new/choose."""
    run = read_json(layout.run) or {}
    lines = [f"# {_title(result)}", "", "### 🐛 Describe the bug", ""]
    lines += [f"{result['summary'][:1].upper()}{result['summary'][1:]}.", ""]
    lines += _workload(result)
    lines += [
        "",
        "To reproduce, run the attached `repro.py`, which needs torch only:",
        "",
        _fenced(run.get("standalone_command", ""), "bash"),
        "",
    ]
    lines += ["The exact command of this run:", "", _fenced(run.get("command", ""), "bash"), ""]
    verdict = result["verdict"]
    if verdict:
        lines += ["### Error logs", "", f"Classified as `{verdict['kind']}` because:", ""]
        lines += [f"- {reason}" for reason in verdict["reasons"]]
        lines += ["", *_stacks(layout, result)]
    for error in result["errors"]:
        lines += [
            "### Error logs",
            "",
            f"Rank {error['rank']}, in phase {error['phase']}:",
            "",
            _fenced(f"{error['type']}: {error['message']}", "text"),
            "",
        ]
    if result["ablation"]:
        lines += ["Ablation (each variant has a cold cache, except the warm one):", "", *_table(result["ablation"]), ""]
    lines += ["### Versions", "", _fenced(_versions(layout, result), "text"), ""]
    lines.append("Attached: `bundle.tar.gz` with stacks of every rank, flight recorder, per-rank logs, and `repro.py`.")
    return "\n".join(lines) + "\n"


def _title(result: dict[str, Any]) -> str:
    compiling, work = result["compile"], result["workload"]
    mode = f"{compiling['backend']}, {compiling['compile_mode']}"
    how = f"torch.compile ({mode}) on {work['tensor_parallel_gpus']}-way tensor parallelism"
    if result["verdict"] and result["outcome"] in ("hang", "timeout"):
        return f"{how} hangs: {result['verdict']['kind'].replace('_', ' ')}"
    return f"{how}: {result['outcome'].replace('_', ' ')}"


def _workload(result: dict[str, Any]) -> list[str]:
    work, eager, compiled = result["workload"], result["eager"], result["compiled"]
    lines = [
        f"- model: {work['model']}, {work['parameters'] / 1e9:.3g} B parameters, {work['dtype']}, {work['device']}",
        f"- prefill of {work['batch_size']} × {work['sequence_length']} tokens on {work['tensor_parallel_gpus']} ranks",
    ]
    if eager:
        lines.append(
            f"- eager: {eager['median_step_s'] * 1e3:.1f} ms a step (median), peak memory "
            f"{eager['peak_memory_bytes'] or 0:,} bytes"
        )
    if compiled:
        lines.append(
            f"- compiled ({compiled['compiled']}): {compiled['compile_s']:.1f} s to compile, "
            f"{compiled['median_step_s'] * 1e3:.1f} ms a step, "
            f"peak memory {compiled['peak_memory_bytes'] or 0:,} bytes, {compiled['graphs']} graphs, "
            f"{compiled['graph_breaks']} graph breaks, "
            f"{compiled['recompilations']} recompilations"
        )
        if compiled["fallback"]:
            lines.append(f"- {compiled['fallback']}")
    lines.append(
        f"- last phase of each rank: {', '.join(f'{rank}: {phase}' for rank, phase in result['last_phase'].items())}"
    )
    return lines


def _stacks(layout: Layout, result: dict[str, Any]) -> list[str]:
    same = ("reasons", "started_after_s", "recovered")
    number = next((s["stall"] for s in result["stalls"] if all(s[key] == result["verdict"][key] for key in same)), 1)
    evidence = read_json(layout.evidence(number)) or {"ranks": []}
    lines = []
    for item in evidence["ranks"][:8]:
        frames = [f"{f['function']} ({f['file']}:{f['line']})" for f in item["stack"]["main"][:STACK_FRAMES]]
        lines += [
            f"Rank {item['rank']}, main thread, innermost first, by {item['stack']['source']}:",
            "",
            _fenced("\n".join(frames) or "no stack", "text"),
            "",
        ]
    return lines


def _table(variants: list[dict[str, Any]]) -> list[str]:
    lines = ["| variant | outcome | compile, s | step, ms | verdict |", "|---|---|---|---|---|"]
    for item in variants:
        compile_s = "–" if item["compile_s"] is None else f"{item['compile_s']:.1f}"
        step = "–" if item["median_step_s"] is None else f"{item['median_step_s'] * 1e3:.1f}"
        lines.append(f"| {item['name']} | {item['outcome']} | {compile_s} | {step} | {item['verdict'] or '–'} |")
    return lines


def _versions(layout: Layout, result: dict[str, Any]) -> str:
    path = layout.root / "collect_env.txt"
    if path.is_file():
        return path.read_text(errors="replace").strip()[:VERSIONS_LIMIT]
    return "\n".join(f"{name}: {value}" for name, value in result["versions"].items())


def _fenced(text: str, language: str) -> str:
    """A code block. Its fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
