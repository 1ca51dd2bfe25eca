"""What the dialogs say: rows for the confirmation of work, for help, for a verdict's question, for the options."""

from collections.abc import Sequence

from llmval_tui.actions.api import Proposal
from llmval_tui.checklist.model import Step
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Verdict
from llmval_tui.terminal.format import hard_wrap
from llmval_tui.terminal.glyphs import Glyphs
from llmval_tui.tui.drawing.labels import short_label
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.keys import PANE_TITLES, Keymap
from llmval_tui.tui.widgets.text_rows import artifact_rows, command_rows, heading, labelled, paragraph

Planned = Sequence[tuple[Step, Proposal]]


def work_rows(planned: Planned, effect: str, typed: str, width: int, glyphs: Glyphs) -> list[Row]:
    """What fit_rows will be started: each step with its commands, deviations and refusals, then the command line."""
    rows = paragraph(effect, "text", width) if effect else []
    for step, proposal in planned:
        rows += [row(), row((f" {step.number} ", "title"), (short_label(step.text), "text"))]
        rows += paragraph(proposal.summary, "muted", width, 3)
        if proposal.refusal:
            rows += labelled("cannot run", proposal.refusal, "warn", width)
            continue
        rows += command_rows(proposal.commands, width, glyphs)
        ranks = [command.nproc for command in proposal.commands if command.nproc]
        if ranks:
            rows += labelled("processes", f"{max(ranks)} ranks, one GPU each where there are GPUs", "text", width)
        rows += artifact_rows(proposal.artifacts, width)
        for deviation in proposal.deviations:
            rows += labelled("deviation", deviation, "warn", width)
    if typed:
        rows += [row(), *labelled("the same", typed, "code", width)]
    return rows


def question_rows(verdict: Verdict, width: int, glyphs: Glyphs) -> list[Row]:
    """What a verdict asks, why, and the change it proposes line by line."""
    question = verdict.question or {}
    text = str(question.get("text", ""))
    reason, _, asked = text.rpartition(". ") if text.endswith("?") else ("", "", text)
    rows = paragraph(asked, "text", width)
    # What asks often has the reason that the verdict gives: once is enough.
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


def help_rows(pane: str, width: int, readonly: bool, glyphs: Glyphs, keymap: Keymap) -> list[Row]:
    """The keys of one pane as they are set: its own first, then moving, then those that work everywhere."""
    title = "the list" if pane == "list" else f"the pane {PANE_TITLES[pane]}"
    keys = keymap.keys_for(pane)
    rows: list[Row] = []
    own = [key for key in keys if key.where and key.where != tuple(PANE_TITLES)]
    everywhere = [key for key in keys if key not in own and not key.replay]

    def table(title: str, lines: Sequence[tuple[str, str]]) -> None:
        rows.extend(heading(title, width, glyphs))
        for shown, text in lines:
            rows.append(row((f" {glyphs.key(shown):<10}", "key"), (glyphs.key(text), "text")))

    if own:
        table(f"In {title}", [(key.shown, key.help) for key in own])
    if playing := [key for key in keys if key.replay]:
        table("Replay", [(key.shown, key.help) for key in playing])
    table("Moving", [(key.shown, key.help) for key in keymap.moves() if key.keys])
    changing = [key for key in everywhere if key.changes]
    if changing:
        table("Work" + (" (off: read-only)" if readonly else ""), [(key.shown, key.help) for key in changing])
    table("Everywhere", [(key.shown, key.help) for key in everywhere if not key.changes])
    return rows[1:]
