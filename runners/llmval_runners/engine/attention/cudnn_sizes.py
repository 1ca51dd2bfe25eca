"""The prompt chunks that cuDNN computes; FlashAttention-2 computes all others. No torch: memory predictions use it."""

CUDNN_MULTIPLE = 1024  # cuDNN compiles a plan for each new length (40 to 800 ms), so only few, long lengths use it
CUDNN_MIN_TOKENS = 2048


def cudnn_supports(count: int, start: int, page_size: int) -> bool:
    """Whether cuDNN computes a chunk of `count` tokens after `start` cached tokens, in pages of `page_size`."""
    aligned = CUDNN_MULTIPLE % page_size == 0 and count % CUDNN_MULTIPLE == start % CUDNN_MULTIPLE == 0
    return aligned and count >= CUDNN_MIN_TOKENS
