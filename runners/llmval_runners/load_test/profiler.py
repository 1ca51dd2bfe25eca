"""The profiled part of a load test: its begin and end, and the actions of each rank.

With Nsight Systems the window is marked for `nsys profile --capture-range=cudaProfilerApi`, on every rank. Without it
rank 0 records with PyTorch's profiler and writes a Chrome trace. Start-up, warm-up and drain are never in the trace.
"""

import os
from pathlib import Path
from typing import Any

import torch
from llmval_runners.load_test.options import ProfileOptions
from llmval_runners.measure import profiler_ranges as ranges
from llmval_runners.process.errors import Refused

NONE, NSYS, TORCH = "none", "nsys", "torch"
TORCH_SECONDS = 3.0
# With 32 layers, a decode step has about 300 kernels and 900 events, a prefill step about 3,000 events, of 300 bytes
# each. So this many steps are 0.2 GB before gzip, which Perfetto can still open in a browser.
MOST_STEPS = 500


class Profiler:
    """One rank's part of a trace. Does nothing if no trace was requested."""

    def __init__(self, options: ProfileOptions, duration_s: float, device: torch.device, rank: int) -> None:
        """Check the options without starting anything. `duration_s`: of the window.

        Raises:
            Refused: nsys without a GPU, or no place for the trace of PyTorch's profiler.
        """
        self.kind = options.kind
        self._device, self._rank = device, rank
        self._path: Path | None = options.output
        if self.kind == NSYS and device.type != "cuda":
            raise Refused("--profile nsys marks a window of GPU work, and this run is on a CPU: pass --profile torch.")
        if self.kind == TORCH and (self._path is None or not self._path.name.endswith((".json", ".json.gz"))):
            raise Refused("--profile torch needs a file for its trace: pass --profile-output NAME.json.gz.")
        seconds = options.seconds or (TORCH_SECONDS if self.kind == TORCH else duration_s)
        # The last part of the window: the batch is fullest then, and ending the trace slows down no later request.
        self._begin, self._end = max(0.0, duration_s - seconds), duration_s
        self._waiting, self._tracing, self._steps = self.kind != NONE, False, 0
        self._started = 0.0
        self._torch: torch.profiler.profile | None = None
        self.ran = False  # whether any rank traced: all ranks receive the switch, and all are slower
        self.record: dict[str, Any] | None = None  # of rank 0; set when the trace ends

    def prime(self) -> None:
        """Start CUPTI before any CUDA graph is captured: kernels of earlier graphs would have no names."""
        if not self._records_here or self._device.type != "cuda":
            return
        os.environ.setdefault("TEARDOWN_CUPTI", "0")  # for Kineto: CUPTI cannot start twice with CUDA graphs
        with torch.profiler.profile(activities=self._activities()):
            torch.ones(1, device=self._device).sum().item()

    def due(self, now: float, stepped: bool) -> bool | None:
        """True: start the trace now. False: end it now. None: neither. `now`: seconds since the window opened."""
        if self._waiting and now >= self._begin:
            self._waiting, self._tracing, self._started = False, True, now
            return True
        if not self._tracing:
            return None
        self._steps += stepped
        full = self.kind == TORCH and self._steps >= MOST_STEPS
        return self._over(now, full) if full or now >= self._end else None

    def cut(self, now: float) -> bool | None:
        """Note that the window is over. False: end the trace now. None: no trace is running."""
        self._waiting = False
        return self._over(now, False) if self._tracing else None

    def switch(self, on: bool) -> None:
        """Start or end the trace on this rank. All ranks do it at the same step."""
        self.ran = True
        if self.kind == NSYS:
            torch.cuda.synchronize(self._device)
            if on:
                ranges.use(torch.cuda.nvtx.range)
                torch.cuda.profiler.start()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            else:
                torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                ranges.use(None)
        elif self._records_here:
            if on:
                self._torch = torch.profiler.profile(activities=self._activities())
                ranges.use(torch.profiler.record_function)
                self._torch.start()
            elif self._torch is not None:
                ranges.use(None)
                self._torch.stop()

    def export(self) -> None:
        """Write the Chrome trace, if there is one. Takes seconds."""
        if self._torch is None or self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._torch.export_chrome_trace(str(self._path))
        self._torch = None

    @property
    def _records_here(self) -> bool:
        return self.kind == TORCH and self._rank == 0

    def _activities(self) -> list[torch.profiler.ProfilerActivity]:
        kinds = torch.profiler.ProfilerActivity
        return [kinds.CPU, kinds.CUDA] if self._device.type == "cuda" else [kinds.CPU]

    def _over(self, now: float, full: bool) -> bool:
        self._tracing = False
        self.record = {
            "profiler": self.kind,
            "begin_s": self._started,
            "seconds": now - self._started,
            "steps": self._steps,
            "ended_by": f"the limit of {MOST_STEPS} steps" if full else "the end of the window",
            "ranks": "all" if self.kind == NSYS else "0",
            "ranges": list(ranges.NAMES),
        }
        return False
