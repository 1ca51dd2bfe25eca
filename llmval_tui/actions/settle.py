"""Settling a run: judge it, tick its item, record it. Whoever looks next does it; doing it again changes nothing."""

from pathlib import Path
from typing import Any

from llmval_tui.actions.gates import general_gates
from llmval_tui.actions.registry import action_named
from llmval_tui.checklist.ledger import Entry, record
from llmval_tui.checklist.model import StepKey
from llmval_tui.checklist.splice import commentable, set_mark
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, locked, read_json, read_lines, write_json
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.inventory import host_inventory
from llmval_tui.runs.records import Gate, Outcome, State, Verdict, worst
from llmval_tui.runs.store import Run, RunStore

TODO = Path("docs") / "TODO.md"
DEMO_MARKER = ".llmval-demo"  # a workspace with this file is a scratch one, in which `smoke` may tick


def is_demo(workspace: Path) -> bool:
    return (workspace / DEMO_MARKER).is_file()


def settle(run: Run, store: RunStore) -> Verdict | None:
    """Judge a run that has ended and, on a pass, tick and record its item; None while it still runs.

    Idempotent and safe to call from several processes at once.

    Raises:
        Refused: the checklist or the ledger cannot be written; the verdict stands, and settling again goes on there.
    """
    verdict = run.verdict()
    if verdict is None and run.state() not in (State.FINISHED, State.LOST):
        return None
    with locked(run.folder / "settle.lock"):
        verdict = run.verdict()
        if verdict is None:
            verdict = judge(run)
            write_json(run.folder / "verdict.json", verdict)
        if ticks(run, verdict, store.workspace) and not _recorded(run, store):
            _tick(run, verdict, store)
    return verdict


def settle_all(store: RunStore) -> list[str]:
    """Settle every run that nobody settled; returns a sentence for each that could not be."""
    problems = []
    for run in store.runs():
        try:
            settle(run, store)
        except Refused as refusal:
            problems.append(f"{run.id}: {refusal}")
    return problems


def judge(run: Run) -> Verdict:
    """The verdict over a run that has ended: the general gates and the action's own; nothing is written."""
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
    outcome = worst(gates)
    blamed = next((gate for gate in gates if gate.outcome is outcome and outcome is not Outcome.PASS), None)
    return Verdict(
        v=1,
        run_id=run.id,
        outcome=outcome,
        gates=gates,
        judged_utc=utc_iso(),
        summary=f"{blamed.name}: {blamed.reason}" if blamed else summary,
        evidence=evidence,
        deviations=list(intent.deviations),
        metrics=metrics,
        question=question,
    )


def ticks(run: Run, verdict: Verdict, workspace: Path) -> bool:
    """Whether this verdict may tick its item: a pass, asked to tick, and no trial preset outside a demo."""
    intent = run.intent
    return verdict.outcome is Outcome.PASS and intent.tick and (intent.preset != "smoke" or is_demo(workspace))


def rejudge(run: Run, store: RunStore) -> Verdict | None:
    """Judge again after the operator answered a question; the earlier verdict is kept beside the new one."""
    with locked(run.folder / "settle.lock"):
        old = run.verdict()
        if old is not None:
            number = len(list(run.folder.glob("verdict.*.json"))) + 1
            (run.folder / "verdict.json").rename(run.folder / f"verdict.{number}.json")
    return settle(run, store)


def tick_by_hand(checklist: Path, key: StepKey, note: str, store: RunStore) -> None:
    """Tick an item on the operator's own word, and record that it was so.

    Raises:
        Refused: there is no note, the item is gone, or a file cannot be written.
    """
    if not note.strip():
        raise Refused("a tick by hand needs a note that says what backs it: llmval tick STEP --note TEXT.")
    host = str(host_inventory()["name"])
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
    record(store.workspace / TODO, entry, store.workspace)
    store.root.mkdir(parents=True, exist_ok=True)
    append_line(store.ledger, {"v": 1, "kind": "operator", **_entry_json(entry)})


def _tick(run: Run, verdict: Verdict, store: RunStore) -> None:
    """Mark, ledger for people, ledger for machines, in this order: the last one says that all of it is done."""
    ref = run.intent.step
    checklist = store.workspace / ref.checklist
    deviation = commentable("; ".join(verdict.deviations)) or None
    step = set_mark(checklist, StepKey(ref.section, ref.text, ref.occurrence), True, comment=deviation)
    main = verdict.evidence[0] if verdict.evidence else None
    answer = read_json(run.folder / "accepted.json")
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
        link=answer.get("link") if isinstance(answer, dict) else None,
        occurrence=ref.occurrence,
    )
    record(store.workspace / TODO, entry, store.workspace)
    append_line(
        store.ledger,
        {"v": 1, "kind": "tick", "checklist": ref.checklist, "evidence": verdict.evidence, **_entry_json(entry)},
    )


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__dataclass_fields__}


def _recorded(run: Run, store: RunStore) -> bool:
    return any(line.get("run_id") == run.id and line.get("kind") == "tick" for line in read_lines(store.ledger))
