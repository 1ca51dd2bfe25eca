"""The panes that the first paint does not show. Importing them takes time, so that is done after the first paint."""

from llmval_tui.tui.data.log_reader import LogReader
from llmval_tui.tui.data.screen_state import ScreenState
from llmval_tui.tui.panes.artifacts import ArtifactsPane
from llmval_tui.tui.panes.document import DocumentPane
from llmval_tui.tui.panes.fleet import FleetPane
from llmval_tui.tui.panes.load import LoadPane
from llmval_tui.tui.panes.log import LogPane
from llmval_tui.tui.panes.runs import RunsPane
from llmval_tui.tui.panes.telemetry import TelemetryPane
from llmval_tui.tui.widgets.scroll_pane import ScrollPane


def deferred_panes(state: ScreenState, reader: LogReader) -> dict[str, ScrollPane]:
    """All panes but Run by name, hidden, in the order of their tabs."""
    panes: dict[str, ScrollPane] = {
        "log": LogPane(state, reader.request, reader.show),
        "telemetry": TelemetryPane(state),
        "load": LoadPane(state),
        "artifacts": ArtifactsPane(state),
        "document": DocumentPane(state),
        "runs": RunsPane(state),
        "fleet": FleetPane(state),
    }
    for pane in panes.values():
        pane.display = False
    return panes
