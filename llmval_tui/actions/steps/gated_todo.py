"""Tick a step after the runs of its section have passed and covered the context lengths that it names."""

import re
from typing import Any

from llmval_tui.actions.api import Condition, Context, Judgement, Need, NotYet, Proposal
from llmval_tui.actions.command.argv import value_of, values_of
from llmval_tui.actions.command.runner_catalog import LONG_CONTEXT_SCHEMA
from llmval_tui.actions.judges.long_context import passed_lengths, read_long_context
from llmval_tui.actions.reading.model import Kind
from llmval_tui.actions.reading.read import read_item
from llmval_tui.actions.section_runs import (
    COMMAND_ACTIONS,
    inherited,
    newest_of_each_step,
    passed,
    perform_command,
    section_runs,
)
from llmval_tui.checklist.model import Section, Step
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, write_json
from llmval_tui.runs.evidence import locate
from llmval_tui.runs.records import Artifact, Gate, Outcome
from llmval_tui.runs.store import Run, RunStore

_SIZE = re.compile(r"\b(\d+)\s*([KkM])\b")  # no lower-case m: 5 m are metres or minutes
_RECORD = "rests_on.json"
_UNIT = {"K": 1024, "M": 1024 * 1024}


class GatedTodo:
    """Reads existing verdicts; runs nothing on the GPUs."""

    name = "gated_todo"
    title = "record after the runs passed"
    about = "Records the item after the section's runs have passed and covered the lengths that it names."
    needs = (Need(COMMAND_ACTIONS, Condition.PASSES, every=True, full_run=True),)

    def propose(self, context: Context) -> Proposal:
        runs = _required(context)
        wanted = sizes(context.step)
        lengths = set().union(*(covered(run, demo=context.demo) for run in runs))
        missing = [str(size) for size in wanted if size not in lengths]
        if missing:
            raise Refused(
                f"the passing runs do not cover {', '.join(missing)} tokens, which the item names: run them first."
            )
        return Proposal(
            action=self.name,
            summary=f"Records that {len(runs)} run{'s' if len(runs) > 1 else ''} of this section passed.",
            details=tuple(f"rests on run {run.id}, which passed" for run in runs),
            commands=(perform_command(context),),
            artifacts=(Artifact(f"artifacts/runs/{{run_id}}/{_RECORD}"),),
            deviations=inherited(runs),
            params={"runs": [run.id for run in runs], "sizes": wanted},
            telemetry=False,
        )

    def perform(self, run: Run) -> int:
        store = RunStore(run.workspace)
        record: list[dict[str, Any]] = []
        for run_id in run.intent.params["runs"]:
            other = store.get(run_id)
            verdict = other.verdict()
            outcome = verdict.outcome if verdict else "not judged"
            print(f"{run_id}: {outcome}")
            evidence = []
            for item in verdict.evidence if verdict else ():
                state = locate(item.at(store.workspace), item.sha256, other.folder).state
                print(f"  {state}: {item.path}")
                evidence.append({"path": item.path, "sha256": item.sha256, "state": state})
            record.append({"run_id": run_id, "outcome": outcome, "evidence": evidence})
        write_json(run.folder / _RECORD, {"v": 1, "rests_on": record})
        return 0

    def judge(self, run: Run) -> Judgement:
        store = RunStore(run.workspace)
        gates = []
        for run_id in run.intent.params["runs"]:
            verdict = store.get(run_id).verdict()
            gates.append(
                Gate(
                    f"run {run_id}",
                    Outcome.PASS if passed(verdict) else Outcome.FAIL,
                    verdict.outcome if verdict else "not judged",
                    "pass",
                    verdict.summary if verdict else "",
                )
            )
        gates.append(_evidence_gate(run))
        runs = len(run.intent.params["runs"])
        return gates, {}, f"rests on {runs} passing run{'s' if runs > 1 else ''}", None


def _evidence_gate(run: Run) -> Gate:
    """Whether the evidence of the runs was unchanged when it was hashed again for this item."""
    name, bound = "evidence of the runs", "every file unchanged since it was judged"
    record = read_json(run.folder / _RECORD)
    rests_on = record.get("rests_on") if isinstance(record, dict) else None
    if not isinstance(rests_on, list):
        return Gate(name, Outcome.INCONCLUSIVE, "not hashed", bound, f"{_RECORD} is missing: run the item again")
    files = [
        (one["run_id"], item["path"], item.get("state", "not hashed")) for one in rests_on for item in one["evidence"]
    ]
    changed = [f"{path} of run {run_id}: {state}" for run_id, path, state in files if state not in ("intact", "kept")]
    if changed:
        reason = f"{'; '.join(changed[:3])}; run {'its item' if len(changed) == 1 else 'their items'} again"
        return Gate(name, Outcome.INVALID, f"{len(changed)} of {len(files)} files changed", bound, reason)
    return Gate(name, Outcome.PASS, f"{len(files)} files", bound)


def _required(context: Context) -> list[Run]:
    """The newest run of every command step in the section; all of them passed.

    Raises:
        Refused: there is no such step, or one has no passing run; the message names it.
    """
    section = context.checklist.section_of(context.step)
    steps = [step for step in section.steps if _runs_a_command(step, section, context)]
    if not steps:
        raise Refused("the section has no item with a run to wait for: tick this one with a note.")
    newest = {
        context.checklist.key_of(run.intent.step.key): run
        for run in newest_of_each_step(
            section_runs(context.store, context.checklist, context.step.section, COMMAND_ACTIONS)
        )
    }
    found = []
    for step in steps:
        run = newest.get(step.key)
        if run is None:
            raise NotYet(f"item {step.number} has not run yet; this item is recorded after it passes.")
        verdict = run.verdict()
        if not passed(verdict):
            state = verdict.outcome if verdict else "not judged yet"
            raise NotYet(f"the newest run of item {step.number} is {state}; this item is recorded after it passes.")
        if run.intent.preset is not None and not context.demo:
            raise NotYet(f"the newest run of item {step.number} was a {run.intent.preset} run: run the item in full.")
        found.append(run)
    return found


def _runs_a_command(step: Step, section: Section, context: Context) -> bool:
    """Whether the step's run must have passed; an item that a person decides about is not waited for."""
    reading = read_item(step, section, context.checklist)
    return reading.kind not in (Kind.ASK, Kind.REFUSE, Kind.MANUAL) and reading.action in COMMAND_ACTIONS


def sizes(step: Step) -> list[int]:
    """The context lengths that the step names, in tokens: `32K/64K` is [32768, 65536]."""
    return [int(number) * _UNIT[unit.upper()] for number, unit in _SIZE.findall(step.prose)]


def covered(run: Run, *, demo: bool) -> set[int]:
    """The sequence lengths that passed in the judged results of a run, or else the lengths in its command.

    They are divided by --length-divisor, except in a demo workspace, where trials count as full runs.
    """
    results = {artifact.path for artifact in run.intent.artifacts if artifact.schema == LONG_CONTEXT_SCHEMA}
    if not results or demo:
        return {length for command in run.intent.commands for length in _lengths_in(tuple(command.argv), demo)}
    verdict, workspace, found = run.verdict(), run.workspace, set[int]()
    for item in verdict.evidence if verdict else ():
        path = locate(item.at(workspace), item.sha256, run.folder).path if item.path in results else None
        result = read_long_context(path) if path is not None else None
        found |= set(passed_lengths(result)) if result is not None else set()
    return found


def _lengths_in(words: tuple[str, ...], demo: bool) -> list[int]:
    divisor = value_of(words, "--length-divisor") or "1"
    divided = int(divisor) if divisor.isdecimal() and int(divisor) and not demo else 1
    return [int(word) // divided for word in values_of(words, "--sequence-lengths") if word.isdecimal()]
