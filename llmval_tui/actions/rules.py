"""Rules that infer the action of a step from its words.

If two rules match, the step is ambiguous and refused. An exception: an action that `refines` another one takes
precedence over it. For example, a trace capture is a command that also judges the trace.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from llmval_tui.checklist.model import Step
from llmval_tui.foundation.errors import Refused

MANUAL = "manual"
_INTERPRETER = re.compile(r"(?:torchrun|python|python\d(?:\.\d+)?|bash|sh)")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=\S*")
_IMPERATIVE = re.compile(r"\b(?:run|execute|launch|start|use|invoke)\b[\s:]*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Choice:
    """The name of an action, and the words of the step that led to it."""

    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rule:
    """An action and its test, which returns the recognised words as part of a sentence, or None."""

    action: str
    test: Callable[[Step], str | None]
    refines: frozenset[str] = frozenset()


def prose(step: Step) -> str:
    """The step's text without its code spans: words of a file name must not match a rule."""
    return re.sub(r"(`+).*?\1", " ", step.text)


def documents(step: Step) -> list[str]:
    """The Markdown files in the code spans and links of the step, in order."""
    linked = re.findall(r"\]\(([^()\s#]+\.md)(?:#[^()\s]*)?\)", step.text)
    return list(dict.fromkeys([span for span in step.spans if re.fullmatch(r"\S+\.md", span)] + linked))


def command_spans(step: Step) -> list[str]:
    """The code spans that are commands: they begin with an interpreter or a script, or follow a word such as “run”."""
    found = []
    for span in step.spans:
        words = [word for word in span.split() if not _ASSIGNMENT.fullmatch(word)]
        if not words:
            continue
        first = words[0]
        interpreter = len(words) > 1 and _INTERPRETER.fullmatch(first.rsplit("/", 1)[-1])
        script = first.endswith((".py", ".sh")) or first.startswith("./")
        if interpreter or script or _follows_imperative(step, span):
            found.append(span)
    return found


def _follows_imperative(step: Step, span: str) -> bool:
    """Whether the words directly before the span ask to run it (“Run `nvidia-smi topo -m`”)."""
    before = step.text.partition(f"`{span}`")[0]
    if span.startswith("-") or re.fullmatch(r"\S+\.(?:md|json|txt|ya?ml|toml|csv)", span):
        return False
    return _IMPERATIVE.search(before) is not None


def flag_spans(step: Step) -> list[str]:
    """The code spans that hold only flags, such as `--compile-mode smart`."""
    return [span for span in step.spans if re.match(r"--?[A-Za-z]", span)]


def _says(pattern: str) -> Callable[[Step], str | None]:
    compiled = re.compile(pattern, re.IGNORECASE)

    def test(step: Step) -> str | None:
        match = compiled.search(" ".join(prose(step).split()))
        return f"says “{match[0]}”" if match else None

    return test


def _all(*tests: Callable[[Step], str | None]) -> Callable[[Step], str | None]:
    def test(step: Step) -> str | None:
        seen = [one(step) for one in tests]
        return " and ".join(part for part in seen if part) if all(seen) else None

    return test


def _names_document(step: Step) -> str | None:
    found = documents(step)
    return f"names {found[0]}" if found else None


def _names_todo(step: Step) -> str | None:
    return next((f"names {name}" for name in documents(step) if "todo" in name.lower()), None)


def _has_command(step: Step) -> str | None:
    found = command_spans(step)
    return f"has the command “{_short(found[0])}”" if found else None


def _has_flags(step: Step) -> str | None:
    found = flag_spans(step)
    return f"has the flags “{_short(found[0])}”" if found else None


def _short(text: str, limit: int = 48) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_COMMAND = frozenset({"command"})

RULES: tuple[Rule, ...] = (
    Rule(
        "env_export",
        _all(_says(r"\b(?:export|source|apply|set)\b[^.;]*\b(?:env|environment|variables?)\b"), _names_document),
    ),
    Rule(
        "trace_capture",
        _all(
            _says(r"\b(?:capture|record|collect|take)\b[^.;]*\b(?:traces?|profiles?|timelines?|nsys|nsight)\b"),
            _has_command,
        ),
        _COMMAND,
    ),
    Rule("baseline_drift", _all(_says(r"\b(?:drift\w*|regress\w*|deviat\w*)\b"), _names_document)),
    Rule("paired_run", _all(_says(r"\bwith(?: and |/)without\b"), _has_flags), _COMMAND),
    Rule("collect_logs", _says(r"\b(?:collect|gather|attach|bundle)\b[^.;]*\b(?:logs?|stdout|stderr)\b")),
    Rule("bug_report", _says(r"\b(?:file|open|update|submit|report)\b[^.;]*\b(?:bug|issue|ticket)s?\b")),
    Rule("summary", _all(_says(r"\b(?:summari[sz]e|aggregate|analy[sz]e)\b"), _has_command), _COMMAND),
    Rule("table_update", _all(_says(r"\b(?:update|refresh|rewrite)\b[^.;]*\btables?\b"), _names_document)),
    Rule("findings_note", _all(_says(r"\b(?:add|append|note|write|record)\b[^.;]*\bfindings?\b"), _names_document)),
    Rule(
        "gated_todo",
        _all(
            _says(r"\b(?:once|after|when|only if)\b[^.;]*\b(?:pass(?:es|ed)?|succeeds?|completes?|are done|is done)\b"),
            _names_todo,
        ),
    ),
    Rule("command", _has_command),
)


def choose(step: Step, rules: tuple[Rule, ...] = RULES) -> Choice:
    """The action that the step's words ask for; `manual` if no rule matches.

    Raises:
        Refused: two rules match, and neither refines the other.
    """
    seen = {rule.action: reason for rule in rules if (reason := rule.test(step))}
    refined = {name for rule in rules if rule.action in seen for name in rule.refines}
    left = [name for name in seen if name not in refined]
    if not left:
        return Choice(MANUAL, "its words match nothing that llmval can do")
    if len(left) > 1:
        both = " and as ".join(f"{name} (it {seen[name]})" for name in left)
        raise Refused(
            f"the item can be read as {both}: split it into two items, or choose one by writing "
            f"<!-- llmval: action={left[0]} --> after its text."
        )
    return Choice(left[0], f"the item {seen[left[0]]}")
