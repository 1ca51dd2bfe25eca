"""The known tools that a script of the checklist runs, and their results."""

import re
import shlex
from dataclasses import replace

from llmval_tui.actions.tools.by_command import tool_of
from llmval_tui.actions.tools.model import LeftFiles, Metric, Promise, Tool, ToolResult, read_safely, unreadable
from llmval_tui.runs.records import Gate

_KEYWORDS = frozenset({"!", "do", "elif", "else", "exec", "if", "then", "until", "while", "{"})
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_MOVES = re.compile(r"(?:^|[\s;&|(])(?:cd|pushd)\s", re.MULTILINE)
_SHELL_VALUE = re.compile(r"[$`*?{]")


def tools_in(text: str) -> list[Tool]:
    """The known tools of a script, in order. What a shell would compute is not looked at."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for words in _commands(line):
            tool = tool_of(words)
            if tool is not None:
                found.append(tool)
    return found


def promises_in(text: str) -> list[Promise]:
    """The files that the tools of a script write, without those whose place only the shell knows."""
    if _MOVES.search(text):
        return []
    promises = [promise for tool in tools_in(text) if not tool.elsewhere for promise in tool.outputs()]
    return [promise for promise in promises if not _SHELL_VALUE.search(promise.path)]


def read_script(text: str, left: LeftFiles) -> ToolResult | None:
    """The results of all known tools of a script, each gate with the name of its tool; None if it runs none."""
    tools = tools_in(text)
    if not tools:
        return None
    known = promises_in(text)
    printing = [tool for tool in tools if not tool.outputs()]
    results = []
    for tool in tools:
        if any(promise not in known for promise in tool.outputs()):
            reason = "only the shell knows where its file is: write the path out, without cd"
            results.append(unreadable(tool, "not found", reason))
        elif tool in printing and len(printing) > 1:
            reason = "several tools print into the output of one script: give each its own item"
            results.append(unreadable(tool, "not told apart", reason))
        else:
            own = [file for file in left.files if any(_is_at(str(file), promise) for promise in tool.outputs())]
            results.append(read_safely(tool, replace(left, files=tuple(own))))
    if len(results) == 1:
        return replace(results[0], tool=tools[0].name)
    gates = [_named(gate, tool) for tool, result in zip(tools, results, strict=True) for gate in result.gates]
    metrics: dict[str, Metric] = {}
    for tool, result in zip(tools, results, strict=True):
        metrics |= {f"{tool.name}: {name}": metric for name, metric in result.metrics.items()}
    return ToolResult(gates, metrics, "; ".join(result.summary for result in results))


def _named(gate: Gate, tool: Tool) -> Gate:
    return gate if gate.name.startswith(tool.name) else replace(gate, name=f"{tool.name}: {gate.name}")


def _is_at(file: str, promise: Promise) -> bool:
    path = promise.path.removeprefix("./").rstrip("/")
    return file.endswith(f"/{path}") or (promise.folder and f"/{path}/" in file)


def _commands(line: str) -> list[list[str]]:
    """The simple commands of a line, without assignments, keywords and redirections; [] if its quotes do not close."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:
        return []
    found: list[list[str]] = [[]]
    redirected = False
    for token in tokens:
        if set(token) <= set("<>"):
            redirected = True
        elif set(token) <= set("();&|"):
            found.append([])
        elif redirected:
            redirected = False
        elif found[-1] or not (token in _KEYWORDS or _ASSIGNMENT.match(token)):
            found[-1].append(token)
    return [words for words in found if words]
