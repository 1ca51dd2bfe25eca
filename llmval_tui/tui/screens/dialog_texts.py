"""The contents of dialogs: the confirmation of a start, a verdict's question, help."""

from collections.abc import Sequence
from datetime import datetime

from llmval_tui.actions.command.argv import value_of
from llmval_tui.foundation.text import clean_line, counted
from llmval_tui.plans.items import Expected, PlanItem
from llmval_tui.runs.records import Verdict
from llmval_tui.terminal.format import hard_wrap, wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.data.messages import NOTICE_ROLES, NOTICE_SIGNS, Messages
from llmval_tui.tui.drawing.labels import short_label
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.keys import PANE_TITLES, Keymap
from llmval_tui.tui.widgets.text_rows import artifact_rows, command_rows, heading, labelled, paragraph

_BLOCKED = (Expected.REFUSED, Expected.ASKS)


def start_rows(items: Sequence[PlanItem], effect: str, command_line: str, width: int, glyphs: Glyphs) -> list[Row]:
    """Exactly what will be started: each step with its commands, deviations and refusals, then the command line."""
    rows = paragraph(effect, "text", width) if effect else []
    for item in items:
        proposal = item.proposal
        if proposal is None:
            continue
        rows += [row(), row((f" {item.step.number} ", "title"), (short_label(item.step.text), "text"))]
        rows += paragraph(proposal.summary, "muted", width, 3)
        rows += labelled("plan", item.sentence, "warn" if item.expected in _BLOCKED else "text", width)
        if item.expected is not Expected.RUNS:
            continue
        rows += command_rows(proposal.commands, width)
        ranks = [command.nproc for command in proposal.commands if command.nproc]
        if ranks:
            on_cpu = all(value_of(tuple(command.argv), "--device") == "cpu" for command in proposal.commands)
            text = counted(max(ranks), "rank") + (" on the CPU" if on_cpu else ", each on its own GPU")
            rows += labelled("processes", text, "text", width)
        rows += artifact_rows(proposal.artifacts, width)
        for deviation in proposal.deviations:
            rows += labelled("deviation", deviation, "warn", width)
    left_out = [item for item in items if item.proposal is None]
    for reason in dict.fromkeys(item.reason for item in left_out):
        numbers = ", ".join(item.step.number for item in left_out if item.reason == reason)
        rows += [row(), *labelled("skipped", f"{numbers}: {reason}", "muted", width)]
    if command_line:
        rows += [row(), *labelled("command", command_line, "code", width)]
    return rows


def question_rows(verdict: Verdict, width: int, glyphs: Glyphs) -> list[Row]:
    """The question of a verdict, its reason, and the proposed change line by line."""
    question = verdict.question or {}
    text = str(question.get("text", ""))
    reason, _, request = text.rpartition(". ") if text.endswith("?") else ("", "", text)
    rows = paragraph(request, "text", width)
    # The question often repeats the reason of the verdict: once is enough.
    if reason and reason not in verdict.summary:
        rows += paragraph(f"{reason}.", "muted", width)
    if verdict.summary not in reason:
        rows += paragraph(verdict.summary, "muted", width)
    diff = question.get("diff")
    if isinstance(diff, str) and diff:
        rows += heading("Proposed change", width, glyphs)
        for line in diff.splitlines():
            role = {"+": "good", "-": "bad", "@": "accent"}.get(line[:1], "text")
            pieces = hard_wrap(clean_line(line), width - 4)
            rows += [row((f"{'   ' if index else ' '}{piece}", role)) for index, piece in enumerate(pieces)]
    return rows


def message_rows(messages: Messages, width: int, glyphs: Glyphs) -> list[Row]:
    """All messages, the newest first, each with its time."""
    rows: list[Row] = []
    for notice in reversed(messages.all):
        at = datetime.fromtimestamp(notice.at_s).strftime("%H:%M:%S")
        sign = NOTICE_SIGNS[notice.severity][glyphs.ascii]
        text = notice.text + (f" ({notice.count} times)" if notice.count > 1 else "")
        for index, line in enumerate(wrap(text, width - 14)):
            lead = f" {at} {sign} " if not index else " " * 12
            rows.append(row((lead, "muted"), (line, NOTICE_ROLES[notice.severity])))
    return rows or [row((" There has been no message.", "muted"))]


def help_rows(pane: str, width: int, glyphs: Glyphs, keymap: Keymap) -> list[Row]:
    """The keys of one pane: its own first, then moving, then the ones that work everywhere."""
    title = "the list" if pane == "list" else f"the pane {PANE_TITLES[pane]}"
    keys = keymap.keys_for(pane)
    rows: list[Row] = []
    own = [key for key in keys if key.panes and key.panes != tuple(PANE_TITLES)]
    everywhere = [key for key in keys if key not in own and not key.replay]

    def table(title: str, lines: Sequence[tuple[str, str]]) -> None:
        rows.extend(heading(title, width, glyphs))
        for shown, text in lines:
            rows.append(row((f" {glyphs.key(shown):<10}", "key"), (glyphs.key(text), "text")))

    if own:
        table(f"In {title}", [(key.display, key.help) for key in own])
    if playing := [key for key in keys if key.replay]:
        table("Replay", [(key.display, key.help) for key in playing])
    table("Moving", [(key.display, key.help) for key in keymap.scroll_keys() if key.keys])
    changing = [key for key in everywhere if key.changes]
    if changing:
        table("Work", [(key.display, key.help) for key in changing])
    table("Everywhere", [(key.display, key.help) for key in everywhere if not key.changes])
    return rows[1:]
