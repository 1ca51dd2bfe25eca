"""Flex attention from pages, compiled: the backend `flex` on a GPU.

K and V are the pools themselves, [1, KV heads, slots, head dim], and a BlockMask whose blocks are pages is the page
table. The pages must not be smaller than the mask's blocks (pytorch#182593), and the pools must stay in the range of
the kernel's 32-bit offsets; both are refused when the cache is made.
"""

from collections.abc import Callable
from typing import Any

import torch
from llmval_runners.fused import Attend, Tokens
from llmval_runners.gpu_attention import Prompts
from llmval_runners.kv_cache import PagedKVCache, pages_for
from llmval_runners.refusal import Refused
from llmval_runners.upload import upload

PAGE = 128
_BLOCK = 128  # of queries


def most_pages(kv_heads: int, head_dim: int) -> int:
    """Pages of a pool whose last element a 32-bit offset still reaches."""
    return (2**31 - 1) // (kv_heads * head_dim * PAGE)


class FlexAttention:
    """`flex_attention`, compiled for each size of step; decode batches and prompt steps are filled up to few sizes."""

    name = "flex"
    kernel = "flex_attention compiled by Inductor, over pages by BlockMask; decode with BLOCK_M 16"
    batches = [1, 8, 32, 64, 128, 192, 256]  # noqa: RUF012
    chunks: list[int] | None = [512, 1024, 2048, 8192]  # noqa: RUF012

    def __init__(self, cache: PagedKVCache, heads: int) -> None:
        """Raises Refused where the kernel would give wrong numbers."""
        from torch.nn.attention.flex_attention import BlockMask, flex_attention  # slow to import, and not always needed

        if cache.page_size % PAGE:
            raise Refused(f"flex attention reads pages of {PAGE} tokens: pass --page-size {PAGE}, or leave it out.")
        kv_heads, slots, dim = cache.pool.shape[2:]
        if slots > most_pages(kv_heads, dim) * PAGE:
            raise Refused(
                f"flex attention's 32-bit offsets reach {most_pages(kv_heads, dim) * PAGE} tokens of this cache, "
                f"which has {slots}: pass --kv-tokens {most_pages(kv_heads, dim) * PAGE - cache.page_size} or fewer."
            )
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)  # one a size of step
        self._flex = torch.compile(flex_attention, dynamic=False)
        self._mask, self._cache, self._heads = BlockMask, cache, heads
        device = cache.pool.device
        pages = cache.pool.shape[3] // cache.page_size
        self._owner = torch.full((pages,), -1, dtype=torch.int32, device=device)  # the page table's row
        self._place = torch.zeros(pages, dtype=torch.int32, device=device)  # of the page in its sequence

    def _attend(self, mask: Any, padded: int | None, options: dict[str, int]) -> Attend:
        heads = self._heads

        def attend(qkv: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            q = qkv[:, :heads]
            if keys.dtype.itemsize == 1:
                q = q.half()  # E4M3 becomes float16 in one instruction, and bfloat16 only by way of float32
            q = q[:, :, None] if padded is None else q.transpose(0, 1)[None]
            out = self._flex(q, keys[None], values[None], block_mask=mask, enable_gqa=True, kernel_options=options)
            out = out[:, :, 0] if padded is None else out[0].transpose(0, 1)
            return out.reshape(len(qkv), -1).to(qkv.dtype)

        return attend

    def decode(self, tokens: Tokens, page_table: torch.Tensor) -> Attend:
        size, count = self._cache.page_size, len(tokens.rows)
        table = page_table[tokens.rows]
        last = tokens.positions // size
        within = tokens.positions % size

        def mask(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
            return kv % size <= within[b]

        blocks = self._mask.from_kv_blocks(
            torch.ones(count, 1, 1, dtype=torch.int32, device=table.device),
            table.gather(1, last[:, None].long()).expand(-1, table.shape[1])[:, None, None].contiguous(),
            last[:, None, None].contiguous(),
            table[:, None, None].contiguous(),
            BLOCK_SIZE=(_BLOCK, size),
            mask_mod=mask,
            seq_lengths=(1, self._cache.pool.shape[3]),
            compute_q_blocks=False,
        )
        return self._attend(blocks, None, {"BLOCK_M": 16})

    def prefill(self, tokens: Tokens, page_table: torch.Tensor, prompts: Prompts) -> Attend:
        lists = self._seen(len(tokens.rows), prompts)
        columns = max(_columns(page_table), *map(len, lists[0]), *map(len, lists[1]))
        return self._prompts(tokens, _tables(lists, columns, self._owner.device))

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

        blocks = self._mask.from_kv_blocks(
            *tables,
            BLOCK_SIZE=(_BLOCK, size),
            mask_mod=mask,
            seq_lengths=(count, self._cache.pool.shape[3]),
            compute_q_blocks=False,
        )
        return self._attend(blocks, count, {})


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
