"""Attention through the page table on a CPU: the reference for the GPU backends.

`begin` prepares a step once, and `attend` then serves every layer.
"""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.backend import CpuAttention, StepLayout, TokenSpan
from llmval_runners.engine.kv_cache import PagedKVCache

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True, slots=True)
class _PaddedGroup:
    """Spans computed together, padded to the longest: B sequences, Q queries, K slots of whole pages."""

    tokens: torch.Tensor  # [B, Q] indices into the step; a shorter span repeats its last token
    slots: torch.Tensor  # [B, K] of the pool
    visible: torch.Tensor  # [B, Q, K] whether the slot holds a token at or before the query's position

    @classmethod
    def of(cls, spans: list[TokenSpan], layout: StepLayout, page_size: int) -> "_PaddedGroup":
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
        """Gather from a pool [KV heads, slots, head dim]: [B, KV heads, K, head dim]."""
        return pool[:, self.slots].transpose(0, 1).to(dtype)


class _Grouped:
    """Base of both backends: `begin` makes groups of spans, and `attend` computes one group after the other."""

    _groups: list[_PaddedGroup]

    def attend(self, layer: int, queries: torch.Tensor, cache: PagedKVCache) -> torch.Tensor:
        keys, values = cache.layer(layer)
        out = torch.empty_like(queries)
        for index, group in enumerate(self._groups):
            k, v = group.gather(keys, queries.dtype), group.gather(values, queries.dtype)
            attended = self._attend(index, queries[group.tokens].transpose(1, 2), k, v)
            out[group.tokens] = attended.transpose(1, 2)  # padding repeats a token, so the same value is written twice
        return out

    def _attend(self, index: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class ReferenceSdpa(_Grouped):
    """`scaled_dot_product_attention`: all decodes in one padded batch, each prompt chunk by itself."""

    name = "sdpa"
    kernel = "scaled_dot_product_attention over gathered pages"

    def begin(self, layout: StepLayout, cache: PagedKVCache) -> None:
        decodes = [layout.spans[: layout.decodes]] if layout.decodes else []
        chunks = [[span] for span in layout.spans[layout.decodes :]]
        self._groups = [_PaddedGroup.of(spans, layout, cache.page_size) for spans in decodes + chunks]

    def _attend(self, index: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self._groups[index].visible[:, None], enable_gqa=True)


class ReferenceFlex(_Grouped):
    """`flex_attention` with a mask by page: all decodes in one call, all prompt chunks, padded, in another.

    Without a compiler, flex attention materialises all scores, also those of pages that the mask skips. So the pages of
    each sequence are gathered first. A call costs milliseconds of tracing, so all chunks share one despite the padding.
    """

    name = "flex"
    kernel = "flex_attention, unfused (not compiled), over gathered pages"

    def __init__(self) -> None:
        from torch.nn.attention.flex_attention import BlockMask, flex_attention  # slow to import, often not needed

        # The warning repeats `kernel` in ten lines, on every rank.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile", category=UserWarning)
        self._flex, self._block_mask = flex_attention, BlockMask

    def begin(self, layout: StepLayout, cache: PagedKVCache) -> None:
        groups = [spans for spans in (layout.spans[: layout.decodes], layout.spans[layout.decodes :]) if spans]
        self._groups = [_PaddedGroup.of(spans, layout, cache.page_size) for spans in groups]
        self._masks = [self._mask(group.visible, cache.page_size) for group in self._groups]

    def _mask(self, visible: torch.Tensor, page_size: int) -> "BlockMask":
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
        # Outside a compiler, flex attention traces itself with Dynamo for each new shape. Eager gives the same result.
        with torch.compiler.set_stance("force_eager"):
            return self._flex(q, k, v, block_mask=self._masks[index], enable_gqa=True)


def reference_attention(name: str) -> CpuAttention:
    """The backend `name`: auto, sdpa or flex. `auto` is SDPA, which is fused without a compiler."""
    return ReferenceFlex() if name == "flex" else ReferenceSdpa()
