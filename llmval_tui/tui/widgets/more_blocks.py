"""What stands at the end of the column of a short list: gates and phases of the shown run, the other steps' newest
results, and the newest messages. A wide screen beside a short list would be blank there."""

from datetime import datetime

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome
from llmval_tui.terminal.cell_width import cell_len
from llmval_tui.terminal.format import fit, number, parse_utc, short_age, took
from llmval_tui.terminal.glyphs import OUTCOME_SIGNS, Glyphs
from llmval_tui.tui.data.messages import NOTICE_ROLES, NOTICE_SIGNS
from llmval_tui.tui.data.run_history import RunRow
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, Span, row
from llmval_tui.tui.drawing.step_rows import StepRows
from llmval_tui.tui.drawing.step_words import waiting
from llmval_tui.tui.widgets.gate_groups import measured_words
from llmval_tui.tui.widgets.text_rows import heading

NAME = 24  # cells of a gate's or a phase's name, at least
LEAST = 3  # rows of a block: a blank one, a heading and one more


def phase_rows(state: ScreenState, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """How long each phase of the shown run lasted, the newest ones if not all fit: where its time went."""
    run = state.run
    began = parse_utc(run.status.started_utc) if run is not None else None
    if run is None or began is None or not run.phases or height < LEAST:
        return []
    ended = parse_utc(run.status.ended_utc)
    end_s = state.run_now() if run.alive else ended.timestamp() if ended is not None else None
    starts = [("start", began.timestamp()), *((phase.name, phase.wall_s) for phase in run.phases)]
    ends = [*(at_s for _, at_s in starts[1:]), end_s]
    spans = [(name, at_s, after) for (name, at_s), after in zip(starts, ends, strict=True)]
    whole = sum(after - at for _, at, after in spans if after is not None)
    rows = heading("Phases", width, glyphs, f"{len(run.phases)} of run {run.id.rsplit('-', 1)[-1]}")
    for index, (name, at_s, after) in enumerate(spans[-(height - 2) :], len(spans) - min(len(spans), height - 2)):
        now = run.alive and index == len(spans) - 1
        lasted = None if after is None else max(0.0, after - at_s)
        share = "" if lasted is None or whole <= 0 else f"{lasted / whole:4.0%}"
        rows.append(
            row(
                (f" {fit(clean_line(name), NAME - 1, glyphs.ellipsis):<{NAME}}", "busy" if now else "text"),
                (f"{took(lasted) or glyphs.dash:>7}", "text"),
                (f"{share:>7}{'  so far' if now else ''}", "muted"),
            )
        )
    return rows


def gate_list_rows(state: ScreenState, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """Each gate of the shown run with what it measured, those that did not pass first."""
    run = state.run
    gates = run.verdict.gates if run is not None and run.verdict is not None else []
    if not gates or height < LEAST:
        return []
    ordered = sorted(gates, key=lambda gate: gate.outcome is Outcome.PASS)
    passed = sum(gate.outcome is Outcome.PASS for gate in gates)
    rows = heading("Gates", width, glyphs, f"{passed} of {len(gates)} passed")
    shown = ordered if len(ordered) <= height - 2 else ordered[: height - 3]
    column = max(NAME, width // 3)
    for gate in shown:
        sign = OUTCOME_SIGNS[gate.outcome]
        name = fit(clean_line(gate.name).removeprefix("telemetry.").replace("_", " "), column - 1, glyphs.ellipsis)
        said = fit(measured_words(gate), max(1, width - column - 5), glyphs.ellipsis)
        rows.append(
            row(
                (f" {glyphs.sign(sign)} ", sign.role),
                (f"{name:<{column}}", "text"),
                (said, "muted" if gate.outcome is Outcome.PASS else sign.role),
            )
        )
    return rows if len(shown) == len(ordered) else [*rows, row((f"   {len(ordered) - len(shown)} more", "muted"))]


def result_rows(state: ScreenState, keys: StepRows, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The newest judged run of each other step that needs nobody: its figures; the newest first."""
    found: list[tuple[float, str, str, RunRow]] = []
    targets = {key: target for target, key in keys.keys.items()}
    needy = {status.step.key for status in waiting(state.snapshot.steps)}  # they stand above with their reasons
    for status in state.snapshot.steps:
        facts = state.snapshot.facts.get(status.step.key)
        newest = facts.newest if facts is not None else None
        if newest is None or newest.outcome is None or status.step.key in needy | {state.key}:
            continue
        found.append((newest.judged_s or 0.0, status.step.number, targets.get(status.step.key, ""), newest))
    if not found or height < LEAST:
        return []
    rows = heading("Newest results", width, glyphs, f"{len(found)} other step{'s' if len(found) > 1 else ''}")
    for judged_s, step_number, target, one in sorted(found, reverse=True, key=lambda item: item[0])[: height - 2]:
        assert one.outcome is not None
        sign = OUTCOME_SIGNS[one.outcome]
        head, tail = f" {glyphs.sign(sign)} {step_number:<5}", f"{short_age(state.now() - judged_s):>5} "
        said = fit(figure_words(one, width - cell_len(head + tail)), width - cell_len(head + tail), glyphs.ellipsis)
        rows.append(row((head, sign.role), (said, "text"), (tail, "muted"), target=target or None))
    return rows


def figure_words(one: RunRow, room: int) -> str:
    """The figures of a run, as many as fit; of one that did not pass its reason, of another its outcome."""
    if one.reason and one.outcome is not Outcome.PASS:
        return clean_line(one.reason)
    words = [f"{figure.label} {number(figure.value)} {figure.unit}".rstrip() for figure in one.figures]
    while len(words) > 1 and cell_len("   ".join(words)) > room:
        words.pop()
    if words:
        return "   ".join(words)
    return f"{one.gates[0]} of {one.gates[1]} gates passed" if one.gates else str(one.outcome)


def newest_message_rows(state: ScreenState, width: int, height: int, glyphs: Glyphs) -> list[Row]:
    """The newest messages, one row each: what happened while nobody looked."""
    messages = state.messages
    if not messages.all or height < LEAST:
        return []
    key = state.keymap.hint("messages")
    rows = heading("Messages", width, glyphs, f"{messages.total}   {key} all" if key else str(messages.total))
    for notice in list(messages.all)[: -(height - 1) : -1]:
        at = datetime.fromtimestamp(notice.at_s).strftime("%H:%M:%S")
        lead: Span = (f" {at} {NOTICE_SIGNS[notice.severity][glyphs.ascii]} ", "muted")
        again = f" ({notice.count} times)" if notice.count > 1 else ""
        text = fit(notice.text + again, max(1, width - cell_len(lead[0]) - 1), glyphs.ellipsis)
        rows.append(row(lead, (text, NOTICE_ROLES[notice.severity])))
    return rows
