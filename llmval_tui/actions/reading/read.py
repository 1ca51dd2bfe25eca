"""The reading of an item: the first rule of an ordered table that has an answer. docs/checklists.md shows the table."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from llmval_tui.actions.criteria.claims import claims_of
from llmval_tui.actions.reading.builtins import builtins_of, is_ours
from llmval_tui.actions.reading.by_hand import needs_role, other_language, setting_beside, task_by_hand
from llmval_tui.actions.reading.evidence import promised_files
from llmval_tui.actions.reading.item import ItemView, is_struck_or_quoted, view_of
from llmval_tui.actions.reading.model import MANUAL, Kind, Reading, WrittenCommand
from llmval_tui.actions.reading.roles import Role
from llmval_tui.actions.reading.shell import is_endless
from llmval_tui.actions.tools.servers import known_server_in
from llmval_tui.checklist.model import Checklist, Section, Step

_Answer: TypeAlias = "Callable[[ItemView], Reading | None]"
_OTHER_ITEM = re.compile(
    r"\b(?:re-?run|repeat|redo|again|same as|as in|like)\b[^.;]*"
    r"\b(?:step|item|above|previous|earlier|before|#?\d+(?:\.\d+)*)\b"
    r"|\b(?:step|item)s?\s+#?\d",
    re.IGNORECASE,
)


# "Start the backend: …". These programs only ask another process to start it.
_SERVICE = re.compile(
    r"\b(?:start|launch|bring up|serve)\s+(?:the\s+|a\s+|an\s+|your\s+|our\s+)?(?:[\w-]+\s+){0,2}?"
    r"(?:servers?|services?|backend|frontend|front-end|back-end|app|application|daemon|api|instance)\b",
    re.IGNORECASE,
)
_STARTERS = ("systemctl", "service", "docker", "docker-compose", "podman", "kubectl", "helm", "oc", "make")


def _ends(command: WrittenCommand) -> bool:
    words = [word for word in command.text.split() if word != "sudo" and "=" not in word]
    return bool(words) and (words[0] in _STARTERS or bool({"-d", "--detach", "--daemon", "start"} & set(words[1:])))


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table."""

    name: str
    condition: str  # as the documentation has it
    answer: _Answer


def _stated(view: ItemView) -> Reading | None:
    stated = view.step.directives.get("action")
    if stated is None:
        return None
    reason = "the item names it in its llmval comment"
    if stated == MANUAL:
        return Reading(Kind.MANUAL, reason, stated)
    if stated not in ("command", "server"):
        return Reading(Kind.BUILTIN, reason, stated, view.commands)
    refusal = next((one.understood.refusal for one in view.candidates if one.understood.refusal), None)
    if not view.commands and view.script is None:
        refusal = refusal or "The item contains no command: write it as a code span or a fenced block."
    if refusal is not None and view.script is None:
        return Reading(Kind.REFUSE, reason, stated, view.commands, refusal=refusal)
    return _runs(view, reason) if stated == "command" else _as_server(_runs(view, reason))


def _group(view: ItemView) -> Reading | None:
    if not view.children or view.candidates:
        return None
    count = len(view.children)
    reason = f"it has {count} item{'s' if count > 1 else ''} of its own below it, which decide"
    return Reading(Kind.MANUAL, reason, MANUAL, is_group=True)


def _builtin(view: ItemView) -> Reading | None:
    has_command = bool(view.to_run)
    found = builtins_of(view.step, has_command)
    if not found:
        return None
    if view.has_markers or is_ours(view.step, view.section):
        own = [(words, reason) for words, reason in found if words.with_command or not has_command]
        if len(own) == 1 and len(found) == 1:
            words, reason = own[0]
            return Reading(Kind.BUILTIN, f"the item {reason}", words.action, view.commands)
    elif not has_command or all(words.with_command for words, _ in found):
        return None
    names = [*(words.action for words, _ in found), *(["command"] if has_command else [])]
    both = " or ".join(f"<!-- llmval: action={name} -->" for name in names)
    readings = " and ".join(f"{words.action} (it {reason})" for words, reason in found)
    readings += " and as a command" if has_command else ""
    return Reading(
        Kind.ASK,
        f"the item can be read as {readings}",
        "command" if has_command else MANUAL,
        view.commands,
        question=f"The item can be read as {readings}: split it into two items, or write {both} after its text.",
    )


def _nothing(view: ItemView) -> Reading | None:
    if view.candidates:
        return None
    if match := _OTHER_ITEM.search(view.step.prose):
        question = f"It refers to another item (“{match[0]}”): write the command into this item, or do it by hand."
        return Reading(Kind.ASK, "it refers to another item", MANUAL, question=question)
    return Reading(Kind.MANUAL, "there is no command in it", MANUAL)


def _prohibition(view: ItemView) -> Reading | None:
    hindrance = view.hindrance("prohibition")
    if hindrance is None:
        return None
    forbidden = [one for one in view.candidates if any(found.name == "prohibition" for found in one.hindrances)]
    if forbidden and len(forbidden) < len(view.candidates):
        return _ask(view, f"it says “{hindrance.words}” about one of its commands", "Which of its commands shall run")
    return Reading(Kind.MANUAL, f"it says “{hindrance.words}”", MANUAL)


def _no_place(view: ItemView) -> Reading | None:
    places = [is_struck_or_quoted(one) for one in view.candidates]
    if not all(places) or not places[0]:
        return None
    return _ask(view, places[0], "Shall it run")


def _mention(view: ItemView) -> Reading | None:
    roles = {one.role for one in view.candidates if is_struck_or_quoted(one) is None}
    if roles != {Role.MENTION}:
        return None
    return Reading(Kind.MANUAL, f"it mentions “{view.candidates[0].code.text}” and does not say to run it", MANUAL)


def _hindered(name: str, question: str) -> "_Answer":
    def answer(view: ItemView) -> Reading | None:
        hindrance = view.hindrance(name)
        return _ask(view, f"it says “{hindrance.words}”", question) if hindrance is not None else None

    return answer


def _other_language(view: ItemView) -> Reading | None:
    return _ask(view, "llmval reads only English", "Shall its commands run") if other_language(view) else None


def _unclear(view: ItemView) -> Reading | None:
    block = next((one.unclear for one in view.candidates if one.unclear is not None), None)
    if block is not None:
        return replace(_ask(view, "a block in it is unclear", ""), question=block)
    if not needs_role(view) and not (view.to_run and any(one.role is Role.MENTION for one in view.candidates)):
        return None
    unclear = next(one for one in view.candidates if one.role is not Role.RUN)
    return _ask(view, f"it does not say what to do with “{_short(unclear.code.text)}”", "Shall it run")


def _beside(view: ItemView) -> Reading | None:
    setting = setting_beside(view)
    if setting is None:
        return None
    return _ask(view, f"“{_short(setting)}” stands beside it and is not part of it", "Shall the command run without it")


def _half(view: ItemView) -> Reading | None:
    task = task_by_hand(view)
    if task is None:
        return None
    return _ask(view, f"it also asks a person for “{task}”", "Shall the command run, and is the rest done by hand")


def _server(view: ItemView) -> Reading | None:
    if len(view.commands) != 1 or view.script is not None:
        return None
    server = known_server_in(view.commands[0].text)
    if server is None:
        return None
    reason = f"the item starts the server “{server.name}” for the following items of its section"
    return _as_server(_runs(view, reason))


def _as_server(reading: Reading) -> Reading:
    return replace(reading, kind=Kind.BUILTIN, action="server")


def _endless(view: ItemView) -> Reading | None:
    found = next((command for command in view.commands if is_endless(command.text)), None)
    if found is None and (said := _SERVICE.search(view.step.prose)) and not any(map(_ends, view.commands)):
        return _ask(view, f"it says “{said[0]}”, and a service does not end by itself", "Does it end")
    if found is None:
        return None
    question = (
        "It does not end by itself, so no exit code would judge it: start it yourself, and tick the item by hand. If "
        "it is a server that answers OpenAI's requests, write <!-- llmval: action=server url=http://127.0.0.1:PORT --> "
        "after the item's text."
    )
    return replace(_ask(view, f"“{_short(found.text)}” does not end by itself", ""), question=question)


def _refused(view: ItemView) -> Reading | None:
    refusal = next((one.understood.refusal for one in view.to_run if one.understood.refusal), None)
    if refusal is None or any(one.script is not None for one in view.to_run):
        return None
    if any(sign in refusal for sign in ("“*” at", "“?” at", "“[” at")):
        why = "it has a pattern of file names, which llmval does not expand in a code span"
        return _ask(view, why, "Name the files, or put the commands into a fenced block. Is it done by hand")
    why = "it has a command, which llmval refuses to start"
    return Reading(Kind.REFUSE, why, "command", view.commands, refusal=refusal)


def _several_scripts(view: ItemView) -> Reading | None:
    scripts = [one for one in view.to_run if one.script is not None]
    if not scripts or len(view.to_run) == 1:
        return None
    return _ask(view, "it has a script beside other commands", "Give each an item of its own. Shall all of them run")


def _runs(view: ItemView, reason: str | None = None) -> Reading:
    commands, script = view.commands, view.script
    if script is not None and not commands:
        kind, why = Kind.SCRIPT, f"has a block for {script.language} that needs a shell"
    elif len(commands) == 1:
        kind, why = Kind.COMMAND, f"has the command “{_short(commands[0].text)}”"
    else:
        kind, why = Kind.COMMANDS, f"has {len(commands)} commands"
    return Reading(
        kind,
        reason or f"the item {why}",
        "command",
        commands,
        script,
        claims_of(view.step, commands, script, view.texts_above),
        promised_files(view.step, commands),
    )


RULES: tuple[Rule, ...] = (
    Rule("comment", "has `<!-- llmval: action=… -->`", _stated),
    Rule("group", "has items below it and no command of its own", _group),
    Rule("builtin", "asks for one of llmval's own actions, see below", _builtin),
    Rule("nothing to run", "has no command, neither in a code span nor in a fenced block", _nothing),
    Rule("prohibition", "says not to run it: “do not”, “never”, “avoid”, “instead of”", _prohibition),
    Rule("no place to run", "has it only struck out, in a quotation or in a table", _no_place),
    Rule("mention", "mentions a script or a command: “review”, “edit”, “upload”, “make … executable”", _mention),
    Rule("past", "reports what was done: “was run”, “ran”, “the old way”", _hindered("past", "Shall it run now")),
    Rule(
        "another actor",
        "leaves it to somebody else: “ask the site team to”, “CI runs”, “by the vendor”",
        _hindered("another actor", "Do you run it"),
    ),
    Rule("example", "gives an example: “e.g.”, “such as”", _hindered("example", "Shall exactly this run")),
    Rule("alternative", "offers a choice: “either”, “`a` or `b`”", _hindered("alternative", "Which of them shall run")),
    Rule(
        "condition",
        "has a condition: “if”, “when”, “once … has”, “during”, “optional”",
        _hindered("condition", "Does this apply"),
    ),
    Rule(
        "another machine",
        "names another machine, user or window: “on the head node”, “verify on pi:”, “as root”, “in a second terminal”",
        _hindered("another machine", "Is it right to run it here, as you"),
    ),
    Rule(
        "repetition",
        "wants it more than once, or beside another: “twice”, “for each of”, “overnight”, “in parallel with”",
        _hindered("repetition", "llmval runs it once, and nothing beside it. Is that enough"),
    ),
    Rule("another language", "is not in English", _other_language),
    Rule("unclear", "has a command without words that say to run it, or a block that may be one", _unclear),
    Rule("beside", "names a variable or an option beside its command: “with `NCCL_DEBUG=INFO`”", _beside),
    Rule("half by hand", "asks a person for something more: “and call the vendor”", _half),
    Rule(
        "server",
        "starts a server that llmval knows: `vllm serve`, `python -m sglang.launch_server`, `transformers serve`, …",
        _server,
    ),
    Rule("endless", "starts something else that does not end: follows a file, opens an editor", _endless),
    Rule("not understood", "needs a shell in a code span, or breaks the grammar below", _refused),
    Rule("script and more", "has a block that needs a shell, and other commands", _several_scripts),
    Rule("run", "has one command, several, or a block that needs a shell", _runs),
)


# The readings of the list that was read last: a plan, its preview and the screen ask for the same ones again.
_known: tuple[Checklist | None, dict[tuple[Step, bool], Reading]] = None, {}


def read_item(step: Step, section: Section, checklist: Checklist, *, has_markers: bool = False) -> Reading:
    """What the item asks for. Looks at nothing but the checklist: no file, no environment, no program.

    Args:
        has_markers: a document that the item names contains llmval's markers.
    """
    global _known
    of, readings = _known
    if of is not checklist:
        _known = of, readings = checklist, {}
    reading = readings.get((step, has_markers))
    if reading is None:
        view = view_of(step, section, checklist)
        view.has_markers = has_markers
        reading = next(reading for rule in RULES if (reading := rule.answer(view)) is not None)
        readings[step, has_markers] = reading
    return reading


def _ask(view: ItemView, reason: str, question: str) -> Reading:
    return Reading(
        Kind.ASK,
        reason,
        "command" if view.commands or view.script else MANUAL,
        view.commands,
        view.script,
        claims_of(view.step, view.commands, view.script, view.texts_above),
        promised_files(view.step, view.commands),
        question=f"The item has a command, but {reason}. {question}?",
    )


def _short(text: str, limit: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
