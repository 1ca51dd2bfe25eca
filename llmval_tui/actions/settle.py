"""Settling a run: judge it, tick its item, record it. Any process may do it; settling twice changes nothing."""

from pathlib import Path
from typing import Any

from llmval_tui.actions.accept import accepted
from llmval_tui.actions.criteria.evaluate import criteria_gates
from llmval_tui.actions.criteria.frozen import frozen_criteria
from llmval_tui.actions.gates.exit import retry_sentence
from llmval_tui.actions.gates.general import general_gates
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.step_state import ticks
from llmval_tui.checklist.ledger import Entry, record
from llmval_tui.checklist.model import StepKey, load
from llmval_tui.checklist.write_mark import safe_for_comment, set_mark
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, locked, read_lines, write_json
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import client
from llmval_tui.runs.evidence import archive
from llmval_tui.runs.inventory import host_inventory
from llmval_tui.runs.records import Gate, Outcome, State, Verdict, worst
from llmval_tui.runs.store import Run, RunStore, recorded_path

TODO = Path("docs") / "TODO.md"


def settle(run: Run, store: RunStore) -> Verdict | None:
    """Judge a run that has ended and, on a pass, tick and record its item; None while it still runs.

    Idempotent and safe to call from several processes at once.

    Raises:
        Refused: the run cannot be judged now, or the checklist or the ledger cannot be written. A verdict that was
            written stays, and settling again continues from there.
    """
    verdict = run.verdict()
    if verdict is None:
        client.ensure_supervised(run)  # a run without a supervisor gets one before it is judged
        if run.state() not in (State.FINISHED, State.LOST):
            return None
    if verdict is not None and not _answered(run, verdict) and not _unrecorded(run, verdict, store):
        return verdict  # nothing to do, so this also works in a read-only workspace
    with locked(run.folder / "settle.lock"):
        verdict = run.verdict()
        if verdict is not None and _answered(run, verdict):
            _archive_verdict(run)  # accepted, but interrupted before it was judged again
            verdict = None
        if verdict is None:
            verdict = _judged(run)
            write_json(run.folder / "verdict.json", verdict)
        if _unrecorded(run, verdict, store):
            _tick(run, verdict, store)
    return verdict


def settle_all(store: RunStore) -> list[str]:
    """Settle every run that is not settled; returns a sentence for each run that could not be.

    The oldest comes first: if an item ran twice, the newer run must be the last in the ledgers.
    """
    problems = []
    for run in reversed(store.runs()):
        try:
            settle(run, store)
        except Refused as refusal:
            problems.append(f"{run.id}: {refusal}")
    return problems


def _judged(run: Run) -> Verdict:
    try:
        verdict = judge(run)
        archive(run.folder, verdict.evidence, run.workspace)
        return verdict
    except Refused:
        raise
    except Exception as error:
        # An unreadable file, or a defect of a plugin or of llmval. A verdict is final, so write none. The run is judged
        # once the cause is repaired.
        raise Refused(f"run {run.id} cannot be judged yet ({type(error).__name__}: {error}).") from error


def judge(run: Run) -> Verdict:
    """The verdict on a run that has ended, from the general gates and the action's own; writes nothing."""
    gates, evidence = general_gates(run)
    metrics: dict[str, float | None] = {}
    summary = ""
    question: dict[str, Any] | None = None
    intent = run.intent
    try:
        own, metrics, summary, question = action_named(intent.action).judge(run)
        gates = gates + own
    except Refused as refusal:
        gates.append(Gate(intent.action, Outcome.INCONCLUSIVE, "not judged", "judged", str(refusal)))
    summary = "; ".join(part for part in (retry_sentence(run), summary) if part)
    gates += criteria_gates(run, frozen_criteria(run), metrics)
    status = run.status()
    # A cancelled run proves nothing about the node: its missing output is not the node's fault.
    outcome = Outcome.INCONCLUSIVE if status.cancelled else worst(gates)
    blamed = next((gate for gate in gates if gate.outcome is outcome and outcome is not Outcome.PASS), None)
    return Verdict(
        v=1,
        run_id=run.id,
        outcome=outcome,
        gates=gates,
        judged_utc=utc_iso(),
        summary=_blame(blamed, status.cancelled) or summary,
        evidence=evidence,
        deviations=list(intent.deviations),
        metrics=metrics,
        question=question,
    )


def _blame(gate: Gate | None, cancelled: str | None) -> str:
    """The reason why the run did not pass, in one sentence; "" if it passed."""
    if cancelled:
        return f"cancelled ({cancelled})"
    if gate is None:
        return ""
    return f"{gate.name}: {gate.measured}" + (f" ({gate.reason})" if gate.reason else "")


def rejudge(run: Run, store: RunStore) -> Verdict | None:
    """Judge again after the operator answered a question; the earlier verdict is archived beside the new one."""
    with locked(run.folder / "settle.lock"):
        if run.verdict() is not None:
            _archive_verdict(run)
    return settle(run, store)


def _archive_verdict(run: Run) -> None:
    number = len(list(run.folder.glob("verdict.*.json"))) + 1
    (run.folder / "verdict.json").rename(run.folder / f"verdict.{number}.json")


def _answered(run: Run, verdict: Verdict) -> bool:
    """Whether the operator has answered the question of the verdict."""
    answer = accepted(run) if verdict.question is not None else None
    return answer is not None and verdict.judged_utc <= str(answer.get("at_utc"))


def tick_by_hand(checklist: Path, key: StepKey, note: str, store: RunStore) -> None:
    """Tick an item because the operator says so, and record the operator's note.

    Raises:
        Refused: the note is empty, the item is gone, or a file cannot be written; the item is then unchanged.
    """
    if not note.strip():
        raise Refused("a tick by hand needs a note with its reason: llmval tick STEP --note TEXT.")
    host = str(host_inventory()["name"])
    before = load(checklist).find(key)
    step = set_mark(checklist, key, True)
    entry = Entry(
        number=step.number,
        section=step.section,
        text=step.text,
        outcome="operator",
        utc=utc_iso(),
        host=host,
        run_id="",
        artifact=None,
        sha256=None,
        note=note.strip(),
        deviations=(),
        link=None,
        occurrence=key.occurrence,
    )
    try:
        record(store.workspace / TODO, entry, store.workspace)
        store.root.mkdir(parents=True, exist_ok=True)
        where = recorded_path(checklist, store.workspace)
        append_line(store.ledger, {"v": 1, "kind": "operator", "checklist": where, **_entry_json(entry)})
    except (Refused, OSError):
        # No run can be settled to repeat this tick, so it must not stay without its note.
        if before is not None and not before.checked:
            set_mark(checklist, key, False)
        raise


def _tick(run: Run, verdict: Verdict, store: RunStore) -> None:
    """Write the mark, the ledger for people, and last the ledger for machines, which proves that all is done."""
    ref = run.intent.step
    if not ref.checklist:
        raise Refused(f"run {run.id} does not name its checklist: run its item again, or tick it with a note.")
    checklist = store.workspace / ref.checklist
    # Without a deviation, the empty comment removes the comment of an earlier run.
    deviation = safe_for_comment("; ".join(verdict.deviations))
    step = set_mark(checklist, StepKey(ref.section, ref.text, ref.occurrence), True, comment=deviation)
    main = verdict.evidence[0] if verdict.evidence else None
    answer = accepted(run)
    entry = Entry(
        number=step.number,
        section=ref.section,
        text=ref.text,
        outcome=verdict.outcome.value,
        utc=verdict.judged_utc,
        host=str(run.intent.host.get("name", "unknown host")),
        run_id=run.id,
        artifact=main.path if main else None,
        sha256=main.sha256 if main else None,
        note=verdict.summary or None,
        deviations=tuple(verdict.deviations),
        link=answer.get("link") if answer else None,
        occurrence=ref.occurrence,
    )
    record(store.workspace / TODO, entry, store.workspace)
    append_line(
        store.ledger,
        {"v": 1, "kind": "tick", "checklist": ref.checklist, "evidence": verdict.evidence, **_entry_json(entry)},
    )


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__dataclass_fields__}


def _unrecorded(run: Run, verdict: Verdict, store: RunStore) -> bool:
    """Whether the verdict ticks its item and the ledger does not contain that tick yet."""
    if not ticks(run, verdict):
        return False
    return not any(line.get("run_id") == run.id and line.get("kind") == "tick" for line in read_lines(store.ledger))
