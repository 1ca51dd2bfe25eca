"""Judging a run that has ended: every gate, and the verdict that follows from them."""

from dataclasses import replace
from typing import Any

from llmval_tui.actions.criteria.evaluate import criteria_gates
from llmval_tui.actions.criteria.frozen import frozen_criteria
from llmval_tui.actions.gates.contradictions import contradiction_gates
from llmval_tui.actions.gates.exit import retry_sentence
from llmval_tui.actions.gates.general import general_gates
from llmval_tui.actions.gates.servers import record_servers
from llmval_tui.actions.nodes.verdict import judge_fleet
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.rests_on import IN_WORDS, rests_on, runs_it_rests_on, verdict_rests_on
from llmval_tui.fleet.launch import launch_of
from llmval_tui.fleet.probe import sees_run
from llmval_tui.fleet.record import node_runs
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import locked, write_json
from llmval_tui.foundation.masked_text import without_secrets
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import client
from llmval_tui.runs.command_end import end_unseen
from llmval_tui.runs.command_secrets import forget_parameters, forget_secrets
from llmval_tui.runs.evidence import archive
from llmval_tui.runs.records import Gate, Outcome, RestsOn, State, Verdict, why_not_passed, worst
from llmval_tui.runs.store import Run, RunStore


def judged(run: Run) -> Verdict:
    """The verdict on a run that has ended; its small evidence is kept in the run folder.

    Raises:
        Refused: it cannot be judged now.
    """
    try:
        record_servers(run)
        verdict = _without_secrets(judge(run))
        archive(run.folder, verdict.evidence, run.workspace)
        return verdict
    except Refused:
        raise
    except Exception as error:
        # An unreadable file, or a defect of a plugin or of llmval. A verdict is final, so write none. The run is judged
        # once the cause is repaired.
        raise Refused(f"run {run.id} cannot be judged yet ({type(error).__name__}: {error}).") from error


def judge_part(part: Run, run: Run) -> Verdict:
    """Judge one node's part of a run, where its files are; it ticks nothing. Judged once.

    In one launch over all nodes, the ranks of a part fail if others end: a part that had not taken the run's cancel yet
    is cancelled as they are.

    Raises:
        Refused: it cannot be judged now.
    """
    with locked(part.folder / "settle.lock"):
        verdict = part.verdict()
        if verdict is None:
            if launch_of(run.intent).collective and (by := run.cancelled_by()):
                client.cancel_judging(part, by)
            verdict = judged(part)
            write_json(part.folder / "verdict.json", verdict)
            forget_parameters(part.folder)
        return verdict


def judge(run: Run) -> Verdict:
    """The verdict on a run that has ended, from the general gates and the action's own; writes nothing.

    A run on several nodes is judged from the verdicts of its nodes, and gets its `fleet.json`.
    """
    if run.intent.launcher is not None:
        for name, part in node_runs(run).items():
            # Its agent was killed, and its supervisor saw the end: the files are those that it left. Of copies nobody
            # can say that: a node that did not judge them itself is lost.
            if part.verdict() is None and part.status().state is State.FINISHED and sees_run(run.folder, name):
                judge_part(part, run)
        forget_secrets(run.folder)  # no second measurement follows any more
        return judge_fleet(run)
    try:
        gates, evidence = general_gates(run)
    except InterruptedError:
        gates, evidence = [], []
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
    stated = criteria_gates(run, frozen_criteria(run), metrics)
    gates += stated
    gates += contradiction_gates(run)
    summary = summary or "; ".join(
        f"{gate.name.partition(': ')[2] or gate.name}: {gate.measured}" for gate in stated[:3]
    )
    cancelled = run.status().cancelled or run.cancelled_by()
    if cancelled and not run.status().cancelled:
        gates.append(Gate("not cancelled", Outcome.INCONCLUSIVE, f"cancelled by {cancelled}", "not cancelled"))
    # A cancelled run, and one that ended with its node, prove nothing: missing output is not the command's fault.
    undecided = bool(cancelled) or end_unseen(run)
    outcome = Outcome.INCONCLUSIVE if undecided else worst(gates)
    basis = rests_on(gates, _bases(run))
    if outcome is Outcome.PASS and basis is RestsOn.EXIT_CODE:
        summary = f"{IN_WORDS[basis]}: {summary}" if summary else IN_WORDS[basis]
    return Verdict(
        v=1,
        run_id=run.id,
        outcome=outcome,
        gates=gates,
        judged_utc=utc_iso(),
        summary=why_not_passed(outcome, gates, cancelled) or summary,
        evidence=evidence,
        deviations=list(intent.deviations),
        metrics=metrics,
        rests_on=basis,
        question=question,
    )


def _without_secrets(verdict: Verdict) -> Verdict:
    """The verdict for its record: a gate quotes what the item demands and lines of the output."""
    gates = [
        replace(
            gate,
            name=without_secrets(gate.name),
            measured=without_secrets(gate.measured),
            bound=without_secrets(gate.bound),
            reason=without_secrets(gate.reason),
        )
        for gate in verdict.gates
    ]
    deviations = [without_secrets(one) for one in verdict.deviations]
    return replace(verdict, gates=gates, summary=without_secrets(verdict.summary), deviations=deviations)


def _bases(run: Run) -> list[RestsOn]:
    verdicts = [RunStore(run.workspace).get(run_id).verdict() for run_id in runs_it_rests_on(run.intent)]
    return [verdict_rests_on(verdict) for verdict in verdicts if verdict is not None]
