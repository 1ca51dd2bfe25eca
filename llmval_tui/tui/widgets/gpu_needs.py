"""GPUs with a fault while a run uses them, for what needs a person: the fault, and whether it decides the run."""

from collections.abc import Sequence

from llmval_tui.actions.step_state import StepState, StepStatus
from llmval_tui.telemetry.sample import GpuSample
from llmval_tui.telemetry.window_checks import FAULT_THROTTLING
from llmval_tui.terminal.format import fit
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.drawing.rows import Row, row
from llmval_tui.tui.widgets.gpu_charts import is_lost
from llmval_tui.tui.widgets.gpu_line import reason_word

MEASURE = "measure"  # the phase whose throttling is judged
MOST_GPUS = 2


GpuNeed = tuple[str, str, str, str]  # the number of the step, the fault, what it means, and the role


def gpu_need_rows(found: Sequence[GpuNeed], width: int) -> list[Row]:
    """Two rows for a GPU as long as its fault lasts: what it is, and the gate that decides, or why none does."""
    rows: list[Row] = []
    for number, fault, decides, role in found[:MOST_GPUS]:
        rows.append(row((" ! ", role), (fit(f"{number} {fault}", width - 4), "text")))
        rows.append(row((fit(f"     {decides}", width - 1), "muted")))
    if len(found) > MOST_GPUS:
        rows.append(row((fit(f"   {len(found) - MOST_GPUS} more GPUs with a fault", width - 1), "muted")))
    return rows


def gpu_needs(state: ScreenState) -> list[GpuNeed]:
    """What is wrong with each GPU that a run uses now."""
    last = state.live.last
    if last is None or state.stale:
        return []
    running = [status for status in state.snapshot.steps if status.state is StepState.RUNNING]
    found = []
    for gpu in last.gpus:
        status = next((one for one in running if _uses(one, gpu.index)), None)
        if status is not None and (need := _need(gpu, status, state)) is not None:
            found.append((status.step.number, *need))
    return found


def _uses(status: StepStatus, index: int) -> bool:
    if status.run is None or status.run.intent.launcher is not None:
        return False  # of a run on several nodes, others have the GPUs
    indices = status.run.intent.params.get("gpu_indices")
    return indices is None or index in indices


def _need(gpu: GpuSample, status: StepStatus, state: ScreenState) -> tuple[str, str, str] | None:
    name = f"GPU {gpu.index}"
    judged = status.run is not None and status.run.intent.telemetry
    only = "recorded only: this run has no gate for it"
    if is_lost(gpu):
        return f"{name} lost: no reading", "fails it: gate telemetry.gpu_lost" if judged else only, "bad"
    if gpu.xid is not None:
        # It may be older than the run: the dashboard's own recorder saw it.
        return f"{name} XID {gpu.xid}", "fails it if new in the run: gate telemetry.xid" if judged else only, "bad"
    slowed = [reason for reason in gpu.throttle_reasons or () if reason in FAULT_THROTTLING]
    if not slowed:
        return None
    fault = f"{name} throttled ({', '.join(dict.fromkeys(map(reason_word, slowed)))})"
    return fault, _of_throttling(status, state) if judged else only, "warn"


def _of_throttling(status: StepStatus, state: ScreenState) -> str:
    """Only what happens in a measured phase is judged; all of the run if it has none."""
    shown = state.run
    if shown is None or status.run is None or shown.id != status.run.id:
        return "invalid if in its measured phase: telemetry.throttling"
    phase = shown.progress.phase
    if phase and phase != MEASURE:
        return f"recorded only: not measured in phase {phase}"
    return "makes it invalid: gate telemetry.throttling"
