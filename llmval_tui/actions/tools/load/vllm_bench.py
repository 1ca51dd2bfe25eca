"""Reads the results of `vllm bench serve`, `vllm bench throughput` and `vllm bench latency`.

`vllm bench serve --save-result --save-detailed` writes for request i: `start_times[i]` (sent), `queue_times[i]` (held
back by --max-concurrency before that), `ttfts[i]`, `latencies[i]`, `output_lens[i]` and `errors[i]`, times in s. So the
intended arrival is start − queue. `queue_times` came with vLLM 0.32; without it the intended arrival is not known.
"""

import posixpath
import re
from abc import abstractmethod
from pathlib import Path
from statistics import fmean
from typing import Any

from llmval_tui.actions.request_records import Record
from llmval_tui.actions.tools.command_line import has, option
from llmval_tui.actions.tools.files import (
    Unreadable,
    at,
    count,
    items,
    number,
    numbers,
    parse_json,
    read_json_file,
    read_text_file,
)
from llmval_tui.actions.tools.load.agreement import Claim, rate
from llmval_tui.actions.tools.load.facts import LoadFacts, load_result, statistics_ms
from llmval_tui.actions.tools.model import (
    LeftFiles,
    Metric,
    OneFileTool,
    Promise,
    Tool,
    ToolResult,
    format_gate,
    unreadable,
)
from llmval_tui.runs.records import Gate, Outcome

_DETAILED = "add --save-result --save-detailed to the command"
_STATED = {
    "request_throughput": "request_throughput",
    "output_throughput": "output_throughput",
    "total_throughput": "total_token_throughput",
}
_NO_TOKENS = ("embedding", "pooling", "rerank", "classify", "infinity")  # backends whose answers are no text
CONTRADICTS = "the file contradicts itself, so its figures are not valid"
_OLD = "the file has no queue_times: vLLM 0.32 and later write them"


class VllmServe(Tool):
    """`vllm bench serve`, and its older form `benchmark_serving.py`."""

    name = "vllm bench serve"
    versions = "0.32"

    @property
    def _saves(self) -> bool:
        return has(self.arguments, "--save-result") or has(self.arguments, "--append-result")

    def outputs(self) -> tuple[Promise, ...]:
        folder, file = option(self.arguments, "--result-dir"), option(self.arguments, "--result-filename")
        if not self._saves:
            return ()
        if file:
            return (Promise(posixpath.join(folder or "", file)),)
        return (Promise(folder, folder=True),) if folder else ()

    def missing_flag(self) -> str | None:
        if not self._saves:
            return (
                "without --save-result only the printed counts are judged, and no latency: add --save-result "
                "--save-detailed --result-dir artifacts/NAME"
            )
        if not self.outputs():
            return "the result would get a name of its own in the working folder: add --result-dir artifacts/NAME"
        if not has(self.arguments, "--save-detailed"):
            return "without the time of each request no latency is judged: add --save-detailed"
        return None

    def read(self, left: LeftFiles) -> ToolResult:
        files = [file for file in left.files if file.suffix in (".json", ".jsonl", ".txt", "")]
        if not self.outputs():
            return self._printed(left)
        if len(files) != 1:
            reason = "name it with --result-filename" if files else "the run left no result file"
            return unreadable(self, f"{len(files)} result files", reason)
        try:
            return self._judge(_newest(files[0]))
        except Unreadable as problem:
            return unreadable(self, "not readable", str(problem))

    def _judge(self, value: dict[str, Any]) -> ToolResult:
        completed, asked = count(value.get("completed")), count(value.get("num_prompts"))
        failed = count(value.get("failed"))
        if completed is None or asked is None:
            raise Unreadable(f"it lacks completed or num_prompts, so it is not a result of {self.name}")
        wanted = count_of(option(self.arguments, "--num-prompts"))
        limit, seconds = count(value.get("max_concurrency")), number(value.get("duration"))
        # A burst that is limited only by the requests in flight is a closed loop: a request is due when a slot is free.
        closed = limit if limit and value.get("request_rate") == "inf" else None
        records, reason = _records(value, closed_loop=closed is not None)
        throughput = _throughput(value, completed)
        claims = tuple(
            Claim(name, number(value.get(key)), found.value)
            for name, key in _STATED.items()
            if (found := throughput.get(name)) is not None
        )
        if records is not None:
            tokens = sum(record.output_tokens for record in records)
            claims += (Claim("output tokens", number(value.get("total_output_tokens")), tokens),)
        backend = f"{value.get('backend')} {value.get('endpoint_type')}"
        generates = not any(word in backend for word in _NO_TOKENS)
        if records is not None and generates:
            claims += tuple(_means(value, records))
        facts = LoadFacts(
            tool=self.name,
            asked=max(asked, wanted or 0),
            completed=completed,
            failed=asked - completed if failed is None else failed,
            error=next((text for text in items(value.get("errors")) if isinstance(text, str) and text), ""),
            offered_qps=_rate(value),
            duration_s=seconds,
            closed_loop=closed,
            limit=f"--max-concurrency {limit}" if limit else "",
            records=records,
            no_latency=reason,
            itl_s=_gaps(value),
            reported_ttft_p99_ms=number(value.get("p99_ttft_ms")),
            throughput=throughput,
            streamed=generates or records is None,
            claims=claims,
            timed=True,
            answers=count(value.get("total_output_tokens")) if generates else None,
        )
        gates = [format_gate(self, f"its result has no version; the keys are those of {self.versions}")]
        wrong = _impossible(value, completed)
        if wrong:
            gates.append(Gate("statistics", Outcome.INVALID, wrong, "figures that can be", CONTRADICTS))
        return load_result(facts, gates)

    def _printed(self, left: LeftFiles) -> ToolResult:
        """The counts that the command prints at its end."""
        text = read_text_file(left.stdout)
        block = text.rpartition("Serving Benchmark Result")[2] if "Serving Benchmark Result" in text else ""
        completed, failed = (_printed_number(block, f"{word} requests:") for word in ("Successful", "Failed"))
        if completed is None:
            return unreadable(self, "no result", f"it printed no result: {_DETAILED}")
        asked = count_of(option(self.arguments, "--num-prompts"))
        # Older versions print no failed requests.
        failures = int(failed) if failed is not None else None if asked is None else asked - int(completed)
        seconds = _printed_number(block, "Benchmark duration (s):")
        claims = [
            Claim("request_throughput", _printed_number(block, "Request throughput (req/s):"), rate(completed, seconds))
        ]
        tokens = _printed_number(block, "Total generated tokens:")
        claims.append(
            Claim(
                "output_throughput", _printed_number(block, "Output token throughput (tok/s):"), rate(tokens, seconds)
            )
        )
        facts = LoadFacts(
            tool=self.name,
            claims=tuple(claims),
            asked=asked,
            completed=int(completed),
            failed=failures,
            offered_qps=_printed_number(block, "Request rate configured (RPS):"),
            duration_s=seconds,
            no_latency=_DETAILED,
            throughput={
                name: Metric(value, unit)
                for name, label, unit in (
                    ("request_throughput", "Request throughput (req/s):", "requests/s"),
                    ("output_throughput", "Output token throughput (tok/s):", "tokens/s"),
                    ("total_throughput", "Total token throughput (tok/s):", "tokens/s"),
                )
                if (value := _printed_number(block, label)) is not None
            },
        )
        return load_result(facts, [format_gate(self, "read from the printed result, which has no version")])


class TrtllmServe(VllmServe):
    """TensorRT-LLM's copy of `benchmark_serving.py`, with the same flags and file."""

    name = "tensorrt_llm benchmark_serving"
    versions = "1.0"


def _within(found: list[float], latencies: list[float]) -> bool:
    """Whether percentiles lie between the least and the greatest of the values, within a thousandth."""
    return min(latencies) * 0.999 <= found[0] and found[-1] <= max(latencies) * 1.001


def count_of(text: str | None) -> int | None:
    """The whole number in a flag; None if there is none."""
    return int(text) if text is not None and text.isdecimal() else None


def _newest(path: Path) -> dict[str, Any]:
    """The result in a file; with --append-result the last of several."""
    try:
        value = read_json_file(path)
    except Unreadable:
        lines = read_text_file(path).strip().splitlines()
        if len(lines) < 2 or not lines[0].startswith("{"):
            raise
        value = parse_json(lines[-1].encode(), f"the last line of {path.name}")
    if isinstance(value, list) and value:
        value = value[-1]
    if not isinstance(value, dict):
        raise Unreadable(f"{path.name} is not a JSON object")
    return value


def _rate(value: dict[str, Any]) -> float | None:
    """The constant rate; None for a burst ("inf") and for a ramp."""
    return None if value.get("ramp_up_strategy") else number(value.get("request_rate"))


def _records(value: dict[str, Any], *, closed_loop: bool) -> tuple[list[Record] | None, str]:
    """The request records, or None and the reason."""
    columns = ("start_times", "ttfts", "latencies", "output_lens", "errors")
    if "ttfts" not in value or "latencies" not in value:
        return None, f"the file has no time of each request: {_DETAILED}"
    if "start_times" not in value or ("queue_times" not in value and not closed_loop):
        return None, _OLD
    starts, ttfts, latencies, tokens = (numbers(value.get(name)) for name in columns[:4])
    queued = numbers(value.get("queue_times", [0.0] * len(starts or [])))
    errors = value.get("errors")
    if starts is None or ttfts is None or latencies is None or tokens is None or queued is None:
        return None, "a column of the file holds something else than numbers"
    if not isinstance(errors, list) or len({len(starts), len(ttfts), len(latencies), len(tokens), len(queued)}) != 1:
        return None, "the columns of the file differ in length"
    if len(errors) != len(starts):
        return None, "the columns of the file differ in length"
    found = []
    for start, queue, ttft, latency, length, error in zip(
        starts, queued, ttfts, latencies, tokens, errors, strict=True
    ):
        due = start if closed_loop else start - queue
        failure = str(error) if error else None if length or latency else "no answer"
        first, last = (start + ttft, start + latency) if failure is None else (None, None)
        found.append(Record(due, start, first, last, int(length), failure))
    return found, ""


def _means(value: dict[str, Any], records: list[Record]) -> list[Claim]:
    """The stated means in ms against the times of the completed requests, from their dispatch, as vLLM counts them."""
    done = [record for record in records if record.done]
    first = [1e3 * record.ttft_s for record in done if record.ttft_s is not None]
    whole = [1e3 * (record.last_s - record.dispatch_s) for record in done if record.last_s is not None]
    return [
        Claim(key, number(value.get(key)), fmean(times) if times else None)
        for key, times in (("mean_ttft_ms", first), ("mean_e2el_ms", whole))
    ]


def _impossible(value: dict[str, Any], completed: int) -> str:
    """What the file states that no run can have; "" if there is nothing of the kind."""
    for name in ("failed", "total_input_tokens", "total_output_tokens"):
        if (found := number(value.get(name))) is not None and found < 0:
            return f"{name} is {found:g}"
    for name in ("ttft", "tpot", "itl", "e2el"):
        median, p99 = number(value.get(f"median_{name}_ms")), number(value.get(f"p99_{name}_ms"))
        if median is not None and p99 is not None and p99 < median - 0.01:
            return f"p99_{name}_ms is {p99:g}, below the median of {median:g}"
    if any(gap < 0 for gap in _gaps(value) or ()):
        return "itls has times below 0"
    seconds, good = number(value.get("duration")), number(value.get("request_goodput"))
    if good is not None and seconds and seconds > 0 and good > 1.01 * completed / seconds + 0.01:
        return f"request_goodput is {good:g} requests/s, more than were completed"
    return ""


def _gaps(value: dict[str, Any]) -> list[float] | None:
    """The times between tokens of all requests."""
    gaps: list[float] = []
    for row in items(value.get("itls")):
        found = numbers(row)
        if found is None:
            return None
        gaps += found
    return gaps or None


def _throughput(value: dict[str, Any], completed: int) -> dict[str, Metric]:
    """Recomputed from the totals and the duration."""
    seconds = number(value.get("duration"))
    if not seconds or seconds <= 0:
        return {}
    totals = {
        "request_throughput": (completed, "requests/s"),
        "output_throughput": (count(value.get("total_output_tokens")), "tokens/s"),
    }
    found = {name: Metric(total / seconds, unit) for name, (total, unit) in totals.items() if total is not None}
    incoming, outgoing = count(value.get("total_input_tokens")), count(value.get("total_output_tokens"))
    if incoming is not None and outgoing is not None:
        found["total_throughput"] = Metric((incoming + outgoing) / seconds, "tokens/s")
    goodput = number(value.get("request_goodput"))
    if goodput is not None:
        found["goodput"] = Metric(goodput, "requests/s")
    return found


def _printed_number(text: str, label: str) -> float | None:
    match = re.search(rf"^{re.escape(label)}\s+([0-9.]+)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return float(match[1]) if match and match[1].count(".") < 2 and match[1] != "." else None


class _VllmOffline(OneFileTool):
    """The commands of `vllm bench` that start an engine of their own; they write --output-json."""

    versions = "0.32"
    result_flag = "--output-json"

    def missing_flag(self) -> str | None:
        return None if self.outputs() else f"{self.name} writes no result: add --output-json artifacts/NAME.json"

    def judge(self, path: Path) -> ToolResult:
        value = read_json_file(path)
        if not isinstance(value, dict):
            raise Unreadable("it is not a JSON object")
        return self._judge(value)

    @abstractmethod
    def _judge(self, value: dict[str, Any]) -> ToolResult: ...

    def _count_gate(self, name: str, found: int, flag: str) -> Gate:
        asked = count_of(option(self.arguments, flag))
        good = found > 0 and (asked is None or found == asked)
        bound = f"{asked}, as {flag} asks" if asked is not None else "at least one"
        return Gate(name, Outcome.PASS if good else Outcome.FAIL, str(found), bound)


class VllmThroughput(_VllmOffline):
    """`vllm bench throughput`."""

    name = "vllm bench throughput"

    def _judge(self, value: dict[str, Any]) -> ToolResult:
        seconds, requests = number(value.get("elapsed_time")), count(value.get("num_requests"))
        tokens = count(value.get("total_num_tokens"))
        if not seconds or seconds <= 0 or requests is None or not tokens:
            raise Unreadable("it lacks elapsed_time, num_requests or total_num_tokens, or has no tokens")
        metrics = {
            "requests.completed": Metric(requests, "requests"),
            "request_throughput": Metric(requests / seconds, "requests/s"),
            "total_throughput": Metric(tokens / seconds, "tokens/s"),
        }
        gates = [format_gate(self, "its result has no version; the keys are those of 0.32")]
        gates.append(self._count_gate("completed requests", requests, "--num-prompts"))
        stated = number(value.get("tokens_per_second"))
        requests_stated = Claim("requests/s", number(value.get("requests_per_second")), requests / seconds)
        good = stated is not None and abs(stated - tokens / seconds) <= 0.01 * stated and requests_stated.good
        gates.append(
            Gate(
                "totals",
                Outcome.PASS if good else Outcome.INVALID,
                f"{tokens / seconds:.1f} tokens/s from the totals, {stated} stated",
                "both are equal within 1 %",
            )
        )
        sentence = f"{requests / seconds:.2f} requests/s, {tokens / seconds:.1f} tokens/s"
        return ToolResult(gates, metrics, f"{self.name}: {sentence}")


class VllmLatency(_VllmOffline):
    """`vllm bench latency`: whole batches, one after the other, so a batch is due when the one before it ends."""

    name = "vllm bench latency"

    def _judge(self, value: dict[str, Any]) -> ToolResult:
        latencies = numbers(value.get("latencies"))
        if not latencies or min(latencies) <= 0:
            raise Unreadable("it has no list of latencies")
        metrics = {f"e2e.{name}": metric for name, metric in statistics_ms(latencies).items()}
        gates = [format_gate(self, "its result has no version; the keys are those of 0.32")]
        gates.append(self._count_gate("measured batches", len(latencies), "--num-iters"))
        stated = number(at(value, "avg_latency"))
        mean = sum(latencies) / len(latencies)
        good = stated is not None and abs(stated - mean) <= 0.01 * mean
        measured = f"mean {mean:.3f} s from the list, {stated} stated"
        shares = value.get("percentiles")
        found = numbers([*shares.values()]) if isinstance(shares, dict) else []
        if found is None or found != sorted(found) or (found and not _within(found, latencies)):
            good, measured = False, "percentiles that the listed latencies cannot have"
        gates.append(Gate("totals", Outcome.PASS if good else Outcome.INVALID, measured, "both are equal within 1 %"))
        return ToolResult(gates, metrics, f"{self.name}: mean {mean * 1e3:.1f} ms over {len(latencies)} batches")
