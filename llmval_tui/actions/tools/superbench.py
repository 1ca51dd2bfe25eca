"""Reads the results of SuperBench: `sb run` (results-summary.jsonl) and `sb result diagnosis` (diagnosis_summary).

A line of results-summary.jsonl holds the results of one node: `BENCHMARK/METRIC:RANK` → number. `BENCHMARK/return_code`
is 0 if the benchmark ran. The summary of a diagnosis lists the defective nodes, and with --output-all every node with
`Accept`.
"""

import json
import posixpath
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from llmval_tui.actions.tools.command_line import option
from llmval_tui.actions.tools.files import Unreadable, count, json_lines, number, read_json_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Promise, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_MAX_METRICS = 20_000


class _SuperBench(Tool):
    versions = "0.8 to 0.12"
    summary: str  # the name of the file without its suffix

    def outputs(self) -> tuple[Promise, ...]:
        folder = option(self.arguments, "--output-dir")
        return (Promise(folder, folder=True),) if folder else ()

    def missing_flag(self) -> str | None:
        if not self.outputs():
            return "its results would go into a folder with a name of its own: add --output-dir artifacts/NAME"
        return None

    def read(self, left: LeftFiles) -> ToolResult:
        files = [file for file in left.files if file.stem == self.summary and file.suffix in (".json", ".jsonl")]
        if len(files) != 1:
            what = f"{len(files)} files called {self.summary}.jsonl"
            return unreadable(self, what, self.missing_flag() or f"the run left {what}")
        try:
            return self._judge(_rows(files[0]))
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))

    def _judge(self, rows: list[dict[str, Any]]) -> ToolResult:
        raise NotImplementedError


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return list(json_lines(path))
    value = read_json_file(path)
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    raise Unreadable(f"{path.name} is not a list of nodes")


class SuperBenchRun(_SuperBench):
    """`sb run`."""

    name = "sb run"
    summary = "results-summary"

    def _judge(self, rows: list[dict[str, Any]]) -> ToolResult:
        if not rows:
            raise Unreadable("results-summary.jsonl names no node")
        codes: dict[str, int | None] = {}
        values: dict[str, list[float]] = {}
        for position, row in enumerate(rows, 1):
            node = str(row.get("node") or f"node {position}")
            for key, value in row.items():
                metric, _, rank = key.rpartition(":")
                metric = metric if rank.isdecimal() else key
                if metric.endswith("/return_code"):
                    codes[f"{node} {key.removesuffix('/return_code')}"] = count(value)
                elif (found := number(value)) is not None:
                    values.setdefault(metric, []).append(found)
        failed = {place: code for place, code in codes.items() if code != 0}
        bound = "every benchmark of every node ended with return code 0"
        measured = f"{len(codes) - len(failed)} of {len(codes)} benchmarks ended well on {len(rows)} nodes"
        if failed:
            named = "; ".join(f"{place}: {'unknown' if code is None else code}" for place, code in failed.items())
            gate = Gate("return codes", Outcome.FAIL, measured, bound, named[:300])
        elif not codes:
            reason = "the summary has no return codes, so failed benchmarks are not known"
            gate = Gate("return codes", Outcome.INCONCLUSIVE, measured, bound, reason)
        else:
            gate = Gate("return codes", Outcome.PASS, measured, bound)
        gates = [format_gate(self, "its result has no version; the keys are those of 0.8 to 0.12"), gate]
        return ToolResult(gates, _metrics(values), f"sb run: {measured}")


def _metrics(values: dict[str, list[float]]) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for name, numbers in values.items():
        if len(found) >= _MAX_METRICS:
            break
        found[f"{name}.min"] = Metric(min(numbers), "")
        found[f"{name}.max"] = Metric(max(numbers), "")
        found[f"{name}.mean"] = Metric(fmean(numbers), "")
    return found


class SuperBenchDiagnosis(_SuperBench):
    """`sb result diagnosis`."""

    name = "sb result diagnosis"
    summary = "diagnosis_summary"

    def missing_flag(self) -> str | None:
        form = option(self.arguments, "--output-file-format")
        if form not in ("json", "jsonl"):
            return "only JSON is judged: add --output-file-format jsonl --output-all"
        if option(self.arguments, "--output-all") is None:
            return "without --output-all the summary of a good fleet is empty and proves nothing: add --output-all"
        return super().missing_flag()

    def _judge(self, rows: list[dict[str, Any]]) -> ToolResult:
        name, bound = "diagnosis", "every node is accepted"
        defective = [row for row in rows if not _accepted(row)]
        measured = f"{len(rows) - len(defective)} of {len(rows)} nodes accepted"
        if defective:
            gate = Gate(name, Outcome.FAIL, measured, bound, _named(defective))
        elif not rows:
            gate = Gate(name, Outcome.INCONCLUSIVE, "no node", bound, self.missing_flag() or "it names no node")
        else:
            gate = Gate(name, Outcome.PASS, measured, bound)
        metrics = {
            "nodes.accepted": Metric(len(rows) - len(defective), "nodes"),
            "nodes.defective": Metric(len(defective), "nodes"),
        }
        gates = [format_gate(self, "its result has no version; the keys are those of 0.8 to 0.12"), gate]
        return ToolResult(gates, metrics, f"sb result diagnosis: {measured}")


def _accepted(row: dict[str, Any]) -> bool:
    """Whether a row says that its node is accepted; a row without `Accept` is one of the defective nodes."""
    accept = row.get("Accept", row.get("accept"))
    issues = row.get("Number Of Issues", row.get("number_of_issues", 0))
    return accept is True and issues in (0, "0")


def _named(rows: Iterable[dict[str, Any]]) -> str:
    texts = []
    for row in rows:
        node = next((row[key] for key in ("Index", "index", "node", "Node") if key in row), "a node")
        details = row.get("Defective Details") or row.get("Category") or json.dumps(row, default=str)[:80]
        texts.append(f"{posixpath.basename(str(node))}: {details}")
    return "; ".join(texts)[:300]
