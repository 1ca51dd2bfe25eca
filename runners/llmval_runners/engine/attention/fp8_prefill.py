"""FP8 attention for prompt chunks over an FP8 cache. Decoding, and chunks cuDNN does not support, use `sdpa`.

Keys and values are read from the cache, as decoding will read them later. The result has one scale per chunk: at most
448 divided by the largest value that the layer's cache has received, so it cannot overflow.
"""

from collections.abc import Sequence

import torch
from llmval_runners.engine.attention.backend import Attend, Prompts, upload
from llmval_runners.engine.attention.cudnn_fp8 import E4M3, as_e4m3, fp8_sdpa, result_scale
from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MIN_TOKENS, CUDNN_MULTIPLE
from llmval_runners.engine.attention.sdpa import SdpaAttention
from llmval_runners.engine.kernels.fused_ops import merge_attention
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.process.errors import Refused


class Fp8PrefillAttention(SdpaAttention):
    """`chunks_in_fp8` counts the prompt chunks that ran in FP8."""

    name = "sdpa"
    kernel = (
        f"decode: Triton paged split-KV; prefill: cuDNN in FP8 (E4M3) for multiples of {CUDNN_MULTIPLE} tokens from "
        f"{CUDNN_MIN_TOKENS}, else FlashAttention-2 in bfloat16"
    )
    min_chunk_tokens = CUDNN_MIN_TOKENS  # a shorter chunk would not run in FP8

    def __init__(self, cache: PagedKVCache, heads: int) -> None:
        """Raises Refused if the cache, the GPU or the installed packages do not support it."""
        super().__init__(cache, heads)
        if cache.dtype != E4M3:
            raise Refused("FP8 attention reads an FP8 cache: pass --kv-dtype fp8, or --prefill-attention bf16.")
        self._fp8 = fp8_sdpa(cache.pool.device)
        self._largest: dict[int, torch.Tensor] = {}  # a layer's largest value so far, by the address of its pool
        self.chunks_in_fp8 = 0

    def _cudnn(self, prompts: Prompts) -> Attend:
        heads, size, device = self._heads, self._cache.page_size, self._cache.pool.device
        pages_of = []
        for span, pages in zip(prompts.spans, prompts.pages, strict=True):
            first, end = span.start // size, (span.start + span.count) // size
            pages_of.append([upload(part, torch.int64, device) for part in (pages[:first], pages[first:end]) if part])
        self.chunks_in_fp8 += len(prompts.spans)

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = torch.empty(len(qkv), heads, qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            scale = result_scale(self._update_largest(values, qkv[:, heads + len(keys) :]))
            for span, pages in zip(prompts.spans, pages_of, strict=True):
                chunk = slice(span.offset, span.offset + span.count)
                self._chunk(qkv[chunk, :heads], keys, values, pages, scale, out[chunk])
            return out.mul_(scale.reciprocal()).flatten(1)

        return attend

    def _chunk(
        self,
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        pages: Sequence[torch.Tensor],
        scale: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """Write one sequence's chunk to `out`, times `scale`. `pages`: those before the chunk, if any, and its own."""
        q = as_e4m3(q)
        own_k, own_v = (self._gathered(pool, pages[-1], E4M3) for pool in (keys, values))
        one, one_log = self._fp8(q, own_k, own_v, scale, True)
        if len(pages) == 1:
            out.copy_(one)
            return
        del own_k, own_v
        earlier_k, earlier_v = (self._gathered(pool, pages[0], E4M3) for pool in (keys, values))
        two, two_log = self._fp8(q, earlier_k, earlier_v, scale, False)
        merge_attention(one, two, one_log, two_log, out)

    def _update_largest(self, pool: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """The largest absolute value that this layer has received so far: float32 [1]."""
        largest = self._largest.setdefault(pool.data_ptr(), torch.zeros(1, device=pool.device))
        low, high = torch.aminmax(new)
        return torch.maximum(largest, torch.maximum(-low, high).float().reshape(1), out=largest)
