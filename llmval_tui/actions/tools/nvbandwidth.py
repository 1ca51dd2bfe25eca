"""Reads the results of nvbandwidth, from its output or from `-j`, which prints JSON instead.

A test case has the status Passed, Waived, Error or Not Found. A test that ended with an error appears twice in the
JSON, first as Running. Bandwidths in the matrices are texts, in GB/s; latencies are in ns.
"""

import re
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from llmval_tui.actions.tools.command_line import has, values_after
from llmval_tui.actions.tools.files import Unreadable, at, items, number, parse_json, read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_PASSED, _WAIVED, _RUNNING = "passed", "waived", "running"
_FAILED = ("error", "not found", "failed")
_TEXT_STATUS = re.compile(r"^(Running|Waived|WAIVED|Error|ERROR|Not Found|Failed)\b[ :]*(.*?)\.?$")


@dataclass(slots=True)
class _Case:
    name: str
    status: str  # in lower case
    values: list[float] = field(default_factory=list)
    latency: bool = False
    message: str = ""


class Nvbandwidth(Tool):
    """`nvbandwidth`, with or without -j."""

    name = "nvbandwidth"
    versions = "0.5 to 0.8"

    def missing_flag(self) -> str | None:
        if has(self.arguments, "-s", "--skipVerification"):
            return "with -s the copied data is not verified: leave it out"
        return None

    def read(self, left: LeftFiles) -> ToolResult:
        text = read_text_file(left.stdout)
        try:
            version, cases, problem = _from_json(text) if "{" in text[:4096] else _from_text(text)
        except Unreadable as error:
            return unreadable(self, "not readable", str(error))
        gates = [format_gate(self, version), self._tests(cases, problem)]
        if has(self.arguments, "-s", "--skipVerification"):
            reason = "the copied data was not verified: leave out -s"
            gates.append(Gate("verification", Outcome.INCONCLUSIVE, "skipped", "the copied data is verified", reason))
        metrics: dict[str, Metric] = {}
        for case in cases:
            if case.values and case.status == _PASSED:
                unit = "ns" if case.latency else "GB/s"
                statistics = {"min": min(case.values), "max": max(case.values), "mean": fmean(case.values)}
                metrics |= {f"{case.name}.{key}": Metric(value, unit) for key, value in statistics.items()}
                metrics[f"{case.name}.sum"] = Metric(sum(case.values), unit)
        passed = [case for case in cases if case.status == _PASSED]
        return ToolResult(gates, metrics, f"nvbandwidth: {len(passed)} of {len(cases)} tests passed")

    def _tests(self, cases: list[_Case], problem: str) -> Gate:
        name, bound = "tests", "every test passed"
        by_status: dict[str, list[str]] = {}
        for case in cases:
            by_status.setdefault(case.status, []).append(case.name)
        measured = ", ".join(f"{len(names)} {status}" for status, names in by_status.items()) or "no test"
        failed = [case for case in cases if case.status in _FAILED]
        if problem or failed:
            messages = [problem, *(f"{case.name}: {case.message or case.status}" for case in failed)]
            return Gate(name, Outcome.FAIL, measured, bound, "; ".join(text for text in messages if text)[:300])
        empty = [case.name for case in cases if case.status == _PASSED and not (case.values and min(case.values) > 0)]
        others = [one for status, names in by_status.items() if status != _PASSED for one in names]
        if others or empty or not cases:
            reason = f"not passed: {', '.join(others)}" if others else f"without a value above 0: {', '.join(empty)}"
            return Gate(name, Outcome.INCONCLUSIVE, measured, bound, reason[:300] if cases else "no test ran")
        asked = [word for word in values_after(self.arguments, "-t", "--testcase") if not word.isdecimal()]
        missing = [word for word in asked if word not in {case.name for case in cases}]
        if missing:
            reason = f"the result lacks {', '.join(missing)}"
            return Gate(name, Outcome.INCONCLUSIVE, measured, bound, reason)
        return Gate(name, Outcome.PASS, measured, bound)


def _from_json(text: str) -> tuple[str, list[_Case], str]:
    start, end = text.find("{"), text.rfind("}")
    value = at(parse_json(text[start : end + 1].encode(), "the output"), "nvbandwidth")
    if not isinstance(value, dict):
        raise Unreadable("the output has no object “nvbandwidth”")
    version = str(value.get("version") or "").removeprefix("v") or str(value.get("git_version") or "unknown")
    cases: dict[str, _Case] = {}
    for entry in items(value.get("testcases")):
        name, status = at(entry, "name"), at(entry, "status")
        if not isinstance(name, str) or not isinstance(status, str):
            raise Unreadable("a test case has no name or no status")
        # The last entry of a name has its end.
        cases[name] = _Case(name, status.lower(), *_values(entry), message=str(at(entry, "error") or ""))
    error = value.get("error")
    return f"nvbandwidth {version}", list(cases.values()), str(error) if error else ""


def _values(entry: Any) -> tuple[list[float], bool]:
    """The cells of a matrix, and whether they are latencies."""
    rows = at(entry, "bandwidth_matrix")
    rows = [row for row in rows if isinstance(row, list)] if isinstance(rows, list) else []
    width = max(map(len, rows), default=0)
    # A bidirectional test appends three matrices: one for each direction, then their total.
    if width > 1 and len(rows) > width and len(rows) % width == 0:
        rows = rows[-width:]
    found = []
    for number_of_row, row in enumerate(rows):
        for column, cell in enumerate(row):
            value = _float(cell)
            if value is None and cell != "N/A":
                raise Unreadable(f"{at(entry, 'name')} has a cell that is not a number: {str(cell)[:40]}")
            # Old versions print 0 for a GPU and itself.
            if value is not None and not (value == 0 and number_of_row == column and len(rows) == width):
                found.append(value)
    return found, "latency" in str(at(entry, "bandwidth_description") or at(entry, "name")).lower()


def _from_text(text: str) -> tuple[str, list[_Case], str]:
    """The test cases of the plain output: `Running NAME.`, a matrix, `SUM NAME 123.4`."""
    version = re.search(r"nvbandwidth Version: v?(\S+)", text)
    cases: list[_Case] = []
    problem = ""
    in_matrix = False
    for line in text.splitlines():
        found = _TEXT_STATUS.match(line.strip())
        if found:
            status, rest = found[1].lower(), found[2].strip()
            in_matrix = False
            if status == _RUNNING:
                cases.append(_Case(rest, _RUNNING))
            elif cases and cases[-1].status == _RUNNING and status != _WAIVED:
                cases[-1].status, cases[-1].message = status, rest
            elif cases and cases[-1].status == _RUNNING and not cases[-1].values:
                cases[-1].status = status
            else:
                cases.append(_Case(rest or "a test", status, message=rest))
        elif line.startswith("[CUDA_ERROR") or re.match(r"\[cuda\w+\]|NVML_ERROR|ASSERT in|ERROR:", line):
            problem = line.strip()
        elif cases and line.startswith(f"SUM {cases[-1].name}"):
            cases[-1].status = _PASSED if cases[-1].status == _RUNNING else cases[-1].status
            in_matrix = False
        elif cases and re.match(r"^\s+0\b(\s+\d+)*\s*$", line):
            in_matrix = True
            cases[-1].values.clear()  # of several matrices the last counts: the total of both directions
        elif cases and in_matrix and re.match(r"^\s*\d+\s+\S", line):
            row, *cells = line.split()
            found_cells = [(column, _float(cell)) for column, cell in enumerate(cells)]
            # Old versions print 0 for a GPU and itself.
            cases[-1].values += [
                v for column, v in found_cells if v is not None and not (v == 0 and str(column) == row)
            ]
        elif cases and "latency" in line.lower():
            cases[-1].latency = True
    if not version and not cases:
        raise Unreadable("the output is not one of nvbandwidth")
    return f"nvbandwidth {version[1]}" if version else "the output names no version", cases, problem


def _float(value: object) -> float | None:
    try:
        return number(float(value)) if isinstance(value, str) else number(value)
    except ValueError:
        return None
