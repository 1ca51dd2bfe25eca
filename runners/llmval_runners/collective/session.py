"""The test from start to end, on each rank: agreement, the collectives, the pairs, the suspects again, the record."""

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from llmval_runners.collective import baseline, expected, facts, nccl_layout, record
from llmval_runners.collective.baseline import check_files
from llmval_runners.collective.compare import compare
from llmval_runners.collective.group import Group
from llmval_runners.collective.last_screen import last_screen, size_text
from llmval_runners.collective.operations import BY_NAME
from llmval_runners.collective.options import CollectiveOptions, sizes
from llmval_runners.collective.pairs import Cell, Measured, PairTest, cells
from llmval_runners.collective.rounds import FabricTest, nodes_of
from llmval_runners.collective.rows import RowTest
from llmval_runners.collective.verdict import KIND, SCHEMA_VERSION, verdict_of
from llmval_runners.engine.config import choose_device
from llmval_runners.measure.nvml_links import NoLinks, NvmlLinks, open_links
from llmval_runners.process.errors import FAILED_EXIT, RankLost, Refused, ended_by
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import write_json
from llmval_runners.process.output import OutputFile, flush_streams, show, where_of
from llmval_runners.process.rank_main import Rank
from llmval_runners.process.record import RunRecord
from llmval_runners.process.screen import plural
from llmval_runners.process.shutdown import HangWatch, StopSignals

GPU_MAX_BYTES, CPU_MAX_BYTES = 1 << 30, 1 << 20
GPU_PAIR_BYTES = 256 << 20
PAIR_ITERATIONS = 10
_SAVED_CELLS = 32  # cells of pairs between two partial records
_SIGNAL_WAIT_S = 1.0  # from the loss of a rank to the signal that is behind it
_RESERVE = 1 << 30  # bytes of a GPU for NCCL's buffers, CUDA's context in the process that copies, and the checks
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int32": torch.int32}


class Interrupted(Exception):
    """A stop signal arrived."""


class CollectiveTest:
    """One rank's test. `run` measures; `save_partial` saves the record so far if it ends early."""

    def __init__(self, options: CollectiveOptions, events: EventLog, rank: Rank) -> None:
        """Decide everything without other ranks. Raises Refused."""
        self.options, self.events = options, events
        self.rank, self.size, self.local_rank = rank.rank, rank.world_size, rank.local_rank
        self.device = choose_device(options.device, local_ranks=rank.local_world_size, local_rank=self.local_rank)
        on_gpu = self.device.type == "cuda"
        self.max_bytes = options.max_bytes or (GPU_MAX_BYTES if on_gpu else max(CPU_MAX_BYTES, options.min_bytes))
        if self.max_bytes < options.min_bytes:
            raise Refused(f"--min-bytes {options.min_bytes} is above the largest size {self.max_bytes}: pass both.")
        self.modes = options.modes or (("eager", "graph") if on_gpu else ("eager",))
        if not on_gpu and "graph" in self.modes:
            raise Refused("a CPU has no CUDA graphs: pass --modes eager, or leave --modes out.")
        self.pair_bytes = options.pair_bytes or min(GPU_PAIR_BYTES, self.max_bytes)
        self.dtype = _DTYPES[options.dtype]
        self.baseline = None
        self.output: OutputFile | None = None
        if self.rank == 0:
            self.baseline = check_files(options)
            self.output = OutputFile(options.output_json) if options.output_json is not None else None
        self.stop = StopSignals(self._emergency_save)
        self._stopped = threading.Event()
        self.stop.on_signal.append(self._stopped.set)
        self.links: NvmlLinks | NoLinks = NoLinks("not read")
        self.group: Group | None = None
        self.facts: list[dict[str, Any]] = []
        self.paths: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.cells: list[dict[str, Any]] = []
        self.slow: list[dict[str, Any]] = []
        self.fabric: dict[str, Any] | None = None
        self.compared: list[dict[str, Any]] = []
        self.all_reduce_counters: list[dict[str, Any]] = []
        self.record = RunRecord(self.output, self.stop, events)

    def run(self) -> int:
        """Measure, write the record and return the exit code. Raises Refused, RankLost, or any error of the work."""
        try:
            return self._run()
        except (Interrupted, RankLost):
            # A signal reaches all ranks, and the first one that ends takes the group along.
            if not self._stopped.wait(_SIGNAL_WAIT_S):
                raise
            self.save_partial(ended_by(self.stop.number))
            return self.stop.exit_code

    def save_partial(self, why: str) -> None:
        """Save the figures so far beside the path of the result, and show them."""
        if self.rank != 0 or not self.facts:
            return
        if saved := self.record.early(lambda: self._record(why)):
            self._show(*saved)

    def describe_error(self, error: Exception) -> str:
        if isinstance(error, torch.OutOfMemoryError):
            return f"the GPU's memory ran out: pass a smaller --max-bytes or --pair-bytes ({error})"
        return str(error) or type(error).__name__

    def finish(self) -> None:
        """Release the record's file, and tell the signal guard that it is written."""
        if self.output is not None:
            self.output.release()
        self.stop.done()

    def _run(self) -> int:
        self.stop.install()
        options = self.options
        self.events.phase("setup", f"{plural(self.size, 'rank')}, {'gloo' if self.device.type == 'cpu' else 'NCCL'}")
        torch.set_grad_enabled(False)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self.links = open_links(on_gpu=self.device.type == "cuda")
        group = self.group = Group(self.device, self.rank, self.size, options.timeout_s)
        HangWatch(lambda: group.waiting_since, options.timeout_s + 10, self._on_hang).start()
        self._agree(group)
        group.connect()
        self._collectives(group)
        if options.pairs == "all":
            self._pairs(group)
        elif options.pairs == "rounds":
            self._rounds(group)
        code = self._save() if self.rank == 0 else 0
        group.from_first(None)  # the first rank that exits ends the others under torchrun, so they wait for the record
        return code

    def _agree(self, group: Group) -> None:
        """Gather what the ranks run on; refuse a group that does not fit together or has too little memory."""
        asked = {
            "--operations": ",".join(self.options.operations), "--min-bytes": self.options.min_bytes,
            "--max-bytes": self.max_bytes, "--factor": self.options.factor, "--modes": ",".join(self.modes),
            "--dtype": self.options.dtype, "--pairs": self.options.pairs, "--pair-bytes": self.pair_bytes,
            "--ranks-per-node": self.options.ranks_per_node,
            "--warmup": self.options.warmup, "--iterations": self.options.iterations,
            "--repeats": self.options.repeats, "--device": self.device.type,
        }  # fmt: skip
        mine = facts.rank_facts(self.device, self.rank, self.local_rank, self.links, asked)
        found = group.gather(mine)
        if (problem := facts.disagreement(found)) is not None:
            raise Refused(problem)
        facts.name_hosts(found)
        if self.options.pairs == "rounds" and len(nodes_of(found, self.options.ranks_per_node)) < 2:
            raise Refused(
                "--pairs rounds needs two nodes or more: start it with torchrun --nnodes, or pass --ranks-per-node to "
                "try it on one."
            )
        self._check_memory(found)
        self.paths = [one for part in group.gather(facts.paths_from(self.rank, found, self.links)) for one in part]
        self.facts = found
        for warning in facts.warnings(found) if self.rank == 0 else []:
            self.events.warning("environment", warning)

    def _check_memory(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Raises Refused: the buffers of the largest size do not fit on every rank."""
        reserve = _RESERVE if self.device.type == "cuda" else 0
        least = min(found, key=lambda one: int(one["memory_free_bytes"]))
        free = int(least["memory_free_bytes"]) - reserve
        parts = {"--max-bytes": max(self._bytes_needed(name) for name in self.options.operations)}
        if (
            self.options.pairs != "none"
        ):  # the process that copies has buffers on every GPU of its node beside the ranks'
            parts["--pair-bytes"] = (4 if self.device.type == "cuda" else 2) * self.pair_bytes
        for flag, needed in parts.items():
            if needed > free:
                asked = self.max_bytes if flag == "--max-bytes" else self.pair_bytes
                fits = 1 << max(0, (free * asked // needed).bit_length() - 1) if free > 0 else 0
                remedy = f"pass {flag} {size_text(fits)} or less" if fits >= 8 else "free some memory"
                raise Refused(
                    f"{flag} {size_text(asked)} needs {needed / 2**30:.1f} GiB on each rank, and rank {least['rank']} "
                    f"on {least['host']} has {max(free, 0) / 2**30:.1f} GiB free: {remedy}."
                )

    def _bytes_needed(self, name: str) -> int:
        operation = BY_NAME[name]
        elements = operation.elements(self.max_bytes, self.size, self.dtype.itemsize)
        return operation.bytes_needed(elements, self.size, self.dtype.itemsize)

    def _collectives(self, group: Group) -> None:
        steps = sizes(self.options.min_bytes, self.max_bytes, self.options.factor)
        options = self.options
        test = RowTest(
            group, self.dtype, self.modes, options.warmup, options.iterations, options.repeats, self._stop_if_asked
        )
        total, done = len(self.options.operations) * len(steps), 0
        self.events.phase("measure", "collectives")
        for name in self.options.operations:
            operation = BY_NAME[name]
            largest: dict[str, Any] | None = None
            for nbytes in steps:
                self._stop_if_asked()
                elements = operation.elements(nbytes, self.size, self.dtype.itemsize)
                if elements and not (name == "send_recv" and self.size == 1):
                    for made in test.rows(operation, elements):
                        self.rows.append(made)
                        largest = made
                done += 1
                self.events.step = done
                self.events.progress(done, total, "sizes", name)
            if name == "all_reduce" and largest is not None:
                counted = test.count_all_reduces(largest["elements"], self.links, str(self.facts[self.rank]["uuid"]))
                if record_line(self.facts, self.paths)["kind"] == expected.NVLINK:
                    self.all_reduce_counters = counted
            busbw = largest["busbw_gb_per_s"] if largest else None
            self.events.metrics({f"{name}_busbw_gb_per_s": busbw})
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self._save_so_far()

    def _pairs(self, group: Group) -> None:
        """Measure every pair, then the suspects once more."""
        self.events.phase("measure", "pairs")
        hosts = [one["host"] for one in self.facts]
        uuids = [str(one["uuid"]) for one in self.facts]
        test = PairTest(group, hosts, uuids, self.links, self.pair_bytes, PAIR_ITERATIONS)
        wanted = cells(group.backend, hosts)
        by_pair = {(one["from"], one["to"]): one for one in self.paths}
        measured: dict[Cell, Measured] = {}
        for at, cell in enumerate(wanted):
            self._stop_if_asked()
            measured[cell] = test.measure(cell)
            self.cells.append(record.cell(measured[cell], by_pair.get((cell.source, cell.target))))
            self.events.step = (self.events.step or 0) + 1
            self.events.progress(at + 1, len(wanted), "pairs", cell.method)
            if not (at + 1) % _SAVED_CELLS:
                self._save_so_far()
        self._compare(measured, by_pair, hosts, test)

    def _rounds(self, group: Group) -> None:
        """Measure every pair of nodes in rounds, the suspects once more, then the ring."""
        self.events.phase("measure", "pairs of nodes")
        nodes = nodes_of(self.facts, self.options.ranks_per_node)
        shared = group.backend == "gloo" and len({one["host"] for one in self.facts}) == 1
        test = FabricTest(group, nodes, self.pair_bytes, PAIR_ITERATIONS, shared=shared)

        def done(over: int, total: int) -> None:
            self._stop_if_asked()
            self.events.step = (self.events.step or 0) + 1
            self.events.progress(over, total, "rounds", "pairs of nodes")

        self.fabric = test.run(done)

    def _compare(
        self, measured: Mapping[Cell, Measured], by_pair: Mapping[tuple[int, int], Mapping[str, Any]],
        hosts: Sequence[str], test: PairTest,
    ) -> None:  # fmt: skip
        """Name the slow pairs and GPUs. Collective: all ranks have the same figures."""
        rates = {cell: one.gb_per_s for cell, one in measured.items()}
        found = compare(rates, by_pair, hosts, lambda cell: test.measure(cell).gb_per_s)
        self.slow, self.compared = found.slow, found.compared
        for at, cell in enumerate(measured):
            self.cells[at]["gb_per_s_again"] = found.again.get(cell)

    def _stop_if_asked(self) -> None:
        if self.stop.number is not None:
            raise Interrupted

    def _on_hang(self, waited_s: float) -> None:
        why = f"rank {self.rank} waited {waited_s:.0f} s for another rank, which hangs, or for its own GPU"
        self.events.error("dead_rank", why)
        try:
            self.save_partial(why)
        finally:
            flush_streams()
            os._exit(FAILED_EXIT)

    def _emergency_save(self, number: int) -> None:
        self.save_partial(ended_by(number))

    def _save_so_far(self) -> None:
        """Keep what is finished on the disk, for the dashboard and in case that this process is killed."""
        self.record.so_far(lambda: self._record("not finished: this is the last state that was saved"))

    def _save(self) -> int:
        """Write the record and the layouts of nccl-tests, show the last screen, and return the exit code."""
        self.events.phase("report")
        path = self.options.output_json
        found = self.record.complete(lambda: self._record(None))
        if self.output is not None:
            with self.stop.protect_write():
                _write_layouts(self.output, found)
        shown = self._show(found, path)
        # The dashboard judges the record itself and reads the exit code as "did it measure".
        if path is not None and self.events.recording:
            return 0
        return int(found["verdict"]["exit_code"]) if shown else FAILED_EXIT

    def _show(self, found: Mapping[str, Any], path: Path | None) -> bool:
        """False if the record was for standard output and is lost."""
        self.events.clear()
        where = where_of(path, self.output)
        return show(self.options.report, found, found["verdict"], lambda: last_screen(found, where))

    def _record(self, ended_early: str | None) -> dict[str, Any]:
        options, gpus = self.options, self.facts
        by_pair = {(one["from"], one["to"]): one for one in self.paths}
        readings = [*self.all_reduce_counters, *record.counter_readings(self.cells, by_pair)]
        found: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "kind": KIND,
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "ended_early": ended_early,
            "backend": "nccl" if self.device.type == "cuda" else "gloo",
            "nodes": len(facts.nodes_of(gpus)),
            "versions": gpus[0]["versions"] | {"driver": gpus[0]["driver"]},
            "environment": gpus[0]["environment"],
            "warnings": facts.warnings(gpus),
            "settings": {
                "operations": list(options.operations),
                "modes": list(self.modes),
                "dtype": options.dtype,
                "min_bytes": options.min_bytes,
                "max_bytes": self.max_bytes,
                "factor": options.factor,
                "warmup": options.warmup,
                "iterations": options.iterations,
                "repeats": options.repeats,
                "pairs": options.pairs,
                "ranks_per_node": options.ranks_per_node,
                "pair_bytes": self.pair_bytes,
                "min_busbw_gb_per_s": options.min_busbw,
            },
            "gpus": [_gpu(one) for one in gpus],
            "line": record_line(gpus, self.paths),
            "pair_paths": self.paths,
            "rows": self.rows,
            "pairs": {"cells": self.cells, "compared": self.compared},
            "slow": self.slow,
            "fabric": self.fabric,
            "counters": {"readings": readings, "reason": None if readings else self._no_counters()},
            "baseline": None,
        }
        found["summary"] = record.summary(found)
        if self.baseline is not None:
            found["baseline"] = baseline.compared(self.baseline, found)
        found["verdict"] = verdict_of(found).as_json()
        return found

    def _no_counters(self) -> str:
        unknown = next((one["links_unknown"] for one in self.facts if one["links_unknown"]), None)
        if unknown:
            return str(unknown)
        if self.size == 1:
            return "one rank: nothing crosses a link"
        if not any(one["kind"] == expected.NVLINK for one in self.paths):
            return "no NVLink connects these GPUs"
        return "the driver does not give the counters" if self.cells or self.rows else "nothing was measured yet"


def _write_layouts(output: OutputFile, found: Mapping[str, Any]) -> None:
    """The folder with the layouts of nccl-tests. An earlier one moves with the earlier record that it belongs to."""
    folder = output.path.with_suffix(".nccl-tests")
    if folder.is_dir():
        if output.moved is not None:
            folder.rename(output.moved.with_suffix(".nccl-tests"))
        else:
            shutil.rmtree(folder)
    for name, content in nccl_layout.layouts(found).items():
        write_json(folder / name, content, indent=1)


def record_line(gpus: Sequence[Mapping[str, Any]], paths: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The line rate of the group, as in the record."""
    line = expected.line_rate_of_group(gpus, paths)
    return {"kind": line["kind"], "gb_per_s": line["gb_per_s"], "reason": line["reason"] or None}


def _gpu(one: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("rank", "local_rank", "host", "pid", "device", "name", "uuid", "pci_bus_id", "memory_free_bytes")
    return {key: one[key] for key in (*kept, "nvlink", "pcie", "fabric", "links_unknown")}
