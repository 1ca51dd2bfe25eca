"""How many tokens the steps have whose layers are captured (`layer_graphs`). No torch."""

from collections.abc import Iterable

SIZES = (64, 128, 256, 384, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
MOST = 2048  # prompt tokens of a step; above, a GPU is busy for longer than its host


def sizes_for(leads: Iterable[int], chunks: list[int] | None, chunk: int, multiple: int) -> list[int]:
    """Tokens of the steps that are worth a graph, in order.

    Args:
        leads: sizes to which the decodes beside a prompt are filled up, 0 for none.
        chunks: sizes to which prompt tokens are filled up; None: the whole step is, to one of `SIZES`.
        chunk: the most prompt tokens of a step.
        multiple: to which the largest is rounded up.
    """
    most = min(chunk, MOST)
    if chunks is not None:
        return sorted({lead + size for lead in leads for size in chunks if size <= most})
    largest = -(-(most + max(leads, default=0)) // multiple) * multiple
    return [*(size for size in SIZES if size < largest), largest]
