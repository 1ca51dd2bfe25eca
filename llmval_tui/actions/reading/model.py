"""The reading of an item: what it asks for, before anything of this machine is looked at."""

from dataclasses import dataclass
from enum import StrEnum

from llmval_tui.actions.criteria.model import Criterion

MANUAL = "manual"  # the action of an item that a person does


class Kind(StrEnum):
    """What an item asks for. docs/checklists.md has the rules that decide it."""

    COMMAND = "command"  # one command
    COMMANDS = "commands"  # several, in order; all must pass
    SCRIPT = "script"  # a fenced block that needs a shell; it runs as a frozen file
    BUILTIN = "builtin"  # one of llmval's own actions
    ASK = "ask"  # a person must say whether and how it runs
    MANUAL = "manual"  # a person does it
    REFUSE = "refuse"  # it asks for something that llmval does not start


@dataclass(frozen=True, slots=True)
class WrittenCommand:
    """One command as the item writes it, its lines joined as a shell joins them."""

    text: str
    line: int  # in the checklist, from 1
    folder: str | None = None  # the working folder that the item names, relative to the workspace; None: the workspace
    placeholders: tuple[str, ...] = ()  # names of the values that somebody must give: "pod" of <pod>, "NODE" of $NODE


@dataclass(frozen=True, slots=True)
class WrittenScript:
    """A fenced block that needs a shell, without its prompts and its printed output."""

    text: str
    line: int
    language: str  # the fence's language: "bash", "sh", "console", …
    placeholders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading of one item. `read_item` makes it from the item and its section alone."""

    kind: Kind
    reason: str  # the words of the item that decide, as part of a sentence: "has the command “make test”"
    action: str  # the action that carries it out: "command", "manual", "trace_capture", …
    commands: tuple[WrittenCommand, ...] = ()  # what an `ask` runs once it is confirmed
    script: WrittenScript | None = None
    criteria: tuple[Criterion, ...] = ()
    evidence: tuple[str, ...] = ()  # files and folders that the item's words promise, besides those of its commands
    question: str | None = None  # what a person must decide about an `ask`
    refusal: str | None = None  # why a `refuse` is not started, and what to write instead
    is_group: bool = False  # its children decide: its box follows theirs

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names of all values that somebody must give, in order."""
        of_commands = [name for command in self.commands for name in command.placeholders]
        return tuple(dict.fromkeys([*of_commands, *(self.script.placeholders if self.script else ())]))
