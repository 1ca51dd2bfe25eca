"""The sweep: cells in random order, each to its own file as it ends, told to the dashboard as it goes."""

import os
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from llmval_runners.measure.nvml_meter import NoMeter, PowerMeter, open_meter
from llmval_runners.power.cell import Bench, failed_record, free, run_cell
from llmval_runners.power.energy import Recorder, Stopped
from llmval_runners.power.grid import Cell, shuffled
from llmval_runners.power.machine import devices_of, identity_of, uuids_of
from llmval_runners.power.options import Settings
from llmval_runners.power.store import Store
from llmval_runners.process.errors import Refused
from llmval_runners.process.events import EventLog

OpenMeter = Callable[[list[str]], PowerMeter | NoMeter]


class Sweep:
    """A sweep that is set up: devices, meter and folder are known to be right."""

    def __init__(
        self,
        options: Any,
        cells: list[Cell],
        events: EventLog,
        stopped: Callable[[], bool],
        meter: OpenMeter = open_meter,
    ) -> None:
        """Raises Refused for devices that are not there and a folder that holds something else."""
        devices = devices_of(options.device, options.devices)
        self.settings = Settings(
            window_s=options.window_s,
            warmup_s=options.warmup_s,
            trials=options.trials,
            phases=[phase for phase in ("prefill", "decode") if phase in options.phases],
            attention_backend=options.attention_backend,
            compile=not options.skip_compile,
            device=devices[0].type,
            devices=[device.index for device in devices if device.type == "cuda"],
            seed=options.seed,
        )
        self._prepare(options.output_dir)
        self.cells, self.events, self._stopped = cells, events, stopped
        self.store = Store(options.output_dir, self.settings, cells)
        self._cooldown_s = options.cooldown_s
        self._context(devices)
        self.meter = meter(uuids_of(devices))
        self._recorder = Recorder(
            self.meter, len(devices), stopped=stopped, on_power=lambda watts: events.metrics({"power_w": watts})
        )
        self._bench = Bench(
            self.settings, devices, self._recorder, identity_of(devices, self.meter), stopped, tell=self._tell
        )
        self._retry_refused = options.retry_refused

    def run(self) -> int:
        """Every cell that has no result yet. Returns the exit code: 1 where a cell broke, or all were refused.

        Raises:
            Stopped: the operator ended the run; what is done is on disk.
        """
        has_energy = not isinstance(self.meter, NoMeter)
        order = shuffled(self.cells, self.settings.seed)
        todo = self.store.remaining(order, has_energy=has_energy, retry_refused=self._retry_refused)
        self.store.write_manifest(self.cells, order, self._bench.identity)
        if isinstance(self.meter, NoMeter):
            self.events.warning(
                "no_energy", f"energy is not available ({self.meter.reason}): only throughput is measured."
            )
        total = len(self.cells)
        done = total - len(todo)
        if done:
            self.events.warning("resumed", f"{done} of {total} cells have a result that stands; {len(todo)} are run.")
        self.events.progress(done, total, "cells")
        began, measured = time.monotonic(), 0
        for position, cell in enumerate(todo):
            if position:
                self._rest()
            record = self._one(cell)
            path = self.store.save(cell, record)
            done += 1
            measured += record["status"] != "refused"
            self.events.result(str(path))
            self.events.progress(done, total, "cells", cell.name)
            self.events.metrics(self._figures(record, began, measured, len(todo) - position - 1))
            if record["status"] in ("refused", "failed"):
                self.events.warning(f"cell_{record['status']}", f"{cell.name}: {record['reasons'][0]}")
            if record["status"] == "failed" and not self._device_lives():
                self.events.error(
                    "device_lost", "the GPU does not answer after that: run the same command again to go on."
                )
                break
        return self._verdict(todo)

    def close(self) -> None:
        if not isinstance(self.meter, NoMeter):
            self.meter.close()

    def _one(self, cell: Cell) -> dict[str, Any]:
        attempt = self.store.attempt(cell)
        try:
            return run_cell(cell, self._bench, attempt)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  (one cell that breaks is a record, and not the end of the others)
            traceback.print_exc()
            record = failed_record(cell, self._bench, attempt, error)
        with suppress(
            RuntimeError
        ):  # a context that is lost raises its error again, and the record is still to be saved
            free(self._bench.devices)  # only here has the traceback let go of the stack
        return record

    def _verdict(self, todo: list[Cell]) -> int:
        mine = [self.store.known[cell.name].status for cell in self.cells if cell.name in self.store.known]
        counts = Counter(mine)
        told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        print(f"{len(mine)} of {len(self.cells)} cells: {told}; {self.store.folder}", flush=True)
        if counts["refused"] == len(self.cells):
            first = self.store.path(self.cells[0])
            self.events.error("all_refused", f"every cell was refused; {first} and its neighbours say why.")
            return 1
        return 1 if counts["failed"] or len(mine) < len(self.cells) else 0

    def _figures(self, record: dict[str, Any], began: float, measured: int, left: int) -> dict[str, float | None]:
        """What the dashboard draws of a cell that has ended.

        Refused cells cost no time and do not count for what is left.
        """
        figures: dict[str, float | None] = {}
        for name, phase in record["phases"].items():
            figures[f"{name}_tokens_per_s"] = phase["tokens_per_s"]
            figures[f"{name}_tokens_per_joule"] = phase["tokens_per_joule"] if phase["valid"] else None
            figures[f"{name}_power_w"] = phase["power_w"]
        last = list(record["phases"].values())[-1:]
        figures["tokens_per_s"] = last[0]["tokens_per_s"] if last else None
        figures["tokens_per_joule"] = last[0]["tokens_per_joule"] if last and last[0]["valid"] else None
        figures["time_left_s"] = (time.monotonic() - began) / measured * left if measured else None
        return figures

    def _tell(self, cell: Cell, phase: str, stage: str, trial: int) -> None:
        of = f", trial {trial} of {self.settings.trials}" if trial else ""
        self.events.phase(stage, f"{cell.name}{', ' + phase if phase else ''}{of}")

    def _rest(self) -> None:
        self.events.phase("cooldown", f"{self._cooldown_s:g} s")
        until = time.monotonic() + self._cooldown_s
        while (left := until - time.monotonic()) > 0:
            if self._stopped():
                raise Stopped
            time.sleep(min(left, 0.2))

    def _device_lives(self) -> bool:
        """An illegal access ends the whole CUDA context; other failures leave it."""
        try:
            for device in self._bench.devices:
                if device.type == "cuda":
                    torch.zeros(1, device=device).item()
        except RuntimeError:
            return False
        return True

    @staticmethod
    def _context(devices: list[torch.device]) -> None:
        """Before anything is read: a CUDA context raises a GPU's idle power, and every cell runs with one."""
        for device in devices:
            if device.type == "cuda":
                torch.zeros(1, device=device)

    @staticmethod
    def _prepare(folder: Any) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(
                f"--output-dir {folder} cannot be made ({error.strerror}): pass a folder that you may write."
            ) from error
        if not os.access(folder, os.W_OK):
            raise Refused(f"--output-dir {folder} cannot be written: pass a folder that you may write.")
