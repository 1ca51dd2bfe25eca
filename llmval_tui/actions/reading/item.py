"""An item as its rules see it: the commands in it, the roles of its code spans, and what keeps them from starting."""

import re
from dataclasses import dataclass, field

from llmval_tui.actions.reading.fences import Fence, read_fence
from llmval_tui.actions.reading.hindrances import Hindrance, above_of, hindrances_of, restriction_of
from llmval_tui.actions.reading.model import WrittenCommand, WrittenScript
from llmval_tui.actions.reading.roles import Role, role_of
from llmval_tui.actions.reading.sentences import MARK, Code, Prose, Sentence, prose_of
from llmval_tui.actions.reading.shell import Understood, in_folder, understand, without_prompt
from llmval_tui.actions.reading.spans import Nature
from llmval_tui.checklist.model import Checklist, Section, Step


@dataclass(slots=True)
class Candidate:
    """A code that is or may be a command."""

    code: Code
    sentence: Sentence
    role: Role
    hindrances: list[Hindrance]
    understood: Understood
    script: WrittenScript | None = None
    unclear: str | None = None


@dataclass(slots=True)
class ItemView:
    """One item with everything that the rules ask about."""

    step: Step
    section: Section
    checklist: Checklist
    prose: Prose
    candidates: list[Candidate] = field(default_factory=list)
    has_markers: bool = False  # a document that it names contains llmval's markers
    above: list[Hindrance] = field(default_factory=list)  # in titles and sentences above the item

    @property
    def texts_above(self) -> tuple[str, ...]:
        """The texts above the item that speak of it: see `_texts_above`."""
        return _texts_above(self.step, self.section)

    @property
    def to_run(self) -> list[Candidate]:
        """The codes that the words ask to run, hindered or not."""
        return [one for one in self.candidates if one.role is Role.RUN]

    @property
    def commands(self) -> tuple[WrittenCommand, ...]:
        """The commands that the item asks to run, in order; if it asks for none, those that it perhaps means."""
        chosen = self.to_run or self.candidates
        return tuple(command for one in chosen for command in one.understood.commands)

    @property
    def script(self) -> WrittenScript | None:
        return next((one.script for one in self.candidates if one.script is not None), None)

    @property
    def children(self) -> list[Step]:
        return [other for other in self.section.steps if other.parent == self.step.number]

    def hindrance(self, *names: str) -> Hindrance | None:
        """The first hindrance of one of these names on a command of the item."""
        own = [found for one in self.candidates for found in one.hindrances]
        return next((found for found in [*own, *self.above] if found.name in names), None)


def view_of(step: Step, section: Section, checklist: Checklist) -> ItemView:
    """The view of an item."""
    prose = prose_of(step)
    view = ItemView(step, section, checklist, prose)
    roles: dict[int, Role] = {}
    for sentence, index, code in prose.codes():
        if code.is_fence:
            _add_fence(view, sentence, code)
            continue
        role = Role.UNCLEAR if code.is_broken_fence else role_of(sentence, index, code, roles.get(id(sentence)))
        if code.nature not in (Nature.PATH, Nature.FLAGS):
            roles[id(sentence)] = role
        if role is Role.NONE:
            continue
        if code.is_broken_fence:
            view.candidates.append(_broken_fence(sentence, code))
            continue
        found = list(hindrances_of(sentence, index, code))
        folder = _folder(sentence, index)
        understood = understand(without_prompt(code.text), code.line)
        if folder is not None:
            understood = Understood(
                tuple(in_folder(command, folder) for command in understood.commands),
                understood.refusal,
                understood.needs_shell,
            )
        view.candidates.append(Candidate(code, sentence, role, found, understood))
    if view.candidates:
        view.above = list(above_of(_texts_above(step, section)))
        for sentence in prose.sentences:
            if not sentence.codes and sentence.kind != "quote" and (restriction := restriction_of(sentence)):
                view.above.append(restriction)
    return view


def _add_fence(view: ItemView, sentence: Sentence, code: Code) -> None:
    fence: Fence = read_fence(code, sentence)
    if fence.is_data and fence.unclear is None:
        return
    if fence.is_data and view.candidates:
        return
    role = Role.UNCLEAR if fence.unclear is not None else Role.RUN
    found = list(hindrances_of(sentence, 0, code)) if sentence.lead else []
    for comment in fence.comments:
        found += hindrances_of(Sentence(f"{comment.rstrip('.:')}: {MARK}", [code], "fence"), 0, code)
    understood = Understood(fence.commands, fence.refusal)
    view.candidates.append(Candidate(code, sentence, role, found, understood, fence.script, fence.unclear))


def _broken_fence(sentence: Sentence, code: Code) -> Candidate:
    """A block that Markdown does not read as one, because its fence is indented too far."""
    unclear = (
        f"Line {code.line} begins a block that Markdown reads as words of the item, because it is indented too far: "
        "indent it like the item's text, two spaces further than its “-”. Is it done by hand?"
    )
    return Candidate(code, sentence, Role.UNCLEAR, [], Understood((), None), unclear=unclear)


_BELOW = re.compile(
    r"[:：]\s*$|\b(?:these|following|below|this section|the steps|this part)\b|^\W*(?:only|skip|optional)\b", re.I
)


def _texts_above(step: Step, section: Section) -> tuple[str, ...]:
    """The section's title, the list's introduction if it speaks of the items, and the texts of all parents."""
    parents = []
    number = step.parent
    while number is not None:
        parent = next((other for other in section.steps if other.number == number), None)
        if parent is None:
            break
        parents.append(parent.prose)
        number = parent.parent
    introduction = [text for text in step.introduction if _BELOW.search(text)]
    return (section.title, *introduction, *parents)


_FOLDER_BEFORE = re.compile(
    r"(?:^|[\s(,])(?:from|in|inside|within|under)\s+(?:the\s+)?(?:folder|directory|dir)?\s*$", re.I
)
_FOLDER_WORD = re.compile(r"^\s*(?:folder|directory|dir|checkout)\b", re.I)
_MOVES = re.compile(
    r"\b(?:copy|move|rsync|read|export|import|load|restore|download|install|pull|fetch|take|remove|delete"
    r"|look)\b",
    re.I,
)


def _folder(sentence: Sentence, index: int) -> str | None:
    """The folder that the sentence names for a command: "from `tests/gpu`", "in the `deploy` folder"; None if none."""
    for other, code in enumerate(sentence.codes):
        if other == index or code.nature not in (Nature.PATH, Nature.OTHER) or code.text in sentence.codes[index].text:
            continue
        before, after = sentence.between(other), sentence.until_next(other)
        has_word = _FOLDER_WORD.match(after) or re.search(r"\b(?:folder|directory|dir)\s*$", before, re.I)
        if not _FOLDER_BEFORE.search(before) or _MOVES.search(before):
            continue
        name = code.text.rstrip("/")
        is_folder = code.text.endswith("/") or "." not in name.rsplit("/", 1)[-1]
        if is_folder and (has_word or "/" in code.text) and re.fullmatch(r"(?!/)[\w./-]+", name) and ".." not in name:
            return name
    return None


def is_struck_or_quoted(one: Candidate) -> str | None:
    """Where a candidate stands, if that is not a place for something to run."""
    if one.code.is_struck:
        return "it is struck out"
    if one.sentence.kind == "quote":
        return "it stands in a quotation"
    if one.sentence.kind == "table":
        return "it stands in a table"
    return None
