"""The results that the known tools of a run left."""

from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.model import LeftFiles, ToolResult
from llmval_tui.runs.store import Run


def tool_results(run: Run) -> dict[str, ToolResult]:
    """Label of a command → the result of its tool, for every command of a known tool."""
    found = {}
    for command in run.intent.commands:
        tool = tool_of(command.argv)
        if tool is not None:
            found[command.label] = tool.read(LeftFiles())
    return found
