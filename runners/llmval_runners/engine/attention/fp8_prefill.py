"""FP8 attention for prompt chunks over an FP8 cache. Decoding, and chunks cuDNN does not support, use `sdpa`.

Keys and values are read from the cache, as decoding will read them later. A chunk attends to its own keys (causal), and
to the earlier ones in segments; the results are merged by their softmax sums in float32. Long sums lose accuracy within
Hopper's FP8 tensor cores, which add in fewer bits than float32 (vllm-project/flash-attention#104), so segments are
short. They also have one size, so cuDNN needs two plans instead of one for each position of a chunk.

Results have one scale per chunk: at most 448 divided by the largest of the sequence's values, so they cannot overflow.
"""

from itertools import accumulate, pairwise

import torch
from llmval_runners.engine.attention.backend import Attend, Prompts, upload
from llmval_runners.engine.attention.cudnn_fp8 import E4M3, as_e4m3, fp8_sdpa, result_scale
from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MIN_TOKENS, CUDNN_MULTIPLE, fp8_segments
from llmval_runners.engine.attention.sdpa import SdpaAttention
from llmval_runners.engine.kernels.fused_ops import merge_segments
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
        self.chunks_in_fp8 = 0

    def _cudnn(self, prompts: Prompts) -> Attend:
        heads = self._heads
        sources = [
            self._segment_rows(pages, fp8_segments(span.count, span.start))
            for span, pages in zip(prompts.spans, prompts.pages, strict=True)
        ]
        self.chunks_in_fp8 += len(prompts.spans)

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            out = torch.empty(len(qkv), heads, qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            for span, rows in zip(prompts.spans, sources, strict=True):
                chunk = slice(span.offset, span.offset + span.count)
                self._chunk(qkv[chunk, :heads], keys, values, rows, fp8_segments(span.count, span.start), out[chunk])
            return out.flatten(1)

        return attend

    def _segment_rows(self, pages: list[int], segments: list[int]) -> torch.Tensor:
        """`_rows` of each segment, one after the other, on the device."""
        ends = [end // self._cache.page_size for end in accumulate(segments, initial=0)]
        parts = [self._rows(pages[first:end]) for first, end in pairwise(ends)]
        return upload(torch.cat(parts), torch.int64, self._cache.pool.device)

    def _chunk(
        self,
        q: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        rows: torch.Tensor,
        segments: list[int],
        out: torch.Tensor,
    ) -> None:
        """Write one sequence's chunk to `out`. The last of `segments` is the chunk itself."""
        q, (tokens, heads, dim) = as_e4m3(q), q.shape
        k, v = self._gathered_rows(keys, rows), self._gathered_rows(values, rows)
        scale = result_scale(largest_e4m3(v))
        parts = torch.empty(len(segments), tokens, heads, dim, dtype=E4M3, device=q.device)
        logs = torch.empty(len(segments), heads, tokens, dtype=torch.float32, device=q.device)
        counts = [len(keys) * length // self._cache.page_size for length in segments]
        for index, (own_k, own_v) in enumerate(zip(torch.split(k, counts), torch.split(v, counts), strict=True)):
            own_k, own_v = own_k.view(len(keys), -1, dim), own_v.view(len(keys), -1, dim)
            self._fp8(q, own_k, own_v, scale, index == len(segments) - 1, parts[index], logs[index])
        merge_segments(parts, logs, scale, out)


def largest_e4m3(x: torch.Tensor) -> torch.Tensor:
    """The largest absolute value in `x` (E4M3): float32 []. Without the sign, E4M3 sorts as its bytes do."""
    return (x.view(torch.uint8) & 0x7F).amax().view(E4M3).float()
