"""Summarise results: find the newest dated folder, expand the pattern, and freeze the list of files."""

import re
from dataclasses import replace
from pathlib import Path

from llmval_tui.actions.api import Condition, Context, Need, NotYet, Proposal
from llmval_tui.actions.command.argv import parse_argv
from llmval_tui.actions.command.freeze import build
from llmval_tui.actions.command.resolve import resolve_script
from llmval_tui.actions.section_runs import COMMAND_ACTIONS, inherited, section_runs
from llmval_tui.actions.steps.command import CommandAction, proposal_of, required_command
from llmval_tui.checklist.command import ParsedCommand, Word, parse_command
from llmval_tui.checklist.lexer import PLACEHOLDER
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.paths import inside
from llmval_tui.runs.store import Run


class Summary(CommandAction):
    """Runs a command on existing files; `<date>` is the newest date with files."""

    name = "summary"
    title = "summarise results"
    needs = (*CommandAction.needs, Need(COMMAND_ACTIONS - {"summary"}, Condition.ENDS))
    about = "Finds the newest results, runs the item's analyzer over exactly those files, and judges its summary."

    def propose(self, context: Context) -> Proposal:
        parsed = parse_command(required_command(context), now=context.now, environment=context.environment)
        # A missing runner is a better reason than missing files, so check it first.
        script = parse_argv([word.value for word in parsed.words]).script
        if script is not None:
            resolve_script(script, context.workspace)
        if context.options.preset is not None and not context.demo:
            parsed = _of_trials(parsed, context.options.preset)
        date = _date(parsed, context.workspace) if parsed.has_date else None
        if date is not None:
            parsed = parsed.fill(date)
        words: list[Word] = []
        files: list[str] = []
        for word in parsed.words:
            if word.has_glob:
                found = matching(word.value, context.workspace)
                if not found:
                    raise NotYet(f"no file matches {word.value}: run the item that writes the files first.")
                files += found
                words += [Word(name) for name in found]
            else:
                words.append(word)
        built = build(context, ParsedCommand(tuple(words), parsed.assignments, parsed.output).shell_text())
        folders = sorted({str(Path(name).parent) for name in files})
        summary = f"Summarises the {len(files)} files in {', '.join(folders)}" + (", the newest date." if date else ".")
        proposal = proposal_of(self.name, context, [built], summary, files=files, date=date)
        sources = inherited(_writers(context, files))
        details = (*(f"reads {name}" for name in files[:4]), *([f"… and {len(files) - 4} more"] if files[4:] else []))
        return replace(
            proposal,
            details=(*proposal.details, *details),
            deviations=tuple(dict.fromkeys((*proposal.deviations, *sources))),
        )


def _of_trials(parsed: ParsedCommand, preset: str) -> ParsedCommand:
    """The command on the folders of trial runs, whose names end with the preset."""
    words = [
        replace(word, value=re.sub(rf"({re.escape(PLACEHOLDER)})(?=/)", rf"\1.{preset}", word.value))
        if word.has_glob
        else word
        for word in parsed.words
    ]
    return replace(parsed, words=tuple(words))


def _writers(context: Context, files: list[str]) -> list[Run]:
    """The section's runs that left one of the files, unchanged; the summary inherits their deviations."""
    wanted = {(name, sha256_of(context.workspace / name)) for name in files}
    found = []
    for run in section_runs(context.store, context.checklist, context.step.section, COMMAND_ACTIONS):
        verdict = run.verdict()
        if verdict and any((item.path, item.sha256) in wanted for item in verdict.evidence):
            found.append(run)
    return found


def _date(parsed: ParsedCommand, workspace: Path) -> str:
    """The newest date with input files of the command."""
    inputs = [word.value for word in parsed.words if word.has_date and word.has_glob]
    if not inputs:
        inputs = [word.value for word in parsed.words if word.has_date][:1]
    if not inputs:
        raise Refused(f"{PLACEHOLDER} is used only for output: write $(date +%Y%m%d) there.")
    pattern = inputs[0]
    folder, _, _ = pattern.partition(PLACEHOLDER)
    dates: set[str] = set()
    before, after = pattern.split(PLACEHOLDER, 1)
    tail = after.split("/", 1)[0]
    finder = re.compile(re.escape(Path(before + "x").name[:-1]) + r"(\d[\d._:-]*\d)" + _as_regex(tail))
    root = inside(workspace, Path(folder + "x").parent)
    for entry in root.iterdir() if root.is_dir() else ():
        match = finder.fullmatch(entry.name)
        if match and matching(pattern.replace(PLACEHOLDER, match[1]), workspace):
            dates.add(match[1])
    if not dates:
        raise NotYet(f"no file matches {pattern} for any date: run the item that writes the files first.")
    return max(dates)


def _as_regex(glob: str) -> str:
    return "".join(".*" if char == "*" else "." if char == "?" else re.escape(char) for char in glob)


def matching(pattern: str, workspace: Path) -> list[str]:
    """The files in the workspace that match a pattern, sorted, without links to the outside.

    Raises:
        Refused: the pattern leads outside the workspace.
    """
    root = workspace.resolve()
    fixed = pattern.split("*", 1)[0].split("?", 1)[0].split("[", 1)[0]
    inside(workspace, fixed or ".")
    relative = str(Path(pattern).relative_to(root)) if Path(pattern).is_absolute() else pattern
    return sorted(
        str(path.relative_to(root))
        for path in root.glob(relative)
        if path.is_file() and path.resolve().is_relative_to(root)
    )
