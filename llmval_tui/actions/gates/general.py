"""The gates of every run: exit codes, artifacts, and telemetry."""

from dataclasses import replace

from llmval_tui.actions.criteria.frozen import demands_silence
from llmval_tui.actions.gates.artifacts import artifact_gates, log_evidence
from llmval_tui.actions.gates.exit import exit_gates
from llmval_tui.actions.gates.servers import server_gates
from llmval_tui.actions.gates.telemetry import telemetry_gates
from llmval_tui.fleet.part import RANK
from llmval_tui.runs.command_end import end_unseen
from llmval_tui.runs.evidence import evidence_of
from llmval_tui.runs.records import Evidence, Gate, Outcome
from llmval_tui.runs.store import Run, intact


def script_evidence(run: Run) -> list[Evidence]:
    """The frozen scripts of the run: what ran is a part of the proof."""
    scripts = [command.script for command in run.intent.commands if command.script is not None]
    root = run.workspace.resolve()
    return [
        evidence_of((run.folder / script.name).resolve(), root)
        for script in scripts
        if intact(run, script, masked_too=True)
    ]


def general_gates(run: Run) -> tuple[list[Gate], list[Evidence]]:
    """Judge a run by the gates that hold for every action, and hash its artifacts.

    The evidence contains every new artifact, also of a run that failed.
    """
    gates = exit_gates(run)
    found, evidence = artifact_gates(run)
    gates += [_of_unseen_end(gate) for gate in found] if end_unseen(run) else found
    if not run.intent.artifacts:
        # Without artifacts, the output of the command is the evidence.
        evidence = log_evidence(run, empty_too=demands_silence(run) or _may_be_silent(run))
        if not evidence:
            reason = "it names no file and printed nothing: let it print its findings, or name a file with > PATH"
            gates.append(
                Gate("evidence", Outcome.INCONCLUSIVE, "no output, no file", "a file or output to hash", reason)
            )
    evidence += script_evidence(run)
    of_servers, record = server_gates(run)
    gates += of_servers
    evidence += record
    if run.intent.telemetry:
        gates += telemetry_gates(run)
    deviations = run.intent.deviations
    gates.append(
        Gate(
            "as written",
            Outcome.PASS,
            "; ".join(deviations) if deviations else "yes",
            "deviations are recorded beside the tick",
        )
    )
    return gates, evidence


def _may_be_silent(run: Run) -> bool:
    """Whether rank 0, which writes the result, is on another node."""
    return int(run.intent.params.get(RANK, 0)) > 0


def _of_unseen_end(gate: Gate) -> Gate:
    """A missing or incomplete file says nothing if the node was lost while the command wrote it."""
    if gate.outcome is Outcome.PASS:
        return gate
    reason = f"the command's end was not observed{f'; {gate.reason}' if gate.reason else ''}"
    return replace(gate, outcome=Outcome.INCONCLUSIVE, reason=reason)
