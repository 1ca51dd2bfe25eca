"""The gates that every action has: how its commands ended, what they left, what the hardware did meanwhile."""

from llmval_tui.actions.gates.artifacts import artifact_gates, log_evidence
from llmval_tui.actions.gates.exit import exit_gates
from llmval_tui.actions.gates.telemetry import telemetry_gates
from llmval_tui.runs.records import Evidence, Gate, Outcome
from llmval_tui.runs.store import Run


def general_gates(run: Run) -> tuple[list[Gate], list[Evidence]]:
    """Judge a run by what holds for every action, and hash the artifacts that back it.

    The evidence holds each artifact that is there and new, also of a run that failed: it is what was found.
    """
    gates = exit_gates(run)
    found, evidence = artifact_gates(run)
    gates += found
    if not run.intent.artifacts:
        # A command that promises no file is backed by what it said.
        evidence = log_evidence(run)
        if not evidence:
            asked = "let it print what it found, or name a file with > PATH"
            reason = f"it promised no file and said nothing: {asked}"
            gates.append(Gate("evidence", Outcome.INCONCLUSIVE, "none", "a file or output to hash", reason))
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
