"""Combinations of shape, length, dtypes and ranks, each with its own limit of memory. No torch.

The limits are drawn around the predicted need: about half are large enough, and several are only just enough, or just
too small.
"""

import random
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from llmval_runners.engine.shapes import SHAPES, ModelShape
from llmval_runners.long_context.predict.peak_memory import MIB, Parts, predict
from llmval_runners.long_context.setup import Setup

FITS, FITS_NOT, CLOSE = "fits", "does not fit", "too close to say"
# Shares of the needed bytes, and of the least bytes for a limit that is too small. The first of each is at the edge.
ENOUGH = (1.0, 0.99, 0.97, 0.9, 0.8)
TOO_MUCH = (1.01, 1.02, 1.05, 1.15, 1.5)
LEAST_GAP = 32 * MIB  # a limit is too small by at least this much on a GPU, where memory comes in blocks of 2 MiB
_GPU_LENGTHS = (8192, 16384, 24576, 32768, 49152, 65536, 5000, 20000, 34816, 33792)
_CPU_LENGTHS = (60, 128, 200, 384)


def _shape(hidden: int, heads: int, kv_heads: int, head_dim: int, ffn: int, vocab: int) -> ModelShape:
    return replace(
        SHAPES["tiny"], name=f"small-{hidden}x{ffn}-{heads}/{kv_heads}",
        hidden=hidden, heads=heads, kv_heads=kv_heads, head_dim=head_dim, ffn=ffn, vocab=vocab,
    )  # fmt: skip


# Only a few widths, because kernels are compiled for each. Layers, lengths and limits need no compilation.
GPU_SHAPES = (
    _shape(hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256),
    _shape(hidden=2048, heads=16, kv_heads=16, head_dim=128, ffn=8192, vocab=32000),
    _shape(hidden=3072, heads=24, kv_heads=8, head_dim=128, ffn=8192, vocab=128256),
)
_CPU_SHAPES = (
    _shape(hidden=128, heads=8, kv_heads=4, head_dim=16, ffn=384, vocab=2048),
    _shape(hidden=192, heads=6, kv_heads=2, head_dim=32, ffn=256, vocab=512),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One combination, with the bytes that it may use on each rank."""

    index: int
    setup: Setup
    length: int
    free_bytes: int

    @property
    def parts(self) -> Parts:
        return predict(self.setup, self.length)

    @property
    def predicted(self) -> str:
        return verdict(self.setup, self.parts, self.free_bytes)


def verdict(setup: Setup, parts: Parts, free_bytes: int) -> str:
    """FITS if the needed bytes are free, as the runner decides; FITS_NOT if not even the least bytes are.

    Between the two, it depends on how well the allocator packs its blocks. The runner refuses then; this check says
    "too close to say".
    """
    if parts.needed_bytes <= free_bytes:
        return FITS
    return FITS_NOT if least_bytes(setup, parts) > free_bytes else CLOSE


def least_bytes(setup: Setup, parts: Parts) -> int:
    """A lower bound: the peak if blocks were packed without gaps; on a CPU the weights and the cache."""
    return parts.peak_bytes if setup.on_gpu else max(parts.weights_bytes + parts.kv_bytes, parts.load_bytes)


def draw(
    count: int,
    seed: int,
    ranks: int,
    *,
    on_gpu: bool,
    flex: int = 0,
    transformer_engine: bool = False,
    fp8_prefill: bool = False,
) -> list[Case]:
    """Draw `count` different combinations. Their limits are alternately large enough and too small.

    Args:
        count: number of combinations.
        seed: of the draw; the same on every rank.
        ranks: of this run. With several, every other pair of combinations is shared by all ranks, and the others run
            on each rank alone.
        on_gpu: for the GPU engine or the CPU's.
        flex: how many use flex attention, which is compiled again for each length (10 s and more).
        transformer_engine: on a GPU, also draw weights made by Transformer Engine.
        fp8_prefill: on a GPU, also draw FP8 attention for prompts. Without these two, a seed always draws the same.
    """
    rng = random.Random(seed)
    pools = _gpu_setups(ranks, transformer_engine, fp8_prefill) if on_gpu else _cpu_setups(ranks)
    cases: list[Case] = []
    seen: set[tuple[Setup, int]] = set()
    while len(cases) < count:
        index = len(cases)
        setup = rng.choice(pools[index // 2 % len(pools)])
        setup = replace(
            setup, shape=replace(setup.shape, layers=rng.randint(2, 6)), batch=rng.choice((1, 1, 1, 2)),
            backend="flex" if index < flex else "sdpa",
            prefill_attention="bf16" if index < flex else setup.prefill_attention,
        )  # fmt: skip
        length = rng.choice(_GPU_LENGTHS if on_gpu else _CPU_LENGTHS)
        if (setup, length) in seen:
            continue
        seen.add((setup, length))
        turn = index // 2 % len(ENOUGH)
        limit = _limit(setup, length, ENOUGH[turn], TOO_MUCH[turn], fits=index % 2 == 0)
        cases.append(Case(index, setup, length, limit))
    return cases


def _limit(setup: Setup, length: int, enough: float, too_much: float, *, fits: bool) -> int:
    parts = predict(setup, length)
    if fits:
        return -(-int(parts.needed_bytes / enough + 1) // (2 * MIB)) * 2 * MIB if setup.on_gpu else parts.needed_bytes
    least = least_bytes(setup, parts)
    if not setup.on_gpu:
        return int(least / too_much) - 1
    return min(int(least / too_much), least - LEAST_GAP) // (2 * MIB) * 2 * MIB


def _gpu_setups(ranks: int, transformer_engine: bool, fp8_prefill: bool) -> list[list[Setup]]:
    dtypes = ("bfloat16", "fp8")
    kinds: list[dict[str, Any]] = [{"weight_dtype": weights, "kv_dtype": kv} for weights, kv in product(dtypes, dtypes)]
    # Two of each, so that the number of pools is not a multiple of `ENOUGH`'s, and each pool gets limits of every size.
    if transformer_engine:
        kinds += [{"weight_dtype": "fp8", "kv_dtype": kv, "transformer_engine": True} for kv in dtypes]
    if fp8_prefill:
        kinds += [{"weight_dtype": weights, "kv_dtype": "fp8", "prefill_attention": "fp8"} for weights in dtypes]
    return [
        [
            Setup(shape, tensor_parallel=size, chunk=chunk, decode_tokens=8, **kind)
            for shape in GPU_SHAPES
            for chunk in (8192, 4096)
        ]
        for kind in kinds
        for size in sorted({1, ranks})
    ]


def _cpu_setups(ranks: int) -> list[list[Setup]]:
    return [
        [
            Setup(shape, tensor_parallel=size, kv_dtype=kv, chunk=64, page_size=16, decode_tokens=4, on_gpu=False)
            for shape in _CPU_SHAPES
        ]
        for kv in ("bfloat16", "float32")
        for size in sorted({1, ranks})
    ]
