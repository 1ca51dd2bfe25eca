"""Settling a run: judge it, tick its item, record it. Any process may do it; settling twice changes nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from llmval_tui.actions.accept import accepted
from llmval_tui.actions.groups import tick_all_groups, tick_groups
from llmval_tui.actions.hand_tick import TODO, complete_hand_ticks
from llmval_tui.actions.rests_on import IN_WORDS, verdict_rests_on
from llmval_tui.actions.tick_basis import tick_line, ticks
from llmval_tui.checklist.ledger import Entry, record
from llmval_tui.checklist.model import load
from llmval_tui.checklist.step_keys import StepKey
from llmval_tui.checklist.write_mark import safe_for_comment, set_mark
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import append_line, is_locked, locked, read_json, try_lock, write_json
from llmval_tui.runs import client
from llmval_tui.runs.artifact_snapshot import read_snapshots
from llmval_tui.runs.command_secrets import forget_parameters
from llmval_tui.runs.records import Outcome, State, Verdict
from llmval_tui.runs.store import Run, RunStore, plan_lock

INLINE_BYTES = 1 << 30  # evidence that is hashed while somebody waits; about two seconds


def settle(run: Run, store: RunStore, *, wait: bool = True) -> Verdict | None:
    """Judge a run that has ended and, on a pass, tick and record its item; None while it still runs.

    Idempotent and safe to call from several processes at once. Without `wait`, None if another process judges it.

    Raises:
        Refused: the run cannot be judged now, or the checklist or the ledger cannot be written. A verdict that was
            written stays, and settling again continues from there.
    """
    verdict = run.verdict()
    if verdict is not None and not _answered(run, verdict) and not _unrecorded(run, verdict, store):
        return verdict  # nothing to do, so this also works in a read-only workspace
    if (original := run.copied_from()) is not None:
        raise Refused(
            f"it is a copy of {original}, so it is not judged and ticks nothing here: move {run.folder} out of the "
            "workspace; `llmval report FOLDER` shows it there."
        )
    if verdict is None:
        client.ensure_supervised(run)  # a run without a supervisor gets one before it is judged
        if run.state() not in (State.FINISHED, State.LOST) or _waits_for_repeat(run):
            return None
    with _settling(run, wait=wait) as ours:
        if not ours:
            return None
        verdict = run.verdict()
        if verdict is not None and _answered(run, verdict):
            _archive_verdict(run)  # accepted, but interrupted before it was judged again
            verdict = None
        if verdict is None:
            from llmval_tui.actions.judge import judged  # all gates and judges: a look at settled runs needs none

            verdict = judged(run)
            write_json(run.folder / "verdict.json", verdict)
            if verdict.question is None:  # an answer asks for another verdict
                forget_parameters(run.folder)
        if _unrecorded(run, verdict, store) and not _superseded_edit(run, store):
            _tick(run, verdict, store)
    return verdict


def _waits_for_repeat(run: Run) -> bool:
    """Whether the run's plan still has to measure suspected nodes again; without its plan, nobody will."""
    if (
        run.intent.launcher is None
        or run.intent.plan_id is None
        or not is_locked(plan_lock(run.workspace, run.intent.plan_id))
    ):
        return False
    from llmval_tui.fleet.compare import nodes_to_repeat, repeated_run

    again = repeated_run(run)
    return bool(nodes_to_repeat(run)) or (again is not None and not Run(again).judged())


@contextmanager
def _settling(run: Run, *, wait: bool) -> Iterator[bool]:
    """Hold the run's lock; gives False without `wait` if another process holds it."""
    path = run.folder / "settle.lock"
    if wait:
        with locked(path):
            yield True
        return
    descriptor = try_lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def settle_all(store: RunStore, *, wait: bool = True) -> list[str]:
    """Settle every run that is not settled, and complete ticks by hand; returns a sentence for each problem.

    The oldest comes first: if an item ran twice, the newer run must be the last in the ledgers. Without `wait` it does
    not wait for another process that judges a run, and gives runs with much evidence to a process of their own.
    """
    problems = []
    for run in reversed(store.runs()):
        try:
            if (store.ticks.ticked_by(run.id) and run.judged()) or _is_over(run):
                continue
            if wait or not _judged_elsewhere(run):
                settle(run, store, wait=wait)
        except Refused as refusal:
            problems.append(f"{run.id}: {refusal}")
        except Exception as error:  # noqa: BLE001  (one run's defect must not keep the others from being judged)
            problems.append(f"{run.id} cannot be judged: {type(error).__name__}: {error}")
    return problems + complete_hand_ticks(store) + tick_all_groups(store)


def _is_over(run: Run) -> bool:
    """Whether the verdict ticks nothing and asks nothing; cheap, because a workspace may have thousands of old runs."""
    value = read_json(run.folder / "verdict.json")
    return isinstance(value, dict) and value.get("outcome") != Outcome.PASS and value.get("question") is None


def _judged_elsewhere(run: Run) -> bool:
    """Whether a process of its own judges the run, because it would keep the caller for long."""
    if run.verdict() is not None or run.state() is not State.FINISHED or _bytes_promised(run) < INLINE_BYTES:
        return False
    if not is_locked(run.folder / "settle.lock"):
        argv = [sys.executable, "-m", "llmval_tui.actions.settle", str(run.folder)]
        client.spawn_detached(argv, run.folder / "supervisor.log")
    return True


def _bytes_promised(run: Run) -> int:
    """The size of the evidence at the end of the run, from the snapshot of the supervisor."""
    return sum(size for _, size, _ in (read_snapshots(run).after or {}).values())


def rejudge(run: Run, store: RunStore) -> Verdict | None:
    """Judge again after the operator answered a question; the earlier verdict is archived beside the new one."""
    with locked(run.folder / "settle.lock"):
        if run.verdict() is not None:
            _archive_verdict(run)
    return settle(run, store)


def _archive_verdict(run: Run) -> None:
    number = len(list(run.folder.glob("verdict.*.json"))) + 1
    verdict = run.folder / "verdict.json"
    try:
        verdict.rename(run.folder / f"verdict.{number}.json")
    except OSError as error:
        raise Refused(f"{verdict} cannot be renamed ({error.strerror}), so the run is not judged again.") from error


def _answered(run: Run, verdict: Verdict) -> bool:
    """Whether the operator has answered the question of the verdict."""
    answer = accepted(run) if verdict.question is not None else None
    return answer is not None and verdict.judged_utc <= str(answer.get("at_utc"))


def _tick(run: Run, verdict: Verdict, store: RunStore) -> None:
    """Write the mark, the ledger for people, and last the ledger for machines, which proves that all is done."""
    ref = run.intent.step
    if not ref.checklist:
        raise Refused(f"run {run.id} does not name its checklist: run its item again, or tick it with a note.")
    checklist = store.workspace / ref.checklist
    key = StepKey(*ref.key)
    now = load(checklist).find(key)
    recorded = run.intent.item_fingerprint
    if now is not None and recorded and not now.has_fingerprint(recorded):
        # Only its llmval comment: with another text it would be another item.
        raise Refused(
            f"item {now.number} was edited after its run {run.id} had begun, so it is not ticked: run it again."
        )
    # Without a deviation, the empty comment removes the comment of an earlier run.
    deviation = safe_for_comment("; ".join(verdict.deviations))
    step = set_mark(checklist, key, True, comment=deviation)
    named = step.recorded_key  # the run may be of an older llmval, which kept secrets
    line = replace(tick_line(run, verdict), number=step.number, **named._asdict())
    main = verdict.evidence[0] if verdict.evidence else None
    answer = accepted(run)
    entry = Entry(
        number=step.number,
        section=named.section,
        text=named.text,
        outcome=verdict.outcome.value,
        utc=line.utc,
        host=line.host,
        run_id=run.id,
        artifact=main.path if main else None,
        sha256=main.sha256 if main else None,
        notes=(line.note,) if line.note else (),
        deviations=tuple(verdict.deviations),
        link=answer.get("link") if answer else None,
        occurrence=named.occurrence,
        written_key=step.key,
        rests_on=IN_WORDS[verdict_rests_on(verdict)],
    )
    record(store.workspace / TODO, entry, store.workspace)
    more = {"outcome": verdict.outcome, "deviations": verdict.deviations, "link": entry.link}
    append_line(store.ledger, {"v": 1, **asdict(line), **more})
    with suppress(Refused):  # this item is ticked and recorded; `settle_all` tries the groups again and says why
        tick_groups(checklist, store)


def _superseded_edit(run: Run, store: RunStore) -> bool:
    """Whether the item was edited and ran again since: then nothing is left to say of this run."""
    ref = run.intent.step
    newest = next(iter(store.of_step([ref.key], checklist=ref.checklist)), run)
    return newest.id != run.id and newest.intent.item_fingerprint != run.intent.item_fingerprint


def _unrecorded(run: Run, verdict: Verdict, store: RunStore) -> bool:
    """Whether the verdict ticks its item and the ledger does not contain that tick yet."""
    return ticks(run, verdict) and not store.ticks.ticked_by(run.id)


def main() -> None:
    """Settle one run in a process of its own: `python -m llmval_tui.actions.settle RUN_FOLDER`."""
    run = Run(Path(sys.argv[1]))
    try:
        settle(run, RunStore(run.workspace))
    except Refused as refusal:
        print(refusal, flush=True)


if __name__ == "__main__":
    main()
