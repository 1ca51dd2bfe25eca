"""Reads the logs of MLPerf LoadGen: mlperf_log_summary.txt and, beside it, mlperf_log_detail.txt.

LoadGen is a library, so no command names it: a run has such a result if it left these files. LoadGen schedules the
queries itself and measures latencies from the scheduled time.
"""

import re
from pathlib import Path

from llmval_tui.actions.tools.files import Unreadable, at, number, parse_json, read_text_file
from llmval_tui.actions.tools.model import LeftFiles, Metric, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

SUMMARY, _DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
_VALID = re.compile(r"^Result is\s*:\s*(\S+)", re.MULTILINE)
_CONDITION = re.compile(r"^\s+(.+ satisfied)\s*:\s*(\S+)", re.MULTILINE)
_ERRORS = re.compile(r"^(No|\d+) ERRORS? encountered|^(No|\d+) errors? encountered", re.MULTILINE)
_LINE = re.compile(r"^([A-Za-z0-9][^:\n]*?)\s*:\s*([0-9.eE+-]+)\s*$", re.MULTILINE)
_RATES = {
    "samples per second": ("request_throughput", "requests/s"),
    "scheduled samples per second": ("sent_rate", "requests/s"),
    "completed samples per second": ("request_throughput", "requests/s"),
    "tokens per second": ("output_throughput", "tokens/s"),
    "completed tokens per second": ("output_throughput", "tokens/s"),
}
_NS = re.compile(
    r"^(?:(?P<percent>[\d.]+) percentile|(?P<word>Min|Max|Mean)) "
    r"(?P<what>latency|first token latency|time to output token|Time to Output Token|First Token latency) \(ns\)$",
    re.IGNORECASE,
)
_WHAT = {"latency": "e2e", "first token latency": "ttft", "time to output token": "tpot"}


class Loadgen(Tool):
    """A program that uses MLPerf LoadGen."""

    name = "MLPerf LoadGen"
    versions = "3 to 5"

    def read(self, left: LeftFiles) -> ToolResult:
        summaries = [file for file in left.files if file.name == SUMMARY]
        if len(summaries) != 1:
            reason = "name the folder of one run with --output-dir or artifact="
            return unreadable(self, f"{len(summaries)} summaries", reason)
        text = read_text_file(summaries[0])
        valid = _VALID.search(text)
        if "MLPerf Results Summary" not in text or valid is None:
            return unreadable(self, "no result", f"{SUMMARY} has no line “Result is”, as after an accuracy run")
        gates = [
            format_gate(self, "its summary has no version; the lines are those of 3 to 5"),
            _validity(text, valid[1]),
            _errors(text, left, summaries[0]),
        ]
        scenario, mode = (_field(text, name) for name in ("Scenario", "Mode"))
        metrics = _metrics(text)
        if not metrics:
            reason = "the summary has no rate and no latency that is a number"
            gates.append(Gate("LoadGen figures", Outcome.INCONCLUSIVE, "none", "a rate or a latency", reason))
        sentence = f"MLPerf LoadGen {scenario}, {mode}: result {valid[1]}"
        rate = metrics.get("request_throughput")
        return ToolResult(
            gates, metrics, sentence + (f", {rate.value:.2f} samples/s" if rate is not None and rate.value else "")
        )


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else "unknown"


def _validity(text: str, result: str) -> Gate:
    conditions = {name.strip(): value for name, value in _CONDITION.findall(text)}
    refused = [name for name, value in conditions.items() if value.upper() == "NO"]
    measured = f"{result}; " + ", ".join(f"{name}: {value}" for name, value in conditions.items())
    bound = "VALID, every constraint satisfied"
    if result == "INVALID" or refused:
        notes = re.findall(r"^ \* (.+)$", text.partition("Recommendations:")[2].partition("Early")[0], re.MULTILINE)
        return Gate("LoadGen result", Outcome.FAIL, measured, bound, "; ".join(refused + notes)[:300])
    if result != "VALID" or not conditions:
        return Gate("LoadGen result", Outcome.INCONCLUSIVE, measured, bound, "the summary is not complete")
    return Gate("LoadGen result", Outcome.PASS, measured, bound)


def _errors(text: str, left: LeftFiles, summary: Path) -> Gate:
    """The errors that LoadGen counted, in the summary and in the detailed log."""
    found = _ERRORS.search(text)
    word = (found[1] or found[2]) if found else None
    detail = next((file for file in left.files if file.name == _DETAIL and file.parent == summary.parent), None)
    logged = [_message(line) for line in read_text_file(detail).splitlines() if '"is_error": true' in line]
    measured = f"{word or 'unknown'} in the summary, {len(logged)} in the detailed log"
    if logged or (word is not None and word != "No"):
        return Gate("LoadGen errors", Outcome.FAIL, measured, "no errors", "; ".join(logged)[:300])
    if word is None:
        return Gate(
            "LoadGen errors", Outcome.INCONCLUSIVE, measured, "no errors", "the summary does not end as it should"
        )
    return Gate("LoadGen errors", Outcome.PASS, measured, "no errors")


def _message(line: str) -> str:
    try:
        value = parse_json(line[line.index("{") :].encode(), _DETAIL)
    except (ValueError, Unreadable):
        return line[:100]
    return f"{at(value, 'key')} {at(value, 'value')}"


def _metrics(text: str) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for label, value in _LINE.findall(text):
        try:
            measured = number(float(value))
        except ValueError:
            continue
        if measured is None:
            continue
        if label.lower() in _RATES:
            name, unit = _RATES[label.lower()]
            found[name] = Metric(measured, unit)
        elif match := _NS.match(label):
            statistic = f"p{float(match['percent']):g}" if match["percent"] else match["word"].lower()
            found[f"{_WHAT[match['what'].lower()]}.{statistic}"] = Metric(measured / 1e6, "ms")
    return found
