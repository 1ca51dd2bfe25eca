"""What the list says of a step in words: what its tick rests on, and what it needs from a person."""

import re
from collections.abc import Sequence

from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.actions.tick_basis import TickBasis
from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.records import Outcome, RestsOn, Verdict
from llmval_tui.terminal.glyphs import Sign
from llmval_tui.tui.data.screen_state import NEEDS_YOU, ScreenState

# The states that wait for a person, the most urgent first.
WAITING = (
    StepState.CONTRADICTED,
    StepState.FAILED,
    StepState.UNREADABLE,
    StepState.STALE,
    StepState.INVALID,
    StepState.INCONCLUSIVE,
    StepState.REFUSED,
    StepState.ASKING,
)
_BY_STATE = (
    *WAITING, StepState.RUNNING, StepState.JUDGING, StepState.OPEN, StepState.TICKED, StepState.PASSED,
    StepState.BY_HAND, StepState.EXIT_CODE, StepState.MEASURED,
)  # fmt: skip


def waiting(statuses: Sequence[StepStatus]) -> list[StepStatus]:
    """The steps that wait for a person, the most urgent first."""
    return sorted((s for s in statuses if s.state in WAITING), key=lambda status: WAITING.index(status.state))


def state_rank(status: StepStatus) -> int:
    return _BY_STATE.index(status.state)


def sign_of(state: ScreenState, status: StepStatus) -> Sign:
    return state.sign(status.step, status.state)


def state_words(state: ScreenState) -> list[tuple[str, int]]:
    """The words by which the list can be filtered, with the number of steps; only those that occur."""
    statuses = state.snapshot.steps
    words = [sign_of(state, status).word for status in sorted(statuses, key=state_rank)]
    found = [(word, words.count(word)) for word in dict.fromkeys(words)]
    needs = len(waiting(statuses))
    return [(NEEDS_YOU, needs), *found] if needs else found


def has_state(state: ScreenState, status: StepStatus) -> bool:
    """Whether the filter by state shows the step."""
    if state.shown_state == NEEDS_YOU:
        return status.state in WAITING
    return state.shown_state is None or sign_of(state, status).word == state.shown_state


_RUN_ID = re.compile(r"\b\d{8}T\d{6}Z-(\S+?-[0-9a-f]{6})\b")


def need_of(status: StepStatus, answer_key: str = "") -> str:
    """What a person has to know of a step that waits, in one line; of a run's id the part that people read.

    `answer_key` is the key that answers a verdict's question; "" if the dashboard changes nothing.
    """
    need = _RUN_ID.sub(r"\1", _need(status))
    return f"{need}: press {answer_key}" if answer_key and status.state is StepState.ASKING else need


def _need(status: StepStatus) -> str:
    basis, verdict = status.basis, status.verdict
    if status.state is StepState.CONTRADICTED and basis is not None:
        return clean_line(f"ticked, but {basis.contradicted}")
    if status.state is StepState.STALE and basis is not None:
        return clean_line("; ".join(basis.stale))
    if status.state is StepState.UNREADABLE:
        closed = "; ".join(basis.unreadable) if basis is not None else ""
        return clean_line(status.problem or closed or "a record is damaged")
    if status.state is StepState.ASKING and verdict is not None and verdict.question is not None:
        return "asks for a link" if verdict.question.get("kind") == "link" else "asks you"
    if status.state is StepState.REFUSED and status.refused is not None:
        return clean_line(status.refused)
    return _reason(verdict) if verdict is not None else ""


def _reason(verdict: Verdict) -> str:
    """Why a verdict is no pass, in short; of a command that ended badly also its last words, which are the cause."""
    summary = clean_line(verdict.summary)
    gate = next((one for one in verdict.gates if one.outcome is verdict.outcome is not Outcome.PASS), None)
    title = clean_line(gate.title) if gate is not None else ""
    if gate is None or not summary.startswith(f"{title}: "):
        return in_short(summary)
    if gate.reason and gate.name.partition(":")[0] == "exit":
        alone = sum(one.name.partition(":")[0] == "exit" for one in verdict.gates) == 1
        return clean_line(f"{'' if alone else f'{title}: '}{gate.measured}, {gate.reason}")
    return in_short(summary, title)


def in_short(reason: str, title: str = "") -> str:
    """The reason of a verdict without its explanations: `kept up: 3 s (it grew): more` becomes `kept up: 3 s`.

    `title` is the name of the gate at its beginning, which may have a colon itself. The pane Run has it in full.
    """
    known = title and reason.startswith(f"{title}: ")
    name, colon, rest = (title, ": ", reason[len(title) + 2 :]) if known else reason.partition(": ")
    rest = re.split(r": | \(", rest, maxsplit=1)[0]
    return f"{name}{colon}{rest}" if rest else reason


def rests_on_words(status: StepStatus) -> str:
    """What the step's state rests on, in at most 17 cells."""
    basis, verdict = status.basis, status.verdict
    if status.state is StepState.RUNNING:
        return "run of now"
    if basis is not None and status.step.checked:
        return _ticked(basis)
    if verdict is not None and status.state is StepState.ASKING and verdict.question is not None:
        return "waits for a link" if verdict.question.get("kind") == "link" else "waits for you"
    if verdict is not None:
        bad = sum(gate.outcome is not Outcome.PASS for gate in verdict.gates)
        return f"{bad} of {len(verdict.gates)} gates" if bad else f"{len(verdict.gates)} gates"
    return ""


def _ticked(basis: TickBasis) -> str:
    if basis.contradicted:
        return "a run that failed"
    if basis.was_edited:
        return "an edited item"
    if basis.stale:
        return "a changed file"
    if basis.unreadable:
        return "a closed file"
    if basis.rests_on is RestsOn.BY_HAND:
        count = sum(len(note.text.split()) for note in basis.notes)
        return f"note of {count} word{'s' if count != 1 else ''}"
    if basis.of_group:
        return "items below it"
    if basis.rests_on is RestsOn.EXIT_CODE:
        return "exit 0"
    files = len(basis.evidence)
    return f"gates, {files} file{'s' if files != 1 else ''}" if files else "gates"
