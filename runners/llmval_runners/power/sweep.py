"""The sweep: runs the cells in random order, writes each to its own file, and reports progress to the dashboard."""

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from llmval_runners.measure.nvml_meter import NoMeter, PowerMeter, open_meter
from llmval_runners.measure.uuids import uuids_of
from llmval_runners.power.energy import EnergyRecorder, Stopped
from llmval_runners.power.grid import Cell, shuffled
from llmval_runners.power.last_screen import ALL_REFUSED, last_screen, verdict_of
from llmval_runners.power.machine import devices_of, identity_of
from llmval_runners.power.options import SweepOptions
from llmval_runners.power.run_cell import SweepContext, failed_record, release_memory, run_cell
from llmval_runners.power.store import Store
from llmval_runners.process.errors import UNDECIDED_EXIT
from llmval_runners.process.events import EventLog
from llmval_runners.process.files import make_folder
from llmval_runners.process.output import say
from llmval_runners.process.verdict import Verdict

OpenMeter = Callable[[list[str]], PowerMeter | NoMeter]


class Sweep:
    """A sweep that is ready to run: devices, meter and folder are checked."""

    def __init__(
        self,
        options: SweepOptions,
        events: EventLog,
        stopped: Callable[[], bool],
        open_meter: OpenMeter = open_meter,
    ) -> None:
        """Raises Refused if a device does not exist or the folder holds something else."""
        devices = devices_of(options.settings.device, options.devices)
        indices = [device.index for device in devices if device.type == "cuda"]
        self.settings = replace(options.settings, device=devices[0].type, devices=indices)
        make_folder(options.output_dir)
        self.cells, self.events, self._stopped = options.cells, events, stopped
        self.store = Store(options.output_dir, self.settings, self.cells)
        self._cooldown_s = options.cooldown_s
        _create_cuda_contexts(devices)
        self.meter = open_meter(uuids_of(devices))
        self._recorder = EnergyRecorder(
            self.meter, len(devices), stopped=stopped, on_power=lambda watts: events.metrics({"power_w": watts})
        )
        self._context = SweepContext(
            self.settings, devices, self._recorder, identity_of(devices, self.meter), stopped, on_stage=self._on_stage
        )
        self._retry_refused, self._report = options.retry_refused, options.report

    def run(self) -> int:
        """Run every cell without a final result. Returns the exit code: 1 if a cell failed or all were refused, else 0.

        Raises:
            Stopped: the operator ended the run; finished cells are on disk.
        """
        try:
            return self._run()
        finally:
            self.store.release()

    def _run(self) -> int:
        has_energy = not isinstance(self.meter, NoMeter)
        order = shuffled(self.cells, self.settings.seed)
        todo = self.store.remaining(order, has_energy=has_energy, retry_refused=self._retry_refused)
        self.store.write_manifest(self.cells, order, self._context.identity)
        if isinstance(self.meter, NoMeter):
            self.events.warning(
                "no_energy", f"energy is not available ({self.meter.reason}): only throughput is measured."
            )
        total = len(self.cells)
        done = total - len(todo)
        if done:
            self.events.warning("resumed", f"{done} of {total} cells already have a result; {len(todo)} remain.")
        self.events.progress(done, total, "cells")
        began, measured = time.monotonic(), 0
        for position, cell in enumerate(todo):
            if position:
                self._cool_down()
            record = self._run_cell(cell)
            path = self.store.save(cell, record)
            done += 1
            measured += record["status"] != "refused"
            self.events.result(str(path), shown=False)
            self.events.progress(done, total, "cells", cell.name)
            self.events.metrics(self._figures(record, began, measured, len(todo) - position - 1))
            if record["status"] in ("refused", "failed"):
                self.events.warning(f"cell_{record['status']}", f"{cell.name}: {record['reasons'][0]}")
            if record["status"] == "failed" and not self._devices_respond():
                self.events.error("device_lost", "the GPU no longer responds: run the same command again to continue.")
                break
        return self._exit_code()

    def close(self) -> None:
        if not isinstance(self.meter, NoMeter):
            self.meter.close()

    def _run_cell(self, cell: Cell) -> dict[str, Any]:
        attempt = self.store.attempt(cell)
        try:
            return run_cell(cell, self._context, attempt)
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001  (a failed cell is recorded, and the others still run)
            traceback.print_exc()
            record = failed_record(cell, self._context, attempt, error)
        with suppress(RuntimeError):  # a lost CUDA context fails again here; the record must still be saved
            release_memory(self._context.devices)  # not earlier: the traceback referred to the stack
        return record

    def _exit_code(self) -> int:
        """Show the last screen; return the exit code of the sweep."""
        verdict = self.show(None)
        if verdict.reason.startswith(ALL_REFUSED) and self.events.recording:
            self.events.error("all_refused", verdict.reason)
        # llmval judges the cells itself, and a sweep without energy or with an invalid cell has measured.
        return 0 if self.events.recording and verdict.exit_code == UNDECIDED_EXIT else verdict.exit_code

    def show(self, early: str | None) -> Verdict:
        """Print the last screen from the cells' files. `early`: why the sweep ended before its last cell."""
        records = [self.store.record(cell) for cell in self.cells]
        verdict = verdict_of(records, early)
        self.events.clear()
        say(str(verdict) if self._report.quiet else last_screen(records, verdict, str(self.store.folder)))
        return verdict

    def _figures(self, record: dict[str, Any], began: float, measured: int, left: int) -> dict[str, float | None]:
        """The metrics of a finished cell for the dashboard.

        Refused cells take no time, so the estimate of the time left ignores them.
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

    def _on_stage(self, cell: Cell, phase: str, stage: str, trial: int) -> None:
        suffix = f", trial {trial} of {self.settings.trials}" if trial else ""
        self.events.phase(stage, f"{cell.name}{', ' + phase if phase else ''}{suffix}")

    def _cool_down(self) -> None:
        self.events.phase("cooldown", f"{self._cooldown_s:g} s")
        until = time.monotonic() + self._cooldown_s
        while (left := until - time.monotonic()) > 0:
            if self._stopped():
                raise Stopped
            time.sleep(min(left, 0.2))

    def _devices_respond(self) -> bool:
        """Whether the CUDA contexts still work: an illegal memory access ends them, other failures do not."""
        try:
            for device in self._context.devices:
                if device.type == "cuda":
                    torch.zeros(1, device=device).item()
        except RuntimeError:
            return False
        return True


def _create_cuda_contexts(devices: list[torch.device]) -> None:
    """Create them before any reading: a CUDA context raises a GPU's idle power, and every cell runs with one."""
    for device in devices:
        if device.type == "cuda":
            torch.zeros(1, device=device)
