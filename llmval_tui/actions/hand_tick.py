"""A tick by hand: who, when, where and why are recorded before the box is touched.

The order is: the ledger says that the tick was asked for, `docs/TODO.md` gets its line, the box is ticked, the ledger
says that it is done. A process that dies in between leaves the first line, and the next settling completes the tick.
"""

import secrets
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from llmval_tui.actions.step_state import runs_by_step
from llmval_tui.actions.tick_basis import decided, lines_of_tick, notes_of, signature
from llmval_tui.checklist.edit import check_writable
from llmval_tui.checklist.ledger import Entry, line_of, put_line, record
from llmval_tui.checklist.model import Step, load
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.checklist.write_mark import marked, set_mark
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, locked
from llmval_tui.foundation.masked_text import without_secrets
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.inventory import host_inventory, user_name
from llmval_tui.runs.records import Outcome
from llmval_tui.runs.store import RunStore, recorded_path, same_checklist
from llmval_tui.runs.tick_ledger import ASKED, BY_HAND, WITHDRAWN, TickLine

TODO = Path("docs") / "TODO.md"
OUTCOME = "by hand"


def tick_by_hand(checklist: Path, key: StepKey, note: str, store: RunStore) -> TickLine:
    """Tick an item because a person says so; returns the recorded line. A second note is added to the first one.

    Raises:
        Refused: the note is empty or not UTF-8, the item is gone, or a file cannot be written. The message says whether
            the next settling will complete the tick; if not, nothing was changed.
    """
    step, line = _asked(checklist, key, note, store)
    try:
        store.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{store.root} cannot be made ({error.strerror}), so nothing was recorded or ticked.") from error
    with locked(store.root / "hand.lock"):
        _append(store, line)
        before = None
        try:
            before = line_of(store.workspace / TODO, step.keys_in_records)
            _record(line, step, store)
            set_mark(checklist, key, True)
        except BaseException as error:
            if not _is_ticked(checklist, key):
                reason = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
                raise Refused(_undone(line, step, before, reason, store)) from error
            if not isinstance(error, Refused):
                raise  # the tick stays, and the next settling completes its records
        with suppress(Refused):  # the line before is enough until the next settling
            _append(store, replace(line, kind=BY_HAND))
    return line


def complete_hand_ticks(store: RunStore) -> list[str]:
    """Complete the ticks by hand that a killed process left; returns a sentence for each one that could not be."""
    if not _pending(store):
        return []
    problems = []
    with locked(store.root / "hand.lock"):
        for line in _pending(store):
            checklist, key = store.workspace / (line.checklist or ""), StepKey(*line.key)
            try:
                step = load(checklist).find(key)
                if step is None:
                    _append(store, replace(line, kind=WITHDRAWN))
                    continue
                _record(line, step, store)
                set_mark(checklist, key, True)
                _append(store, replace(line, kind=BY_HAND))
            except Refused as refusal:
                problems.append(f"the tick by hand of {line.number} is recorded and not complete: {refusal}")
    return problems


def _asked(checklist: Path, key: StepKey, note: str, store: RunStore) -> tuple[Step, TickLine]:
    """The step, and the line that asks for the tick; refuses what cannot be done before anything is written."""
    text = " ".join(note.split())
    if not text:
        raise Refused("a tick by hand needs a note with its reason: llmval tick STEP --note TEXT.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused("the note is not UTF-8, so it cannot be recorded: nothing was changed; type it again.") from error
    parsed = load(checklist)
    marked(parsed, key, True)
    check_writable(checklist)
    step = parsed.find(key)
    assert step is not None
    failed = None
    for run in runs_by_step(parsed, store).get(step.key, []):
        verdict = decided(run)
        if verdict is not None:
            failed = run.id if verdict.outcome is Outcome.FAIL else None
            break
    named = step.recorded_key
    return step, TickLine(
        kind=ASKED,
        section=named.section,
        text=named.text,
        occurrence=named.occurrence,
        checklist=recorded_path(checklist, store.workspace),
        number=step.number,
        utc=utc_iso(),
        host=str(host_inventory()["name"]),
        by=user_name(),
        note=without_secrets(text),
        contradicts=failed,
        item_fingerprint=step.fingerprint,
        tick_id=secrets.token_hex(6),
    )


def _record(line: TickLine, step: Step, store: RunStore) -> None:
    """Write the item's line in `docs/TODO.md`, with every note since its last run."""
    name = line.checklist or ""
    lines = [
        one for one in store.ticks.lines() if one.key in step.keys_in_records and same_checklist(one.checklist, name)
    ]
    notes = notes_of(lines_of_tick(lines))
    entry = Entry(
        number=line.number,
        section=step.recorded_key.section,
        text=step.recorded_key.text,
        outcome=OUTCOME,
        utc=line.utc,
        host=line.host,
        run_id="",
        by=line.by,
        contradicts=line.contradicts,
        notes=tuple(f"{signature(note)}{note.text}" for note in notes),
        occurrence=step.recorded_key.occurrence,
        written_key=step.key,
    )
    record(store.workspace / TODO, entry, store.workspace)


def _undone(line: TickLine, step: Step, before: bytes | None, reason: str, store: RunStore) -> str:
    """Take back the records of a tick that could not be made; the sentence that says what is true then."""
    try:
        put_line(store.workspace / TODO, step.keys_in_records, before)
        _append(store, replace(line, kind=WITHDRAWN))
    except (Refused, OSError):
        return (
            f"{line.number} is not ticked: {reason} Its note is recorded already; repair the cause, and the next "
            "llmval status ticks the item."
        )
    return f"{line.number} is not ticked and no note is recorded: {reason}"


def _is_ticked(checklist: Path, key: StepKey) -> bool:
    try:
        step = load(checklist).find(key)
    except Refused:
        return False
    return step is not None and step.checked


def _pending(store: RunStore) -> list[TickLine]:
    lines = store.ticks.lines()
    over = {line.tick_id for line in lines if line.kind in (BY_HAND, WITHDRAWN)}
    return [line for line in lines if line.kind == ASKED and line.tick_id not in over]


def _append(store: RunStore, line: TickLine) -> None:
    append_line(store.ledger, {"v": 1, **asdict(line)})
