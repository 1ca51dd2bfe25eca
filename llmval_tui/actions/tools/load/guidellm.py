"""Reads the report of `guidellm run` (0.8) and `guidellm benchmark` (before).

Report version 2: `benchmarks[].requests.{successful,errored,incomplete}[].info.timings` has `targeted_start` (the
intended arrival), `request_start`, `first_token_iteration` and `request_end`; `benchmarks[].metrics.request_totals` the
counts.
"""

import posixpath
from typing import Any

from llmval_tui.actions.request_records import Record
from llmval_tui.actions.tools.command_line import option, options
from llmval_tui.actions.tools.files import Unreadable, at, count, items, number, read_json_file
from llmval_tui.actions.tools.load.facts import LoadFacts, load_result
from llmval_tui.actions.tools.load.vllm_bench import count_of
from llmval_tui.actions.tools.model import LeftFiles, Metric, Promise, Tool, ToolResult, format_gate, unreadable
from llmval_tui.runs.records import Gate, Outcome

_DEFAULT = "benchmarks.json"
_CLOSED = ("synchronous", "concurrent", "throughput")  # strategies in which the next request follows the end of one


class Guidellm(Tool):
    """`guidellm run`, `guidellm benchmark` and `guidellm benchmark run`."""

    name = "guidellm"
    versions = "0.8 (report version 2)"

    def outputs(self) -> tuple[Promise, ...]:
        found = []
        written = options(self.arguments, "--output")
        for text in written:
            fields = dict(part.partition("=")[::2] for part in text.split(","))
            if fields.get("kind") == "json":
                found.append(Promise(fields.get("path") or _DEFAULT))
        path = option(self.arguments, "--output-path")  # before 0.6
        folder = option(self.arguments, "--output-dir")
        if path:
            found.append(Promise(path) if path.endswith(".json") else Promise(posixpath.join(path, _DEFAULT)))
        elif folder:
            found.append(Promise(posixpath.join(folder, _DEFAULT)))
        # Without a flag, a report goes into the working folder.
        return tuple(found) if found or written else (Promise(_DEFAULT),)

    def missing_flag(self) -> str | None:
        if not self.outputs():
            return "none of its outputs can be judged: add --output kind=json,path=artifacts/NAME.json"
        return None

    def read(self, left: LeftFiles) -> ToolResult:
        files = [file for file in left.files if file.suffix == ".json"]
        if not files:
            return unreadable(self, "no report", self.missing_flag() or "the run left no JSON report")
        try:
            value = read_json_file(files[0])
            benchmarks = at(value, "benchmarks")
            if not isinstance(benchmarks, list) or not benchmarks:
                raise Unreadable(f"{files[0].name} holds no benchmark")
            return self._judge(value, [one if isinstance(one, dict) else {} for one in benchmarks])
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))

    def _judge(self, value: dict[str, Any], benchmarks: list[dict[str, Any]]) -> ToolResult:
        totals = [at(one, "metrics", "request_totals") for one in benchmarks]
        counts = {key: [count(at(one, key)) for one in totals] for key in ("successful", "errored", "incomplete")}
        if None in counts["successful"] or None in counts["errored"]:
            raise Unreadable("a benchmark of the report has no request_totals")
        summed = {key: sum(one or 0 for one in values) for key, values in counts.items()}
        single = benchmarks[0] if len(benchmarks) == 1 else None
        strategy = at(single, "config", "strategy") or at(single, "args", "strategy") or {}
        kind = at(strategy, "type_")
        records, reason = _records(single) if single is not None else (None, _several(len(benchmarks)))
        closed = kind in _CLOSED
        if records is not None and len(records) != sum(summed.values()):
            records, reason = None, "the report keeps only a sample of the requests: leave out sample_size"
        errors = at(benchmarks[0], "requests", "errored", 0, "info", "error")
        limit = count(at(strategy, "max_concurrency"))
        facts = LoadFacts(
            tool=self.name,
            asked=self._asked(single),
            completed=summed["successful"],
            failed=summed["errored"],
            unfinished=summed["incomplete"],
            error=errors if isinstance(errors, str) else "",
            offered_qps=None if closed else number(at(strategy, "rate")),
            duration_s=number(at(single, "duration")),
            closed_loop=(limit or 1) if closed else None,
            limit=f"its limit of {limit} requests in flight" if limit else "",
            records=records,
            no_latency=reason,
            streamed=_streamed(single),
            reported_ttft_p99_ms=number(
                at(single, "metrics", "time_to_first_token_ms", "successful", "percentiles", "p99")
            ),
            throughput=_throughput(single),
        )
        return load_result(facts, [self._format(value, len(benchmarks))])

    def _format(self, value: dict[str, Any], benchmarks: int) -> Gate:
        version, package = at(value, "metadata", "version"), at(value, "metadata", "guidellm_version")
        measured = (
            f"guidellm {package}, report version {version}, {benchmarks} benchmark{'s' if benchmarks > 1 else ''}"
        )
        if version in (1, 2) and not isinstance(version, bool):
            return format_gate(self, measured)
        return format_gate(self, measured, Outcome.INCONCLUSIVE, "this reader does not know this version of the report")

    def _asked(self, single: dict[str, Any] | None) -> int | None:
        """The number of requests that the command asks for; None if it is limited by time or unknown."""
        if single is None:
            return None
        for text in options(self.arguments, "--constraint"):
            fields = dict(part.partition("=")[::2] for part in text.split(","))
            if fields.get("kind") == "max_requests":
                return count_of(fields.get("count"))
        return count_of(option(self.arguments, "--max-requests"))


def _several(benchmarks: int) -> str:
    return f"the report holds {benchmarks} benchmarks: run one rate at a time to judge latencies"


def _records(benchmark: dict[str, Any]) -> tuple[list[Record] | None, str]:
    """The requests of a benchmark, or None and the reason."""
    closed = at(benchmark, "config", "strategy", "type_") in _CLOSED
    found: list[Record] = []
    for key in ("successful", "errored", "incomplete"):
        requests = at(benchmark, "requests", key)
        for request in items(requests):
            timings = at(request, "info", "timings")
            start = number(at(timings, "request_start"))
            due = start if closed else number(at(timings, "targeted_start"))
            if start is None or due is None:
                if key == "successful":
                    return None, "a request has no targeted_start: guidellm 0.8 and later write it"
                start = due = number(at(timings, "resolve_start")) or number(at(timings, "targeted_start"))
            if start is None or due is None:
                return None, "a request has no times"
            if key != "successful":
                found.append(Record(due, start, None, None, 0, str(at(request, "info", "error") or "cut off")))
                continue
            first, last = number(at(timings, "first_token_iteration")), number(at(timings, "request_end"))
            if last is None:
                return None, "a successful request has no request_end"
            tokens = count(at(request, "output_tokens")) or 0
            found.append(Record(due, start, last if first is None else first, last, tokens, None))
    return found, ""


def _streamed(benchmark: dict[str, Any] | None) -> bool:
    """Whether the answers came in parts. Without streaming, no request has a first token.

    With it, one may have none as well: guidellm counts a part only if it has text. `_records` then takes the end of the
    answer, which is later.
    """
    requests = at(benchmark, "requests", "successful")
    if not isinstance(requests, list) or not requests:
        return True
    return any(at(one, "info", "timings", "first_token_iteration") is not None for one in requests)


def _throughput(benchmark: dict[str, Any] | None) -> dict[str, Metric]:
    names = {
        "request_throughput": ("requests_per_second", "requests/s"),
        "output_throughput": ("output_tokens_per_second", "tokens/s"),
        "total_throughput": ("tokens_per_second", "tokens/s"),
    }
    found = {
        name: (number(at(benchmark, "metrics", key, "successful", "mean")), unit) for name, (key, unit) in names.items()
    }
    return {name: Metric(value, unit) for name, (value, unit) in found.items() if value is not None}
