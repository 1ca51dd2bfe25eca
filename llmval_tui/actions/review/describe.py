"""A question in words: what would start, where, what it writes, and what its tick would rest on."""

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.actions.review.questions import scripts_of
from llmval_tui.actions.tools.results import known_tools
from llmval_tui.runs.store import RUN_ID_PLACEHOLDER, RUN_PLACEHOLDER

if TYPE_CHECKING:
    from llmval_tui.actions.api import Proposal
    from llmval_tui.actions.criteria.model import Criterion
    from llmval_tui.checklist.model import Step
    from llmval_tui.runs.records import Command

_SHOWN_HASH = 12


def describe(step: "Step", proposal: "Proposal", workspace: Path) -> list[tuple[str, str]]:
    """Labels with one line of text each, for the terminal and the dashboard."""
    lines = [("item", step.text), ("read as", _reading(proposal))]
    if proposal.open_question is not None:
        lines.append(("question", proposal.open_question.text))
    for command in proposal.commands:
        lines += _command(command, workspace)
    hashes = scripts_of(proposal.commands, workspace)
    lines += [("script", f"{path} (SHA-256 {sha[:_SHOWN_HASH]}…)") for path, sha in hashes.items()]
    criteria = proposal.reading.criteria if proposal.reading else ()
    lines += [("criterion", criterion_text(one)) for one in criteria]
    written = [artifact.path.replace(RUN_ID_PLACEHOLDER, "<run id>") for artifact in proposal.artifacts]
    lines += [("writes", path) for path in dict.fromkeys(written)]
    if proposal.commands:
        lines.append(("tick means", rests_on(proposal)))
    return lines


def rests_on(proposal: "Proposal") -> str:
    """What a tick of this step would rest on, in words."""
    criteria = proposal.reading.criteria if proposal.reading else ()
    if any(one.unreadable for one in criteria):
        return "not ticked: a criterion of the item has no gate"
    if criteria or any(artifact.schema for artifact in proposal.artifacts):
        return "measured: its figures are judged"
    if tools := known_tools(proposal.commands):
        return f"measured: the result of {' and '.join(tools)} is judged"
    return "exit code only" + (", and the files exist" if proposal.artifacts else "")


def criterion_text(criterion: "Criterion") -> str:
    """A criterion in one line."""
    if criterion.unreadable:
        return f"“{criterion.text}”: {criterion.unreadable}"
    bound = f"{criterion.bound:g}" if isinstance(criterion.bound, float) else criterion.bound
    what = criterion.metric or criterion.selector or "the whole text"
    words = [f"“{criterion.text}”: {what} of {criterion.source}", criterion.comparison, bound, criterion.unit]
    return " ".join(word for word in words if word)


def _reading(proposal: "Proposal") -> str:
    reading = proposal.reading
    return f"{reading.kind}: {reading.reason}" if reading is not None else proposal.action


def _command(command: "Command", workspace: Path) -> list[tuple[str, str]]:
    lines = [("command", command.display)]
    words = shlex.join(word.replace(RUN_PLACEHOLDER, "<run>") for word in command.argv)
    if words != command.display:
        lines.append(("argv", words))
    if command.script is not None:
        lines += [("", line) for line in command.script.text.splitlines()]
    lines.append(("program", program_path(command, workspace) or f"{command.argv[0]} (not installed)"))
    lines.append(("folder", str(workspace / command.cwd) if command.cwd else str(workspace)))
    if command.hidden_env:
        lines.append(("with", command.hidden_env))
    return lines


def program_path(command: "Command", workspace: Path) -> str | None:
    """The path of the program that a command starts; None if there is none."""
    program = command.argv[0]
    if "/" in program:
        path = Path(os.path.normpath(workspace / (command.cwd or ".") / program))
        return str(path) if path.is_file() else None
    return shutil.which(program)
