"""The question that an item must have answered before it starts, and the answer that still holds."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.actions.command.argv import parse_argv, value_of
from llmval_tui.actions.command.resolve import resolve_script
from llmval_tui.actions.command.runner_catalog import TRACE
from llmval_tui.actions.reading.model import Kind
from llmval_tui.actions.review.model import Answer, Decision, ListSettings, Question
from llmval_tui.actions.review.programs import Needed, Trust, at_least_once, trust_needed, trust_needed_by_script
from llmval_tui.actions.review.read_only import may_change_code
from llmval_tui.actions.review.wrappers import name_of
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import sha256_of
from llmval_tui.foundation.masked_text import MASK, without_secrets
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.store import RUN_PLACEHOLDER

if TYPE_CHECKING:
    from llmval_tui.actions.reading.model import Reading
    from llmval_tui.checklist.model import Step
    from llmval_tui.runs.records import Command

CODE_LENGTH = 16  # hex digits of the code of a question
COMMENT_HASH_LENGTH = 32
COMMENT_KEYS = frozenset({"answer", "hash", "by", "on"})  # of an answer in an item's llmval comment
_ARTIFACTS = "artifacts"
_SCRIPTS = (".py", ".sh", ".bash", ".zsh", ".pl", ".rb", ".js", ".lua", ".r", ".jl", ".slurm", ".sbatch", ".mk")
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_NOTHING = Needed(Trust.NONE, "nothing")
_OWN_MODULE = ("-m", "llmval_tui.actions.perform")


def item_sha256(step: "Step") -> str:
    """SHA-256 of the item's whole text: its blocks without HTML comments. Where its lines break does not matter."""
    blocks = [
        (block.kind, block.language, block.text if block.kind == "fence" else " ".join(block.text.split()))
        for block in step.blocks
    ]
    return _sha256(blocks or [step.text])


def written_commands(reading: "Reading | None") -> tuple[str, ...]:
    """The commands of an item as it writes them, for the answer."""
    if reading is None:
        return ()
    commands = [f"cd {one.folder} && {one.text}" if one.folder else one.text for one in reading.commands]
    return (*commands, *([reading.script.text] if reading.script else ()))


def scripts_of(commands: "Sequence[Command]", workspace: Path) -> dict[str, str]:
    """The SHA-256 of each file of the workspace that the commands run, by its path relative to the workspace.

    A word counts if it names a file that is executable or has a script's suffix; for make, its makefile.
    """
    found: dict[str, str] = {}
    for command in commands:
        folder = workspace / (command.cwd or ".")
        words = [word for argument in command.argv for word in (argument, argument.partition("=")[2])]
        if any(name_of(word) in ("make", "gmake") for word in command.argv):
            words += _MAKEFILES
        for word in words:
            path = _script_in(word, folder, workspace)
            if path is not None:
                found[path] = _cached_sha256(workspace / path)
    return found


def _script_in(word: str, folder: Path, workspace: Path) -> str | None:
    """The path of a script that a word names, relative to the workspace; None if it names none."""
    if not word or len(word) > 1000 or word.startswith("-") or "\0" in word:
        return None
    for start in (folder, workspace):
        try:
            path = Path(os.path.normpath(start / word))
            if not path.is_file() or not path.is_relative_to(workspace):
                continue
            if path.suffix.lower() in _SCRIPTS or word in _MAKEFILES or os.access(path, os.X_OK):
                return str(path.relative_to(workspace))
        except OSError:  # too long a name, or a folder that may not be entered
            continue
    return None


def _cached_sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=256)
def _sha256_of_version(path: Path, inode: int, size: int, modified_ns: int, changed_ns: int) -> str:
    return sha256_of(path)


def comment_hash(step: "Step", reading: "Reading | None", scripts: Mapping[str, str], decision: Decision) -> str:
    """The hash in the llmval comment of an answer: of all that the answer rests on."""
    of_commands = [written_commands(reading), dict(sorted(scripts.items()))] if decision is Decision.RUN else []
    return _sha256([step.section, item_sha256(step), *of_commands])[:COMMENT_HASH_LENGTH]


def answer_for(step: "Step", settings: ListSettings) -> Answer | None:
    """The answer to the item's question, from the file beside the list or from the item's llmval comment.

    Raises:
        Refused: both have one, or the comment's is invalid.
    """
    in_file = _in_file(step, settings)
    said = step.directives.get("answer")
    if said is None:
        return in_file
    if in_file is not None:
        raise Refused(f"the item has an answer in its llmval comment and one in {settings.path.name}: remove one.")
    given = step.directives.get("hash", "")
    if said not in set(Decision) or not re.fullmatch(rf"[0-9a-f]{{{COMMENT_HASH_LENGTH}}}", given):
        raise Refused(
            "the answer in the item's llmval comment is not one that llmval wrote: remove it, and use llmval review."
        )
    return Answer(
        *step.key, Decision(said), given,
        by=step.directives.get("by", ""), when=step.directives.get("on", ""), in_list=True,
    )  # fmt: skip


def _in_file(step: "Step", settings: ListSettings) -> Answer | None:
    answers = {one.key: one for one in settings.answers}
    if any(MASK in one.item or MASK in one.section for one in settings.answers):  # else no patterns are needed
        return answers.get(step.recorded_key) or answers.get(step.key)
    return answers.get(step.key)


def decided(step: "Step", settings: ListSettings) -> Answer | None:
    """The answer "manual" or "skip" to an unchanged item. It starts nothing, so its commands do not matter.

    Raises:
        Refused: see `answer_for`.
    """
    answer = answer_for(step, settings)
    if answer is None or answer.decision is Decision.RUN:
        return None
    now = comment_hash(step, None, {}, answer.decision) if answer.in_list else item_sha256(step)
    return answer if answer.sha256 == now else None


def is_skipped(step: "Step", settings: ListSettings) -> bool:
    """Whether somebody decided to skip the item, and it has not changed since."""
    try:
        answer = decided(step, settings)
    except Refused:  # its proposal says why
        return False
    return answer is not None and answer.decision is Decision.SKIP


def _changed_since(answer: Answer, step: "Step", reading: "Reading | None", scripts: Mapping[str, str]) -> str | None:
    """What has changed since the answer; None if nothing has."""
    if answer.in_list:
        same = answer.sha256 == comment_hash(step, reading, scripts, answer.decision)
        return None if same else "the item or a script of it has changed since"
    if answer.sha256 != item_sha256(step):
        return "the item has changed since"
    if answer.decision is not Decision.RUN:
        return None
    written = written_commands(reading)  # `sha256` holds for their secrets
    if answer.commands != written and answer.commands != tuple(map(without_secrets, written)):
        return "its commands are read differently now"
    if scripts != answer.scripts:
        changed = sorted(path for path in {*scripts, *answer.scripts} if scripts.get(path) != answer.scripts.get(path))
        return f"{changed[0]} has changed since"
    return None


def question_of(
    step: "Step",
    reading: "Reading | None",
    commands: "Sequence[Command]",
    settings: ListSettings,
    *,
    runner_python: str | None = None,
    confirmed: Sequence[str] = (),
    values: Mapping[str, str] | None = None,
) -> Question | None:
    """The open question about commands that would start; None if they may start.

    Args:
        commands: as they would start, with all values filled in.
        runner_python: the interpreter of llmval's own runners, which is trusted.
        confirmed: the codes of questions that were answered for this plan alone.
        values: of the item's placeholders.
    """
    asks = reading is not None and reading.kind is Kind.ASK
    if not commands and not asks:
        return None
    needed = max(
        (_needed(one, settings, runner_python) for one in commands), key=lambda one: one.trust, default=_NOTHING
    )
    if needed.trust is Trust.NONE and not asks:
        return None
    scripts = scripts_of(commands, settings.workspace)
    # Not the whole argument list: it may contain the time.
    starts = [[one.argv[0], one.env, one.cwd, one.script.sha256 if one.script else None] for one in commands]
    given = {name: (values or {}).get(name) for name in (reading.placeholders if reading is not None else ())}
    code = _sha256([step.key, item_sha256(step), written_commands(reading), given, starts, scripts])[:CODE_LENGTH]
    if code in confirmed:
        return None
    if needed.trust is Trust.EACH_TIME:
        return Question(f"It runs {needed.because}, which can damage something, so it asks each time.", True, code)
    asked = reading.question if reading is not None and asks else None
    if not commands:
        return Question(asked or "A person must decide about this item.", code=code, can_run=False)
    answer = answer_for(step, settings)
    if answer is None:
        return Question(asked or f"It runs {needed.because}, which nobody has confirmed yet.", code=code)
    changed = _changed_since(answer, step, reading, scripts)
    if changed is None and answer.decision is Decision.RUN:
        return None
    by = f"{answer.by or 'somebody'} answered “{answer.decision}”" + (f" on {answer.when[:10]}" if answer.when else "")
    return Question(f"{by}, and {changed or 'it would run now'}: answer again.", code=code)


def _needed(command: "Command", settings: ListSettings, runner_python: str | None) -> Needed:
    """The trust that one command needs, with its variables, its output and the programs that never ask."""
    workspace = settings.workspace
    words, script = command.argv, None
    if (torchrun := _torchrun_words(command)) is not None:
        words, script = torchrun, _script_of_torchrun(torchrun)
    if command.script is not None:
        needed = trust_needed_by_script(command.script.text, workspace)
    elif own := _own_work(command, workspace, runner_python):
        needed = Needed(Trust.NONE, own)
    else:
        needed = trust_needed(words, workspace)
        if script is not None and needed.trust is Trust.ONCE:
            needed = Needed(Trust.ONCE, f"{script} under torchrun")
    # The variables of the site settings are trusted, unless they are known to change which code runs.
    of_site = {name for name, value in settings.env.items() if command.env.get(name) == value}
    needed = at_least_once(needed, [name for name in command.env if name not in of_site or may_change_code(name)])
    if command.tee is not None and not command.tee.startswith(f"{_ARTIFACTS}/") and needed.trust is Trust.NONE:
        needed = Needed(Trust.ONCE, f"{needed.because} and writes {command.tee}")
    # The program's name counts, or the path of a script: `never_ask = ["pytest", "scripts/check.py"]`.
    names = {name_of(command.argv[0]), *words[:2], script}
    if "--no-python" in words:  # then what torchrun starts is not a script of Python
        names.discard(name_of(command.argv[0]))
    if needed.trust is Trust.ONCE and command.script is None and settings.never_ask & names:
        return Needed(Trust.NONE, needed.because)
    return needed


def _own_work(command: "Command", workspace: Path, runner_python: str | None) -> str | None:
    """The name of llmval's own action or runner that the command starts; None if it starts anything else."""
    program, *words = command.argv
    trusted = (sys.executable, runner_python)
    if program in trusted and words == [*_OWN_MODULE, RUN_PLACEHOLDER]:
        return "llmval"
    if program in trusted and (torchrun := _torchrun_words(command)) is not None:
        words = torchrun
    elif program in trusted:
        words = ["python", *words]
    elif program == "bash":
        words = command.argv
    else:
        return None
    try:
        argv = parse_argv(words)
        runner = resolve_script(argv.script, workspace).runner if argv.script is not None else None
    except Refused:
        return None
    if runner == TRACE:  # it starts the interpreter that it is given
        return runner if {value_of(argv.arguments, "--python")} <= set(trusted) else None
    return runner if program in trusted else None


def _torchrun_words(command: "Command") -> list[str] | None:
    """The words of torchrun, which llmval's launcher replaces; None if the command starts something else."""
    words = command.argv[1:]
    launcher = str(bundled("runners") / "llmval_runners" / "process" / "launch.py")
    if words[:1] != [launcher] or "--" not in words:
        return None
    return ["torchrun", *words[words.index("--") + 1 :]]


def _script_of_torchrun(words: list[str]) -> str | None:
    try:
        return parse_argv(words).script
    except Refused:
        return None


def missing_values(reading: "Reading | None", values: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the item's placeholders that have no value yet."""
    return tuple(name for name in reading.placeholders if name not in values) if reading is not None else ()


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
