"""Reads the results of `python -m sglang.bench_serving`.

It appends one JSON line to --output-file. The line counts the completed requests alone, and has no time at which a
request was due or sent: so failed requests are those asked for and not completed, and latencies are judged in a closed
loop only, where a request is due when the one before it ends.
"""

from pathlib import Path
from typing import Any

from llmval_tui.actions.request_records import Record
from llmval_tui.actions.tools.command_line import has, option
from llmval_tui.actions.tools.files import Unreadable, count, items, json_lines, number, numbers
from llmval_tui.actions.tools.load.agreement import Claim
from llmval_tui.actions.tools.load.facts import LoadFacts, load_result
from llmval_tui.actions.tools.load.vllm_bench import count_of
from llmval_tui.actions.tools.model import Metric, OneFileTool, ToolResult, format_gate

_DEFAULT_PROMPTS = 1000


class SglangServing(OneFileTool):
    """`python -m sglang.bench_serving`."""

    name = "sglang.bench_serving"
    versions = "0.4 to 0.5"
    result_flag = "--output-file"

    def missing_flag(self) -> str | None:
        if not self.outputs():
            return (
                "the result would get a name of its own in the working folder: add --output-file artifacts/NAME.jsonl"
            )
        if not has(self.arguments, "--output-details"):
            return "without the time of each request no latency is judged: add --output-details"
        return None

    def judge(self, path: Path) -> ToolResult:
        lines = list(json_lines(path))
        if not lines:
            raise Unreadable(f"{path.name} is empty")
        value = lines[-1]
        completed, seconds = count(value.get("completed")), number(value.get("duration"))
        if completed is None or seconds is None or seconds <= 0:
            raise Unreadable("its last line lacks completed or duration, so it is not a result of sglang.bench_serving")
        dataset = value.get("dataset_name")
        asked = count_of(option(self.arguments, "--num-prompts"))
        if asked is None and dataset in ("sharegpt", "random", "random-ids", None):
            asked = _DEFAULT_PROMPTS
        records, reason = self._records(value)
        if records is not None:
            asked = max(asked or 0, len(records))
        failed = None if asked is None else max(asked - completed, 0)
        rate, limit = number(value.get("request_rate")), count(value.get("max_concurrency"))
        totals = {"output_throughput": count(value.get("total_output_tokens"))}
        answered = totals["output_throughput"]
        claims = [Claim("request_throughput", number(value.get("request_throughput")), completed / seconds)]
        if answered is not None:
            claims.append(Claim("output_throughput", number(value.get("output_throughput")), answered / seconds))
        if records is not None:
            claims.append(Claim("output tokens", answered, sum(record.output_tokens for record in records)))
        facts = LoadFacts(
            tool=self.name,
            claims=tuple(claims),
            answers=None if "embedding" in str(value.get("backend")) else answered,
            asked=asked,
            completed=completed,
            failed=failed,
            error=next((text for text in items(value.get("errors")) if isinstance(text, str) and text), ""),
            offered_qps=rate,
            duration_s=seconds,
            closed_loop=limit if rate is None else None,
            limit=f"--max-concurrency {limit}" if limit else "",
            records=records if rate is None else None,
            no_latency=reason,
            itl_s=[gap for row in items(value.get("itls")) for gap in numbers(row) or []] or None,
            reported_ttft_p99_ms=number(value.get("p99_ttft_ms")),
            throughput={"request_throughput": Metric(completed / seconds, "requests/s")}
            | {name: Metric(total / seconds, "tokens/s") for name, total in totals.items() if total is not None},
        )
        return load_result(facts, [format_gate(self, "its result has no version; the keys are those of 0.4 to 0.5")])

    def _records(self, value: dict[str, Any]) -> tuple[list[Record] | None, str]:
        """The records of a closed loop, with the dispatch as time 0 of each request; or None and the reason."""
        if "ttfts" not in value:
            return None, "the file has no time of each request: add --output-details"
        ttfts, tokens, errors = numbers(value.get("ttfts")), numbers(value.get("output_lens")), value.get("errors")
        rows = value.get("itls")
        gaps = [numbers(row) for row in rows] if isinstance(rows, list) else []
        if ttfts is None or tokens is None or not isinstance(errors, list):
            return None, "a column of the file holds something else than numbers"
        if len({len(ttfts), len(tokens), len(errors), len(gaps)}) != 1 or None in gaps:
            return None, "the columns of the file differ in length"
        found = []
        for ttft, length, error, gap in zip(ttfts, tokens, errors, gaps, strict=True):
            failure = str(error) if error else None if length or ttft else "no answer"
            last = ttft + sum(gap or [])
            first, last_s = (ttft, last) if failure is None else (None, None)
            found.append(Record(0.0, 0.0, first, last_s, int(length), failure))
        if number(value.get("request_rate")) is not None:
            return (
                found,
                "sglang.bench_serving does not record when a request was due, so latencies under a rate are unknown",
            )
        return found, ""
