"""The interface of a reader: which files a tool's command promises, and what its result says."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from llmval_tui.actions.tools.command_line import option
from llmval_tui.actions.tools.files import Unreadable
from llmval_tui.runs.records import Gate, Outcome


@dataclass(frozen=True, slots=True)
class Metric:
    """One value of a result; None with the reason if the result does not say."""

    value: float | None
    unit: str  # "ms", "requests", "requests/s", "tokens/s", "GB/s", "MiB", …; "" for a plain number
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Promise:
    """A file or a folder that the flags of a command promise; the path is as written."""

    path: str
    folder: bool = False
    replaces: bool = True  # False: the tool writes elsewhere if the file exists


@dataclass(frozen=True, slots=True)
class LeftFiles:
    """What a command of a run left: the files at its promised paths that this run wrote, and its logs."""

    files: tuple[Path, ...] = ()
    stdout: Path | None = None
    stderr: Path | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A result as read: gates, metrics by name (`ttft.p99`), and one sentence."""

    gates: list[Gate]
    metrics: dict[str, Metric] = field(default_factory=dict)
    summary: str = ""
    tool: str | None = None  # its name; None: several tools


class Tool(ABC):
    """One command of a known tool; `tool_of` finds it."""

    name: ClassVar[str]  # for people: "vllm bench serve"
    versions: ClassVar[str]  # versions that the reader was tried with

    def __init__(self, arguments: tuple[str, ...], *, elsewhere: bool = False) -> None:
        self.arguments = arguments  # after the words that name the tool
        self.elsewhere = elsewhere  # it runs in a container or on another host, where its files are not ours to read

    def outputs(self) -> tuple[Promise, ...]:
        """The files and folders that the command writes; () for a tool that only prints."""
        return ()

    def missing_flag(self) -> str | None:
        """What the result will not tell because of a missing flag, and the flag to add; None if nothing is missing."""
        return None

    @abstractmethod
    def read(self, left: LeftFiles) -> ToolResult:
        """The result of a finished command. Never raises: an unreadable result is a gate with the reason."""


class OneFileTool(Tool):
    """A tool that writes its whole result into the file that one of its flags names."""

    result_flag: ClassVar[str]  # "--report_json"

    def outputs(self) -> tuple[Promise, ...]:
        path = option(self.arguments, self.result_flag)
        return (Promise(path),) if path else ()

    def read(self, left: LeftFiles) -> ToolResult:
        if not left.files:
            return unreadable(self, "no result file", self.missing_flag() or "the run left no result file")
        try:
            return self.judge(left.files[0])
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))

    @abstractmethod
    def judge(self, path: Path) -> ToolResult:
        """The result in the file.

        Raises:
            Unreadable: the file holds no result of this tool.
        """


def format_gate(tool: Tool, measured: str, outcome: Outcome = Outcome.PASS, reason: str = "") -> Gate:
    """The gate that names the version of a result, and the versions that the reader knows."""
    return Gate("result format", outcome, measured, f"{tool.name} {tool.versions}", reason)


def unreadable(tool: Tool, measured: str, reason: str) -> ToolResult:
    """The result of a command that left nothing to judge: never a pass, whatever its exit code says."""
    gate = Gate(f"{tool.name} result", Outcome.INCONCLUSIVE, measured, "a complete result to judge", reason)
    return ToolResult([gate], {}, f"the result of {tool.name} was not judged: {reason}")


def read_safely(tool: Tool, left: LeftFiles) -> ToolResult:
    """`tool.read`, and a gate with the reason if the result has a shape that its reader did not expect."""
    try:
        return tool.read(left)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return unreadable(
            tool, "not understood", f"its values have another form than the reader expects ({error})"[:200]
        )
