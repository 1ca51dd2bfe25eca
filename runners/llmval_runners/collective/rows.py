"""Measures one collective at one size: its time in every mode, then its results. All ranks call the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from llmval_runners.collective import record
from llmval_runners.collective.group import Group
from llmval_runners.collective.operations import BY_NAME, Call, Operation
from llmval_runners.collective.timing import Timing, capture, eager, iterations_for, over_ranks, replayed
from llmval_runners.measure.nvml_links import LinkFault, NoLinks, NvmlLinks

COUNTED_CALLS = 10  # all-reduces of the largest size between two readings of the NVLink counters


@dataclass(frozen=True, slots=True)
class RowTest:
    """How each row is measured; the fields are those of the options. `stop_if_asked` raises after a signal."""

    group: Group
    dtype: torch.dtype
    modes: tuple[str, ...]
    warmup: int
    iterations: int
    repeats: int
    stop_if_asked: Callable[[], None]

    def rows(self, operation: Operation, elements: int) -> list[dict[str, Any]]:
        """One row of the record for each mode; the same on every rank."""
        group, device = self.group, self.group.device
        call = Call(operation, elements, self.dtype, device, group.measured)
        with group.guarded(f"{operation.name} of {elements * self.dtype.itemsize} bytes"):
            call.fill_random()
            for _ in range(max(1, self.warmup)):
                call()
            once = eager(call, device, 1)
        iterations = iterations_for(max(group.gather(once)), self.iterations)
        timings = {mode: self._timing(call, mode, iterations) for mode in self.modes}
        measured = [mode for mode in self.modes if isinstance(timings[mode], Timing)]
        checks = {mode: self._check(call, mode) for mode in measured}
        integers: dict[str, tuple[int, str]] = {}
        if self.dtype is not torch.int32:
            del call
            count = operation.elements(elements * self.dtype.itemsize, group.size, torch.int32.itemsize)
            if count:
                call = Call(operation, count, torch.int32, device, group.measured)
                integers = {mode: self._check(call, mode) for mode in measured}
        return [
            record.row(
                operation, mode, elements, self.dtype, group.size, timing, self.repeats, checks.get(mode),
                integers.get(mode),
            )
            for mode, timing in timings.items()
        ]  # fmt: skip

    def _timing(self, call: Call, mode: str, iterations: int) -> Timing | str:
        """The timing of all ranks, or the reason why this mode cannot run."""
        group, device = self.group, self.group.device
        graph, problem = None, None
        if mode == "graph":
            try:
                graph = capture(call, iterations)
            except RuntimeError as error:
                problem = f"it cannot be captured in a CUDA graph ({_first_line(error)})"
            if (known := next((one for one in group.gather(problem) if one), None)) is not None:
                return str(known)
        mine = []
        for _ in range(self.repeats):
            self.stop_if_asked()
            call.fill_random()
            group.gather(None)  # all ranks begin together, so that waiting for one is not measured
            with group.guarded(f"{call.operation.name}, {mode}"):
                mine.append(eager(call, device, iterations) if graph is None else replayed(graph, device, iterations))
        return over_ranks(group.gather(mine), iterations)

    def _check(self, call: Call, mode: str) -> tuple[int, str]:
        """One checked call; the wrong elements of all ranks, and the first of them in words."""
        graph = None
        if mode == "graph":
            call()  # a new buffer may need a new connection, which cannot be made while a graph is captured
            graph = capture(call, 1)
        call.fill()
        with self.group.guarded(f"the check of {call.operation.name}, {mode}"):
            if graph is None:
                call()
            else:
                graph.replay()
            wrong, first = call.wrong()
        mine = f"rank {self.group.rank}, {call.receive.dtype}: {first}" if first else ""
        found = self.group.gather((wrong, mine))
        return sum(count for count, _ in found), next((text for _, text in found if text), "")

    def count_all_reduces(self, elements: int, links: NvmlLinks | NoLinks, uuid: str) -> list[dict[str, Any]]:
        """What the NVLink counters of all ranks see of a known number of all-reduces; [] if a counter is unknown."""
        group, size = self.group, self.group.size
        if isinstance(links, NoLinks) or size == 1:
            return []
        call = Call(BY_NAME["all_reduce"], elements, self.dtype, group.device, group.measured)
        call.fill_random()
        torch.cuda.synchronize(group.device)
        before = _traffic(links, uuid)
        group.gather(None)
        with group.guarded("counting all-reduces"):
            for _ in range(COUNTED_CALLS):
                call()
            torch.cuda.synchronize(group.device)
        after = _traffic(links, uuid)
        reading = None
        if before is not None and after is not None and after >= before:
            sent = int(COUNTED_CALLS * elements * self.dtype.itemsize * call.operation.bus_factor(size))
            reading = record.empty_reading("all_reduce", group.rank) | {
                "sent_bytes": sent, "tx_bytes": after[0] - before[0],
                "received_bytes": sent, "rx_bytes": after[1] - before[1],
            }  # fmt: skip
        found = group.gather(reading)
        return [] if None in found else [record.with_shares(one) for one in found]


def _traffic(links: NvmlLinks, uuid: str) -> tuple[int, int] | None:
    try:
        return links.traffic(uuid)
    except LinkFault:
        return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
