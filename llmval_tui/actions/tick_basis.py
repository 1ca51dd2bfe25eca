"""What the ticks of a checklist rest on now: the ledger, compared with the files, the list and the newer runs.

Only sizes and times of files are looked at; `llmval verify` hashes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from llmval_tui.actions.rests_on import runs_it_rests_on, verdict_rests_on
from llmval_tui.actions.review.model import ListSettings
from llmval_tui.actions.review.settings import settings_of, settings_path
from llmval_tui.checklist.model import Checklist, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.masked_text import is_recorded_as, without_secrets
from llmval_tui.foundation.paths import named_path
from llmval_tui.runs.evidence import change_of, read_verified
from llmval_tui.runs.records import Evidence, Outcome, RestsOn, Verdict
from llmval_tui.runs.store import Run, RunStore, recorded_path, same_checklist
from llmval_tui.runs.tick_ledger import ASKED, BY_HAND, RUN, WITHDRAWN, TickLine

Key = tuple[str, str, int]  # section, text, occurrence


@dataclass(frozen=True, slots=True)
class Note:
    """A person's note on a tick."""

    text: str
    utc: str
    host: str
    by: str | None  # None in old records


@dataclass(frozen=True, slots=True)
class TickBasis:
    """What one tick rests on, and what has happened to that since."""

    rests_on: RestsOn
    utc: str
    run_id: str | None  # None for a tick by hand and for a group
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[Note, ...] = ()  # of a tick by hand, oldest first; of a group the items that it rests on
    of_group: bool = False  # its box follows the items below it
    stale: tuple[str, ...] = ()  # what changed, a phrase each: "artifacts/x.json changed since it was judged"
    unreadable: tuple[str, ...] = ()  # what this user may not read, a phrase each; whether it changed is not known
    was_edited: bool = False  # the item, or its bounds beside the list, since it was ticked
    contradicted_by: str | None = None  # the newer run that failed
    contradicted: str | None = None  # as a phrase
    contradicts: str | None = None  # the run that had failed before a tick by hand

    @property
    def phrase(self) -> str:
        """What the tick rests on and what is wrong with it, for people."""
        parts = [text for text in (self.contradicted, *self.stale, *self.unreadable) if text]
        match self.rests_on:
            case RestsOn.BY_HAND:
                note = self.notes[-1] if self.notes else None
                parts.append(f"by hand: {signature(note)}{note.text}" if note else "by hand")
            case RestsOn.EXIT_CODE:
                parts.append("exit code only")
            case RestsOn.MEASURED:
                parts.append("measured")
        if self.contradicts:
            parts.append(f"contradicts run {self.contradicts}, which failed")
        return "; ".join(parts)


_WORDS = {"missing": "is missing", "unreadable": "cannot be read by you", "changed": "changed since it was judged"}


def signature(note: Note) -> str:
    """Who wrote a note, where and when: `ops@node1 2026-01-02T03:04:05Z, `."""
    who = f"{note.by}@{note.host}" if note.by and note.host else note.by or note.host
    return f"{who} {note.utc}, ".lstrip()


def ticks(run: Run, verdict: Verdict) -> bool:
    """Whether this verdict may tick its item: it passed, ticking is on, and it is not a smoke run outside a demo.

    The run itself records whether it was a demo, so marking a workspace as a demo later does not affect older runs.
    """
    intent = run.intent
    return (
        verdict.outcome is Outcome.PASS
        and intent.tick
        and (intent.preset != "smoke" or bool(intent.params.get("demo")))
    )


def tick_bases(checklist: Checklist, store: RunStore, runs: Mapping[Key, Sequence[Run]]) -> dict[Key, TickBasis]:
    """The basis of each ticked step that has one.

    Args:
        runs: the runs of each step of this checklist, newest first.
    """
    name = recorded_path(checklist.path, store.workspace)
    lines: dict[Key, list[TickLine]] = {}
    for line in store.ticks.lines():
        if same_checklist(line.checklist, name):
            lines.setdefault(checklist.key_of(line.key), []).append(line)
    known = {step.key for step in checklist.steps}
    orphans = [line for key, of_step in lines.items() if key not in known for line in lines_of_tick(of_step)[-1:]]
    verified = read_verified(store)
    settings = _settings(checklist.path, store.workspace)
    found: dict[Key, TickBasis] = {}
    for step in checklist.steps:
        if not step.checked:
            continue
        standing = lines_of_tick(lines.get(step.key, []))
        own_runs = runs.get(step.key, ())
        if not standing and (unrecorded := _line_of_newest_run(own_runs)):
            standing = [unrecorded]
        was_edited = False
        if not standing and (earlier := _before_the_edit(step, orphans)):
            standing, was_edited = [earlier], True
        if standing:
            basis = _basis(step, standing, own_runs, store, checklist, runs, verified, was_edited=was_edited)
            if settings is not None and _bounds_changed(step, standing[-1], store, settings):
                changed = f"its bounds in {settings.path.name} were changed since"
                basis = replace(basis, stale=(*basis.stale, changed), was_edited=True)
            found[step.key] = basis
    for step in reversed(checklist.steps):  # the items below a group come after it
        group = found.get(step.key)
        if group is not None and group.of_group:
            found[step.key] = _of_group(group, [one for one in checklist.steps if one.parent == step.number], found)
    return found


def _settings(checklist: Path, workspace: Path) -> ListSettings | None:
    """The settings beside the list; None if they cannot be read, which every command that runs something says."""
    path = settings_path(checklist)
    try:
        status = path.stat()
    except OSError:
        return ListSettings(path, workspace)
    return _parsed_settings(checklist, workspace, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4)
def _parsed_settings(checklist: Path, workspace: Path, _stamp: tuple[int, int, int]) -> ListSettings | None:
    try:
        return settings_of(checklist, workspace)
    except Refused:
        return None


def _bounds_changed(step: Step, line: TickLine, store: RunStore, settings: ListSettings) -> bool:
    """Whether the settings state other criteria for the item than those that its run was judged by."""
    run = store.find(line.run_id) if line.run_id else None
    criteria = run.intent.params.get("criteria") if run is not None else None
    if not isinstance(criteria, list):
        return False  # an old record
    judged = [one.get("text") for one in criteria if one.get("stated_by") == "settings"]
    now = sorted(settings.expects_of(step))
    return sorted(map(str, judged)) not in (now, sorted(map(without_secrets, now)))


def _of_group(basis: TickBasis, children: Sequence[Step], found: Mapping[Key, TickBasis]) -> TickBasis:
    """The basis of a group, which is as good as the ticks below it are now."""
    stale, closed, contradicted = list(basis.stale), list(basis.unreadable), basis.contradicted
    for child in children:
        below = found.get(child.key)
        if below is None:
            stale.append(f"item {child.number} below it has no tick with a record")
        elif below.contradicted:
            contradicted = contradicted or f"item {child.number} below it is contradicted"
        elif below.stale:
            stale.append(f"item {child.number} below it is stale")
        elif below.unreadable:
            closed.append(f"item {child.number} below it is unreadable")
    return replace(basis, stale=tuple(stale), unreadable=tuple(closed), contradicted=contradicted)


def lines_of_tick(lines: Sequence[TickLine]) -> list[TickLine]:
    """The lines that the tick rests on: the last run's, or all notes of a tick by hand since."""
    over = {line.tick_id for line in lines if line.kind in (BY_HAND, WITHDRAWN) and line.tick_id}
    found: list[TickLine] = []
    for line in lines:
        if line.kind == RUN:
            found = [line]
        elif line.kind == BY_HAND or (line.kind == ASKED and line.tick_id not in over):
            if found and line.tick_id and found[-1].tick_id == line.tick_id:
                continue  # completed by two processes
            found = [*found, line] if found and found[-1].kind != RUN else [line]
    return found


def notes_of(lines: Sequence[TickLine]) -> tuple[Note, ...]:
    """The notes of the standing lines of a tick by hand."""
    return tuple(Note(line.note or "", line.utc, line.host, line.by) for line in lines)


def _line_of_newest_run(runs: Sequence[Run]) -> TickLine | None:
    """Between the tick and its line in the ledger, only the run proves it."""
    run = next(iter(runs), None)
    verdict = _verdict(run) if run is not None else None
    return tick_line(run, verdict) if run is not None and verdict is not None and ticks(run, verdict) else None


def tick_line(run: Run, verdict: Verdict) -> TickLine:
    """The line of the ledger for a tick by this run."""
    ref = run.intent.step
    return TickLine(
        kind=RUN,
        section=ref.section,
        text=ref.text,
        occurrence=ref.occurrence,
        checklist=ref.checklist,
        number=ref.number,
        utc=verdict.judged_utc,
        host=str(run.intent.host.get("name", "unknown host")),
        note=verdict.summary or None,
        run_id=run.id,
        evidence=list(verdict.evidence),
        rests_on=verdict_rests_on(verdict),
        item_fingerprint=run.intent.item_fingerprint or None,
    )


def _before_the_edit(step: Step, orphans: Sequence[TickLine]) -> TickLine | None:
    """The last record of this item from before its text or its section's title was edited."""
    same = [one for one in orphans if is_recorded_as(one.text, step.text) and one.occurrence == step.occurrence]
    same = same or [one for one in orphans if is_recorded_as(one.section, step.section) and one.number == step.number]
    return same[-1] if same else None


def _basis(
    step: Step,
    standing: Sequence[TickLine],
    own_runs: Sequence[Run],
    store: RunStore,
    checklist: Checklist,
    runs: Mapping[Key, Sequence[Run]],
    verified: Mapping[tuple[str, str], Evidence],
    *,
    was_edited: bool,
) -> TickBasis:
    line = standing[-1]
    changes = [
        (change, f"{named_path(item.path)} {_WORDS[change]}")
        for item in line.evidence
        if (change := change_of(item, store.workspace, line.utc, verified.get((item.path, item.sha256))))
    ]
    stale = [phrase for change, phrase in changes if change != "unreadable"]
    was_edited = was_edited or (line.item_fingerprint is not None and not step.has_fingerprint(line.item_fingerprint))
    if was_edited:
        stale.append("the item's text was edited since")
    failed = _failed_since(line, own_runs)
    contradicted = f"run {failed.id} failed since" if failed is not None else None
    if failed is None and line.run_id and (base := _failed_base(line.run_id, store, checklist, runs)):
        failed = base
        contradicted = f"item {failed.intent.step.number}, which it rests on, failed in run {failed.id}"
    by_hand = line.kind != RUN
    return TickBasis(
        rests_on=RestsOn.BY_HAND if by_hand else line.rests_on or _old_basis(line, own_runs),
        utc=line.utc,
        run_id=None if by_hand else line.run_id,
        evidence=tuple(line.evidence),
        notes=notes_of(standing) if by_hand or not line.run_id else (),
        of_group=not by_hand and line.run_id is None,
        stale=tuple(stale),
        unreadable=tuple(phrase for change, phrase in changes if change == "unreadable"),
        was_edited=was_edited,
        contradicted_by=failed.id if failed is not None else None,
        contradicted=contradicted,
        contradicts=next((one.contradicts for one in standing if one.contradicts), None),
    )


def _old_basis(line: TickLine, runs: Sequence[Run]) -> RestsOn:
    """For a line that does not say it: from the verdict of its run; without that, the weaker one."""
    run = next((run for run in runs if run.id == line.run_id), None)
    verdict = _verdict(run) if run is not None else None
    return verdict_rests_on(verdict) if verdict is not None else RestsOn.EXIT_CODE


def _failed_since(line: TickLine, runs: Sequence[Run]) -> Run | None:
    """The newest decided run of the item, if it is newer than the tick and failed."""
    own = next((run for run in runs if run.id == line.run_id), None)
    for run in runs:
        if run is own or run.id == line.contradicts:
            return None
        verdict = decided(run)
        if verdict is None:
            continue
        newer = run.order > own.order if own is not None else verdict.judged_utc >= line.utc
        return run if newer and verdict.outcome is Outcome.FAIL else None
    return None


def _failed_base(run_id: str, store: RunStore, checklist: Checklist, runs: Mapping[Key, Sequence[Run]]) -> Run | None:
    run = store.find(run_id)
    for base_id in runs_it_rests_on(run.intent) if run is not None else []:
        base = store.find(base_id)
        if base is None:
            continue
        for newer in runs.get(checklist.key_of(base.intent.step.key), ()):
            if newer.order <= base.order:
                break
            verdict = decided(newer)
            if verdict is not None:
                if verdict.outcome is Outcome.FAIL:
                    return newer
                break
    return None


def decided(run: Run) -> Verdict | None:
    """The verdict if it says something about the item as written: pass or fail, and no trial outside a demo."""
    if run.intent.preset is not None and not run.intent.params.get("demo"):
        return None
    verdict = _verdict(run)
    return verdict if verdict is not None and verdict.outcome in (Outcome.PASS, Outcome.FAIL) else None


def _verdict(run: Run) -> Verdict | None:
    try:
        return run.verdict()
    except Refused:  # damaged; `step_statuses` names it
        return None
