"""How many tokens the steps have that are captured (`layer_graphs`). No torch."""

from collections.abc import Iterable

SIZES = (64, 128, 256, 384, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
MOST = 2048  # prompt tokens of a step; above, a GPU is busy for longer than its host


def piece_sizes(leads: Iterable[int], chunk: int, multiple: int) -> list[int]:
    """Tokens of whole steps, in order, one of which each step is filled up to.

    Args:
        leads: sizes to which the decodes beside a prompt are filled up, 0 for none.
        chunk: the most prompt tokens of a step.
        multiple: to which the largest is rounded up.
    """
    largest = -(-(min(chunk, MOST) + max(leads, default=0)) // multiple) * multiple
    return [*(size for size in SIZES if size < largest), largest]


def chunk_sizes(chunks: Iterable[int], chunk: int) -> list[int]:
    """Those of `chunks` that steps of at most `chunk` prompt tokens are filled up to."""
    ordered = sorted(chunks)
    return [*(size for size in ordered if size < chunk), *[size for size in ordered if size >= chunk][:1]]


def step_sizes(leads: Iterable[int], chunks: Iterable[int], chunk: int) -> list[tuple[int, int]]:
    """(decodes, prompt tokens) of each step, where attention fills prompts up to one of `chunks`."""
    sizes = [size for size in chunk_sizes(chunks, chunk) if size <= MOST]
    return [(lead, size) for lead in leads for size in sizes]
