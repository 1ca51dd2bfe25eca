"""What the keys can do at this moment: the footer, the palette and the messages all ask here."""

from llmval_tui.tui.data.screen_state import ScreenState

STARTS = ("complete", "complete_all", "run")


def obstacle(state: ScreenState, key: str, *, alive: bool) -> str | None:
    """Why a key can do nothing now, in a sentence for people; None if it can.

    Args:
        key: the id of a key in `keys.py`.
        alive: whether the shown run is alive.
    """
    snapshot = state.snapshot
    if state.timeline is not None:
        return None  # a replay hides the keys that change something
    if key in STARTS:
        if snapshot.plan is not None:
            return f"The plan {snapshot.plan} is running here: wait for it, or stop it."
        steps = [status.step for status in snapshot.steps]
        if key == "complete_all" and all(step.checked for step in steps):
            return "Every step is ticked: nothing is left to do."
        if key != "complete_all" and not state.marks and state.key is None and not open_of_section(state):
            return "Choose a step first." if state.section is None else "Every step of this section is ticked."
    if key == "cancel" and not alive and not snapshot.active and snapshot.plan is None:
        return "Nothing is running here."
    if key == "tick":
        if state.step is None:
            return "Choose a step first."
        if state.step.checked:
            return f"{state.step.number} is ticked already."
    if key == "answer":
        run = state.run
        if run is None or run.verdict is None or run.verdict.question is None:
            return "This run has no question to answer."
    if key == "copy" and state.detail is None:
        return "This step has no command to copy."
    return None


def label_of(state: ScreenState, key: str, label: str, pane: str) -> str:
    """The label of a key in the footer of a pane; "" if there is nothing for it there.

    With marks or on a section, `c` and `r` take all of those steps.
    """
    if key == "other_next":
        return other_label(state, pane)
    if _acts_on_nothing(state, key, pane):
        return ""
    if key == "state":
        return {"log": "filter level", "runs": "filter outcome"}.get(pane, label)
    if key in ("complete", "run"):
        if state.marks:
            return f"{label} {len(state.marks)} marked"
        if state.section is not None:
            return f"{label} section"
    return label


def _acts_on_nothing(state: ScreenState, key: str, pane: str) -> bool:
    """Whether what a key of this pane acts on is not there: a log, two runs, charts."""
    run, detail = state.run, state.detail
    if pane == "log":
        return key in ("end", "find", "next", "next_problem", "wrap", "clock", "merged", "state") and not (
            run and run.logs
        )
    if pane == "runs" and key in ("compare", "mark"):
        return detail is None or detail.runs < 2
    return pane in ("run", "load") and key in ("range", "window") and run is None


def other_label(state: ScreenState, pane: str) -> str:
    """What `[` and `]` change to in this pane; "" if there is no other."""
    run, detail, snapshot = state.run, state.detail, state.snapshot
    if pane == "log":
        return "other log" if run is not None and len(run.logs) > 1 else ""
    if pane == "document":
        return "other document" if snapshot.document is not None and len(snapshot.document.names) > 1 else ""
    if pane == "telemetry":
        recorded = state.timeline is None and run is not None and run.telemetry_bytes > 0
        return ("live hardware" if state.recorded_of else "the run's recording") if recorded else ""
    if pane == "fleet":
        return "other run" if snapshot.fleets > 1 else ""
    if state.node is not None:
        return "other node"
    return "other run" if detail is not None and detail.runs > 1 else ""


def open_of_section(state: ScreenState) -> int:
    """How many steps of the chosen section are not ticked; 0 if no section is chosen."""
    steps = [status.step for status in state.snapshot.steps]
    return sum(step.section == state.section and not step.checked for step in steps) if state.section else 0
