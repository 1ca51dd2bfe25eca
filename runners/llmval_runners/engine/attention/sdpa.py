"""Attention on a GPU, for a decode step (in a CUDA graph) and for prompt chunks (eagerly), by either backend.

`decode` and `prefill` make all that a step's layers share, and return what serves each layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.reference import Span
from llmval_runners.engine.attention.upload import upload
from llmval_runners.engine.gpu.cudnn_sizes import CUDNN_LEAST, CUDNN_MULTIPLE, cudnn_takes
from llmval_runners.engine.gpu.decoder import Attend, Tokens
from llmval_runners.engine.kernels.fused_ops import merge
from llmval_runners.engine.kernels.paged_decode import paged_decode, splits_for
from llmval_runners.engine.kv_cache import PagedKVCache, pages_for


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompt chunks of a step: where they are in it, and which pages hold each sequence."""

    spans: list[Span]
    pages: list[list[int]]  # of each span's sequence, at least up to its last token


class GpuAttention(Protocol):
    """`name` is what the result reports; `kernel` says how it runs."""

    name: str
    kernel: str
    batches: list[int]  # sizes for which a decode graph is worth its making
    # Sizes, in order, to one of which a step of prompt tokens must be filled up, or to a multiple of the smallest where
    # it has more than the largest; None: any.
    chunks: list[int] | None

    def decode(self, tokens: Tokens, page_table: torch.Tensor) -> Attend:
        """One new token a sequence. Only device work, from the tensors' values when it runs."""

    def whole(self, tokens: Tokens, page_table: torch.Tensor, frequencies: torch.Tensor) -> Attend | None:
        """`decode` from the projection's parts, as `FusedDecoder.hidden` has it; None where this backend cannot."""

    def prefill(self, tokens: Tokens, page_table: torch.Tensor, prompts: Prompts) -> Attend:
        """Chunks of prompts; rows that belong to none of them give any finite value."""


class CapturedAttention(Protocol):
    """Attention to a step's prompts that a CUDA graph can replay, as what it depends on is in tensors."""

    def decode(self, tokens: Tokens, page_table: torch.Tensor) -> Attend: ...

    def captured(self, tokens: Tokens, page_table: torch.Tensor) -> tuple[Attend, Callable[[Prompts], bool]]:
        """`prefill` for `tokens` that stay where they are, and what is called with a step's prompts before a replay.

        That says False of prompts that it cannot take, and then nothing may be replayed.
        """


def beside(decode: Attend, chunks: Attend, lead: int) -> Attend:
    """Attention of a step whose first `lead` tokens decode."""
    return lambda qkv, keys, values: torch.cat((decode(qkv[:lead], keys, values), chunks(qkv[lead:], keys, values)))


class SdpaAttention:
    """PyTorch's own kernels for prompts, and a paged Triton kernel for decoding, which SDPA cannot do from pages."""

    name = "sdpa"
    kernel = (
        "decode: Triton paged split-KV; prefill: cuDNN (scaled_dot_product_attention) for multiples of "
        f"{CUDNN_MULTIPLE} tokens from {CUDNN_LEAST}, else FlashAttention-2 with variable lengths"
    )
    batches = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256]  # noqa: RUF012
    chunks = None

    def __init__(self, cache: PagedKVCache, heads: int) -> None:
        self._cache, self._heads = cache, heads

    def decode(self, tokens: Tokens, page_table: torch.Tensor) -> Attend:
        return self._paged(tokens, page_table, None)

    def whole(self, tokens: Tokens, page_table: torch.Tensor, frequencies: torch.Tensor) -> Attend | None:
        return self._paged(tokens, page_table, frequencies)

    def _paged(self, tokens: Tokens, page_table: torch.Tensor, frequencies: torch.Tensor | None) -> Attend:
        heads, page_size = self._heads, self._cache.page_size
        splits = splits_for(len(tokens.rows), self._cache.pool.shape[2])

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = paged_decode(
                qkv, keys, values, tokens.rows, tokens.positions, page_table, heads=heads, page_size=page_size,
                splits=splits, frequencies=frequencies,
            )  # fmt: skip
            return out.flatten(1)

        return attend

    def prefill(self, tokens: Tokens, page_table: torch.Tensor, prompts: Prompts) -> Attend:
        if not all(cudnn_takes(span.count, span.start, self._cache.page_size) for span in prompts.spans):
            return self._flash(prompts)
        attend, used = self._cudnn(prompts), sum(span.count for span in prompts.spans)

        def filled_up(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = attend(qkv[:used], keys, values)
            return out if used == len(qkv) else F.pad(out, (0, 0, 0, len(qkv) - used))

        return filled_up

    def _gathered(self, pool: torch.Tensor, pages: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Whole pages of a pool [KV heads, slots, head dim] one after the other: [KV heads, tokens, head dim]."""
        size, dim = self._cache.page_size, pool.shape[2]
        return pool.view(len(pool), -1, size * dim).index_select(1, pages).view(len(pool), -1, dim).to(dtype)

    def _cut(self, pool: torch.Tensor, pages: torch.Tensor, kept: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The `kept` tokens of whole pages: [tokens, KV heads, head dim]."""
        return self._gathered(pool, pages, dtype).index_select(1, kept).transpose(0, 1)

    def _cudnn(self, prompts: Prompts) -> Attend:
        """A chunk against itself (causal) and against all that came before it, merged: both at cuDNN's full rate."""
        heads, size = self._heads, self._cache.page_size
        spans, count = prompts.spans, prompts.spans[0].count
        if all(span.count == count and not span.start for span in spans):
            return self._cudnn_batch(len(spans), count)
        before = [
            upload(pages[: span.start // size], torch.int64, self._cache.pool.device)
            for span, pages in zip(prompts.spans, prompts.pages, strict=True)
        ]

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = torch.empty(len(qkv), heads, qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            for span, pages in zip(prompts.spans, before, strict=True):
                own = qkv[span.offset : span.offset + span.count].transpose(0, 1)[None]
                q, k, v = own.split((heads, len(keys), len(keys)), dim=1)
                target = out[span.offset : span.offset + span.count]
                one, one_log = _cudnn(q, k, v, True)
                if not len(pages):  # of no keys PyTorch gives memory as it was, and no zeros
                    target.copy_(one[0].transpose(0, 1))
                    continue
                earlier = (self._gathered(pool, pages, qkv.dtype)[None] for pool in (keys, values))
                two, two_log = _cudnn(q, *earlier, False)
                merge(one[0].transpose(0, 1), two[0].transpose(0, 1), one_log[0], two_log[0], target)
            return out.flatten(1)

        return attend

    def _cudnn_batch(self, batch: int, count: int) -> Attend:
        """Whole prompts of one length: a batch in one call, which keeps more multiprocessors busy to its end."""
        heads = self._heads

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            own = qkv[: batch * count].view(batch, count, -1, qkv.shape[2]).transpose(1, 2)
            out = _cudnn(*own.split((heads, len(keys), len(keys)), dim=1), True)[0]
            return out.transpose(1, 2).reshape(batch * count, -1)  # cuDNN keeps the layout of q: this copies nothing

        return attend

    def _flash(self, prompts: Prompts) -> Attend:
        heads, size, device = self._heads, self._cache.page_size, self._cache.pool.device
        spans, used = prompts.spans, sum(span.count for span in prompts.spans)
        continued = any(span.start for span in spans)
        ends = [span.start + span.count for span in spans]
        whole = [pages_for(end, size) for end in ends]
        pages = upload(
            [page for own, count in zip(prompts.pages, whole, strict=True) for page in own[:count]], torch.int64, device
        )
        # The gathered keys are whole pages: only a sequence's tokens count, so those behind its end are left out.
        kept = torch.cat([torch.arange(end) + size * sum(whole[:i]) for i, end in enumerate(ends)])
        kept = upload(kept, torch.int64, device)
        new, old = (_starts(counts, device) for counts in ([span.count for span in spans], ends))
        most_new, most_old = max(span.count for span in spans), max(ends)

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            q, k, v = qkv.split((heads, len(keys), len(keys)), dim=1)
            k, v = k[:used], v[:used]
            if continued:
                k, v = (self._cut(pool, pages, kept, qkv.dtype) for pool in (keys, values))
            out = torch.zeros(len(qkv), heads, qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            out[:used] = torch.ops.aten._flash_attention_forward(
                q[:used], k, v, new, old if continued else new, most_new, most_old, 0.0, True, False
            )[0]
            return out.flatten(1)

        return attend


def _cudnn(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [1, heads, queries, head dim] and natural logarithm of the softmax's sum [1, heads, queries]."""
    out = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, False)
    return out[0], out[1].squeeze(-1)


def _starts(counts: list[int], device: torch.device) -> torch.Tensor:
    """0 and the running sums: int32 [len + 1]."""
    return upload(list(accumulate(counts, initial=0)), torch.int32, device)
