"""CUDA graphs for steps that only decode, one per batch size."""

from typing import TYPE_CHECKING, Protocol

import torch
from llmval_runners.engine.attention.backend import Tokens, upload
from llmval_runners.engine.step_plan import Decode

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE as PoolHandle


class DecodeState(Protocol):
    """The parts of an executor that a decode step reads and writes."""

    padding_row: int
    last_token: torch.Tensor  # int64 [rows of the page table]
    generator: torch.Generator | None

    def decode(self, tokens: Tokens) -> tuple[torch.Tensor, torch.Tensor] | None: ...

    def logits(self, x: torch.Tensor, residual_update: torch.Tensor) -> torch.Tensor: ...

    def sample(self, logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor: ...


class DecodeGraph:
    """A decode step for up to `batch` sequences. The rest of the batch is padded with the padding row."""

    def __init__(self, state: DecodeState, batch: int) -> None:
        self.batch = batch
        self._state = state
        self._inputs = torch.zeros(2, batch, dtype=torch.int32, device=state.last_token.device)  # rows, positions
        self._inputs[0] = state.padding_row
        self.graph: torch.cuda.CUDAGraph | None = None
        self.tokens = self._step()  # before the capture: compiles kernels, and cuBLAS allocates its workspace

    def _step(self) -> torch.Tensor:
        state = self._state
        rows = self._inputs[0]
        tokens = Tokens(state.last_token[rows], rows, self._inputs[1])
        hidden = state.decode(tokens)
        assert hidden is not None  # every token has an output
        self.logits = state.logits(*hidden)
        return state.sample(self.logits, rows)

    def capture(self, pool: "PoolHandle") -> None:
        self.graph = torch.cuda.CUDAGraph()
        if self._state.generator is not None:
            self.graph.register_generator_state(self._state.generator)
        # NCCL's watchdog thread queries events during the capture; the default mode forbids that to all threads.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.tokens = self._step()

    def run(self, decodes: list[Decode]) -> torch.Tensor:
        """Start the step; int64 [decodes], valid until the next call."""
        padding = self.batch - len(decodes)
        rows = [decode.row for decode in decodes] + [self._state.padding_row] * padding
        positions = [decode.position for decode in decodes] + [0] * padding
        self._inputs.copy_(upload([rows, positions], torch.int32, self._inputs.device))
        if self.graph is None:
            self.tokens = self._step()
        else:
            self.graph.replay()
        return self.tokens[: len(decodes)]
