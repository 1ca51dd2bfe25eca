"""Combinations of shape, length, types and ranks whose fit is tried, each on a card of its own size. No torch.

The sizes of cards are drawn around what is predicted to be needed, so that about half of them are large enough and
several only just, or only just not.
"""

import random
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from llmval_runners.engine.shapes import SHAPES, ModelShape
from llmval_runners.long_context.predict.peak_memory import MIB, Parts, predict
from llmval_runners.long_context.setup import Setup

FITS, FITS_NOT, CLOSE = "fits", "does not fit", "too close to say"
# Of the needed bytes (above: too small a card, of the least bytes), so the first of each is at the edge.
ENOUGH = (1.0, 0.99, 0.97, 0.9, 0.8)
TOO_MUCH = (1.01, 1.02, 1.05, 1.15, 1.5)
LEAST_GAP = 32 * MIB  # by which a card is too small on a GPU, where tensors are held in blocks of 2 MiB
# Few widths: kernels are compiled for each. Layers, lengths and cards, for which nothing is compiled, are drawn freely.
GPU_WIDTHS = (
    {"hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 14336, "vocab": 128256},
    {"hidden": 2048, "heads": 16, "kv_heads": 16, "head_dim": 128, "ffn": 8192, "vocab": 32000},
    {"hidden": 3072, "heads": 24, "kv_heads": 8, "head_dim": 128, "ffn": 8192, "vocab": 128256},
)
_LENGTHS = (8192, 16384, 24576, 32768, 49152, 65536, 5000, 20000, 34816, 33792)
_CPU_WIDTHS = (
    {"hidden": 128, "heads": 8, "kv_heads": 4, "head_dim": 16, "ffn": 384, "vocab": 2048},
    {"hidden": 192, "heads": 6, "kv_heads": 2, "head_dim": 32, "ffn": 256, "vocab": 512},
)
_CPU_LENGTHS = (60, 128, 200, 384)


@dataclass(frozen=True, slots=True)
class Case:
    """One combination, and the bytes that its card leaves free on each rank."""

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
    """FITS where the needed bytes are free, as the runner decides; FITS_NOT where not even the least are.

    Between the two it depends on how well the allocator packs its blocks: the runner refuses, and says "too close".
    """
    if parts.needed_bytes <= free_bytes:
        return FITS
    return FITS_NOT if least_bytes(setup, parts) > free_bytes else CLOSE


def least_bytes(setup: Setup, parts: Parts) -> int:
    """Without these it cannot run: its peak, in blocks that are packed without a gap; on a CPU weights and cache."""
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
    """`count` different combinations, by turns for a card that is large enough and one that is too small.

    Args:
        count: how many.
        seed: of the draw; the same on every rank.
        ranks: of this run; with several, every other pair of combinations is shared by all of them, else each alone.
        on_gpu: for the GPU engine or the CPU's.
        flex: how many of them use flex attention, which is compiled anew for each length (10 s and more).
        transformer_engine, fp8_prefill: on a GPU, also weights that Transformer Engine makes, and FP8 attention of
            prompts; without them the same as ever is drawn.
    """
    rng = random.Random(seed)
    pools = _gpu_setups(ranks, transformer_engine, fp8_prefill) if on_gpu else _cpu_setups(ranks)
    cases: list[Case] = []
    seen: set[Any] = set()
    while len(cases) < count:
        index = len(cases)
        setup = rng.choice(pools[index // 2 % len(pools)])
        setup = replace(
            setup, shape=replace(setup.shape, layers=rng.randint(2, 6)), batch=rng.choice((1, 1, 1, 2)),
            backend="flex" if index < flex else "sdpa",
            prefill_attention="bf16" if index < flex else setup.prefill_attention,
        )  # fmt: skip
        length = rng.choice(_LENGTHS if on_gpu else _CPU_LENGTHS)
        if (setup, length) in seen:
            continue
        seen.add((setup, length))
        turn = index // 2 % len(ENOUGH)
        cases.append(Case(index, setup, length, _card(setup, length, ENOUGH[turn], TOO_MUCH[turn], index % 2 == 0)))
    return cases


def _card(setup: Setup, length: int, enough: float, too_much: float, fits: bool) -> int:
    parts = predict(setup, length)
    if fits:
        return -(-int(parts.needed_bytes / enough + 1) // (2 * MIB)) * 2 * MIB if setup.on_gpu else parts.needed_bytes
    least = least_bytes(setup, parts)
    if not setup.on_gpu:
        return int(least / too_much) - 1
    return min(int(least / too_much), least - LEAST_GAP) // (2 * MIB) * 2 * MIB


def _gpu_setups(ranks: int, transformer_engine: bool, fp8_prefill: bool) -> list[list[Setup]]:
    types = ("bfloat16", "fp8")
    kinds: list[dict[str, Any]] = [{"weight_dtype": weights, "kv_dtype": kv} for weights, kv in product(types, types)]
    # Two of each, so that the number of pools is no multiple of `ENOUGH`'s and each pool sees cards of every size.
    if transformer_engine:
        kinds += [{"weight_dtype": "fp8", "kv_dtype": kv, "transformer_engine": True} for kv in types]
    if fp8_prefill:
        kinds += [{"weight_dtype": weights, "kv_dtype": "fp8", "prefill_attention": "fp8"} for weights in types]
    return [
        [
            Setup(shape_of(width), tensor_parallel=size, chunk=chunk, decode_tokens=8, **kind)
            for width in GPU_WIDTHS
            for chunk in (8192, 4096)
        ]
        for kind in kinds
        for size in sorted({1, ranks})
    ]


def _cpu_setups(ranks: int) -> list[list[Setup]]:
    return [
        [
            Setup(
                shape_of(width),
                tensor_parallel=size,
                kv_dtype=kv,
                chunk=64,
                page_size=16,
                decode_tokens=4,
                on_gpu=False,
            )
            for width in _CPU_WIDTHS
        ]
        for kv in ("bfloat16", "float32")
        for size in sorted({1, ranks})
    ]


def shape_of(width: dict[str, int]) -> ModelShape:
    return replace(SHAPES["tiny"], name="small-{hidden}x{ffn}-{heads}/{kv_heads}".format(**width), **width)
