"""Renders a report as HTML, Markdown or JSON."""

from collections.abc import Mapping
from typing import Any

from llmval_tui.foundation.files import to_json
from llmval_tui.report.blocks import Block
from llmval_tui.report.downsample import Summary
from llmval_tui.report.facts import ReportFacts, RunFacts
from llmval_tui.report.first_screen import first_screen, title_of
from llmval_tui.report.pages.html_page import html_page
from llmval_tui.report.pages.markdown_page import markdown_page
from llmval_tui.report.recording import Recording, Track
from llmval_tui.report.run_section import run_section
from llmval_tui.report.summary import summary_blocks

KIND = "llmval_report"


def render(facts: ReportFacts, form: str) -> str:
    """The report as `html`, `md`, `json`, `junit` or `prometheus`."""
    if form == "junit":
        from llmval_tui.report.junit import junit

        return junit(facts)
    if form == "prometheus":
        from llmval_tui.report.prometheus import prometheus

        return prometheus(facts)
    if form == "json":
        return to_json(as_json(facts), indent=True).decode()
    blocks: list[Block] = first_screen(facts) + summary_blocks(facts)
    for number, run in enumerate(facts.runs):
        blocks += run_section(run, number, with_node=bool(facts.differences))
    return html_page(title_of(facts), blocks) if form == "html" else markdown_page(blocks)


def as_json(facts: ReportFacts) -> dict[str, Any]:
    """The facts by `docs/schemas/report.schema.json`. Telemetry is summarised: its samples stay in the run folders."""
    return {
        "kind": KIND,
        "v": 1,
        "made_utc": facts.made_utc,
        "workspace": ", ".join(facts.origins),
        "checklist": None if facts.checklist is None else str(facts.checklist.path),
        "steps": [item.as_json() | {"deviation": item.step.deviation} for item in facts.steps],
        "differing": facts.differences,
        "unreadable": facts.unreadable,
        "runs": [_run(run) for run in facts.runs],
    }


def _run(run: RunFacts) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "state": run.state.value,
        "intent": run.intent,
        "status": run.status,
        "verdict": run.verdict,
        "artifacts": run.artifacts,
        "figures": [one.as_json() for one in run.figures],
        "phases": run.timeline.phases,
        "warnings": run.timeline.problems,
        "telemetry": _telemetry(run.recording),
    }


def _telemetry(recording: Recording) -> dict[str, Any]:
    def summaries(tracks: Mapping[str, Track]) -> dict[str, Any]:
        return {
            name: {
                "unit": track.reading.unit,
                "whole_run": _summary(track.series.summary),
                "measured": _summary(track.measured),
            }
            for name, track in tracks.items()
        }

    return {
        "samples": recording.samples,
        "start_s": recording.start_s,
        "end_s": recording.end_s,
        "gaps_s": [list(gap) for gap in recording.gaps],
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "lower_clock_reasons": gpu.throttled,
                "readings": summaries(gpu.tracks),
            }
            for gpu in sorted(recording.gpus.values(), key=lambda gpu: gpu.index)
        ],
        "host": summaries(recording.host),
        # Of a run against a server: what it publishes itself.
        "engine": {"readings": summaries(recording.engine), "window": recording.engine_window},
        "notes": recording.notes,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    return {
        "samples": summary.count,
        "without_value": summary.missing,
        "least": summary.low,
        "mean": summary.mean,
        "greatest": summary.high,
    }
