"""A rank's heartbeat: a small file, written by a thread, with the rank's phase and its progress.

`progress` holds only numbers that grow with the work; a thread that is merely alive does not change them. The heartbeat
starts before torch is imported, since an import from a slow file system can hang too. It reads torch's state only after
the main thread has imported torch.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
from typing import Any

from llmval_runners.compile_study.bundle.layout import Layout
from llmval_runners.compile_study.watch.processes import read_process
from llmval_runners.process.files import replace_bytes, write_json

INTERVAL_S = 0.5
DUMP_SIGNAL = signal.SIGUSR1  # writes all stacks into the rank's file; torch does not use this signal
_FRAMES = 12


class Heartbeat:
    """The heartbeat of one rank. The main thread sets `phase` and `step`."""

    def __init__(self, layout: Layout, rank: int) -> None:
        self.layout, self.rank = layout, rank
        self.phase, self.step, self.operation = "start", 0, ""
        self._main = threading.main_thread().ident
        own = read_process(os.getpid())
        self._start = own.start if own else 0
        self._compiled = self._phases = 0
        self._answered: float | None = None
        self._closed = threading.Event()
        self._faults = layout.faults(rank).open("w")  # kept open: a signal handler cannot open files
        faulthandler.register(DUMP_SIGNAL, file=self._faults, all_threads=True, chain=False)
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> "Heartbeat":
        self._write()
        self._thread.start()
        return self

    def enter(self, phase: str, operation: str = "") -> None:
        """Enter a phase. `operation` names the collective that the rank is about to call, if any."""
        self.phase, self.operation, self.step = phase, operation, 0
        self._phases += 1

    def close(self, phase: str) -> None:
        """Write the last heartbeat; `phase` is `done` or `failed`."""
        self.enter(phase)
        self._closed.set()
        self._thread.join()
        self._write()

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            self._write()
            self._answer_dump_request()

    def _write(self) -> None:
        sequence = collective_sequence()
        beat = {
            "rank": self.rank,
            "pid": os.getpid(),
            "start": self._start,
            "main_thread": self._main,
            "t_ns": time.time_ns(),
            "mono_ns": time.monotonic_ns(),
            "phase": self.phase,
            "step": self.step,
            "operation": self.operation,
            "sequence": sequence,
            "progress_order": [self._phases, self.step],
            "progress": [self.phase, self.step, sequence, self._compile_events(), len(sys.modules)],
            "where": self._where(),
        }
        write_json(self.layout.beat(self.rank), beat, durable=False, indent=1)

    def _compile_events(self) -> int:
        """The number of events that Dynamo, AOTAutograd and Inductor have counted or timed."""
        utils = sys.modules.get("torch._dynamo.utils")
        if utils is None:
            return 0
        try:
            counted = sum(sum(group.values()) for group in list(utils.counters.values()))
            self._compiled = counted + sum(len(times) for times in list(utils.compilation_time_metrics.values()))
        except (RuntimeError, AttributeError):
            pass  # a dictionary grew meanwhile, or a module is half imported: the next heartbeat counts
        return self._compiled

    def _where(self) -> list[dict[str, Any]]:
        """The main thread's innermost frames, in case no tool may read the process from outside."""
        frame = sys._current_frames().get(self._main or 0)
        found: list[dict[str, Any]] = []
        while frame is not None and len(found) < _FRAMES:
            found.append({"function": frame.f_code.co_name, "file": frame.f_code.co_filename, "line": frame.f_lineno})
            frame = frame.f_back
        return found

    def _answer_dump_request(self) -> None:
        """Dump the flight recorder, once for each request."""
        try:
            requested = self.layout.dump_request.stat().st_mtime
        except FileNotFoundError:
            return
        if requested == self._answered:
            return
        self._answered = requested
        paths = {"json": self.layout.flight_json(self.rank), "pickle": self.layout.flight_pickle(self.rank)}
        for kind, data in flight_records().items():
            replace_bytes(paths[kind], data)


def collective_sequence() -> int | None:
    """The number of collectives that this rank has entered in the default group; None if there is no group yet."""
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    group = getattr(getattr(c10d, "GroupMember", None), "WORLD", None)
    if group is None or not hasattr(group, "_get_sequence_number_for_group"):
        return None
    try:
        return int(group._get_sequence_number_for_group())
    except RuntimeError:  # not every backend counts
        return None


def flight_records() -> dict[str, bytes]:
    """c10d's flight recorder as JSON, and as the pickle that PyTorch's `torchfrtrace` reads; {} if it is off.

    There are two recorders: NCCL's (`ProcessGroupNCCL.hpp`, `dump_nccl_trace`, in CUDA builds only) and the one that
    gloo writes (`FlightRecorder.hpp`, `dump_fr_trace`). The recorder of the unused backend exists too, but is empty.
    """
    c10d, module = sys.modules.get("torch.distributed.distributed_c10d"), sys.modules.get("torch._C._distributed_c10d")
    if c10d is None or os.environ.get("TORCH_FR_BUFFER_SIZE", "0") == "0" or not c10d.is_initialized():
        return {}
    recorder = "nccl" if c10d.get_backend() == "nccl" else "fr"
    names = {"json": f"_dump_{recorder}_trace_json", "pickle": f"_dump_{recorder}_trace"}
    return {kind: bytes(dump()) for kind, name in names.items() if (dump := getattr(module, name, None)) is not None}
