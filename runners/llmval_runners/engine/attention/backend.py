"""The interface between the executors and attention: a step's tokens, its prompts, and the backends' protocols."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.step_plan import Prefill

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(qkv [tokens, heads + 2 · KV heads, head dim], keys, values [KV heads, slots, head dim]) → [tokens, heads · dim]."""


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Consecutive tokens of one sequence in the flattened step."""

    row: int  # row of the batch, and of the page table
    offset: int  # index of the first token in the step
    count: int
    start: int  # position of the first token in its sequence


@dataclass(frozen=True, slots=True)
class FlatPrompts:
    """The prompt chunks of a step, one after the other."""

    ids: list[int]
    spans: list[TokenSpan]
    output_indices: list[int]  # in the step, of the last token of each prompt that ends
    rows: list[int]  # rows of the prompts that end

    @classmethod
    def of(cls, prefills: Sequence[Prefill], first: int = 0) -> "FlatPrompts":
        """`first`: the index of the first prompt token in the step."""
        flat = cls([], [], [], [])
        for prefill in prefills:
            flat.spans.append(TokenSpan(prefill.row, first + len(flat.ids), len(prefill.tokens), prefill.start))
            flat.ids.extend(prefill.tokens)
            if prefill.last:
                flat.output_indices.append(first + len(flat.ids) - 1)
                flat.rows.append(prefill.row)
        return flat


@dataclass(frozen=True, slots=True)
class StepLayout:
    """The spans of a step on a CPU: first `decodes` spans of one token, then the prompt chunks."""

    spans: list[TokenSpan]
    decodes: int
    positions: torch.Tensor  # [tokens], int64
    page_table: torch.Tensor  # [rows, most pages of a sequence], int64


class CpuAttention(Protocol):
    """Attention on a CPU. `name` goes into the result; `kernel` describes the implementation there."""

    name: str
    kernel: str

    def begin(self, layout: StepLayout, cache: PagedKVCache) -> None:
        """Prepare a step: make everything that all its layers share."""

    def attend(self, layer: int, queries: torch.Tensor, cache: PagedKVCache) -> torch.Tensor:
        """Causal attention of `queries` [tokens, heads, head dim] to the cached keys and values; same shape."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a step on a GPU; every tensor is [tokens]."""

    ids: torch.Tensor  # int64
    rows: torch.Tensor  # int32: of the page table
    positions: torch.Tensor  # int32

    def first(self, count: int) -> "Tokens":
        """The first `count` tokens."""
        return Tokens(self.ids[:count], self.rows[:count], self.positions[:count])

    def rest(self, count: int) -> "Tokens":
        """All tokens after the first `count`."""
        return Tokens(self.ids[count:], self.rows[count:], self.positions[count:])


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompt chunks of a step. Span offsets count from the first prompt token."""

    spans: list[TokenSpan]
    pages: list[list[int]]  # pages of each span's sequence, at least up to the span's last token


class GpuAttention(Protocol):
    """Attention on a GPU. `name` goes into the result; `kernel` describes the implementation there.

    Each method prepares everything that a step's layers share, and returns the function that serves each layer.
    """

    name: str
    kernel: str
    decode_sizes: list[int]  # batch sizes that get a decode graph
    # A step's prompt tokens are padded to one of these sizes (ascending), or to a multiple of the smallest if there are
    # more tokens than the largest size. None: any number of tokens.
    prefill_sizes: list[int] | None

    def decode(self, tokens: Tokens, page_table: torch.Tensor) -> Attend:
        """One new token per sequence. Does device work only: a captured graph reads the tensors' values at replay."""

    def decode_with_rope(self, tokens: Tokens, page_table: torch.Tensor, frequencies: torch.Tensor) -> Attend | None:
        """As `decode`, but takes the partial sums of the projection, rotates, and writes keys and values to the cache.

        Returns None if the backend cannot do this.
        """

    def prefill(self, tokens: Tokens, page_table: torch.Tensor, prompts: Prompts) -> Attend:
        """Prompt chunks. Padding rows get any finite value."""


class CapturableAttention(GpuAttention, Protocol):
    """Prompt attention that a CUDA graph can replay, because all its inputs are tensors."""

    def capturable_prefill(self, tokens: Tokens, page_table: torch.Tensor) -> tuple[Attend, Callable[[Prompts], bool]]:
        """As `prefill`, for `tokens` at fixed addresses. Call the second function with a step's prompts before each
        replay.

        The second function returns False if the prompts do not fit; the graph must not be replayed then.
        """


def split_attention(decode: Attend, prefill: Attend, num_decodes: int) -> Attend:
    """Attention of a step whose first `num_decodes` tokens decode; the others are prompt tokens."""
    return lambda qkv, keys, values: torch.cat(
        (decode(qkv[:num_decodes], keys, values), prefill(qkv[num_decodes:], keys, values))
    )


def upload(
    values: torch.Tensor | list[int] | list[list[int]], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Copy nested lists or a CPU tensor to `device` without waiting for the device.

    The copy is made from pinned memory: a copy from pageable memory first waits for all queued work of the stream.
    """
    host = torch.as_tensor(values, dtype=dtype)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host.to(device)
