"""Reads the output of STREAM, whose rates are in MB/s of 10^6 bytes, and which ends with 0 if its arrays are wrong."""

import re

from llmval_tui.actions.tools.files import read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

PROGRAMS = ("stream", "stream_c", "stream_c.exe", "stream_f.exe", "stream_mpi", "stream_omp")
_FUNCTIONS = ("Copy", "Scale", "Add", "Triad")
_ROW = re.compile(rf"^({'|'.join(_FUNCTIONS)}):\s+(\d+(?:\.\d+)?)(?:\s+\d+(?:\.\d+)?){{3}}\s*$", re.MULTILINE)


class Stream(Tool):
    """`stream`, `stream_c.exe`."""

    name = "STREAM"
    versions = "5.10"

    def read(self, left: LeftFiles) -> ToolResult:
        text = read_text_file(left.stdout)
        rates = {name.lower(): float(rate) for name, rate in _ROW.findall(text)}
        if len(rates) != len(_FUNCTIONS):
            return unreadable(
                self, f"{len(rates)} of 4 functions", "its output lacks the rates of Copy, Scale, Add, Triad"
            )
        if min(rates.values()) <= 0:
            return unreadable(self, "0 MB/s", "a rate of 0 was not measured")
        bound = "the arrays are as calculated"
        if "Failed Validation" in text:
            gate = Gate("validation", Outcome.FAIL, "failed", bound, "its output says “Failed Validation”")
        elif "Solution Validates" in text:
            gate = Gate("validation", Outcome.PASS, "validates", bound)
        else:
            reason = "its output has no line “Solution Validates”"
            gate = Gate("validation", Outcome.INCONCLUSIVE, "unknown", bound, reason)
        metrics = {name: Metric(rate, "MB/s") for name, rate in rates.items()}
        metrics["slowest"] = Metric(min(rates.values()), "MB/s")
        version = re.search(r"STREAM version \$Revision: (\S+)", text)
        gates = [format_gate(self, f"STREAM {version[1]}" if version else "its output names no version"), gate]
        return ToolResult(gates, metrics, f"STREAM: Triad {rates['triad']:.0f} MB/s")
