"""Copies between two GPUs of one process, by the copy engine or by an SM kernel, from either side.

A copy belongs to the GPU whose stream runs it. If that is the source it is a write, else a read. `tensor.copy_` between
GPUs always uses the source's stream, so the driver's `cuMemcpyAsync` is called, as nvbandwidth does. Torch opens the
access between two GPUs at its own first copy between them.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from llmval_runners.process.errors import Refused
from llmval_runners.process.install import how_to_install

COPY_ENGINE, SM = "copy_engine", "sm"
READ, WRITE = "read", "write"
_BLOCK = 8192  # elements of 4 bytes for one program of the SM kernel
_PROGRAMS_PER_SM = 8


class NotPossible(Exception):
    """This copy cannot run here; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of `source` into `target`, tensors of 4-byte elements on two GPUs (or on one)."""

    source: torch.Tensor
    target: torch.Tensor
    access: str  # read or write

    @property
    def device(self) -> torch.device:
        """The GPU that runs it."""
        return self.source.device if self.access == WRITE else self.target.device


def open_access(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Open the access between the GPUs of two tensors, both ways; False if the driver offers none."""
    first, second = one.device, other.device
    if first == second:
        return True
    for source, target in ((one, other), (other, one)):
        target[:1].copy_(source[:1])
    torch.cuda.synchronize(first)
    torch.cuda.synchronize(second)
    return torch.cuda.can_device_access_peer(first, second) and torch.cuda.can_device_access_peer(second, first)


def seconds(
    copies: Sequence[Copy], method: str, iterations: int, streams: dict[torch.device, torch.cuda.Stream]
) -> float:
    """Seconds in which every copy ran `iterations` times, all at the same time, by CUDA events.

    `streams` keeps a stream for each GPU; two copies that run at the same time need two GPUs.
    """
    run = _runner(method)
    lanes = [_stream(copy.device, streams) for copy in copies]
    first = lanes[0]
    with torch.cuda.device(copies[0].device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
        start.record(first)
    for lane in lanes[1:]:
        lane.wait_event(start)
    for _ in range(iterations):
        for copy, lane in zip(copies, lanes, strict=True):
            with torch.cuda.device(copy.device), torch.cuda.stream(lane):
                run(copy, lane)
    for lane in lanes[1:]:
        first.wait_stream(lane)
    end.record(first)
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _stream(device: torch.device, streams: dict[torch.device, torch.cuda.Stream]) -> torch.cuda.Stream:
    if device not in streams:
        streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return streams[device]


def _runner(method: str) -> Callable[[Copy, torch.cuda.Stream], None]:
    return _by_copy_engine if method == COPY_ENGINE else _by_sm


_driver: Any = None


def _by_copy_engine(copy: Copy, stream: torch.cuda.Stream) -> None:
    global _driver
    if _driver is None:
        try:
            _driver = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise NotPossible(f"the driver's library cannot be loaded ({error})") from error
        _driver.cuMemcpyAsync.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p]
    code = _driver.cuMemcpyAsync(copy.target.data_ptr(), copy.source.data_ptr(), copy.source.nbytes, stream.cuda_stream)
    if code:
        raise NotPossible(f"cuMemcpyAsync returned {code}")


_kernel: Any = None


def _by_sm(copy: Copy, _stream: torch.cuda.Stream) -> None:
    global _kernel
    if _kernel is None:
        _kernel = _make_kernel()
    properties = torch.cuda.get_device_properties(copy.device)
    elements = copy.source.numel()
    programs = min(_PROGRAMS_PER_SM * properties.multi_processor_count, -(-elements // _BLOCK))
    _kernel[(programs,)](copy.source, copy.target, elements, BLOCK=_BLOCK, num_warps=8)


def _make_kernel() -> Any:
    try:
        from llmval_runners.collective.peer_kernel import copy_kernel
    except ImportError as error:
        raise NotPossible(f"Triton is missing, and the SM kernel needs it: {how_to_install('triton')}") from error
    return copy_kernel


def visible_device(uuid: str) -> torch.device:
    """The device of this process with that UUID. Raises NotPossible if it cannot see it."""
    for index in range(torch.cuda.device_count()):
        found = str(torch.cuda.get_device_properties(index).uuid)
        if uuid in (found, f"GPU-{found}"):
            return torch.device("cuda", index)
    raise NotPossible("one process has to see both GPUs: leave CUDA_VISIBLE_DEVICES the same for all ranks of a node")


def check_elements(nbytes: int) -> int:
    """The number of 4-byte elements of a buffer. Raises Refused for a size that no buffer has."""
    if nbytes < 4:
        raise Refused(f"--pair-bytes {nbytes} holds no element of 4 bytes: pass 4 or more.")
    return nbytes // 4
