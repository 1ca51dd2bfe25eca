"""What a kernel's or an operator's name says of its work: communication, attention, matrix products, or other.

The first row that matches decides, so a CUTLASS attention kernel is attention. Names come from NCCL, torch's symmetric
memory, cuBLAS (nvjet, xmma, gemvx), cuDNN, FlashAttention, CUTLASS, Triton as Inductor writes it, Transformer Engine,
and this engine's own Triton kernels, whose names are those of their functions.
"""

import re

COMMUNICATION, ATTENTION, GEMM, OTHER = "communication", "attention", "gemm", "other"
GROUPS = (COMMUNICATION, ATTENTION, GEMM, OTHER)

# Functions of paged_decode.py and kernels.py, and of stream_linear.py.
OWN = {"_decode": ATTENTION, "_combine": ATTENTION, "_merge": ATTENTION, "_one": GEMM, "_few": GEMM}

_PARTS: dict[str, tuple[str, ...]] = {
    COMMUNICATION: (
        r"\bnccl",
        r"(?:one|two)_shot_all_reduce",  # torch's symmetric memory, as are those with multimem
        r"multimem_\w*(?:reduce|gather)",
        r"cross_device_reduce",  # vLLM's
        r"nvshmem|userbuffers",
        r"^(?:c10d|_c10d_functional|symm_mem|gloo)\b",  # operators, and gloo's transfers
    ),
    ATTENTION: (
        r"flash_?fwd|flash_?attn|\bflash::",
        r"fmha|native_sdpa|_sdpa_|fused_attn|scaled_dot_product",
        r"flex_?attention|flex_?decoding",
        r"ModIndex",  # flex attention's mask and score functions where it is not fused
        r"paged_?attention|flashinfer.*(?:prefill|decode)",
    ),
    GEMM: (
        r"nvjet|gemm|gemv|xmma|cutlass|splitK|_scaled_mm|mkldnn_linear",
        r"triton_(?:tem_fused_)?(?:scaled_)?(?:add)?b?mm",
        r"^aten::(?:mm|addmm|bmm|baddbmm|matmul|linear)\b",
    ),
}
_MODULE = re.compile(r"^\w+(?:\.\w+)*\.")  # Triton names a kernel by its function, some versions with the module
_RULES = tuple((group, re.compile("|".join(parts), re.IGNORECASE)) for group, parts in _PARTS.items())


def group_of(name: str) -> str:
    """The group of a kernel or operator by its (demangled) name."""
    own = OWN.get(_MODULE.sub("", name))
    if own is not None:
        return own
    return next((group for group, pattern in _RULES if pattern.search(name)), OTHER)
