"""The backend `sdpa` on a GPU: cuDNN or FlashAttention-2 for prompt chunks, a paged Triton kernel for decoding."""

from itertools import accumulate

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.backend import Attend, Prompts, Tokens, upload
from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MIN_TOKENS, CUDNN_MULTIPLE, cudnn_supports
from llmval_runners.engine.kernels.fused_ops import merge_attention
from llmval_runners.engine.kernels.paged_decode import paged_decode, splits_for
from llmval_runners.engine.kv_cache import PagedKVCache, pages_for


class SdpaAttention:
    """PyTorch's own kernels for prompts. Decoding uses a paged Triton kernel, as SDPA cannot read pages."""

    name = "sdpa"
    kernel = (
        "decode: Triton paged split-KV; prefill: cuDNN (scaled_dot_product_attention) for multiples of "
        f"{CUDNN_MULTIPLE} tokens from {CUDNN_MIN_TOKENS}, else FlashAttention-2 with variable lengths"
    )
    decode_sizes = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256]  # noqa: RUF012
    prefill_sizes = None

    def __init__(self, cache: PagedKVCache, heads: int) -> None:
        self._cache, self._heads = cache, heads

    def decode(self, tokens: Tokens, page_table: torch.Tensor) -> Attend:
        return self._paged(tokens, page_table, None)

    def decode_with_rope(self, tokens: Tokens, page_table: torch.Tensor, frequencies: torch.Tensor) -> Attend | None:
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
        if not all(cudnn_supports(span.count, span.start, self._cache.page_size) for span in prompts.spans):
            return self._flash(prompts)
        attend, used = self._cudnn(prompts), sum(span.count for span in prompts.spans)

        def padded(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = attend(qkv[:used], keys, values)
            return out if used == len(qkv) else F.pad(out, (0, 0, 0, len(qkv) - used))

        return padded

    def _rows(self, pages: list[int]) -> torch.Tensor:
        """The pages of each KV head as rows of a pool [KV heads · pages, …]: int64 [KV heads · len(pages)], on a CPU.

        PyTorch gathers whole rows four times as fast as pages within each head.
        """
        kv_heads, slots = self._cache.pool.shape[2:4]
        return (torch.arange(kv_heads)[:, None] * (slots // self._cache.page_size) + torch.tensor(pages)).flatten()

    def _gathered_rows(self, pool: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Gather `rows` (see `_rows`) of a pool [KV heads, slots, head dim]: [rows, page size · head dim]."""
        return pool.view(-1, self._cache.page_size * pool.shape[2]).index_select(0, rows)

    def _gathered(self, pool: torch.Tensor, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Gather whole pages of a pool [KV heads, slots, head dim]: [KV heads, tokens, head dim]."""
        return self._gathered_rows(pool, rows).view(len(pool), -1, pool.shape[2]).to(dtype)

    def _gathered_tokens(
        self, pool: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """Gather whole pages, then only their `tokens`: [tokens, KV heads, head dim]."""
        return self._gathered(pool, rows, dtype).index_select(1, tokens).transpose(0, 1)

    def _cudnn(self, prompts: Prompts) -> Attend:
        """A chunk attends to itself (causal) and to all earlier tokens; the two results are merged.

        Both parts run at cuDNN's full rate.
        """
        heads, size = self._heads, self._cache.page_size
        spans, count = prompts.spans, prompts.spans[0].count
        if all(span.count == count and not span.start for span in spans):
            return self._cudnn_batch(len(spans), count)
        before = [
            upload(self._rows(pages[: span.start // size]), torch.int64, self._cache.pool.device)
            for span, pages in zip(prompts.spans, prompts.pages, strict=True)
        ]

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = torch.empty(len(qkv), heads, qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            for span, rows in zip(prompts.spans, before, strict=True):
                own = qkv[span.offset : span.offset + span.count].transpose(0, 1)[None]
                q, k, v = own.split_with_sizes((heads, len(keys), len(keys)), dim=1)
                target = out[span.offset : span.offset + span.count]
                one, one_log = _cudnn(q, k, v, True)
                if not len(rows):  # for zero keys PyTorch would return uninitialised memory
                    target.copy_(one[0].transpose(0, 1))
                    continue
                # Not named: they are freed as soon as the call returns.
                two, two_log = _cudnn(
                    q,
                    self._gathered(keys, rows, qkv.dtype)[None],
                    self._gathered(values, rows, qkv.dtype)[None],
                    False,
                )
                merge_attention(one[0].transpose(0, 1), two[0].transpose(0, 1), one_log[0], two_log[0], target)
            return out.flatten(1)

        return attend

    def _cudnn_batch(self, batch: int, count: int) -> Attend:
        """Whole prompts of one length, as a batch in one call: this keeps more multiprocessors busy until its end."""
        heads = self._heads

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            own = qkv[: batch * count].view(batch, count, -1, qkv.shape[2]).transpose(1, 2)
            q, k, v = own.split_with_sizes((heads, len(keys), len(keys)), dim=1)
            out = _cudnn(q, k, v, True)[0]
            return out.transpose(1, 2).reshape(batch * count, -1)  # cuDNN keeps the layout of q, so this copies nothing

        return attend

    def _flash(self, prompts: Prompts) -> Attend:
        heads, size, device = self._heads, self._cache.page_size, self._cache.pool.device
        spans, used = prompts.spans, sum(span.count for span in prompts.spans)
        continued = any(span.start for span in spans)
        ends = [span.start + span.count for span in spans]
        page_counts = [pages_for(end, size) for end in ends]
        pages = [page for own, count in zip(prompts.pages, page_counts, strict=True) for page in own[:count]]
        rows = upload(self._rows(pages), torch.int64, device)
        # Whole pages are gathered; the slots after a sequence's last token are left out.
        cached = torch.cat([torch.arange(end) + size * sum(page_counts[:i]) for i, end in enumerate(ends)])
        cached = upload(cached, torch.int64, device)
        query_starts, key_starts = (_starts(counts, device) for counts in ([span.count for span in spans], ends))
        longest_query, longest_key = max(span.count for span in spans), max(ends)

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            q, k, v = qkv.split_with_sizes((heads, len(keys), len(keys)), dim=1)
            k, v = k[:used], v[:used]
            if continued:
                k, v = (self._gathered_tokens(pool, rows, cached, qkv.dtype) for pool in (keys, values))
            out = torch.zeros(len(qkv), heads, qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            out[:used] = torch.ops.aten._flash_attention_forward(
                q[:used],
                k,
                v,
                query_starts,
                key_starts if continued else query_starts,
                longest_query,
                longest_key,
                0.0,
                True,
                False,
            )[0]
            return out.flatten(1)

        return attend


def _cudnn(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [1, heads, queries, head dim], and the natural logarithm of the softmax's sum [1, heads, queries]."""
    out = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, causal, False)
    return out[0], out[1].squeeze(-1)


def _starts(counts: list[int], device: torch.device) -> torch.Tensor:
    """0 and the cumulative sums of `counts`: int32 [len + 1]."""
    return upload(list(accumulate(counts, initial=0)), torch.int32, device)
