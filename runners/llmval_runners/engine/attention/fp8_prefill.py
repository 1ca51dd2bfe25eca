"""Prompt chunks in FP8 attention, over an FP8 cache; decoding, and chunks that cuDNN does not take, as `sdpa` has them.

Keys and values are those that the cache holds, as decoding will see them. The result has one scale for a chunk: no
larger than 448 over the largest value that the layer's cache has been given, so it cannot overflow.
"""

from collections.abc import Sequence

import torch
from llmval_runners.engine.attention.cudnn_fp8 import E4M3, as_e4m3, fp8_sdpa, result_scale
from llmval_runners.engine.attention.sdpa import Prompts, SdpaAttention
from llmval_runners.engine.attention.upload import upload
from llmval_runners.engine.gpu.cudnn_sizes import CUDNN_LEAST, CUDNN_MULTIPLE
from llmval_runners.engine.gpu.decoder import Attend
from llmval_runners.engine.kernels.fused_ops import merge
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.process.errors import Refused


class Fp8PrefillAttention(SdpaAttention):
    """`chunks_in_fp8` counts what really ran so, in chunks of prompts."""

    name = "sdpa"
    kernel = (
        f"decode: Triton paged split-KV; prefill: cuDNN in FP8 (E4M3) for multiples of {CUDNN_MULTIPLE} tokens from "
        f"{CUDNN_LEAST}, else FlashAttention-2 in bfloat16"
    )
    window = CUDNN_LEAST  # tokens of a chunk that shows what this attention gives

    def __init__(self, cache: PagedKVCache, heads: int) -> None:
        """Raises Refused where the cache, the GPU or what is installed cannot do it."""
        super().__init__(cache, heads)
        if cache.dtype != E4M3:
            raise Refused("FP8 attention reads an FP8 cache: pass --kv-dtype fp8, or --prefill-attention bf16.")
        self._fp8 = fp8_sdpa(cache.pool.device)
        self._largest: dict[int, torch.Tensor] = {}  # of a layer's values so far, by where its pool is
        self.chunks_in_fp8 = 0

    def _cudnn(self, prompts: Prompts) -> Attend:
        heads, size, device = self._heads, self._cache.page_size, self._cache.pool.device
        held = []
        for span, pages in zip(prompts.spans, prompts.pages, strict=True):
            first, end = span.start // size, (span.start + span.count) // size
            held.append([upload(part, torch.int64, device) for part in (pages[:first], pages[first:end]) if part])
        self.chunks_in_fp8 += len(prompts.spans)

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = torch.empty(len(qkv), heads, qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            scale = result_scale(self._bound(values, qkv[:, heads + len(keys) :]))
            for span, parts in zip(prompts.spans, held, strict=True):
                here = slice(span.offset, span.offset + span.count)
                self._chunk(qkv[here, :heads], keys, values, parts, scale, out[here])
            return out.mul_(scale.reciprocal()).flatten(1)

        return attend

    def _chunk(
        self,
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        parts: Sequence[torch.Tensor],
        scale: torch.Tensor,
        out: torch.Tensor,
    ) -> None:
        """One sequence's chunk into `out`, times `scale`. `parts`: the pages before it, if any, and its own."""
        q = as_e4m3(q)
        own = [self._gathered(pool, parts[-1], E4M3) for pool in (keys, values)]
        one, one_log = self._fp8(q, *own, scale, True)
        if len(parts) == 1:
            out.copy_(one)
            return
        del own
        earlier = [self._gathered(pool, parts[0], E4M3) for pool in (keys, values)]
        two, two_log = self._fp8(q, *earlier, scale, False)
        merge(one, two, one_log, two_log, out)

    def _bound(self, pool: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """The largest value that this layer has seen: float32 [1]."""
        seen = self._largest.setdefault(pool.data_ptr(), torch.zeros(1, device=pool.device))
        least, most = torch.aminmax(new)
        return torch.maximum(seen, torch.maximum(-least, most).float().reshape(1), out=seen)
