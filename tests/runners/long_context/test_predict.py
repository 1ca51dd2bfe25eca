"""The prediction against numbers computed by hand, and properties that hold for every shape, length and type."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.long_context.predict.activations import activation_bytes
from llmval_runners.long_context.predict.advice import enough_ranks, fits, refusal, remedies
from llmval_runners.long_context.predict.peak_memory import (
    kv_bytes,
    kv_bytes_per_token,
    longest_fit,
    predict,
    weights_bytes,
)
from llmval_runners.long_context.rates import decode_bytes, prefill_flops
from llmval_runners.long_context.setup import GIB, Setup

K = 1024


@pytest.mark.parametrize(
    ("shape", "tokens", "bf16", "fp8"),
    [
        ("llama-3.1-8b", 64 * K, 8, 4),
        ("llama-3.1-8b", 128 * K, 16, 8),
        ("llama40b", 64 * K, 12, 6),
        ("llama40b", 128 * K, 24, 12),
        ("llama-3.1-70b", 64 * K, 20, 10),
        ("llama-3.1-70b", 128 * K, 40, 20),
    ],
)
def test_gib_of_a_sequence(shape, tokens, bf16, fp8):
    assert SHAPES[shape].kv_bytes_per_token(2) * tokens == bf16 * GIB
    assert SHAPES[shape].kv_bytes_per_token(1) * tokens == fp8 * GIB
    for ranks, share in ((1, 1), (2, 2), (4, 4), (8, 8), (16, 8)):  # 8 KV heads: a ninth GPU holds one of them again
        setup = Setup(SHAPES[shape], tensor_parallel=ranks, on_gpu=False, decode_tokens=0)
        assert kv_bytes(setup, tokens) == bf16 * GIB // share
        assert kv_bytes(replace(setup, kv_dtype="fp8"), tokens) == fp8 * GIB // share


def test_weights_by_hand():
    # 32 · (4096·6144 + 4096·4096 + 4096·28672 + 14336·4096 + 2·4096) + 2 · 128256·4096 + 4096 elements, 64 float32
    assert weights_bytes(Setup(SHAPES["llama-3.1-8b"])) == 2 * 8_030_261_248 + 64 * 4
    fp8 = Setup(SHAPES["llama-3.1-8b"], weight_dtype="fp8")
    matrices, scales = 32 * 218_103_808, 32 * 4 * (6144 + 4096 + 28672 + 4096)
    rest = 2 * (8_030_261_248 - matrices) + 64 * 4
    assert weights_bytes(fp8) == matrices + scales + rest
    four = Setup(SHAPES["llama-3.1-8b"], tensor_parallel=4)
    table, norms = 128256 * 4096, 65 * 4096
    assert weights_bytes(four) == 2 * (matrices // 4 + table + table // 4 + norms) + 64 * 4
    tied = Setup(replace(SHAPES["tiny"], tied_embeddings=True))
    assert weights_bytes(Setup(SHAPES["tiny"])) - weights_bytes(tied) == 2 * 2048 * 128


def test_activations_by_hand():
    """At the MLP's activation: stream, update, QKV, attention's output and product, gate and up, and the result."""
    wide = Setup(SHAPES["llama-3.1-8b"])
    assert activation_bytes(wide, 16 * K) == 8 * K * 2 * (3 * 4096 + 6144 + 4096 + 28672 + 14336)
    fp8 = replace(wide, weight_dtype="fp8", kv_dtype="fp8")
    assert activation_bytes(fp8, 16 * K) == 8 * K * (2 * (3 * 4096 + 6144 + 4096 + 28672) + 14336)
    te = replace(fp8, transformer_engine=True)
    assert activation_bytes(te, 16 * K) == activation_bytes(wide, 16 * K)
    gelu = replace(wide, shape=replace(wide.shape, activation="gelu_pytorch_tanh"))
    assert activation_bytes(gelu, 16 * K) == activation_bytes(wide, 16 * K) + 8 * K * 2 * 14336
    # Attention at 1 M tokens: two copies of the earlier keys and values, beside the chunk's results.
    start = 1016 * K
    results = 2 * 8 * K * 2 * 4096 + 4 * 8 * K * 32
    long = 8 * K * 2 * (2 * 4096 + 6144) + 2 * results - 8 * K * 2 * 4096 + 2 * start * 1024 * 2
    assert activation_bytes(wide, 1024 * K) == long


def test_flops_and_bytes_by_hand():
    setup = Setup(SHAPES["llama-3.1-8b"], decode_tokens=0)
    matrices, head = 32 * 218_103_808, 128256 * 4096
    assert prefill_flops(setup, 2) == 2 * matrices * 2 + 2 * head + 4 * 32 * 32 * 128 * 3  # keys seen: 1 + 2
    assert decode_bytes(setup, 10) == 2 * (matrices + head) + 10 * 2 * 32 * 8 * 128 * 2
    fp8 = replace(setup, weight_dtype="fp8", kv_dtype="fp8", tensor_parallel=2, batch=3)
    assert decode_bytes(fp8, 10) == matrices / 2 + 2 * head / 2 + 3 * 10 * 2 * 32 * 4 * 128


def test_transformer_engine_brings_its_own_workspace():
    """Only the head uses the streaming kernels or PyTorch; the layers' products never do, whatever their widths."""
    native = Setup(SHAPES["llama-3.1-8b"], weight_dtype="fp8", kv_dtype="fp8")
    odd = replace(native, shape=replace(native.shape, ffn=native.shape.ffn + 512))  # no multiple of 1,024
    narrow = replace(native, shape=replace(native.shape, hidden=3072))
    many, on_cpu = replace(native, batch=65), replace(odd, on_gpu=False)
    for setup, engine, te in ((native, 1, 1), (odd, 2, 1), (narrow, 2, 3), (many, 2, 3), (on_cpu, 0, 0)):
        assert predict(setup, K).workspace_bytes == engine * 2**25
        assert predict(replace(setup, transformer_engine=True), K).workspace_bytes == te * 2**25


setups = st.builds(
    Setup,
    st.sampled_from(list(SHAPES.values())),
    tensor_parallel=st.sampled_from((1, 2, 4)),
    weight_dtype=st.sampled_from(("bfloat16", "fp8")),
    kv_dtype=st.sampled_from(("bfloat16", "fp8")),
    batch=st.integers(1, 8),
    chunk=st.sampled_from((1024, 2048, 8192)),
    on_gpu=st.booleans(),
    backend=st.sampled_from(("sdpa", "flex")),
)
lengths = st.integers(1, 512).map(lambda count: count * K)


@given(setups, lengths, lengths)
def test_memory_grows_with_length_and_batch(setup, one, other):
    short, long = sorted((one, other))
    whole = short // setup.chunk * setup.chunk  # the rest of a prompt can need more than a whole chunk would
    assert not whole or predict(setup, whole).total_bytes <= predict(setup, long).total_bytes
    assert predict(setup, short).total_bytes < predict(replace(setup, batch=setup.batch + 1), short).total_bytes


@given(setups, lengths)
def test_fp8_halves_the_cache_and_ranks_divide_it(setup, length):
    wide = replace(setup, kv_dtype="bfloat16")
    assert kv_bytes(wide, length) == 2 * kv_bytes(replace(setup, kv_dtype="fp8"), length)
    alone, kv_heads = replace(setup, tensor_parallel=1), setup.shape.kv_heads
    for ranks in (1, 2, 4, 8, 16):
        shared = replace(setup, tensor_parallel=ranks)
        assert kv_bytes(shared, length) * min(ranks, kv_heads) == kv_bytes(alone, length)
    parts = predict(setup, length)
    assert parts.needed_bytes > parts.total_bytes > parts.weights_bytes + parts.kv_bytes


@given(setups, st.integers(0, 150 * GIB))
def test_the_longest_fits_and_the_next_does_not(setup, free):
    longest = longest_fit(setup, free, most=2**21)
    unit = 1024 if setup.on_gpu else setup.page_size
    if longest:
        assert fits(setup, longest, free)
    for more in {*range(1, 9), setup.chunk // unit}:
        assert longest + more * unit > 2**21 or not fits(setup, longest + more * unit, free)


@given(setups, lengths, st.integers(1 * GIB, 150 * GIB))
def test_the_advice_fits(setup, length, free):
    if fits(setup, length, free):
        return
    ranks = enough_ranks(setup, length, free)
    if ranks is not None:
        assert ranks > setup.tensor_parallel
        assert fits(replace(setup, tensor_parallel=ranks), length, free)
    ways = "; ".join(remedies(setup, length, free))
    if "--kv-dtype fp8 --fp8-mode native" in ways:
        assert fits(replace(setup, kv_dtype="fp8", weight_dtype="fp8"), length, free)
    elif "--kv-dtype fp8" in ways:
        assert fits(replace(setup, kv_dtype="fp8"), length, free)


def test_the_refusal_names_bytes_and_ways():
    # 70B in bf16 with 128K tokens: 131.4 GiB of weights and 40 of cache; FP8 brings it to 66 and 20.
    setup = Setup(SHAPES["llama-3.1-70b"])
    text = refusal(setup, 128 * K, 139 * GIB)
    assert "weights 131.4 GiB, KV cache 40.1 GiB" in text
    assert "--kv-dtype fp8 " not in text.replace("--kv-dtype fp8 --fp8-mode native", ""), "it alone does not fit"
    assert "pass --fp8-mode native" in text
    assert "pass --tensor-parallel-gpus 2" in text
    assert kv_bytes_per_token(setup) == 320 * K
    assert remedies(setup, 128 * K, GIB)[0].startswith("no shorter context fits")


@pytest.mark.parametrize(
    ("dtype", "length", "peak"),
    [
        ("fp8", 16 * K, 11_168_591_360),
        ("fp8", 32 * K, 12_242_342_400),
        ("fp8", 64 * K, 14_389_844_480),
        ("bfloat16", 32 * K, 21_496_779_264),
        ("bfloat16", 64 * K, 25_791_764_992),
    ],
)
def test_peaks_measured_on_an_h200(dtype, length, peak):
    """8B shape, one GPU, batch 1, chunks of 8,192, torch 2.11: `max_memory_allocated` over prefill and decode."""
    parts = predict(Setup(SHAPES["llama-3.1-8b"], weight_dtype=dtype, kv_dtype=dtype), length)
    assert parts.total_bytes == pytest.approx(peak, abs=2**20)
