"""The site settings and the answers beside a list, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from llmval_tui.foundation.errors import Refused

if TYPE_CHECKING:
    from llmval_tui.checklist.model import Step


class Decision(StrEnum):
    """What the operator decided about an item."""

    RUN = "run"
    MANUAL = "manual"  # a person does it
    SKIP = "skip"  # it is left out of every plan


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the question of one item."""

    section: str
    item: str  # the item's text without secrets, see `Step.recorded_key`; an older llmval wrote `Step.text`
    occurrence: int
    decision: Decision
    sha256: str  # SHA-256 of the item's text, see `questions.item_sha256`
    commands: tuple[str, ...] = ()  # as the item wrote them, without secrets
    scripts: Mapping[str, str] = field(default_factory=dict)  # the SHA-256 of each script file by its path
    by: str = ""
    when: str = ""  # UTC
    in_list: bool = (
        False  # an llmval comment of the item holds it; then `sha256` is short, see `questions.comment_hash`
    )
    replaces: tuple[str, str, int] | None = None  # the key of an answer that an older llmval wrote for the item

    @property
    def key(self) -> tuple[str, str, int]:
        return self.section, self.item, self.occurrence


@dataclass(frozen=True, slots=True)
class Question:
    """An open question about a step."""

    text: str  # one sentence
    each_time: bool = False  # an answer is not remembered
    code: str = ""  # changes with the item, its commands and its scripts; `--confirm CODE` answers it for one plan
    missing: tuple[str, ...] = ()  # placeholders without a value; only their values are asked for
    can_run: bool = True  # False: there is nothing to start, so the answer is "manual" or "skip"


@dataclass(frozen=True, slots=True)
class Bound:
    """Criteria that the file states for an item."""

    item: str
    expect: tuple[str, ...]  # in the grammar of `expect=`
    section: str | None = None  # None: the item's text is enough
    line: int | None = None

    def is_of(self, step: "Step") -> bool:
        return self.item == step.text and self.section in (None, step.section)


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """`[fleet]`: the nodes of the site and what starts them."""

    nodes: str | None = None  # a node list
    launcher: str | None = None  # "slurm" or "ssh"; None: see docs/fleet.md
    slurm_options: tuple[str, ...] = ()  # options of sbatch
    ssh: tuple[str, ...] = ()  # the words before the host; (): ssh
    exporter: str | None = None  # where each node's dcgm-exporter answers: a URL with {node}, or one of localhost
    shared: bool | None = None  # whether the nodes see this workspace at its path; None: it is tried


@dataclass(frozen=True, slots=True)
class ListSettings:
    """The content of the file; everything is empty if there is no file."""

    path: Path = Path()
    workspace: Path = Path()
    values: Mapping[str, str] = field(default_factory=dict)  # placeholder → value
    env: Mapping[str, str] = field(default_factory=dict)  # variables that every command gets
    python: str | None = None  # the interpreter of the workspace's scripts; None: `python` of PATH
    folder: str | None = None  # the working folder of the commands, relative to the workspace; None: the workspace
    fleet: FleetSettings = FleetSettings()
    never_ask: frozenset[str] = frozenset()  # programs that start without a question
    bounds: tuple[Bound, ...] = ()
    answers: tuple[Answer, ...] = ()

    def expects_of(self, step: "Step") -> tuple[str, ...]:
        """The criteria that the file states for this item, in the grammar of `expect=`."""
        return tuple(text for one in self.bounds if one.is_of(step) for text in one.expect)

    def check_bounds(self, steps: "Sequence[Step]") -> None:
        """Refuse bounds of an item that the list does not have: nothing would compare them.

        Raises:
            Refused: the message has the line and the item's text.
        """
        for one in self.bounds:
            if not any(one.is_of(step) for step in steps):
                where = f"{self.path}:{one.line}" if one.line else str(self.path)
                section = f" in the section “{one.section}”" if one.section else ""
                raise Refused(
                    f"{where}: [[bounds]] is for the item “{one.item[:80]}”{section}, which the list does not have: "
                    "copy the item's text from the list, or remove the bounds; nothing was started."
                )
