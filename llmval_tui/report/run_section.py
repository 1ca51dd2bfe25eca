"""The section of the report about one run."""

import shlex
from collections.abc import Sequence

from llmval_tui.actions.request_records import percentile_ms
from llmval_tui.actions.rests_on import IN_WORDS, verdict_rests_on
from llmval_tui.foundation.text import clean_line, counted
from llmval_tui.report.blocks import Badge, Block, Cell, Code, CodeBlock, Fold, Heading, Judgement, Paragraph, Table
from llmval_tui.report.charts.plots import distribution_blocks, time_blocks
from llmval_tui.report.charts.trends import trend_blocks
from llmval_tui.report.collectives import collective_blocks
from llmval_tui.report.facts import LoadFacts, RunFacts
from llmval_tui.report.figure import figure
from llmval_tui.report.first_screen import anchor_of, badge_of
from llmval_tui.report.recording import Recording, Track
from llmval_tui.report.summary import node_blocks
from llmval_tui.runs.definitions import define
from llmval_tui.runs.records import Outcome, State
from llmval_tui.telemetry.engine.window import EngineWindow
from llmval_tui.terminal.format import duration

_PERCENTS = (50, 90, 95, 99)
_KINDS = {"intact": "pass", "kept": "pass", "masked": "pass", "changed": "fail", "missing": "fail"}
_COUNTS = {
    "prompt_tokens": "prompt tokens",
    "generation_tokens": "generated tokens",
    "preemptions": "preemptions",
}
_TIMES = {
    "queue": "queue, ms a request",
    "prefill": "prefill, ms a request",
    "decode": "decode, ms a request",
    "ttft": "time to first token, ms a request",
    "inter_token": "time between tokens, ms a token",
    "e2e": "end to end, ms a request",
}
_STATES = {
    "intact": "intact: has this hash now",
    "kept": "overwritten or deleted since; the copy in the run's evidence/ has this hash",
    "masked": "as judged, but for secrets that were overwritten when it was exported",
    "changed": "changed since it was judged",
}


def run_section(run: RunFacts, number: int, with_node: bool) -> list[Block]:
    """Verdict, gates, metrics, plots, environment, commands and artifacts of one run.

    Args:
        number: position in the report; makes the ids of the plots unique.
        with_node: repeat the host and its GPUs, because they are not the same in all runs.
    """
    intent = run.intent
    blocks: list[Block] = [Heading(2, f"Item {intent.step.number}: run {run.id}", anchor_of(run))]
    blocks.append(Paragraph(f"{intent.step.section}. {intent.step.text}"))
    blocks.append(Judgement(badge_of(run), _summary(run)))
    details = _details(run, number, with_node=with_node)
    if run.verdict is not None and run.verdict.outcome is Outcome.PASS:
        return [*blocks, Fold("Times, gates, metrics, plots, environment, commands and artifacts of this run", details)]
    return blocks + details


def _details(run: RunFacts, number: int, *, with_node: bool) -> list[Block]:
    intent, status = run.intent, run.status
    blocks: list[Block] = []
    rows: list[list[Cell]] = [
        ["action", intent.action],
        ["started", status.started_utc or "not recorded"],
        ["ended", status.ended_utc or ("not yet" if run.state is not State.FINISHED else "not recorded")],
        ["judged", run.verdict.judged_utc if run.verdict else "not yet"],
        ["preset", intent.preset or "none"],
    ]
    if run.verdict is not None and run.verdict.outcome is Outcome.PASS:
        rows.append(["rests on", IN_WORDS[verdict_rests_on(run.verdict)]])
    if status.cancelled:
        rows.append(["cancelled by", status.cancelled])
    blocks.append(Table("Times and settings of the run", ("what", "value"), rows))
    if intent.deviations:
        text = "; ".join(intent.deviations)
        blocks.append(Paragraph(f"Deviations from the item as written: {text}.", caution=True))
    blocks += [Paragraph(note, caution=True) for note in status.notes]
    blocks += _gates(run)
    blocks += _metrics(run)
    blocks += trend_blocks(run, f"r{number}-t")
    for at, load in enumerate(run.loads):
        blocks += _load(load)
        blocks += distribution_blocks(load.result, f"r{number}-d{at}")
    for measured in run.collectives:
        blocks += collective_blocks(measured)
    blocks += time_blocks(run, number)
    blocks += _telemetry(run.recording)
    blocks += _problems(run)
    blocks += _environment(run, with_node)
    blocks += _commands(run)
    blocks += _artifacts(run)
    return blocks


def _summary(run: RunFacts) -> str:
    if run.verdict is not None:
        return run.verdict.summary or f"{len(run.verdict.gates)} gates were judged."
    if run.state in (State.FINISHED, State.LOST):
        return "The run has ended but is not judged yet: llmval status judges it."
    return "The run is still running; this report shows what it has recorded so far."


def _gates(run: RunFacts) -> list[Block]:
    if run.verdict is None:
        return []
    rows: list[list[Cell]] = [
        [gate.name, Badge(gate.outcome.value, gate.outcome.value), gate.measured, gate.bound, gate.reason or "–"]
        for gate in run.verdict.gates
    ]
    return [
        Heading(3, "Gates"),
        Table("Gates; the worst outcome decides", ("gate", "outcome", "measured", "required", "reason"), rows),
    ]


def _metrics(run: RunFacts) -> list[Block]:
    if run.verdict is None or not run.verdict.metrics:
        return []
    rows: list[list[Cell]] = []
    for name, value in run.verdict.metrics.items():
        meaning = define(name)
        rows.append([Code(name), figure(value), meaning.unit or "–", meaning.better or "–", meaning.text])
    columns = ("metric", "value", "unit", "better is", "definition")
    return [
        Heading(3, "Metrics"),
        Paragraph(
            "s = intended arrival, d = dispatch, f = first token, e = last token, n = output tokens of one request; "
            "N = requests sent. Percentiles interpolate linearly between closest ranks (NumPy's default)."
        ),
        Table("Metrics, computed from the run's records when it was judged", columns, rows, numbers=(1,)),
    ]


def _load(load: LoadFacts) -> list[Block]:
    done = load.result.done
    rows: list[list[Cell]] = []
    latencies: dict[str, Sequence[float | None]] = {
        "TTFT (f−d)": [record.ttft_s for record in done],
        "TTFT_sched (f−s)": [record.ttft_sched_s for record in done],
        "TPOT ((e−f)/(n−1))": [record.tpot_s for record in done],
        "E2E (e−d)": [record.last_s - record.dispatch_s for record in done if record.last_s is not None],
        "E2E_sched (e−s)": [record.e2e_sched_s for record in done],
    }
    for name, values in latencies.items():
        figures = [figure(percentile_ms(values, percent)) for percent in (*_PERCENTS, 100)]
        rows.append([name, *figures])
    columns = ("latency", *(f"p{percent}, ms" for percent in _PERCENTS), "maximum, ms")
    return [
        Heading(3, f"Load test: {load.path}"),
        Table(
            f"Latency of {len(done)} completed requests of {len(load.result.records)}",
            columns,
            rows,
            numbers=range(1, 6),
        ),
    ]


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _telemetry(recording: Recording) -> list[Block]:
    if not recording.samples:
        return [Heading(3, "Telemetry"), Paragraph("This run has no telemetry.")]
    span = duration(recording.end_s - recording.start_s)
    gaps = (
        "no gap"
        if not recording.gaps
        else f"{len(recording.gaps)} gaps: "
        + ", ".join(f"{start:.0f} to {end:.0f} s" for start, end in recording.gaps[:10])
    )
    rows: list[list[Cell]] = []
    for gpu in sorted(recording.gpus.values(), key=lambda gpu: gpu.index):
        rows += [_row(f"GPU {gpu.index}", track) for track in gpu.tracks.values()]
    rows += [_row("host", track) for track in recording.host.values()]
    rows += [_row("server", track) for track in recording.engine.values()]
    columns = ("device", "reading", "minimum", "mean", "maximum", "without a value")
    blocks: list[Block] = [
        Heading(3, "Telemetry summary"),
        Paragraph(f"{counted(recording.samples, 'sample')} over {span}; {gaps}."),
        Table(
            "Of the measured window, or of the whole run if there was none; “not available” is not zero",
            columns,
            rows,
            numbers=(2, 3, 4, 5),
        ),
    ]
    throttled = [
        f"GPU {gpu.index} {reason} in {count} of {recording.samples} samples"
        for gpu in recording.gpus.values()
        for reason, count in gpu.throttled.items()
    ]
    if throttled:
        blocks.append(Paragraph(f"Throttle reasons from the driver: {'; '.join(throttled)}."))
    if recording.engine_window is not None:
        blocks.append(_engine(recording.engine_window))
    blocks += [
        Paragraph(f"{message} ({count} of {recording.samples} samples)") for message, count in recording.notes.items()
    ]
    return blocks


def _engine(window: EngineWindow) -> Table:
    """What the server counted and timed by its own clock in the measured window."""
    rows: list[list[Cell]] = [[text, figure(window.counts.get(name)), "–"] for name, text in _COUNTS.items()]
    rows.append(["prefix-cache hits, % of prompt tokens", figure(window.prefix_hit_percent), "–"])
    for name, text in _TIMES.items():
        mean, total = window.mean_s(name), window.times.get(name)
        rows.append(
            [text, figure(None if mean is None else 1000 * mean), figure(None if total is None else total.count)]
        )
    rows.append(["CPU of all its processes, cores", figure(window.cores), "–"])
    rows += [
        [f"CPU of {clean_line(one.name)} ({one.pid}), cores", figure(one.cores), "–"] for one in window.processes or ()
    ]
    name = window.engine or "The server"
    title = f"{name} over {duration(window.seconds)}, by its own counters and clock."
    return Table(" ".join((title, *window.reasons)), ("what", "value or mean", "timed"), rows, numbers=(1, 2))


def _row(device: str, track: Track) -> list[Cell]:
    summary = track.measured if track.measured.count or track.measured.missing else track.series.summary
    reading = f"{track.reading.title}, {track.reading.unit}"
    figures = [figure(value) for value in (summary.low, summary.mean, summary.high)]
    return [device, reading, *figures, f"{summary.missing} of {summary.missing + summary.count}"]


def _problems(run: RunFacts) -> list[Block]:
    line = run.timeline
    if not line.problems:
        return []
    more = line.problems_total - len(line.problems)
    blocks: list[Block] = [Heading(3, "Warnings and errors of the run"), CodeBlock(line.problems)]
    if more:
        blocks.append(Paragraph(f"{more} more are in the run's events.jsonl."))
    return blocks


def _environment(run: RunFacts, with_node: bool) -> list[Block]:
    intent = run.intent
    blocks: list[Block] = [Heading(3, "Environment")]
    if with_node:
        blocks += node_blocks(run)
    rows: list[list[Cell]] = [["working folder", Code(intent.cwd)]]
    if intent.git:
        state = "with uncommitted changes" if intent.git.get("dirty") else "clean"
        rows.append(["git", Code(f"{intent.git.get('commit')} ({state})")])
    rows += [[name, Code(value)] for name, value in intent.environment.items()]
    for command in intent.commands:
        rows += [[f"{name} (added for {command.label})", Code(value)] for name, value in command.env.items()]
    for load in run.loads:
        parts = (load.result.identity, load.result.ours.get("workload") or {}, load.result.ours.get("slo") or {})
        ran = [[key, Code(_plain(value))] for part in parts for key, value in part.items() if value is not None]
        blocks.append(Table(f"What ran, from {load.path}", ("what", "value"), ran))
    blocks.append(Table("Folder, revision, and variables that affect the measurement", ("what", "value"), rows))
    return blocks


def _commands(run: RunFacts) -> list[Block]:
    intent = run.intent
    ended = {command.label: command for command in run.status.commands}
    lines = [f"cd {shlex.quote(intent.cwd)}"]
    for command in intent.commands:
        shown = command.display if command.script is None else shlex.join(command.argv)
        hidden = [f"{name}={shlex.quote(value)}" for name, value in command.env.items() if f"{name}=" not in shown]
        lines.append(" ".join([*hidden, shown]))
        if command.script is not None:
            lines.append(f"# {command.script.name}, SHA-256 {command.script.sha256}:")
            lines += [f"# {clean_line(line)}" for line in command.script.text.splitlines()]
    rows: list[list[Cell]] = []
    for command in intent.commands:
        status = ended.get(command.label)
        code = "not recorded" if status is None or status.exit_code is None else str(status.exit_code)
        ranks = ", ".join(f"rank {rank}: {code}" for rank, code in (status.ranks if status else {}).items()) or "–"
        rows.append([command.label, code, ranks])
    again = ["llmval", "run", intent.step.number]
    if intent.step.checklist:
        again += ["--checklist", intent.step.checklist]
    if intent.preset:
        again += ["--preset", intent.preset]
    return [
        Heading(3, "Reproduce"),
        Paragraph("By hand, without recording or verdict:"),
        CodeBlock(lines),
        Paragraph("With recording and verdict:"),
        CodeBlock([f"cd {shlex.quote(intent.cwd)}", shlex.join(again)]),
        Table("Exit codes of the commands (negative: killed by that signal)", ("command", "exit code", "ranks"), rows),
    ]


def _artifacts(run: RunFacts) -> list[Block]:
    blocks: list[Block] = [Heading(3, "Artifacts")]
    if not run.artifacts:
        return [*blocks, Paragraph("This run writes no artifacts.")]
    rows: list[list[Cell]] = [
        [
            Code(artifact.path),
            Badge(_STATES.get(artifact.state, artifact.state), _KINDS.get(artifact.state, "open")),
            "–" if artifact.bytes is None else f"{artifact.bytes:,}",
            "–" if artifact.sha256 is None else Code(artifact.sha256),
        ]
        for artifact in run.artifacts
    ]
    columns = ("file", "now", "bytes", "SHA-256 when judged")
    return [*blocks, Table("Files behind the verdict", columns, rows, numbers=(2,))]
