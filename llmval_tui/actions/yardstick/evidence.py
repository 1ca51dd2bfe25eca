"""What the two runs of a yardstick left: the load test's result, and what the server published meanwhile."""

from collections.abc import Iterator

from llmval_tui.actions.gates.telemetry import measure_windows
from llmval_tui.actions.judges.load_test_result import LoadResult, read_result
from llmval_tui.foundation.files import read_lines
from llmval_tui.runs.evidence import locate
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.engine.window import EngineWindow, engine_window
from llmval_tui.telemetry.recording import SampleTail
from llmval_tui.telemetry.sample import Sample

LOAD_TEST = "load_test"
OF = "yardstick_of"  # in the params of a yardstick: the id of the run against the server


def judged_result(run: Run) -> LoadResult | None:
    """The load test that the run's verdict was made of, from an unchanged file; None if there is none."""
    verdict = run.verdict()
    hashes = {item.path: item for item in verdict.evidence} if verdict is not None else {}
    for artifact in run.intent.artifacts:
        if artifact.schema == LOAD_TEST and (item := hashes.get(artifact.path)) is not None:
            found = locate(item.at(run.workspace), item.sha256, run.folder)
            return read_result(found.path) if found.path is not None else None
    return None


def published(run: Run) -> EngineWindow | None:
    """What the server published from the start of the run's last measured window to the last event of the run.

    None: it did not answer twice, or nothing was measured.
    """
    windows = measure_windows(run)
    ends = [event["mono_ns"] for event in read_lines(run.events) if isinstance(event.get("mono_ns"), int)]
    if not windows or not ends:
        return None
    return engine_window(_samples(run), windows[-1][0], max(ends))


def _samples(run: Run) -> Iterator[Sample]:
    tail = SampleTail(run.telemetry)
    while batch := tail.poll():
        yield from batch
