"""Critical XID errors (the driver's fault reports) from NVML's event set."""

from collections.abc import Sequence
from typing import Any

from llmval_tui.telemetry.nvml.calls import Calls, Fault, Kind
from llmval_tui.telemetry.nvml.gpu import GpuReader
from llmval_tui.telemetry.sample import Note

_XID_CRITICAL = 0x8  # nvmlEventTypeXidCriticalError
_MOST_IN_A_PASS = 64  # a dying GPU can report faster than one pass should read


class XidWatch:
    """Collects XIDs since `open`; earlier ones are only in the kernel log."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._set: Any | None = None
        self.notes: list[Note] = []
        self._newest: dict[int, int] = {}

    def open(self, readers: Sequence[GpuReader]) -> None:
        """Register for the events of every GPU; a refusal becomes a note."""
        try:
            self._set = self._calls("nvmlEventSetCreate")
        except Fault as fault:
            self.notes.append(_note(fault, None))
            return
        for reader in readers:
            if reader.handle is None:
                continue
            try:
                self._calls("nvmlDeviceRegisterEvents", reader.handle, _XID_CRITICAL, self._set)
            except Fault as fault:
                self.notes.append(_note(fault, reader.index))

    def read(self, readers: Sequence[GpuReader]) -> dict[int, int]:
        """The newest XID of each GPU that had one since `open`; does not block."""
        for _ in range(_MOST_IN_A_PASS):
            if self._set is None:
                break
            try:
                event = self._calls("nvmlEventSetWait_v2", self._set, 0)
            except Fault as fault:
                if fault.kind is not Kind.TIMEOUT:  # the GPU is unknown here; its own readings will show it
                    self.notes.append(_note(fault, None))
                    self.close()
                break
            index = self._index_of(event.device, readers)
            if event.eventType == _XID_CRITICAL and index is not None:
                self._newest[index] = int(event.eventData)
        return self._newest

    def close(self) -> None:
        """Free the event set."""
        if self._set is not None:
            self._calls.optional("nvmlEventSetFree", self._set)
            self._set = None

    def _index_of(self, device: Any, readers: Sequence[GpuReader]) -> int | None:
        uuid = self._calls.optional("nvmlDeviceGetUUID", device)
        if uuid is None:  # a lost GPU may not answer
            index = self._calls.optional("nvmlDeviceGetIndex", device)
            return None if index is None else int(index)
        return next((reader.index for reader in readers if reader.uuid == uuid), None)


def _note(fault: Fault, gpu: int | None) -> Note:
    whose = "" if gpu is None else f" of GPU {gpu}"
    why = "this user may not" if fault.kind is Kind.NO_PERMISSION else str(fault)
    return Note(
        "nvml",
        "xid_unavailable",
        f"XID errors{whose} cannot be watched ({why}): look with `dmesg | grep -i xid`.",
        gpu,
    )
