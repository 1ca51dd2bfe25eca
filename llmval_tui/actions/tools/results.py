"""The results that the known tools of a run left."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from llmval_tui.actions.tools.by_command import tool_of, tool_of_files
from llmval_tui.actions.tools.in_script import read_script, tools_in
from llmval_tui.actions.tools.model import LeftFiles, Metric, ToolResult, read_safely
from llmval_tui.runs.file_origin import own_files
from llmval_tui.runs.records import Command
from llmval_tui.runs.store import Run

# Unit of a metric → the end of its name in a verdict.
_UNIT_ENDS = {
    "requests": "",
    "requests/s": "_per_s",
    "tokens/s": "_tokens_per_s",
    "%": "_percent",
    "GB/s": "_gb_per_s",
    "": "",
}


def tool_result(run: Run, command: Command) -> ToolResult | None:
    """The result of the known tool that a command of a run starts; None for another program."""
    left = left_files(run, command)
    if command.script is not None and (found := read_script(command.script.text, left)) is not None:
        return found
    tool = tool_of(command.argv) or tool_of_files(left.files)
    return None if tool is None else replace(read_safely(tool, left), tool=tool.name)


def known_tools(commands: Sequence[Command]) -> list[str]:
    """The names of the known tools that some commands, or their scripts, start."""
    names: list[str] = []
    for command in commands:
        single = tool_of(command.argv)
        tools = tools_in(command.script.text) if command.script is not None else [single] if single else []
        names += [tool.name for tool in tools]
    return list(dict.fromkeys(names))


def left_files(run: Run, command: Command) -> LeftFiles:
    """The files at the promised paths of a command that this run wrote, and its logs.

    The file that gets the standard output is left out: its text is in the log too.
    """
    promised = run.intent.params.get("outputs", {}).get(command.label)
    artifacts = [item for item in run.intent.artifacts if promised is None or item.path in promised]
    files = [file for item in artifacts if item.path != command.tee for file in own_files(run, item)]
    return LeftFiles(tuple(dict.fromkeys(files)), _log(run, command, "stdout"), _log(run, command, "stderr"))


def _log(run: Run, command: Command, stream: str) -> Path | None:
    path = run.logs_folder / f"{command.label}.{stream}.log"
    return path if path.is_file() else None


def verdict_metrics(metrics: dict[str, Metric]) -> dict[str, float | None]:
    """The metrics with the unit in the name, as a verdict has them: `ttft.p99` in ms becomes `ttft_p99_ms`."""
    return {
        name.replace(".", "_") + _UNIT_ENDS.get(metric.unit, f"_{metric.unit}"): metric.value
        for name, metric in metrics.items()
    }
