"""Groups kernels and operators by their names: communication, attention, matrix products, or other.

The first matching row decides, so a CUTLASS attention kernel counts as attention. The names come from NCCL, torch's
symmetric memory, cuBLAS (nvjet, xmma, gemvx), cuDNN, FlashAttention, CUTLASS, Triton code by Inductor, Transformer
Engine, and this engine's own Triton kernels, which are named after their functions.
"""

import re

COMMUNICATION, ATTENTION, GEMM, OTHER = "communication", "attention", "gemm", "other"
GROUPS = (COMMUNICATION, ATTENTION, GEMM, OTHER)

# Kernels in paged_decode.py and fused_ops.py, and in small_batch_linear.py.
ENGINE_KERNELS = {"_decode": ATTENTION, "_combine": ATTENTION, "_merge": ATTENTION, "_one": GEMM, "_few": GEMM}

_PATTERNS: dict[str, tuple[str, ...]] = {
    COMMUNICATION: (
        r"\bnccl",
        r"(?:one|two)_shot_all_reduce",  # torch's symmetric memory, as are those with multimem
        r"multimem_\w*(?:reduce|gather)",
        r"cross_device_reduce",  # vLLM's
        r"nvshmem|userbuffers",
        r"^(?:c10d|_c10d_functional|symm_mem|gloo)\b",  # operators, and transfers of gloo
    ),
    ATTENTION: (
        r"flash_?fwd|flash_?attn|\bflash::",
        r"fmha|native_sdpa|_sdpa_|fused_attn|scaled_dot_product",
        r"flex_?attention|flex_?decoding",
        r"ModIndex",  # mask and score functions of flex attention, if it is not fused
        r"paged_?attention|flashinfer.*(?:prefill|decode)",
    ),
    GEMM: (
        r"nvjet|gemm|gemv|xmma|cutlass|splitK|_scaled_mm|mkldnn_linear",
        r"triton_(?:tem_fused_)?(?:scaled_)?(?:add)?b?mm",
        r"^aten::(?:mm|addmm|bmm|baddbmm|matmul|linear)\b",
    ),
}
_MODULE = re.compile(r"^\w+(?:\.\w+)*\.")  # Triton names a kernel after its function; some versions add the module
_RULES = tuple((group, re.compile("|".join(parts), re.IGNORECASE)) for group, parts in _PATTERNS.items())


def group_of(name: str) -> str:
    """The group of a kernel or operator, by its demangled name."""
    own = ENGINE_KERNELS.get(_MODULE.sub("", name))
    if own is not None:
        return own
    return next((group for group, pattern in _RULES if pattern.search(name)), OTHER)
