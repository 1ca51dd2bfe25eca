"""Reads the results of `aiperf profile`, and the summary of the older `genai-perf profile`.

aiperf writes into its artifact folder: `profile_export_aiperf.json` (totals), `profile_export.jsonl` (one line for each
request) and `.aiperf_results_ready.json`. `request_count` counts the good requests alone. The intended arrival is
`credit_issued_ns`; if --concurrency holds requests back beside a rate, aiperf issues the credit late, and the intended
arrival is not known.
"""

from pathlib import Path
from typing import Any

from llmval_tui.actions.request_records import Record
from llmval_tui.actions.tools.command_line import option
from llmval_tui.actions.tools.files import Unreadable, at, count, items, json_lines, number, read_json_file
from llmval_tui.actions.tools.load.agreement import Claim
from llmval_tui.actions.tools.load.agreement import rate as per_second
from llmval_tui.actions.tools.load.facts import LoadFacts, load_result
from llmval_tui.actions.tools.load.vllm_bench import count_of
from llmval_tui.actions.tools.model import LeftFiles, Metric, Promise, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_READY = ".aiperf_results_ready.json"
_SCHEMA = "1"  # the major number of schema_version


class Aiperf(Tool):
    """`aiperf profile`."""

    name = "aiperf profile"
    versions = "0.13 (schema 1)"
    summary_suffix = "_aiperf.json"

    def outputs(self) -> tuple[Promise, ...]:
        folder = option(self.arguments, "--output-artifact-dir", "--artifact-dir", "--artifact-directory")
        return (Promise(folder, folder=True),) if folder else ()

    def missing_flag(self) -> str | None:
        if not self.outputs():
            return "its results would go into a folder with a name of its own: add --artifact-dir artifacts/NAME"
        if option(self.arguments, "--export-level") == "summary":
            return "without the time of each request no latency is judged: leave out --export-level summary"
        return None

    def read(self, left: LeftFiles) -> ToolResult:
        summaries = [file for file in left.files if file.name.endswith(self.summary_suffix)]
        if len(summaries) != 1:
            reason = "the run left no summary" if not summaries else "the folder has more than one summary of this run"
            return unreadable(self, f"{len(summaries)} summaries", self.missing_flag() or reason)
        try:
            value = read_json_file(summaries[0])
            if not isinstance(value, dict):
                raise Unreadable(f"{summaries[0].name} is not a JSON object")
            return self._judge(value, summaries[0], left)
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))

    def _judge(self, value: dict[str, Any], summary: Path, left: LeftFiles) -> ToolResult:
        completed = count(at(value, "request_count", "avg"))
        if completed is None and at(value, "error_request_count", "avg") is None:
            raise Unreadable(f"{summary.name} has neither request_count nor error_request_count")
        completed = completed or 0
        failed = count(at(value, "error_request_count", "avg") or 0)
        records, reason = self._records(summary, left)
        phases = at(value, "input_config", "phases")
        phase = next(
            (p for p in items(phases) if isinstance(p, dict) and p.get("kind", "profiling") == "profiling"), {}
        )
        rate = number(phase.get("rate")) or _number(option(self.arguments, "--request-rate"))
        limit = count(phase.get("concurrency")) or count_of(option(self.arguments, "--concurrency"))
        flag = f"--concurrency {limit}" if limit else ""
        late = ""
        if rate and limit and records is not None and _most_in_flight(records) >= limit:
            late = f"{flag} was reached, and aiperf does not record when the requests that it then held back were due"
        streamed = at(value, "time_to_first_token") is not None or not completed
        seconds = number(at(value, "benchmark_duration", "avg"))
        stated = {name: metric.value for name, metric in _throughput(value).items()}
        tokens = sum(record.output_tokens for record in records) if records is not None else 0
        # Its duration is not just that of the good requests, and the server may count an answer's tokens differently.
        claims = (
            Claim("request_throughput", stated.get("request_throughput"), per_second(completed, seconds), 0.5),
            Claim("output_throughput", stated.get("output_throughput"), per_second(tokens or None, seconds), 0.5),
        )
        facts = LoadFacts(
            tool=self.name,
            claims=claims,
            timed=True,
            asked=count_of(option(self.arguments, "--request-count", "--num-requests")) or count(phase.get("requests")),
            completed=completed,
            failed=failed,
            error=_first_error(value),
            offered_qps=rate,
            duration_s=seconds,
            closed_loop=None if rate else limit or 1,
            limit=flag,
            late=late,
            records=records,
            no_latency=reason or late,
            streamed=streamed,
            reported_ttft_p99_ms=number(at(value, "time_to_first_token", "p99")),
            throughput=_throughput(value),
        )
        return load_result(facts, [self._format(value), _complete(value, left)])

    def _format(self, value: dict[str, Any]) -> Gate:
        version, schema = value.get("aiperf_version"), value.get("schema_version")
        measured = f"aiperf {version}, schema {schema}"
        if isinstance(schema, str) and schema.partition(".")[0] == _SCHEMA:
            return format_gate(self, measured)
        return format_gate(self, measured, Outcome.INCONCLUSIVE, "this reader does not know the schema of the result")

    def _records(self, summary: Path, left: LeftFiles) -> tuple[list[Record] | None, str]:
        """The requests of the measured phase, or None and the reason."""
        name = summary.name.removesuffix(self.summary_suffix) + ".jsonl"
        path = next((file for file in left.files if file.name == name and file.parent == summary.parent), None)
        if path is None:
            return None, f"the run left no {name} with the time of each request"
        try:
            lines = [_request(line) for line in json_lines(path)]
        except Unreadable as problem:
            return None, str(problem)
        measured = [line for line in lines if line is not None]
        if not measured:
            return None, f"{name} has no request of the profiling phase with its times"
        base = min(record.intended_s for record in measured)
        return [_shifted(record, base) for record in measured], ""


def _request(line: dict[str, Any]) -> Record | None:
    """One request; None for one of another phase.

    Raises:
        Unreadable: it has no times.
    """
    about, metrics = line.get("metadata"), line.get("metrics")
    if at(about, "benchmark_phase") != "profiling":
        return None
    issued, start = number(at(about, "credit_issued_ns")), number(at(about, "request_start_ns"))
    if issued is None or start is None:
        raise Unreadable("a request has no credit_issued_ns: aiperf 0.13 and later write it")
    due_s, start_s = issued / 1e9, start / 1e9
    error = line.get("error")
    if error or at(about, "was_cancelled"):
        return Record(due_s, start_s, None, None, 0, str(at(error, "message") or "cancelled"))
    latency, first = (
        number(at(metrics, "request_latency", "value")),
        number(at(metrics, "time_to_first_token", "value")),
    )
    if latency is None:
        raise Unreadable("a request has no request_latency")
    tokens = count(at(metrics, "usage_completion_tokens", "value"))
    if tokens is None:
        tokens = count(at(metrics, "output_sequence_length", "value"))
    last_s = start_s + latency / 1e3
    return Record(due_s, start_s, last_s if first is None else start_s + first / 1e3, last_s, tokens or 0, None)


def _shifted(record: Record, base: float) -> Record:
    def less(value: float | None) -> float | None:
        return None if value is None else value - base

    return Record(
        record.intended_s - base,
        record.dispatch_s - base,
        less(record.first_s),
        less(record.last_s),
        record.output_tokens,
        record.error,
    )


def _most_in_flight(records: list[Record]) -> int:
    """The greatest number of requests between their credit and their end."""
    events = [(record.intended_s, 1) for record in records]
    events += [(record.last_s if record.last_s is not None else record.dispatch_s, -1) for record in records]
    now = most = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    return most


def _complete(value: dict[str, Any], left: LeftFiles) -> Gate:
    """Whether the run ended by itself: a cancelled or partial one has results too."""
    ready = next((file for file in left.files if file.name == _READY), None)
    try:
        state = read_json_file(ready) if ready is not None else {}
    except Unreadable:
        state = {"ready": False}
    problems = []
    if value.get("was_cancelled") or at(state, "was_cancelled"):
        problems.append("it was cancelled")
    if value.get("is_complete") is False or at(state, "partial") or at(state, "ready") is False:
        problems.append("its results are partial")
    outcome = Outcome.INCONCLUSIVE if problems else Outcome.PASS
    return Gate("run complete", outcome, " and ".join(problems) or "yes", "not cancelled, all results written")


def _first_error(value: dict[str, Any]) -> str:
    details = at(value, "error_summary", 0, "error_details")
    parts = [at(details, "code"), at(details, "type"), at(details, "message")]
    return " ".join(str(part) for part in parts if part is not None)


def _throughput(value: dict[str, Any]) -> dict[str, Metric]:
    names = {
        "request_throughput": ("request_throughput", "requests/s"),
        "output_throughput": ("output_token_throughput", "tokens/s"),
        "total_throughput": ("total_token_throughput", "tokens/s"),
        "goodput": ("goodput", "requests/s"),
    }
    found = {name: (number(at(value, key, "avg")), unit) for name, (key, unit) in names.items()}
    return {
        name: Metric(number_found, unit) for name, (number_found, unit) in found.items() if number_found is not None
    }


def _number(text: str | None) -> float | None:
    try:
        return number(float(text)) if text else None
    except ValueError:
        return None


class GenaiPerf(Aiperf):
    """`genai-perf profile`, the predecessor of aiperf: its summary does not count the requests that failed."""

    name = "genai-perf profile"
    versions = "0.0.16"
    summary_suffix = "_genai_perf.json"

    def _format(self, value: dict[str, Any]) -> Gate:
        return format_gate(self, "its result has no version; the keys are those of 0.0.16")

    def _judge(self, value: dict[str, Any], summary: Path, left: LeftFiles) -> ToolResult:
        facts = LoadFacts(
            tool=self.name,
            asked=count_of(option(self.arguments, "--request-count", "--num-requests")),
            completed=count(at(value, "request_count", "avg")),
            failed=None,
            no_latency="genai-perf does not record when a request was due: use aiperf profile",
            throughput=_throughput(value),
        )
        return load_result(facts, [self._format(value)])
