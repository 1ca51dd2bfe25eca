"""The panes that the first paint does not show; imported and made once it is there, or when a key asks for one."""

from collections.abc import Mapping

from llmval_tui.tui.log_reader import LogReader
from llmval_tui.tui.state import ScreenState
from llmval_tui.tui.widgets.artifacts_pane import ArtifactsPane
from llmval_tui.tui.widgets.document_pane import DocumentPane
from llmval_tui.tui.widgets.load_pane import LoadPane
from llmval_tui.tui.widgets.log_pane import LogPane
from llmval_tui.tui.widgets.scroll import ScrollPane
from llmval_tui.tui.widgets.telemetry_pane import TelemetryPane


def later_panes(state: ScreenState, reader: LogReader) -> Mapping[str, ScrollPane]:
    """All panes but Run by name, hidden, in the order of their tabs."""
    panes: dict[str, ScrollPane] = {
        "log": LogPane(state, reader.ask, reader.show),
        "telemetry": TelemetryPane(state),
        "load": LoadPane(state),
        "artifacts": ArtifactsPane(state),
        "document": DocumentPane(state),
    }
    for pane in panes.values():
        pane.display = False
    return panes
