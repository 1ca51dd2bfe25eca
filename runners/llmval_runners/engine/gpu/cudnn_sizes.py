"""Which chunks of prompts cuDNN computes; all others are FlashAttention-2's. No torch: predictions ask it too."""

CUDNN_MULTIPLE = 1024  # cuDNN compiles a plan for each new length (40 to 800 ms): only for few and worthwhile lengths
CUDNN_LEAST = 2048


def cudnn_takes(count: int, start: int, page_size: int) -> bool:
    """Whether a chunk of `count` tokens behind `start` others, in pages of `page_size`, is computed by cuDNN."""
    whole = CUDNN_MULTIPLE % page_size == 0 and count % CUDNN_MULTIPLE == start % CUDNN_MULTIPLE == 0
    return whole and count >= CUDNN_LEAST
