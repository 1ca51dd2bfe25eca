"""Flex attention from pages, compiled: the backend `flex` on a GPU.

K and V are the pools themselves, [1, KV heads, slots, head dim], and a BlockMask whose blocks are pages is the page
table. The pages must not be smaller than the mask's blocks (pytorch#182593), and the pools must stay in the range of
the kernel's 32-bit offsets; both are refused when the cache is made.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from llmval_runners.engine.attention.sdpa import Prompts
from llmval_runners.engine.attention.upload import upload
from llmval_runners.engine.gpu.decoder import Attend, Tokens
from llmval_runners.engine.kv_cache import PagedKVCache, pages_for
from llmval_runners.process.errors import Refused
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

PAGE = 128
_BLOCK = 128  # of queries
# By trial (docs/performance_notes.md). A split by flex itself would be one of the pools, not of a sequence.
_DECODE = {"BLOCK_M": 16, "BLOCK_N": 64, "SPLIT_KV": 1, "num_warps": 4, "num_stages": 3}


def most_pages(kv_heads: int, head_dim: int) -> int:
    """Pages of a pool whose last element a 32-bit offset still reaches."""
    return (2**31 - 1) // (kv_heads * head_dim * PAGE)


class FlexAttention:
    """`flex_attention`, compiled for few sizes, to which decode batches and prompt steps are filled up.

    Larger prompt steps are multiples of the smallest size, and attention takes them in pieces of these sizes.
    """

    name = "flex"
    kernel = "flex_attention compiled by Inductor, over pages by BlockMask; decode with BLOCK_M 16, contexts split"
    batches = [1, 8, 32, 64, 128, 192, 256]  # noqa: RUF012
    chunks: list[int] | None = [512, 1024, 2048]  # noqa: RUF012

    def __init__(self, cache: PagedKVCache, heads: int) -> None:
        """Raises Refused where the kernel would give wrong numbers."""
        if cache.page_size % PAGE:
            raise Refused(f"flex attention reads pages of {PAGE} tokens: pass --page-size {PAGE}, or leave it out.")
        kv_heads, slots, dim = cache.pool.shape[2:]
        if slots > most_pages(kv_heads, dim) * PAGE:
            raise Refused(
                f"flex attention's 32-bit offsets reach {most_pages(kv_heads, dim) * PAGE} tokens of this cache, "
                f"which has {slots}: pass --kv-tokens {most_pages(kv_heads, dim) * PAGE - cache.page_size} or fewer."
            )
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)  # one a size of step
        self._decode_attention = torch.compile(decode_attention, dynamic=False)
        self._prompt_attention = torch.compile(prompt_attention, dynamic=False)
        self._cache, self._heads = cache, heads
        device = cache.pool.device
        pages = cache.pool.shape[3] // cache.page_size
        self._owner = torch.full((pages,), -1, dtype=torch.int32, device=device)  # the page table's row
        self._place = torch.zeros(pages, dtype=torch.int32, device=device)  # of the page in its sequence

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
            seq_lengths=(1, self._cache.pool.shape[3]),
            compute_q_blocks=False,
        )
        return lambda qkv, keys, values: self._decode_attention(qkv, keys, values, blocks, heads, splits)

    def whole(self, tokens: Tokens, page_table: torch.Tensor, frequencies: torch.Tensor) -> Attend | None:
        return None  # flex attention writes nothing

    def prefill(self, tokens: Tokens, page_table: torch.Tensor, prompts: Prompts) -> Attend:
        count = len(tokens.rows)
        lists = self._seen(count, prompts)
        columns = max(_columns(page_table), *map(len, lists[0]), *map(len, lists[1]))
        parts: list[tuple[slice, Attend]] = []
        for begin, end in pairwise(pieces(count, self.chunks or [count])):
            own = slice(begin // _BLOCK, end // _BLOCK)
            tables = _tables((lists[0][own], lists[1][own]), columns, self._owner.device)
            parts.append((slice(begin, end), self._prompts(tokens.behind(begin).until(end - begin), tables)))

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            if len(parts) == 1:
                return parts[0][1](qkv, keys, values)
            out = torch.empty(count, self._heads * qkv.shape[2], dtype=qkv.dtype, device=qkv.device)
            for here, part in parts:
                out[here] = part(qkv[here], keys, values)
            return out

        return attend

    def captured(self, tokens: Tokens, page_table: torch.Tensor) -> tuple[Attend, Callable[[Prompts], bool]]:
        """As `CapturedAttention` has it: the tables stay where they are, and are filled for each step."""
        count, columns, device = len(tokens.rows), _columns(page_table), self._owner.device
        nothing: list[list[int]] = [[] for _ in range(count // _BLOCK)]
        tables = _tables((nothing, nothing), columns, device)

        def fill(prompts: Prompts) -> bool:
            lists = self._seen(count, prompts)
            if max(map(len, [*lists[0], *lists[1]])) > columns:
                return False
            for kept, new in zip(tables, _tables(lists, columns, device), strict=True):
                kept.copy_(new)
            return True

        return self._prompts(tokens, tables), fill

    def _seen(self, count: int, prompts: Prompts) -> tuple[list[list[int]], list[list[int]]]:
        """Note whose the prompts' pages are; `_blocks` of `count` tokens."""
        size, device = self._cache.page_size, self._owner.device
        for span, pages in zip(prompts.spans, prompts.pages, strict=True):
            held = pages[: pages_for(span.start + span.count, size)]
            where = upload(held, torch.int64, device)
            self._owner[where] = span.row
            self._place[where] = torch.arange(len(held), dtype=torch.int32, device=device)
        return _blocks(prompts, count // _BLOCK, size)

    def _prompts(self, tokens: Tokens, tables: list[torch.Tensor]) -> Attend:
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
    """Attention of one token a sequence, `splits` rows of `mask` each: [sequences, heads · head dim]. To be compiled.

    Flex attention serves a context by one program a KV head, so a context is cut here, and the parts, whose sums of
    exponentials come with them, are added up as in flash-decoding.
    """
    q = _queries(qkv, heads, keys.dtype).repeat_interleave(splits, 0)[:, :, None]
    out, aux = flex_attention(
        q, keys[None], values[None], block_mask=mask, enable_gqa=True, kernel_options=_DECODE,
        return_aux=AuxRequest(lse=True),
    )  # fmt: skip
    parts = out.view(-1, splits, heads, out.shape[3])
    weights = aux.lse.view(-1, splits, heads).softmax(1)
    return (parts * weights[..., None]).sum(1).flatten(1).to(qkv.dtype)


def prompt_attention(
    qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: BlockMask, heads: int
) -> torch.Tensor:
    """Attention of a step's prompts: [tokens, heads · head dim]. To be compiled."""
    q = _queries(qkv, heads, keys.dtype).transpose(0, 1)[None]
    out = flex_attention(q, keys[None], values[None], block_mask=mask, enable_gqa=True)
    return out[0].transpose(0, 1).flatten(1).to(qkv.dtype)


def _queries(qkv: torch.Tensor, heads: int, cached: torch.dtype) -> torch.Tensor:
    q = qkv[:, :heads]
    return q.half() if cached.itemsize == 1 else q  # E4M3 becomes float16 in one instruction, bfloat16 in three


def splits_for(batch: int, kv_heads: int) -> int:
    """Parts that a context is cut into, so that a small batch has as many programs as a GPU takes at once."""
    return max(1, min(64, 256 // (batch * kv_heads)))


def split_tables(table: torch.Tensor, last: torch.Tensor, splits: int) -> tuple[torch.Tensor, ...]:
    """Counts and indices of a BlockMask with `splits` rows a sequence, which share its pages. Only device work.

    `table` int32 [sequences, pages] names each sequence's pages, of which `last` int32 [sequences] is the last one in
    use: the only one that is not full. Returns, for pages in part and in full, counts int32 [rows, 1, 1] and indices
    int32 [rows, 1, 1, columns].
    """
    (count, width), rows = table.shape, len(table) * splits
    columns = -(-width // splits)
    share = last // splits + 1  # pages of a part, at least as many as each needs
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
    """Where pieces of these sizes begin that make up `count` tokens, and `count`: the largest first.

    `count` is one of `sizes`, or a multiple of the smallest, of which the others are multiples.
    """
    starts = [0]
    while starts[-1] < count:
        left = count - starts[-1]
        starts.append(starts[-1] + (left if left in sizes else max(size for size in sizes if size <= left)))
    return starts


def _columns(page_table: torch.Tensor) -> int:
    """Pages that a block of queries sees at most: of the first and the last sequence in it, and one of each between."""
    return page_table.shape[1] * 2 + _BLOCK


def _blocks(prompts: Prompts, count: int, size: int) -> tuple[list[list[int]], list[list[int]]]:
    """For each block of queries: pages that only some of its queries see, and pages that all of them see."""
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


def _tables(lists: tuple[list[list[int]], list[list[int]]], columns: int, device: torch.device) -> list[torch.Tensor]:
    """Counts int32 [1, 1, blocks] and indices int32 [1, 1, blocks, columns] of each of the two."""
    tables = []
    for own in lists:
        indices = torch.zeros(1, 1, len(own), columns, dtype=torch.int32)
        for row, pages in enumerate(own):
            indices[0, 0, row, : len(pages)] = torch.tensor(pages, dtype=torch.int32)
        counts = torch.tensor([len(pages) for pages in own], dtype=torch.int32)[None, None]
        tables += [upload(counts, torch.int32, device), upload(indices, torch.int32, device)]
    return tables
