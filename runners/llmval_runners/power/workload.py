"""The decoder stack that is measured: random weights, random input; prefill and decode as repeatable steps.

GPT-style: LayerNorm before attention and MLP, as many KV heads as heads, GELU. There is no embedding and no LM head,
since the shape has no vocabulary. Data is random and never zero: zeros run faster and draw less power. A decode step
writes the newest token's keys and values to the last position of the cache and attends to the whole cache, so the
context of every step is the full sequence length.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from llmval_runners.engine import fp8
from llmval_runners.measure.device_clock import GpuClock
from llmval_runners.power.attention import Attend, Attention, choose
from llmval_runners.power.grid import Cell
from llmval_runners.power.linear_modes import LinearMode
from llmval_runners.process.errors import Refused

# As in GPT-2. Layers that add to the residual divide it by √(2 · layers), so that fp16 does not overflow.
WEIGHT_STD = 0.02
CAPTURE_WARMUP = 3


class Block(torch.nn.Module):
    """One decoder layer."""

    def __init__(self, cell: Cell, mode: LinearMode) -> None:
        super().__init__()
        shape, residual = cell.shape, WEIGHT_STD / math.sqrt(2 * cell.shape.layers)
        self.heads = shape.heads
        self.attention_norm = torch.nn.LayerNorm(shape.d_model, dtype=mode.dtype, device=mode.device)
        self.qkv = mode.linear(shape.d_model, 3 * shape.d_model, WEIGHT_STD)
        self.output = mode.linear(shape.d_model, shape.d_model, residual)
        self.mlp_norm = torch.nn.LayerNorm(shape.d_model, dtype=mode.dtype, device=mode.device)
        self.up = mode.linear(shape.d_model, shape.d_ff, WEIGHT_STD)
        self.down = mode.linear(shape.d_ff, shape.d_model, residual)

    def forward(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, attend: Attend, decode: bool
    ) -> torch.Tensor:
        """`x`: [batch, tokens, d_model]; `keys`, `values`: the layer's cache, [batch, heads, length, head dim]."""
        batch, tokens, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        keys[:, :, -tokens:].copy_(k)
        values[:, :, -tokens:].copy_(v)
        attended = attend(q, keys, values) if decode else attend(q, k, v)
        x = x + self.output(attended.transpose(1, 2).reshape(batch, tokens, width))
        out: torch.Tensor = x + self.down(F.gelu(self.up(self.mlp_norm(x)), approximate="tanh"))
        return out


class Stack:
    """The stack on one device, with its KV cache."""

    def __init__(self, cell: Cell, device: torch.device, *, compiled: bool, seed: int) -> None:
        self.cell, self.device, self.compiled = cell, device, compiled
        self.mode = LinearMode(cell, device)
        torch.manual_seed(seed)
        shape, dtype = cell.shape, self.mode.dtype
        self.blocks = [Block(cell, self.mode) for _ in range(shape.layers)]
        self.norm = torch.nn.LayerNorm(shape.d_model, dtype=dtype, device=device)
        cache = (2, shape.layers, cell.batch, shape.heads, cell.sequence_length, shape.head_dim)
        self.cache = torch.empty(cache, dtype=dtype, device=device).normal_()
        self.prompt = torch.empty(cell.batch, cell.sequence_length, shape.d_model, dtype=dtype, device=device).normal_()
        self.newest = self.prompt[:, -1:].clone()
        # Layers differ only in their weights, so all share one compiled function.
        self._layer = torch.compile(_layer, dynamic=False) if compiled else _layer

    def run(self, attend: Attend, decode: bool) -> torch.Tensor:
        """Run one pass; the final hidden states, [batch, tokens, d_model]."""
        x = self.newest if decode else self.prompt
        for index, block in enumerate(self.blocks):
            x = self._layer(block, x, self.cache[0, index], self.cache[1, index], attend, decode)
        out: torch.Tensor = self.norm(x)
        return out


def _layer(
    block: Block, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, attend: Attend, decode: bool
) -> torch.Tensor:
    out: torch.Tensor = block(x, keys, values, attend, decode)
    return out


class _StackPhase:
    """One phase of one stack. On CUDA a decode step is a captured graph, since eager launches would starve the GPU."""

    def __init__(self, stack: Stack, phase: str, attention: Attention) -> None:
        self.stack, self.decode, self._attention = stack, phase == "decode", attention
        self.output: torch.Tensor | None = None
        self.launch = "eager"
        self._graph: Any = None
        if self.decode and stack.device.type == "cuda":
            self._capture()

    def step(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        else:
            self.output = self._run()

    def _run(self) -> torch.Tensor:
        with self._attention.context(), self.stack.mode.context():
            return self.stack.run(self._attention.attend, self.decode)

    def _capture(self) -> None:
        side = torch.cuda.Stream(self.stack.device)  # type: ignore[no-untyped-call]  # untyped in torch
        side.wait_stream(torch.cuda.current_stream(self.stack.device))
        with torch.cuda.stream(side):
            for _ in range(CAPTURE_WARMUP):  # kernels must be loaded, compiled and tuned before the capture
                self._run()
        torch.cuda.current_stream(self.stack.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.output = self._run()
        self._graph, self.launch = graph, "CUDA graph"


class StackWork:
    """One phase on the stacks of all devices; a `phase.PhaseWork`."""

    def __init__(self, stacks: list[Stack], phase: str, backend: str) -> None:
        self._devices = [stack.device for stack in stacks]
        self.copies = len(stacks)
        self._phases = []
        for stack in stacks:
            with _on(stack.device):
                attention = choose(backend, stack.cell, phase, stack.device, stack.mode.dtype, stack.compiled)
                self._phases.append(_StackPhase(stack, phase, attention))
        self._gpu_clocks = [GpuClock(device, time.perf_counter) for device in self._devices if device.type == "cuda"]
        first = stacks[0]
        rows = first.cell.batch * (first.cell.sequence_length if phase == "prefill" else 1)
        padded_rows = -rows % fp8.TE_ROWS if first.cell.mode == "fp8_te" else 0
        self.description: dict[str, Any] = {
            "precision": first.mode.note,
            "attention_kernel": attention.kernel,
            "launch": self._phases[0].launch,
            "compiled": first.compiled,
            "padded_rows": padded_rows,
        }

    def step(self) -> None:
        for device, phase in zip(self._devices, self._phases, strict=True):
            with _on(device):
                phase.step()

    def mark(self) -> Callable[[], float]:
        if not self._gpu_clocks:
            done = time.perf_counter()  # on a CPU, a step is done when `step` returns
            return lambda: done
        waits = [clock.mark() for clock in self._gpu_clocks]
        return lambda: max(wait() for wait in waits)

    def finite(self) -> bool:
        return all(phase.output is not None and bool(torch.isfinite(phase.output).all()) for phase in self._phases)

    def peak_memory_bytes(self) -> int | None:
        if self._devices[0].type != "cuda":
            return None
        return max(torch.cuda.max_memory_allocated(device) for device in self._devices)


def build(cell: Cell, devices: list[torch.device], *, compiled: bool, seed: int) -> list[Stack]:
    """Build one stack on each device.

    Raises:
        Refused: this machine cannot run the mode.
    """
    stacks = []
    for device in devices:
        with _on(device):
            stacks.append(Stack(cell, device, compiled=compiled, seed=seed))
    return stacks


def work_of(stacks: list[Stack], phase: str, backend: str) -> StackWork:
    """Set up the phase. If compiled, run it once, so that compiler errors appear before anything is measured.

    Raises:
        Refused: torch.compile cannot compile the stack here.
    """
    if not stacks[0].compiled and backend != "flex":
        return StackWork(stacks, phase, backend)
    from torch._dynamo.exc import TorchDynamoException

    try:
        work = StackWork(stacks, phase, backend)
        work.step()
    except TorchDynamoException as error:
        remedy = "--attention-backend sdpa" if backend == "flex" else "--skip-compile"
        raise Refused(
            f"torch.compile failed ({type(error).__name__}: {str(error).splitlines()[0]}): pass {remedy}"
        ) from error
    return work


def _on(device: torch.device) -> AbstractContextManager[Any]:
    stack = ExitStack()
    stack.enter_context(torch.cuda.device(device) if device.type == "cuda" else nullcontext())
    stack.enter_context(torch.no_grad())
    return stack
