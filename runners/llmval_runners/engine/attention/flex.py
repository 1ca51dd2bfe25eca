"""The backend `flex` on a GPU: compiled flex attention that reads pages.

K and V are the whole pools, [1, KV heads, slots, head dim]. A BlockMask whose blocks are pages acts as the page table.
Pages must not be smaller than the mask's blocks (pytorch#182593), and the pools must stay within the kernel's 32-bit
offsets. Caches that break either rule are refused.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from llmval_runners.engine.attention.backend import Attend, Prompts, Tokens, upload
from llmval_runners.engine.kv_cache import PagedKVCache, pages_for
from llmval_runners.process.errors import Refused
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import FlexKernelOptions

PAGE = 128
_BLOCK = 128  # of queries
# Found by trial (docs/lab). Torch's own kernel for decodes would divide its result and convert it in a second kernel.
_DECODE_OPTIONS: "FlexKernelOptions" = {
    "BLOCK_M": 16, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3, "FORCE_USE_FLEX_ATTENTION": True,
}  # fmt: skip
_Tables = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def most_pages(kv_heads: int, head_dim: int) -> int:
    """The largest number of pages in a pool whose elements a 32-bit offset still reaches."""
    return (2**31 - 1) // (kv_heads * head_dim * PAGE)


class FlexAttention:
    """`flex_attention`, compiled for a few sizes. Decode batches and prompt steps are padded to these.

    Prompt steps above the largest size are padded to a multiple of the smallest, and computed in pieces of these sizes.
    """

    name = "flex"
    kernel = "flex_attention compiled by Inductor, over pages by BlockMask; decode with BLOCK_M 16, contexts split"
    decode_sizes = [1, 8, 32, 64, 128, 192, 256]  # noqa: RUF012
    prefill_sizes: list[int] | None = [512, 1024, 2048]  # noqa: RUF012

    def __init__(self, cache: PagedKVCache, heads: int) -> None:
        """Raises Refused if the kernel would give wrong results."""
        if cache.page_size % PAGE:
            raise Refused(f"flex attention reads pages of {PAGE} tokens: pass --page-size {PAGE}, or leave it out.")
        kv_heads, slots, dim = cache.pool.shape[2:]
        if slots > most_pages(kv_heads, dim) * PAGE:
            raise Refused(
                f"flex attention's 32-bit offsets reach {most_pages(kv_heads, dim) * PAGE} tokens of this cache, "
                f"which has {slots}: pass --kv-tokens {most_pages(kv_heads, dim) * PAGE - cache.page_size} or fewer."
            )
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)  # one per step size
        self._decode_attention = torch.compile(decode_attention, dynamic=False)
        self._prompt_attention = torch.compile(prompt_attention, dynamic=False)
        self._cache, self._heads = cache, heads
        device = cache.pool.device
        pages = cache.pool.shape[3] // cache.page_size
        self._owner = torch.full((pages,), -1, dtype=torch.int32, device=device)  # row of the page table
        self._place = torch.zeros(pages, dtype=torch.int32, device=device)  # index of the page in its sequence

    def decode(self, tokens: Tokens, page_table: torch.Tensor) -> Attend:
        size, count, heads = self._cache.page_size, len(tokens.rows), self._heads
        splits = splits_for(count, self._cache.pool.shape[2])
        within = (tokens.positions % size).repeat_interleave(splits)

        def mask(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
            return kv % size <= within[b]

        blocks = BlockMask.from_kv_blocks(
            *split_tables(page_table[tokens.rows], tokens.positions // size, splits),
            BLOCK_SIZE=(_BLOCK, size),
            mask_mod=mask,
            seq_lengths=(heads // self._cache.pool.shape[2], self._cache.pool.shape[3]),
            compute_q_blocks=False,
        )
        return lambda qkv, keys, values: self._decode_attention(qkv, keys, values, blocks, heads, splits)

    def decode_with_rope(self, tokens: Tokens, page_table: torch.Tensor, frequencies: torch.Tensor) -> Attend | None:
        return None  # flex attention cannot write to the cache

    def prefill(self, tokens: Tokens, page_table: torch.Tensor, prompts: Prompts) -> Attend:
        count = len(tokens.rows)
        lists = self._visible_pages(count, prompts)
        columns = max(_columns(page_table), *map(len, lists[0]), *map(len, lists[1]))
        parts: list[tuple[slice, Attend]] = []
        for begin, end in pairwise(pieces(count, self.prefill_sizes or [count])):
            blocks = slice(begin // _BLOCK, end // _BLOCK)
            tables = _tables((lists[0][blocks], lists[1][blocks]), columns, self._owner.device)
            parts.append((slice(begin, end), self._prompts(tokens.rest(begin).first(end - begin), tables)))

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            if len(parts) == 1:
                return parts[0][1](qkv, keys, values)
            out = torch.empty(count, self._heads * qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            for piece, part in parts:
                out[piece] = part(qkv[piece], keys, values)
            return out

        return attend

    def capturable_prefill(self, tokens: Tokens, page_table: torch.Tensor) -> tuple[Attend, Callable[[Prompts], bool]]:
        """As in `CapturableAttention`. The tables keep their addresses and are filled for each step."""
        count, columns, device = len(tokens.rows), _columns(page_table), self._owner.device
        empty: list[list[int]] = [[] for _ in range(count // _BLOCK)]
        tables = _tables((empty, empty), columns, device)

        def fill(prompts: Prompts) -> bool:
            lists = self._visible_pages(count, prompts)
            if max(map(len, [*lists[0], *lists[1]])) > columns:
                return False
            for table, new in zip(tables, _tables(lists, columns, device), strict=True):
                table.copy_(new)
            return True

        return self._prompts(tokens, tables), fill

    def _visible_pages(self, count: int, prompts: Prompts) -> tuple[list[list[int]], list[list[int]]]:
        """Record the owners of the prompts' pages; returns `_blocks` for `count` tokens."""
        size, device = self._cache.page_size, self._owner.device
        for span, pages in zip(prompts.spans, prompts.pages, strict=True):
            used = pages[: pages_for(span.start + span.count, size)]
            indices = upload(used, torch.int64, device)
            self._owner[indices] = span.row
            self._place[indices] = torch.arange(len(used), dtype=torch.int32, device=device)
        return _blocks(prompts, count // _BLOCK, size)

    def _prompts(self, tokens: Tokens, tables: _Tables) -> Attend:
        size, count = self._cache.page_size, len(tokens.rows)
        rows, positions, owner, place = tokens.rows, tokens.positions, self._owner, self._place

        def mask(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
            page = kv // size
            return (owner[page] == rows[q]) & (place[page] * size + kv % size <= positions[q])

        blocks = BlockMask.from_kv_blocks(
            *tables,
            BLOCK_SIZE=(_BLOCK, size),
            mask_mod=mask,
            seq_lengths=(count, self._cache.pool.shape[3]),
            compute_q_blocks=False,
        )
        heads = self._heads
        return lambda qkv, keys, values: self._prompt_attention(qkv, keys, values, blocks, heads)


def decode_attention(
    qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: BlockMask, heads: int, splits: int
) -> torch.Tensor:
    """Attention of one token per sequence: [sequences, heads · head dim]. To be compiled.

    The query heads that share a KV head are the queries of one program. Flex attention serves a context with one
    program per KV head, so each context is split here into `splits` rows of `mask`, and the results are combined by
    their log-sum-exp, as in flash-decoding. A whole context needs neither a copy of its queries nor the log-sum-exp,
    which would be two more kernels a layer.
    """
    q = _queries(qkv, heads, keys.dtype)
    q = q.view(len(q), len(keys), -1, q.shape[2])  # [sequences, KV heads, heads per KV head, head dim]
    if splits == 1:
        whole = flex_attention(q, keys[None], values[None], block_mask=mask, kernel_options=_DECODE_OPTIONS)
        return whole.flatten(1).to(qkv.dtype)
    q = q.repeat_interleave(splits, 0)
    out, aux = flex_attention(
        q, keys[None], values[None], block_mask=mask, kernel_options=_DECODE_OPTIONS, return_aux=AuxRequest(lse=True)
    )
    parts = out.view(-1, splits, heads, out.shape[3])
    assert aux.lse is not None  # `return_aux` asks for it
    weights = aux.lse.view(-1, splits, heads).softmax(1)
    combined: torch.Tensor = (parts * weights[..., None]).sum(1).flatten(1).to(qkv.dtype)
    return combined


def prompt_attention(
    qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: BlockMask, heads: int
) -> torch.Tensor:
    """Attention of a step's prompts: [tokens, heads · head dim]. To be compiled."""
    q = _queries(qkv, heads, keys.dtype).transpose(0, 1)[None]
    out = flex_attention(q, keys[None], values[None], block_mask=mask, enable_gqa=True)
    return out[0].transpose(0, 1).flatten(1).to(qkv.dtype)


def _queries(qkv: torch.Tensor, heads: int, cached: torch.dtype) -> torch.Tensor:
    q = qkv[:, :heads]
    return q.half() if cached.itemsize == 1 else q  # E4M3 converts to float16 in one instruction, to bfloat16 in three


def splits_for(batch: int, kv_heads: int) -> int:
    """Into how many parts a context is split, so that a small batch still fills the GPU with programs."""
    return max(1, min(64, 256 // (batch * kv_heads)))


def split_tables(table: torch.Tensor, last: torch.Tensor, splits: int) -> _Tables:
    """Counts and indices of a BlockMask with `splits` rows per sequence, which share its pages. Only device work.

    `table` int32 [sequences, pages] holds each sequence's pages. `last` int32 [sequences] is the index of the last page
    in use, the only one that is not full. Returns counts int32 [rows, 1, 1] and indices int32 [rows, 1, 1, columns],
    first those of partly visible pages, then those of fully visible pages.
    """
    (count, width), rows = table.shape, len(table) * splits
    columns = -(-width // splits)
    share = last // splits + 1  # pages per part, rounded up
    first = share[:, None] * torch.arange(splits, dtype=torch.int32, device=table.device)  # [sequences, splits]
    full = (last[:, None] - first).clamp(min=0).minimum(share[:, None])
    in_part = last[:, None] // share[:, None] == torch.arange(splits, dtype=torch.int32, device=table.device)
    places = first[:, :, None] + torch.arange(columns, dtype=torch.int32, device=table.device)
    pages = table.gather(1, places.clamp(max=width - 1).view(count, -1).long())
    ends = table.gather(1, last[:, None].long()).expand(count, splits)
    return (
        in_part.int().view(rows, 1, 1),
        ends.reshape(rows, 1, 1, 1).expand(rows, 1, 1, columns).contiguous(),
        full.int().view(rows, 1, 1),
        pages.view(rows, 1, 1, columns),
    )


def pieces(count: int, sizes: list[int]) -> list[int]:
    """Cut `count` tokens into pieces of `sizes`, the largest first: the start of each piece, then `count`.

    `count` is one of `sizes`, or a multiple of the smallest. The other sizes are multiples of the smallest.
    """
    starts = [0]
    while starts[-1] < count:
        left = count - starts[-1]
        starts.append(starts[-1] + (left if left in sizes else max(size for size in sizes if size <= left)))
    return starts


def _columns(page_table: torch.Tensor) -> int:
    """The most pages that a block of queries sees: all of its first and last sequence, and one per sequence between."""
    return page_table.shape[1] * 2 + _BLOCK


def _blocks(prompts: Prompts, count: int, size: int) -> tuple[list[list[int]], list[list[int]]]:
    """For each block of queries: the pages that only some of its queries see, and those that all of them see."""
    some: list[list[int]] = [[] for _ in range(count)]
    whole: list[list[int]] = [[] for _ in range(count)]
    for span, pages in zip(prompts.spans, prompts.pages, strict=True):
        for block in range(span.offset // _BLOCK, (span.offset + span.count - 1) // _BLOCK + 1):
            first = max(span.offset, block * _BLOCK) - span.offset + span.start
            last = min(span.offset + span.count, (block + 1) * _BLOCK) - 1 - span.offset + span.start
            alone = span.offset <= block * _BLOCK and (block + 1) * _BLOCK <= span.offset + span.count
            seen_by_all = (first + 1) // size if alone else 0
            whole[block] += pages[:seen_by_all]
            some[block] += pages[seen_by_all : last // size + 1]
    return some, whole


def _tables(lists: tuple[list[list[int]], list[list[int]]], columns: int, device: torch.device) -> _Tables:
    """Counts int32 [1, 1, blocks] and indices int32 [1, 1, blocks, columns] of the first list, then of the second."""
    return (*_table(lists[0], columns, device), *_table(lists[1], columns, device))


def _table(blocks: list[list[int]], columns: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    indices = torch.zeros(1, 1, len(blocks), columns, dtype=torch.int32)
    for row, pages in enumerate(blocks):
        indices[0, 0, row, : len(pages)] = torch.tensor(pages, dtype=torch.int32)
    counts = torch.tensor([len(pages) for pages in blocks], dtype=torch.int32)[None, None]
    return upload(counts, torch.int32, device), upload(indices, torch.int32, device)
