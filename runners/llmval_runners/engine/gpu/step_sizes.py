"""The sizes of prompt steps that are captured as CUDA graphs (`prefill_graphs`). No torch."""

from collections.abc import Iterable

GRAPH_SIZES = (64, 128, 256, 384, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
MAX_GRAPH_PROMPT = 2048  # prompt tokens; in a larger step the GPU takes longer than its host's launches


def piece_sizes(decode_sizes: Iterable[int], chunk: int, multiple: int) -> list[int]:
    """Total tokens of the captured steps, ascending. Each step is padded to one of these.

    Args:
        decode_sizes: padded numbers of decodes in a step with prompt tokens; 0 for none.
        chunk: the most prompt tokens of a step.
        multiple: the largest size is rounded up to a multiple of this.
    """
    largest = -(-(min(chunk, MAX_GRAPH_PROMPT) + max(decode_sizes, default=0)) // multiple) * multiple
    return [*(size for size in GRAPH_SIZES if size < largest), largest]


def prompt_sizes(sizes: Iterable[int], chunk: int) -> list[int]:
    """The sizes that occur if steps of at most `chunk` prompt tokens are padded to one of `sizes`."""
    ordered = sorted(sizes)
    return [*(size for size in ordered if size < chunk), *[size for size in ordered if size >= chunk][:1]]


def step_sizes(decode_sizes: Iterable[int], sizes: Iterable[int], chunk: int) -> list[tuple[int, int]]:
    """(decodes, prompt tokens) of each captured step, if attention pads prompts to one of `sizes`."""
    captured = [size for size in prompt_sizes(sizes, chunk) if size <= MAX_GRAPH_PROMPT]
    return [(decodes, size) for decodes in decode_sizes for size in captured]
