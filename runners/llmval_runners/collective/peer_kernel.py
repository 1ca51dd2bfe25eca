"""A Triton kernel that copies between two GPUs: loads and stores of the SMs, where a copy engine is not asked."""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no types
def copy_kernel(source, target, elements, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]  # the arguments are Triton's
    """target[:elements] = source[:elements], of 4-byte elements; each program takes every n-th block."""
    step = tl.num_programs(0).to(tl.int64) * BLOCK
    start = tl.program_id(0).to(tl.int64) * BLOCK
    while start < elements:
        offsets = start + tl.arange(0, BLOCK)
        inside = offsets < elements
        tl.store(target + offsets, tl.load(source + offsets, mask=inside), mask=inside)
        start += step
