"""The prompt chunks that cuDNN computes; FlashAttention-2 computes all others. No torch: memory predictions use it."""

CUDNN_MULTIPLE = 1024  # cuDNN compiles a plan for each new length (40 to 800 ms), so only few, long lengths use it
CUDNN_MIN_TOKENS = 2048
FP8_SEGMENT = 4096  # most earlier keys of one FP8 call (see fp8_prefill)


def cudnn_supports(count: int, start: int, page_size: int) -> bool:
    """Whether cuDNN computes a chunk of `count` tokens after `start` cached tokens, in pages of `page_size`."""
    aligned = CUDNN_MULTIPLE % page_size == 0 and count % CUDNN_MULTIPLE == start % CUDNN_MULTIPLE == 0
    return aligned and count >= CUDNN_MIN_TOKENS


def fp8_segments(count: int, start: int) -> list[int]:
    """The tokens of each part of the keys that a chunk attends to in one FP8 call; the last part is the chunk itself.

    `count` and `start`: the tokens of the chunk, and before it.
    """
    rest = start % FP8_SEGMENT
    return [FP8_SEGMENT] * (start // FP8_SEGMENT) + [rest] * bool(rest) + [count]
