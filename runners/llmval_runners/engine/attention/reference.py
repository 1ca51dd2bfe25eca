"""Attention through the page table. A backend looks at a step once (`begin`) and then serves every layer (`attend`).

The split is what keeps this open for CUDA graphs: all that depends on the batch is made in `begin`, into tensors;
`attend` is pure device work on them.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from llmval_runners.engine.kv_cache import PagedKVCache


@dataclass(frozen=True, slots=True)
class Span:
    """A run of one sequence's tokens in the flattened step."""

    row: int  # of the batch, and of the page table
    offset: int  # of its first token in the step
    count: int
    start: int  # position of that token in the sequence


@dataclass(frozen=True, slots=True)
class StepLayout:
    """Where the step's tokens belong: `decodes` one-token spans first, then prompt chunks."""

    spans: list[Span]
    decodes: int
    positions: torch.Tensor  # [tokens], int64
    page_table: torch.Tensor  # [rows, most pages of a sequence], int64


class AttentionBackend(Protocol):
    """`name` is what the result reports; `kernel` says how it ran."""

    name: str
    kernel: str

    def begin(self, layout: StepLayout, cache: PagedKVCache) -> None:
        """Make what all layers share."""

    def attend(self, layer: int, queries: torch.Tensor, cache: PagedKVCache) -> torch.Tensor:
        """Causal attention of `queries` [tokens, heads, head dim] to what the cache holds; same shape."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Spans computed together, padded to the longest: B sequences, Q queries, K slots of whole pages."""

    tokens: torch.Tensor  # [B, Q] indices into the step; a shorter span repeats its last token
    slots: torch.Tensor  # [B, K] of the pool
    visible: torch.Tensor  # [B, Q, K] whether the slot holds a token at or before the query's position

    @classmethod
    def of(cls, spans: list[Span], layout: StepLayout, page_size: int) -> "_Group":
        device = layout.page_table.device
        rows, offsets, counts = torch.tensor(
            [(span.row, span.offset, span.count) for span in spans], device=device
        ).unbind(1)
        queries = torch.arange(max(span.count for span in spans), device=device)
        tokens = offsets[:, None] + torch.minimum(queries, counts[:, None] - 1)
        pages = layout.page_table[rows, : -(-max(span.start + span.count for span in spans) // page_size)]
        slots = (pages[..., None] * page_size + torch.arange(page_size, device=device)).flatten(1)
        places = torch.arange(slots.shape[1], device=device)
        return cls(tokens, slots, places <= layout.positions[tokens][..., None])

    def gather(self, pool: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The pool's [KV heads, slots, head dim] as [B, KV heads, K, head dim]."""
        return pool[:, self.slots].transpose(0, 1).to(dtype)


class _Grouped:
    """What both backends share: groups made in `begin`, and the way of each layer's queries through them."""

    _groups: list[_Group]

    def attend(self, layer: int, queries: torch.Tensor, cache: PagedKVCache) -> torch.Tensor:
        keys, values = cache.layer(layer)
        out = torch.empty_like(queries)
        for index, group in enumerate(self._groups):
            k, v = group.gather(keys, queries.dtype), group.gather(values, queries.dtype)
            attended = self._attend(index, queries[group.tokens].transpose(1, 2), k, v)
            out[group.tokens] = attended.transpose(1, 2)  # padding repeats a token, and writes its value again
        return out

    def _attend(self, index: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class SdpaAttention(_Grouped):
    """`scaled_dot_product_attention`: all decodes as one padded batch, and each prompt chunk by itself."""

    name = "sdpa"
    kernel = "scaled_dot_product_attention over gathered pages"

    def begin(self, layout: StepLayout, cache: PagedKVCache) -> None:
        decodes = [layout.spans[: layout.decodes]] if layout.decodes else []
        chunks = [[span] for span in layout.spans[layout.decodes :]]
        self._groups = [_Group.of(spans, layout, cache.page_size) for spans in decodes + chunks]

    def _attend(self, index: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._groups[index].visible[:, None], enable_gqa=True)


class FlexAttention(_Grouped):
    """`flex_attention`, its mask by page: all decodes in one call, and all prompt chunks, padded, in another.

    Without a compiler flex materialises all scores, also those of pages that the mask skips. So the pages of each
    sequence are gathered first; and since a call costs milliseconds of tracing, chunks share one in spite of padding.
    """

    name = "flex"
    kernel = "flex_attention, unfused (not compiled), over gathered pages"

    def __init__(self) -> None:
        from torch.nn.attention.flex_attention import BlockMask, flex_attention  # slow to import, and not always needed

        # It says what `kernel` says, in ten lines, on every rank.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile", category=UserWarning)
        self._flex, self._block_mask = flex_attention, BlockMask

    def begin(self, layout: StepLayout, cache: PagedKVCache) -> None:
        parts = [spans for spans in (layout.spans[: layout.decodes], layout.spans[layout.decodes :]) if spans]
        self._groups = [_Group.of(spans, layout, cache.page_size) for spans in parts]
        self._masks = [self._mask(group.visible, cache.page_size) for group in self._groups]

    def _mask(self, visible: torch.Tensor, page_size: int) -> Any:
        batch, queries, slots = visible.shape
        blocks = torch.arange(slots // page_size, dtype=torch.int32, device=visible.device)

        def mask(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
            return visible[b, q, kv]

        return self._block_mask.from_kv_blocks(
            torch.full((batch, 1, 1), len(blocks), dtype=torch.int32, device=visible.device),
            blocks.expand(batch, 1, 1, -1),
            BLOCK_SIZE=(queries, page_size),
            mask_mod=mask,
            seq_lengths=(queries, slots),
            compute_q_blocks=False,
        )

    def _attend(self, index: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # Called outside a compiler, flex traces itself with Dynamo for each new shape; eager is the same arithmetic.
        with torch.compiler.set_stance("force_eager"):
            return self._flex(q, k, v, block_mask=self._masks[index], enable_gqa=True)


BACKENDS: dict[str, type[SdpaAttention] | type[FlexAttention]] = {"sdpa": SdpaAttention, "flex": FlexAttention}


def choose(name: str) -> AttentionBackend:
    """The backend called `name`; `auto` is SDPA, as it needs no compiler to be fused."""
    return BACKENDS["sdpa" if name == "auto" else name]()
