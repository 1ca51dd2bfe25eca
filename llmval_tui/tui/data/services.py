"""The servers that run beside the list, as lines of the snapshot."""

from collections.abc import Iterable
from dataclasses import dataclass

from llmval_tui.foundation.text import clean_line
from llmval_tui.runs.server_life import is_serving, sentence
from llmval_tui.runs.store import Run


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """A service that runs beside the list, such as an inference server, in one line."""

    text: str
    role: str = "busy"


def service_lines(runs: Iterable[Run], plan_id: str | None) -> tuple[ServiceLine, ...]:
    """One line for each server that has not ended, and for each of the running plan: a dead one stays until its end.

    Raises:
        Refused: the record of a run is damaged.
    """
    found = []
    for run in runs:
        of_plan = plan_id is not None and run.intent.plan_id == plan_id
        if run.intent.server is None or (run.judged() and not of_plan):
            continue
        alive = run.alive()
        if not alive and not of_plan:
            continue
        text = sentence(run)
        role = "good" if is_serving(run) else "bad" if text.startswith("dead") else "busy" if alive else "muted"
        found.append(ServiceLine(clean_line(f"server of {run.intent.step.number}: {text}"), role))
    return tuple(found)
