"""The paged KV cache: every rank has pools of fixed-size pages, and rank 0 has the list of free pages."""

import torch
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.process.errors import Refused

GIB = 1024**3


class CacheTooSmall(Refused):
    """A request can never fit, however long it waits."""


def pages_for(tokens: int, page_size: int) -> int:
    """The number of pages for `tokens`, rounded up."""
    return -(-tokens // page_size)


def check_gpu_page(page_size: int) -> None:
    """Raises Refused if the decode kernel's tiles do not divide a page: it would read beyond the end of the page."""
    if page_size not in (16, 32) and page_size % 64:
        raise Refused(
            f"--page-size {page_size} is not 16, 32 or a multiple of 64 tokens: pass one that is, such as 128."
        )


def kv_formula(shape: ModelShape, element_bytes: int, ranks: int) -> str:
    """The KV bytes per token on a rank, with their formula."""
    each = shape.kv_bytes_per_token_on(ranks, element_bytes)
    shared = min(ranks, shape.kv_heads)
    over = f" / {shared} ranks" if shared > 1 else ""
    return (
        f"2 × {shape.layers} layers × {shape.kv_heads} KV heads × {shape.head_dim} × {element_bytes} bytes{over} = "
        f"{each:,} bytes"
    )


LARGER_CACHE = "--kv-tokens {tokens} or more, or shorter --prompt-len and --output-len"


def refuse_longer(
    tokens: int, shape: ModelShape, element_bytes: int, pages: int, page_size: int, remedy: str = LARGER_CACHE
) -> None:
    """Raises CacheTooSmall, with the needed bytes, if `tokens` can never fit into `pages`."""
    if pages_for(tokens, page_size) > pages:
        per_token = shape.kv_bytes_per_token(element_bytes)
        need = pages_for(tokens, page_size) * page_size
        raise CacheTooSmall(
            f"a request of {tokens} tokens needs {need * per_token:,} bytes of KV cache over all ranks ({need} tokens "
            f"in whole pages), and the cache has {pages * page_size * per_token:,} ({pages * page_size} tokens): "
            f"pass {remedy.format(tokens=need)}."
        )


class PagedKVCache:
    """The keys and values of one rank. Each layer has a pool [KV heads of this rank, pages · page size, head dim].

    Heads come first, so a kernel that uses a page table can read the pool as [1, heads, slots, head dim]. The order of
    pages is arbitrary; a slot is page · page_size + offset.
    """

    def __init__(
        self,
        shape: ModelShape,
        *,
        tensor_parallel: int,
        pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device,
        with_padding_page: bool = False,
    ) -> None:
        """`with_padding_page`: add one page that belongs to no request, for the rows that pad a batch."""
        self.shape, self.pages, self.page_size, self.dtype = shape, pages, page_size, dtype
        self.padding_page = pages
        slots = (pages + with_padding_page) * page_size
        size = (shape.layers, 2, shape.kv_heads_on(tensor_parallel), slots, shape.head_dim)
        # Zeros, not uninitialized: an unfused kernel multiplies masked-out slots by 0, and 0 · NaN would be NaN.
        self.pool = torch.zeros(size, dtype=dtype, device=device)

    @property
    def bytes_per_rank(self) -> int:
        """The exact size of this rank's pools."""
        return self.pool.numel() * self.pool.element_size()

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of one layer, each [KV heads, slots, head dim]."""
        return self.pool[index, 0], self.pool[index, 1]

    def write(self, index: int, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store `keys` and `values` [tokens, KV heads, head dim] of one layer at `slots` [tokens]."""
        k, v = self.layer(index)
        k.index_copy_(1, slots, keys.transpose(0, 1).to(self.dtype))
        v.index_copy_(1, slots, values.transpose(0, 1).to(self.dtype))


class PageAllocator:
    """The list of free pages. A request gets all its pages at admission, when its length is known: none is evicted."""

    def __init__(self, pages: int, page_size: int) -> None:
        self.pages, self.page_size = pages, page_size
        self._free = list(range(pages - 1, -1, -1))
        self._given = bytearray(pages)  # 1 if a page belongs to a request; avoids a search of the free list

    @property
    def used(self) -> int:
        return self.pages - len(self._free)

    def allocate(self, tokens: int) -> list[int] | None:
        """Pages for `tokens`, or None if too few are free."""
        count = pages_for(tokens, self.page_size)
        if count > len(self._free):
            return None
        given = [self._free.pop() for _ in range(count)]
        for page in given:
            self._given[page] = 1
        return given

    def release(self, pages: list[int]) -> None:
        """Give pages back.

        Raises:
            ValueError: a page is already free; two requests could get it.
        """
        if len(set(pages)) < len(pages) or not all(self._given[page] for page in pages):
            raise ValueError(f"pages {pages} are given back twice")
        for page in pages:
            self._given[page] = 0
        self._free.extend(reversed(pages))
