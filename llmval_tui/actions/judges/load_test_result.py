"""The result of a load test, and the figures recomputed from its request records.

Offered rate = (N−1)/last intended arrival (MLPerf LoadGen); achieved = N/(span of the dispatches + one mean gap).
Completed and goodput are per second of the window (`LoadResult.duration_s`), so completed is never above offered.
Of several replicas (data parallel over nodes) these rates are sums, and percentiles are over the requests of all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmval_tui.actions.request_records import Record, percentile_ms
from llmval_tui.foundation.files import read_json


@dataclass(frozen=True)
class LoadResult:
    """A result file: its records, and its other content unchanged."""

    records: list[Record]
    flat: dict[str, Any]  # vLLM's keys
    ours: dict[str, Any]  # the `llmval` object

    @property
    def done(self) -> list[Record]:
        return [record for record in self.records if record.done]

    @property
    def identity(self) -> dict[str, Any]:
        """The configuration: model, dtype, fp8_mode, attention_backend, tensor_parallel, …"""
        return dict(self.ours.get("identity") or {})

    @property
    def search(self) -> dict[str, Any] | None:
        """The search for the highest rate, if this result is the confirming window of one."""
        search = self.ours.get("search")
        return search if isinstance(search, dict) else None

    @property
    def gpus(self) -> int:
        """The ranks of all replicas; 0 if the result does not tell."""
        identity = self.identity
        return int(identity.get("tensor_parallel") or 0) * int(identity.get("data_parallel") or 1)

    @cached_property
    def replicas(self) -> list["LoadResult"]:
        """The result of each replica; without any the whole result is that of the only one."""
        found = self.ours.get("replicas")
        if not found:
            return [self]
        return [
            LoadResult(
                [record for record in self.records if record.replica == one["replica"]],
                {"duration": one["duration_s"]},
                {**self.ours, **one, "replicas": None, "partial": one["verdict"]["word"] == "ended early"},
            )
            for one in found
        ]

    @property
    def name(self) -> str:
        """`replica 1 on n2`; "" for the only one."""
        return f"replica {self.ours['replica']} on {self.ours['host']}" if "replica" in self.ours else ""

    def _sum(self, of: Callable[["LoadResult"], float | None]) -> float | None:
        """A rate of all replicas together; None if one has none."""
        values = [of(part) for part in self.replicas]
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    @property
    def offered_qps(self) -> float | None:
        """Of all replicas together."""
        return self._sum(lambda part: part._offered_qps)

    @property
    def achieved_qps(self) -> float | None:
        """Of all replicas together."""
        return self._sum(lambda part: part._achieved_qps)

    def per_second(self, count: Callable[["LoadResult"], int]) -> float | None:
        """What a replica counted, per second of its own window, summed over the replicas."""

        def rate(part: "LoadResult") -> float | None:
            return count(part) / duration if (duration := part.duration_s) else None

        return self._sum(rate)

    @property
    def _offered_qps(self) -> float | None:
        """From the records, or from the schedule if that is higher: it also counts requests that were never sent."""
        if self.partial:  # what was due until the end; at least what was sent
            own = len(self.records) / self.duration_s if self.duration_s else None
            return max((rate for rate in (own, self._scheduled_qps) if rate is not None), default=None)
        last = max((record.intended_s for record in self.records), default=0.0)
        own = (len(self.records) - 1) / last if len(self.records) > 1 and last > 0 else None
        return max((rate for rate in (own, self._scheduled_qps) if rate is not None), default=None)

    @property
    def _scheduled_qps(self) -> float | None:
        rate = (self.ours.get("rates") or {}).get("offered_qps")
        return float(rate) if isinstance(rate, int | float) else None

    @property
    def partial(self) -> bool:
        """Whether the run ended early."""
        return bool(self.ours.get("partial"))

    @property
    def _achieved_qps(self) -> float | None:
        offered = self._offered_qps
        if not offered or len(self.records) < 2:
            return None
        times = [record.dispatch_s for record in self.records]
        return len(times) / (max(times) - min(times) + 1 / offered)

    @property
    def duration_s(self) -> float | None:
        """The window: at least the N gaps of the schedule, until the last completion, and until the end of the wait for
        requests that did not finish, which only the file itself knows. None if nothing is known."""
        ends = [record.last_s for record in self.done if record.last_s is not None]
        stated = self.flat.get("duration")
        if isinstance(stated, int | float):
            ends.append(float(stated))
        if not self.partial and self.records and len(self.replicas) == 1 and (offered := self._offered_qps):
            ends.append(len(self.records) / offered)
        return max((end for end in ends if end > 0), default=None)


def read_result(path: Path) -> LoadResult | None:
    """The load test's result in a file; None if the file is not one."""
    return result_in(read_json(path))


def result_in(value: Any) -> LoadResult | None:
    """The load test's result in a JSON value; None if it is not one."""
    if not isinstance(value, dict):
        return None
    ours = value.get("llmval")
    if not isinstance(ours, dict) or ours.get("kind") != "load_test":
        return None
    try:
        records = [
            Record(
                float(item["intended_s"]),
                float(item["dispatch_s"]),
                None if item["first_token_s"] is None else float(item["first_token_s"]),
                None if item["last_token_s"] is None else float(item["last_token_s"]),
                int(item["output_tokens"] or 0),
                item["error"] or None,
                None if item.get("failed_s") is None else float(item["failed_s"]),
                int(item.get("replica") or 0),
            )
            for item in ours["requests"]
        ]
    except (KeyError, TypeError, ValueError):
        return None
    return LoadResult(records, value, ours) if _replicas_are_whole(ours, records) else None


def _replicas_are_whole(ours: dict[str, Any], records: list[Record]) -> bool:
    """Whether each replica that ran is in the result, and each request belongs to one of them."""
    found = ours.get("replicas")
    try:
        wanted = int(ours["identity"].get("data_parallel") or 1)
        if found is None:  # one replica, or what was kept of one after rank 0 was lost
            return wanted == 1 or ours.get("partial") is True
        known = all(
            isinstance(one["duration_s"], int | float) and isinstance(one["rates"], dict) and one["verdict"]["word"]
            for one in found
        )
        numbers = [one["replica"] for one in found if "host" in one]
    except (AttributeError, KeyError, TypeError, ValueError):
        return found is None
    return known and numbers == list(range(wanted)) and {record.replica for record in records} <= set(numbers)


def metrics_of(result: LoadResult) -> dict[str, float | None]:
    """The figures of a load test, by name with unit, all computed from the records."""
    done = result.done
    figures: dict[str, float | None] = {
        "offered_qps": result.offered_qps,
        "achieved_qps": result.achieved_qps,
        "completed_qps": result.per_second(lambda part: len(part.done)),
        "output_tokens_per_s": result.per_second(lambda part: sum(record.output_tokens for record in part.done)),
        "requests": float(len(result.records)),
        "failed_requests": float(len(result.records) - len(done)),
        "schedule_delay_p99_ms": percentile_ms([r.dispatch_s - r.intended_s for r in result.records], 99),
    }
    if (goodput := _goodput_qps(result)) is not None:
        figures["goodput_qps"] = goodput
        figures["slo_attainment_percent"] = (
            100 * good_requests(result) / len(result.records) if result.records else None
        )
    for name, values in {
        "ttft": [record.ttft_s for record in done],
        "ttft_sched": [record.ttft_sched_s for record in done],
        "tpot": [record.tpot_s for record in done],
        "e2e_sched": [record.e2e_sched_s for record in done],
    }.items():
        figures |= {f"{name}_p{percent}_ms": percentile_ms(values, percent) for percent in (50, 99)}
    return figures


def _goodput_qps(result: LoadResult) -> float | None:
    """Requests per second that met every service level; None without a service level or a window."""
    stated = any(limit is not None for limit in (result.ours.get("slo") or {}).values())
    return result.per_second(good_requests) if stated else None


def good_requests(result: LoadResult) -> int:
    """The number of completed requests that met every service level with a limit."""
    slo = {name: limit for name, limit in (result.ours.get("slo") or {}).items() if limit is not None}

    def met(record: Record) -> bool:
        own = {"ttft_ms": record.ttft_sched_s, "tpot_ms": record.tpot_s, "e2e_ms": record.e2e_sched_s}
        values = [(own.get(name), limit) for name, limit in slo.items()]
        return all(value is None or value * 1e3 <= limit for value, limit in values)

    return sum(map(met, result.done))
