"""NVIDIA GPUs through NVML. Only this module imports pynvml, and only after a source is opened or GPUs are counted."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmval_tui.telemetry.nvml.calls import Calls, Fault, Kind
from llmval_tui.telemetry.nvml.gpu import GpuReader
from llmval_tui.telemetry.nvml.inventory import describe
from llmval_tui.telemetry.nvml.xid import XidWatch
from llmval_tui.telemetry.process_ownership import in_own_pid_namespace
from llmval_tui.telemetry.sample import Note, Process, Reading

if TYPE_CHECKING:
    from llmval_tui.telemetry.gpu_processes import GpuProcesses

_MOST_GPUS = 1024  # more is a placeholder and no number of GPUs
_KERNEL_DRIVER = Path("/proc/driver/nvidia/version")


class NvmlSource:
    """All or some GPUs through NVML; see `Source`.

    Args:
        gpus: indices as in nvidia-smi (NVML ignores CUDA_VISIBLE_DEVICES); None: all.
        slow_interval_s: the least time between two slow readings, which take milliseconds per GPU (fields 2.6 ms on
            H200); in between, the last value is repeated. Fast readings are made in every pass.
        energy_interval_s: the same for the energy counter, which takes 3.7 ms; None: as the other slow readings.
        is_foreign: whether a pid on a GPU does not belong to the recorded run; None: not checked.
    """

    name = "nvml"

    def __init__(
        self,
        gpus: Sequence[int] | None = None,
        *,
        slow_interval_s: float = 1.0,
        energy_interval_s: float | None = None,
        is_foreign: Callable[[int], bool] | None = None,
    ) -> None:
        self._chosen = gpus
        self._slow_interval_s = slow_interval_s
        self._energy_interval_s = slow_interval_s if energy_interval_s is None else energy_interval_s
        self._is_foreign = is_foreign
        self._calls: Calls | None = None
        self._readers: list[GpuReader] = []
        self._xids: XidWatch | None = None
        self._notes: list[Note] = []
        self._processes: GpuProcesses | None = None

    def open(self) -> None:
        """Load the library and find the GPUs; every `read` reports a failure."""
        self.close()
        self._notes = []
        try:
            self._calls = _start_nvml()
            count = int(self._calls("nvmlDeviceGetCount"))
            if not 0 <= count <= _MOST_GPUS:
                raise Fault("nvmlDeviceGetCount", count)
        except Fault as fault:
            self._notes.append(_start_note(fault))
            self.close()
            return
        if count == 0:
            self._notes.append(Note("nvml", "no_gpu", "The NVIDIA driver is loaded but shows no GPU on this host."))
        for index in self._chosen if self._chosen is not None else range(count):
            reader = GpuReader(
                self._calls,
                index,
                slow_interval_s=self._slow_interval_s,
                energy_interval_s=self._energy_interval_s,
                is_foreign=self._is_foreign,
            )
            reader.open(listed=index < count)
            self._readers.append(reader)
        if self._readers and in_own_pid_namespace():
            self._notes.append(
                Note(
                    "nvml",
                    "pid_namespace",
                    "This container has its own pids: processes on the GPUs may be missing or have other pids. "
                    "Start it with --pid=host to see them.",
                )
            )
        self._xids = XidWatch(self._calls)
        self._xids.open(self._readers)

    def read(self) -> Reading:
        """Read every GPU. A lost GPU stays listed, with None for every value."""
        now_ns = time.monotonic_ns()
        samples, notes = [], list(self._notes)
        xids: dict[int, int] = {}
        if self._xids is not None:
            xids = self._xids.read(self._readers)
            notes += self._xids.notes
        for reader in self._readers:
            sample, found = reader.read(now_ns, xids.get(reader.index))
            samples.append(sample)
            notes += found
        return Reading(gpus=samples, notes=notes, processes=self._read_processes())

    def _read_processes(self) -> list[Process] | None:
        if not self._readers:
            return None
        if self._processes is None:
            from llmval_tui.telemetry.gpu_processes import GpuProcesses  # psutil takes 30 ms

            self._processes = GpuProcesses(self._is_foreign)
        return self._processes.read({reader.index: reader.process_memory for reader in self._readers})

    def inventory(self) -> dict[str, Any]:
        """Driver, CUDA driver and NVML versions, GPUs and their links; see `inventory.describe`.

        Without NVML, `no_driver` says whether this host surely has no NVIDIA driver, or one that cannot be asked.
        """
        if self._calls is None:
            no_driver = any(note.code == Kind.NO_DRIVER for note in self._notes)
            messages = [note.message for note in self._notes]
            return {"no_driver": no_driver, "gpu_count": None, "gpus": [], "notes": messages}
        value = describe(self._calls, self._chosen)
        value["notes"] = [note.message for note in self._notes]
        return value

    def close(self) -> None:
        """Release NVML."""
        for reader in self._readers:
            reader.close()
        self._readers = []
        if self._xids is not None:
            self._xids.close()
            self._xids = None
        if self._calls is not None:
            self._calls.optional("nvmlShutdown")
            self._calls = None


def gpu_count() -> int | None:
    """The number of GPUs on this host, by NVML; None without a working driver."""
    try:
        calls = _start_nvml()
    except Fault:
        return None
    count = calls.optional("nvmlDeviceGetCount")
    calls.optional("nvmlShutdown")
    return None if count is None else int(count)


def _start_nvml() -> Calls:
    """Start NVML.

    Raises:
        Fault: the binding, the library or the driver is missing, or they do not match.
    """
    try:
        import pynvml
    except ImportError as error:
        raise Fault("import pynvml", 12) from error
    calls = Calls(pynvml)
    calls("nvmlInit")
    return calls


def _start_note(fault: Fault) -> Note:
    """The reason why NVML did not start, and the remedy."""
    if fault.kind is Kind.LIBRARY_NOT_FOUND and fault.function == "import pynvml":
        return Note(
            "nvml",
            "no_binding",
            f"The Python package nvidia-ml-py is missing: {sys.executable} -m pip install nvidia-ml-py.",
        )
    if fault.kind is Kind.LIBRARY_NOT_FOUND and _KERNEL_DRIVER.exists():
        return Note(
            "nvml",
            Kind.LIBRARY_NOT_FOUND,
            "The NVIDIA driver is loaded but libnvidia-ml.so.1 is not found; a container needs the driver capability "
            "`utility` (NVIDIA_DRIVER_CAPABILITIES=compute,utility).",
        )
    if fault.kind in (Kind.NO_DRIVER, Kind.LIBRARY_NOT_FOUND):
        return Note("nvml", Kind.NO_DRIVER, "No NVIDIA driver on this host: only the host is recorded.")
    if fault.kind is Kind.VERSION_MISMATCH:
        return Note(
            "nvml",
            Kind.VERSION_MISMATCH,
            "The NVIDIA kernel driver and the NVML library are of different versions (an update without a restart): "
            "reload the driver or restart the node; until then no GPU can be read.",
        )
    if fault.kind is Kind.NO_PERMISSION:
        return Note(
            "nvml", Kind.NO_PERMISSION, "This user may not open the NVIDIA driver: check the rights of /dev/nvidia*."
        )
    return Note("nvml", Kind.FAILED, f"NVML could not be started ({fault}).")
