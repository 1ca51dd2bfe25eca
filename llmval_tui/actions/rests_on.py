"""What a verdict rests on: a figure or content that was judged, or the exit code alone."""

import re
from collections.abc import Iterable

from llmval_tui.runs.records import Gate, Intent, Outcome, RestsOn, Verdict

# The gates that every run gets. They say that the run ended well and left its files, not what is in them.
_GENERAL = re.compile(r"(?:exit|artifact|server): .*|telemetry\..*|commands|evidence|not cancelled|as written")

IN_WORDS = {RestsOn.MEASURED: "measured", RestsOn.EXIT_CODE: "exit code only", RestsOn.BY_HAND: "by hand"}


def rests_on(gates: Iterable[Gate], bases: Iterable[RestsOn] = ()) -> RestsOn:
    """`MEASURED` if a passing gate of a judge, of a tool's reader or of a criterion is among the gates.

    Args:
        bases: what the runs rest on whose outcome is judged here. One that was not measured decides.
    """
    judged = any(gate.outcome is Outcome.PASS and not _GENERAL.fullmatch(gate.name) for gate in gates)
    return RestsOn.MEASURED if judged and set(bases) <= {RestsOn.MEASURED} else RestsOn.EXIT_CODE


def verdict_rests_on(verdict: Verdict) -> RestsOn:
    """As recorded; derived from the gates of an old record."""
    return verdict.rests_on or rests_on(verdict.gates)


def runs_it_rests_on(intent: Intent) -> list[str]:
    """The ids of the runs whose verdicts decide this run, if it judges nothing else."""
    return [str(run_id) for run_id in intent.params.get("runs") or []] if intent.action == "gated_todo" else []
