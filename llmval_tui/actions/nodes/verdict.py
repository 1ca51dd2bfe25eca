"""The verdict on a run on several nodes: the worst node decides, and a node that did not report leaves it open."""

import signal
from collections.abc import Mapping
from dataclasses import replace

from llmval_tui.actions.nodes.replicas import figures_of_nodes
from llmval_tui.actions.rests_on import rests_on, verdict_rests_on
from llmval_tui.fleet.compare import compare, repeated_run
from llmval_tui.fleet.launch import FleetLaunch, launch_of
from llmval_tui.fleet.node_list import fold
from llmval_tui.fleet.outliers import named_nodes, reasons, repeat_wanted
from llmval_tui.fleet.record import FLEET_FILE, Fleet, NodeOutcome, node_runs, write_fleet
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs.evidence import evidence_of
from llmval_tui.runs.records import Evidence, Gate, JobStatus, Outcome, RestsOn, Verdict, why_not_passed, worst
from llmval_tui.runs.store import Run

_SHOWN = 12  # gates for nodes that did not pass; one more gate counts the rest
_OUTCOMES = {
    NodeOutcome.PASS: Outcome.PASS,
    NodeOutcome.FAIL: Outcome.FAIL,
    NodeOutcome.INVALID: Outcome.INVALID,
    NodeOutcome.INCONCLUSIVE: Outcome.INCONCLUSIVE,
    NodeOutcome.LOST: Outcome.INCONCLUSIVE,
}


def judge_fleet(run: Run) -> Verdict:
    """Judge all nodes of a run that has ended, and write `fleet.json`. The same evidence gives the same bytes.

    Raises:
        Refused: a record is damaged, or `fleet.json` cannot be written.
    """
    launch, status = launch_of(run.intent), run.status()
    job = status.job or JobStatus()
    fleet, verdicts = compare(run, launch, job)
    if launch.collective:
        fleet = _with_own_figures(run, fleet)
    write_fleet(run.folder, fleet)
    cancelled = status.cancelled or run.cancelled_by()
    gates = fleet_gates(run, launch, job, fleet, cancelled)
    evidence = _evidence(run, fleet)
    first = next(iter(fleet.nodes), "")
    # Of a collective, the first node holds the result: the others have exit codes.
    deciding = [one for name, one in verdicts.items() if not launch.collective or name == first]
    bases = [verdict_rests_on(one) for one in deciding]
    outcome = Outcome.INCONCLUSIVE if cancelled else worst(gates)
    return Verdict(
        v=1,
        run_id=run.id,
        outcome=outcome,
        gates=gates,
        judged_utc=utc_iso(),
        summary=why_not_passed(outcome, gates, cancelled) or _summary(launch, fleet, verdicts),
        evidence=evidence,
        deviations=list(run.intent.deviations),
        metrics=_metrics(launch, fleet, verdicts) if job.refused is None else {},
        rests_on=rests_on(gates, bases) if bases else RestsOn.EXIT_CODE,
    )


def _with_own_figures(run: Run, fleet: Fleet) -> Fleet:
    """A launch with the figures of each node's replicas. The first node's verdict has those of all: not its own."""
    names = list(fleet.nodes)
    reported = bool(names) and fleet.nodes[names[0]].verdict_sha256 is not None
    figures = figures_of_nodes(run, names) if reported else {}
    nodes = {name: replace(one, metrics=figures.get(name, {})) for name, one in fleet.nodes.items()}
    return replace(fleet, nodes=nodes)


def fleet_gates(run: Run, launch: FleetLaunch, job: JobStatus, fleet: Fleet, cancelled: str | None) -> list[Gate]:
    """The gates over all nodes; a node's own gates are in its verdict."""
    if job.refused is not None:
        return [Gate("started", Outcome.INCONCLUSIVE, "no", "on all nodes", job.refused)]
    total = len(fleet.nodes)
    if not total:
        reason = f"the job is {job.state}{f' ({job.reason})' if job.reason else ''}" if job.state else "no job is known"
        return [Gate("started", Outcome.INCONCLUSIVE, "on no node", f"on {launch.count} nodes", reason)]
    gates = []
    if cancelled:
        gates.append(
            Gate("not cancelled", Outcome.INCONCLUSIVE, f"cancelled by {cancelled}", "every node ran to its own end")
        )
    if fleet.silent:
        shown = fold(fleet.silent)
        why = fleet.nodes[fleet.silent[0]].reason or ""
        reason = f"{fleet.silent[0]}: {why}"
        measured = f"{total - len(fleet.silent)} of {total}; silent: {shown}"
        gates.append(Gate("nodes reported", Outcome.INCONCLUSIVE, measured, "every node", reason))
    elif total != launch.count:
        gates.append(Gate("nodes reported", Outcome.INCONCLUSIVE, f"{total}", f"{launch.count} nodes"))
    else:
        gates.append(Gate("nodes reported", Outcome.PASS, f"{total} of {total}", "every node"))
    if job.restarts:
        reason = "Slurm started the job again; a run is carried out once"
        gates.append(Gate("job", Outcome.INCONCLUSIVE, f"{job.restarts} restarts", "started once", reason))
    elif job.state not in (None, "COMPLETED", "RUNNING", "COMPLETING") and not cancelled and fleet.silent:
        gates.append(Gate("job", Outcome.INCONCLUSIVE, str(job.state), "COMPLETED", job.reason or ""))
    gates += _of_nodes(fleet, _killed_first(run) if launch.collective else None)
    if not launch.collective:
        gates += _slow(fleet)
    deviations = "; ".join(run.intent.deviations) or "yes"
    gates.append(Gate("as written", Outcome.PASS, deviations, "deviations are recorded beside the tick"))
    return gates


def _killed_first(run: Run) -> str | None:
    """The node of a collective on which a signal ended a rank: the others fail because of it. None: none is known."""
    for name, part in node_runs(run).items():
        for command in run.intent.commands:
            codes = part.recorded_ranks(command.label).values()
            if any(code < 0 and code not in (-signal.SIGTERM, -signal.SIGINT) for code in codes):
                return name
    return None


def _of_nodes(fleet: Fleet, cause: str | None) -> list[Gate]:
    """A gate for the nodes that passed, and one for each of the others, `cause` and the worst first."""
    order = (Outcome.FAIL, Outcome.INVALID, Outcome.INCONCLUSIVE)
    reported = {name: one for name, one in fleet.nodes.items() if one.outcome is not NodeOutcome.LOST}
    passed = [name for name, one in reported.items() if one.outcome is NodeOutcome.PASS]
    others = [name for name in reported if name not in passed]
    others.sort(key=lambda name: (order.index(_OUTCOMES[reported[name].outcome]), name != cause))

    def gate(name: str) -> Gate:
        one = reported[name]
        return Gate(f"node {name}", _OUTCOMES[one.outcome], one.outcome, "pass", one.reason or "")

    gates = [gate(name) for name in others[:_SHOWN]]
    if rest := others[_SHOWN:]:
        gates.append(Gate("other nodes", gate(rest[0]).outcome, fold(rest), "pass"))
    if passed and not others:
        gates.append(Gate("nodes passed", Outcome.PASS, f"{len(passed)} of {len(fleet.nodes)}", "every node"))
    return gates


def _slow(fleet: Fleet) -> list[Gate]:
    """A gate for each node that two measurements call slow, and one for suspects that were not measured again."""
    named = named_nodes(fleet.statistics)
    why = reasons(fleet.statistics)
    gates = [Gate(f"slow node {name}", Outcome.FAIL, "; ".join(why.get(name, [])), "like the others") for name in named]
    open_ = [name for name in repeat_wanted(fleet.statistics)[0] if name not in named and not _repeated(fleet, name)]
    if open_:
        reason = "an outlier of one measurement, which was not repeated, so it is not called slow"
        gates.append(Gate("slow nodes", Outcome.PASS, f"suspected: {fold(open_)}", "none named", reason))
    elif not named and (smallest := _smallest(fleet)) is not None:
        bound = f"none; {smallest:.1%} would have been found"
        gates.append(Gate("slow nodes", Outcome.PASS, "none", bound))
    return gates


def _repeated(fleet: Fleet, name: str) -> bool:
    groups = [group for metric in fleet.statistics.values() for group in metric.groups.values()]
    return any(name in group.suspects and group.repeat is not None for group in groups)


def _smallest(fleet: Fleet) -> float | None:
    """The greatest of the smallest slownesses that could have been found; None if no metric can show one."""
    found = [
        group.smallest_findable
        for metric in fleet.statistics.values()
        for group in metric.groups.values()
        if group.smallest_findable is not None
    ]
    return max(found, default=None)


def _evidence(run: Run, fleet: Fleet) -> list[Evidence]:
    """`fleet.json`, and the verdict of every node: their hashes cover everything else."""
    root = run.workspace.resolve()
    folder = run.folder.resolve()
    files = [folder / FLEET_FILE]
    files += [folder / "nodes" / name / "verdict.json" for name, one in fleet.nodes.items() if one.verdict_sha256]
    if (again := repeated_run(run)) is not None and (again / FLEET_FILE).is_file():
        files.append(again.resolve() / FLEET_FILE)  # the second measurement of its suspects
    return [evidence_of(file, root) for file in files]


def _metrics(launch: FleetLaunch, fleet: Fleet, verdicts: Mapping[str, Verdict]) -> dict[str, float | None]:
    """Of a collective those of its first node, which holds the result; else how many nodes passed."""
    counts: dict[str, float | None] = {
        "nodes": len(fleet.nodes),
        "nodes_passed": sum(one.outcome is NodeOutcome.PASS for one in fleet.nodes.values()),
    }
    first = next(iter(fleet.nodes), None)
    if launch.collective and first is not None and first in verdicts:
        return {**verdicts[first].metrics, **counts}
    medians = {
        f"median_{name}": next(iter(metric.groups.values())).median
        for name, metric in fleet.statistics.items()
        if len(metric.groups) == 1
    }
    return {**medians, **counts}


def _summary(launch: FleetLaunch, fleet: Fleet, verdicts: Mapping[str, Verdict]) -> str:
    names = list(fleet.nodes)
    if launch.collective:
        return f"{len(names)} nodes together ({fold(names)}): {verdicts[names[0]].summary}"
    return f"{len(names)} nodes ({fold(names)}) passed, such as {names[0]}: {verdicts[names[0]].summary}"
