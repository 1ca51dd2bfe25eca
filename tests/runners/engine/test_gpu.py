"""The GPU engine compared with a float32 reference, and with itself: graphs and eager mode, chunks, batches."""

import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.engine import Engine, PlanChannel
from llmval_runners.engine.fp8 import Fp8Weight
from llmval_runners.engine.kv_cache import PageAllocator, PagedKVCache, pages_for
from llmval_runners.engine.model import Decoder, Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.request import Request
from llmval_runners.engine.scheduler import Scheduler
from llmval_runners.engine.shapes import ModelShape, RopeScaling
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.engine.weights import build, export, random_weights

from tests.helpers.runners.state_source import from_state_dict
from tests.helpers.runners.te_here import skip_without_transformer_engine

if TYPE_CHECKING:
    from llmval_runners.engine.gpu.executor import GpuExecutor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPE = ModelShape(
    "test", layers=3, hidden=1024, heads=8, kv_heads=2, head_dim=128, ffn=2048, vocab=4096, max_positions=16384,
    rope_scaling=RopeScaling(),
)  # fmt: skip
BF16_BOUND, FP8_BOUND = 0.02, 0.2  # of ‖logits − reference‖ / ‖reference‖
PAGE = 128


@pytest.fixture(scope="module")
def models() -> dict[str, Decoder]:
    """The same weights three times: in bf16 and FP8 on the GPU, and the bf16 values in float32 on the CPU."""
    bf16 = build(SHAPE, random_weights(3, GPU), Parallel(GPU), torch.bfloat16)
    state = {name: tensor.float().cpu() for name, tensor in export(bf16).items()}
    return {
        "bf16": bf16,
        "fp8": build(SHAPE, from_state_dict(state), Parallel(GPU), torch.bfloat16, Fp8Weight.quantize),
        "reference": build(SHAPE, from_state_dict(state), Parallel(CPU), torch.float32, Linear),
    }


def model_of(models: dict[str, Decoder], weights: str) -> Decoder:
    """One of `models`, or `transformer`: the bf16 weights in Transformer Engine's layers, or a skip without it."""
    if weights == "transformer" and weights not in models:
        from llmval_runners.engine.loader import linear_maker

        skip_without_transformer_engine()
        source = from_state_dict(export(models["bf16"]))
        models[weights] = build(SHAPE, source, Parallel(GPU), torch.bfloat16, linear_maker("transformer-engine"))
    return models[weights]


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


def gpu_executor(
    model: Decoder,
    backend: str = "sdpa",
    *,
    pages: int = 40,
    max_batch: int = 8,
    kv: str = "bf16",
    graphs: bool = True,
    temperature: float = 0.0,
    compile_mode: str = "off",
    prompt_chunk: int = 0,
) -> "GpuExecutor":
    from llmval_runners.engine.compiled import CompiledDecoder
    from llmval_runners.engine.gpu.executor import GpuExecutor
    from llmval_runners.engine.loader import gpu_attention

    dtype = torch.bfloat16 if kv == "bf16" else torch.float8_e4m3fn
    cache = PagedKVCache(
        SHAPE, tensor_parallel=1, pages=pages, page_size=PAGE, dtype=dtype, device=GPU, with_padding_page=True
    )
    attention = gpu_attention(backend, cache, model.heads)
    if backend == "flex":
        attention.decode_sizes, attention.prefill_sizes = [1], [512]  # each size takes seconds to compile
    compiled = None if compile_mode == "off" else CompiledDecoder(model, cache, compile_mode)
    return GpuExecutor(
        model, cache, attention, max_batch=max_batch, max_pages=pages, graphs=graphs, temperature=temperature,
        compiled=compiled, prompt_chunk=prompt_chunk,
    )  # fmt: skip


def prefill(
    executor: "GpuExecutor", prefills: list[Prefill], *, decodes: Sequence[Decode] = (), all_logits: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    outputs = executor.prefill(prefills, decodes=decodes, all_logits=all_logits)
    assert outputs is not None
    return outputs


def ids(count: int, seed: int = 1) -> list[int]:
    return random.Random(seed).choices(range(SHAPE.vocab), k=count)


def admit(sizes: list[int], pages: int = 40) -> list[Admit]:
    order = random.Random(5).sample(range(pages), pages)
    counts = [pages_for(size, PAGE) for size in sizes]
    starts = [sum(counts[:index]) for index in range(len(counts))]
    places = zip(starts, counts, strict=True)
    return [Admit(row, order[start : start + count]) for row, (start, count) in enumerate(places)]


def reference(model: Decoder, tokens: list[int]) -> torch.Tensor:
    """Logits of every position, float32, computed by the CPU engine in one piece."""
    cache = PagedKVCache(SHAPE, tensor_parallel=1, pages=1, page_size=len(tokens), dtype=torch.float32, device=CPU)
    executor = CpuExecutor(model, cache, reference_attention("sdpa"), max_batch=1, max_pages=1)
    hidden, _, _ = executor.forward(StepPlan(admits=[Admit(0, [0])], prefills=[Prefill(0, 0, tokens, True)]))
    return model.logits(hidden)


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    difference = found.float().cpu() - expected.float().cpu()
    return float(difference.norm() / expected.float().cpu().norm())


@pytest.mark.parametrize("backend", ["sdpa", "flex"])
@pytest.mark.parametrize(
    ("weights", "kv", "bound", "compile_mode"),
    [
        ("bf16", "bf16", BF16_BOUND, "off"),
        ("fp8", "fp8", FP8_BOUND, "off"),
        ("transformer", "fp8", FP8_BOUND, "off"),
        ("transformer", "bf16", FP8_BOUND, "off"),
        ("bf16", "bf16", BF16_BOUND, "smart"),
        ("bf16", "bf16", BF16_BOUND, "default"),
    ],
)
def test_prompts_and_decodes_equal_the_reference(
    models, backend: str, weights: str, kv: str, bound: float, compile_mode: str
) -> None:
    """Prompts of one token and around a page's end, in one piece and in chunks; then decodes across a page's end."""
    executor = gpu_executor(model_of(models, weights), backend, kv=kv, compile_mode=compile_mode)
    sizes = [1, 127, 128, 129, 300]
    prompts = [ids(size, size) for size in sizes]
    expected = [reference(models["reference"], [*prompt, 7, 9, 11]) for prompt in prompts]
    executor._admit(StepPlan(admits=admit([size + 3 for size in sizes])))
    pieces, _ = prefill(
        executor, [Prefill(row, 0, prompt, True) for row, prompt in enumerate(prompts)], all_logits=True
    )
    for part, size, logits in zip(pieces.split(sizes), sizes, expected, strict=True):
        assert error(part, logits[:size]) < bound
    longest = prompts[4]
    for start, end in ((0, 100), (100, 230), (230, 300)):  # chunks that end within a page
        part, _ = prefill(executor, [Prefill(4, start, longest[start:end], end == 300)], all_logits=True)
        assert error(part, expected[4][start:end]) < bound
    for step, token in enumerate((7, 9, 11)):
        executor.last_token[:5] = token
        logits = executor.decode_logits(StepPlan(decodes=[Decode(row, size + step) for row, size in enumerate(sizes)]))
        for row, size in enumerate(sizes):
            assert error(logits[row], expected[row][size + step]) < bound
        executor.last_token[3] = token
        # Another batch size uses other kernels.
        alone = executor.decode_logits(StepPlan(decodes=[Decode(3, sizes[3] + step)]))
        assert error(alone[0], expected[3][sizes[3] + step]) < bound
    if executor.compiled is not None:
        assert executor.compiled.as_json()["graphs_after_start"] == 0


@pytest.mark.parametrize("weights", ["bf16", "fp8", "transformer"])
def test_long_chunks_by_cudnn_equal_one_piece_by_flash(models, weights: str) -> None:
    executor = gpu_executor(model_of(models, weights), pages=60)
    prompt = ids(6144)
    executor._admit(StepPlan(admits=admit([6145], 60)))
    parts = [Prefill(0, start, prompt[start : start + 2048], True) for start in (0, 2048, 4096)]
    chunks = [prefill(executor, [part], all_logits=True)[0] for part in parts]
    whole, _ = prefill(
        executor, [Prefill(0, 0, [*prompt, 5], True)], all_logits=True
    )  # not a multiple of 1024: FlashAttention
    bound = BF16_BOUND if weights == "bf16" else FP8_BOUND
    assert error(torch.cat(chunks), whole[:-1]) < bound
    executor._admit(StepPlan(admits=admit([4096, 2048], 60)))
    first, second = Prefill(0, 0, prompt[:4096], True), Prefill(1, 0, prompt[:2048], True)
    both, _ = prefill(executor, [first, second], all_logits=True)  # both fresh, of two lengths: nothing to merge
    assert error(both, torch.cat((whole[:4096], whole[:2048]))) < bound


@pytest.mark.parametrize(
    ("weights", "compile_mode", "temperature"),
    [
        ("bf16", "off", 0.0),
        ("bf16", "off", 0.8),
        ("transformer", "off", 0.0),
        ("bf16", "smart", 0.0),
        ("bf16", "default", 0.0),
    ],
)
def test_a_decode_graph_equals_eager_mode(models, weights: str, compile_mode: str, temperature: float) -> None:
    sizes = [300, 5, 128]
    tokens = []
    for graphs in (True, False):
        model = model_of(models, weights)
        executor = gpu_executor(model, graphs=graphs, temperature=temperature, compile_mode=compile_mode)
        if executor.generator is not None:
            executor.generator.manual_seed(11)
        prefills = [Prefill(row, 0, ids(size), True) for row, size in enumerate(sizes)]
        plans = [StepPlan(admits=admit([size + 9 for size in sizes]), prefills=prefills)]
        for step in range(8):
            plans += [StepPlan(decodes=[Decode(row, size + step) for row, size in enumerate(sizes)])]
        got = [list(executor.execute(plan)) for plan in plans]
        logits = executor.decode_logits(StepPlan(decodes=[Decode(row, size + 8) for row, size in enumerate(sizes)]))
        tokens.append((got, logits.cpu()))
    assert tokens[0][0] == tokens[1][0]
    assert torch.equal(tokens[0][1], tokens[1][1])


@pytest.mark.parametrize(
    ("weights", "backend"),
    [("bf16", "sdpa"), ("fp8", "sdpa"), ("transformer", "sdpa"), ("bf16", "flex"), ("transformer", "flex")],
)
def test_captured_prompt_steps_equal_eager_ones(models, weights: str, backend: str, monkeypatch) -> None:
    # With flex attention, enough rows for a decode batch that runs in one pass with prompts.
    executor = gpu_executor(
        model_of(models, weights), backend, prompt_chunk=1024, max_batch=64 if backend == "flex" else 8
    )
    executor._admit(StepPlan(admits=admit([1030, 400, 600])))
    prompt = ids(400)
    steps: list[tuple[list[Prefill], list[Decode]]] = [
        ([Prefill(0, 0, ids(1024), True)], []),  # without padding, by cuDNN
        ([Prefill(1, 0, prompt[:130], False)], []),
        ([Prefill(1, 130, prompt[130:], True), Prefill(2, 0, ids(77), True)], []),
    ]
    steps.append(([Prefill(2, 77, ids(512), True)], [Decode(0, 1024)] * (2 if backend == "flex" else 1)))
    ran: list[int] = []

    def run() -> list[torch.Tensor]:
        executor.last_token.fill_(7)
        found = [
            prefill(executor, prefills, decodes=decodes, all_logits=True)[0].clone() for prefills, decodes in steps
        ]
        return [*found, executor.cache.pool[:, :, :, :-PAGE].clone().view(torch.uint8)]

    graphs = executor._prefill_graphs
    assert graphs is not None
    replayed = graphs.forward

    def counted(tokens, *rest):
        ran.append(len(tokens.ids))
        return replayed(tokens, *rest)

    def eager(tokens, num_decodes, prompts, output_indices):
        attend = executor._attend(tokens, num_decodes, prompts)
        return executor.decoder.forward(tokens, executor.page_table, attend, output_indices)

    monkeypatch.setattr(graphs, "forward", counted)
    captured = run()
    assert ran == ([512, 512, 576] if backend == "flex" else [1024, 256, 384, 768])
    monkeypatch.setattr(graphs, "forward", eager)
    for one, two in zip(captured, run(), strict=True):
        assert torch.equal(one, two)


def serve(
    executor: "GpuExecutor", requests: list[Request], pages: int = 40, chunk: int = 256, together: int = 8
) -> list[list[int]]:
    scheduler = Scheduler(SHAPE, PageAllocator(pages, PAGE), max_batch=together, chunk=chunk, element_bytes=2)
    engine = Engine(PlanChannel(executor, max_batch=together), scheduler)
    for request in requests:
        engine.submit(request)
    while not engine.idle:
        for request, token, ended in engine.step():
            request.tokens.append(token)
            assert ended == (len(request.tokens) == request.output_tokens)
    assert scheduler.allocator.used == 0
    return [request.tokens for request in requests]


SIZES = [(1, 9), (128, 8), (127, 3), (129, 1), (700, 12), (256, 130), (2, 2)]


def test_batch_composition_keeps_greedy_tokens_within_one_batch_size(models) -> None:
    """With one decode batch size and each prompt in its own pass, a row's arithmetic does not depend on the others."""
    executor = gpu_executor(models["bf16"])
    executor._sizes = [8]

    def requests() -> list[Request]:
        return [Request(index, ids(prompt, index), output) for index, (prompt, output) in enumerate(SIZES)]

    alone = [serve(executor, [request], chunk=1024, together=8)[0] for request in requests()]
    together = requests()
    scheduler = Scheduler(SHAPE, PageAllocator(40, PAGE), max_batch=8, chunk=1024, element_bytes=2)
    engine = Engine(PlanChannel(executor, max_batch=8), scheduler)
    for request in together:
        engine.submit(request)
        for done, token, _ in engine.step():  # one prompt a step, while the others decode
            done.tokens.append(token)
    while not engine.idle:
        for done, token, _ in engine.step():
            done.tokens.append(token)
    assert [request.tokens for request in together] == alone


def test_a_pass_of_decodes_and_prompts_equals_the_reference(models) -> None:
    """A step of many sequences (`MERGE_FROM`) runs decodes and prompt chunks in one pass."""
    executor = gpu_executor(models["bf16"])
    sizes, prompt = [300, 128], ids(200, 77)
    plan = StepPlan(admits=admit([301, 129, 201]))
    executor._admit(plan)
    starting = [Prefill(row, 0, ids(size, size), False) for row, size in enumerate(sizes)]
    executor.prefill([*starting, Prefill(2, 0, prompt[:90], False)])
    executor.last_token[:2] = 7
    decodes = [Decode(0, 300), Decode(1, 128)]
    logits, rows = prefill(executor, [Prefill(2, 90, prompt[90:], True)], decodes=decodes)
    assert rows.tolist() == [0, 1, 2]
    expected_logits = [reference(models["reference"], [*ids(size, size), 7])[-1] for size in sizes]
    expected_logits.append(reference(models["reference"], prompt)[-1])
    for found, expected in zip(logits, expected_logits, strict=True):
        assert error(found, expected) < BF16_BOUND


def test_a_full_cache_and_rows_that_wait(models) -> None:
    executor = gpu_executor(models["bf16"], pages=7, max_batch=3)
    requests = [Request(0, ids(700), 197), Request(1, ids(20), 100), Request(2, ids(1), 128), Request(3, ids(256), 2)]
    found = serve(executor, requests, pages=7, together=3)  # the first takes all 7 pages to the last slot
    assert [len(tokens) for tokens in found] == [197, 100, 128, 2]


@pytest.mark.parametrize("rows", [1, 2, 16, 17, 64, 65, 300])
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_products_of_any_number_of_rows(models, rows: int, fp8: bool, split: bool) -> None:
    from llmval_runners.engine.gpu.decoder import FusedDecoder
    from llmval_runners.engine.kernels.fused_ops import linear_input

    model = models["fp8" if fp8 else "bf16"]
    cache = PagedKVCache(SHAPE, tensor_parallel=1, pages=1, page_size=PAGE, dtype=torch.bfloat16, device=GPU)
    decoder = FusedDecoder(model, cache)
    x = torch.randn(rows, SHAPE.ffn, device=GPU, dtype=torch.bfloat16)
    layer: Any = model.layers[1].down
    given = linear_input(x, fp8)
    assert (given.scales is not None) == fp8
    values = given.values.double() * (1 if given.scales is None else given.scales[:, None])
    weight = layer.weight.double() * (layer.scales[:, None] if fp8 else 1)
    found = decoder.linear(layer, given, split=split).double().sum(0)
    expected = values @ weight.T
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < 6e-3


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("splits", [1, 4])
def test_the_fused_decode_kernel_equals_two_separate_kernels(fp8: bool, parts: int, splits: int) -> None:
    """A first token, tokens around the end of a tile and of a page, and padding rows."""
    from llmval_runners.engine.kernels.fused_ops import rope_and_cache
    from llmval_runners.engine.kernels.paged_decode import paged_decode
    from llmval_runners.engine.model import rope_frequencies

    torch.manual_seed(1)
    positions = torch.tensor([0, 1, 31, 32, 63, 127, 128, 300, 0, 0], dtype=torch.int32, device=GPU)
    rows = torch.tensor([*range(8), 8, 8], dtype=torch.int32, device=GPU)
    table = torch.full((9, 3), 24, dtype=torch.int32, device=GPU)
    table[:8] = torch.randperm(24, dtype=torch.int32, device=GPU).view(8, 3)
    pools = torch.randn(2, SHAPE.kv_heads, 25 * PAGE, SHAPE.head_dim, device=GPU)
    pools = pools.to(torch.float8_e4m3fn if fp8 else torch.bfloat16)
    width = (SHAPE.heads + 2 * SHAPE.kv_heads) * SHAPE.head_dim
    projected = torch.randn(parts, 10, width, device=GPU).to(torch.float32 if parts > 1 else torch.bfloat16)
    frequencies = rope_frequencies(SHAPE).to(GPU)
    one, two = pools.clone(), pools.clone()
    heads = SHAPE.heads
    qkv = rope_and_cache(
        projected.clone(), frequencies, rows, positions, table, one[0], one[1], heads=heads, page_size=PAGE,
        dtype=torch.bfloat16,
    )  # fmt: skip
    separate = paged_decode(
        qkv, one[0], one[1], rows, positions, table, heads=heads, page_size=PAGE, splits=splits
    )  # fmt: skip
    fused = paged_decode(
        projected, two[0], two[1], rows, positions, table, heads=heads, page_size=PAGE, splits=splits,
        frequencies=frequencies,
    )  # fmt: skip
    assert error(fused[:8], separate[:8]) < BF16_BOUND
    one, two, before = (pool[:, :, : 24 * PAGE].float() for pool in (one, two, pools))  # without the padding page
    assert error(two, one) < 0.005 and error(two, before) > 0.05


@pytest.mark.skipif(importlib.util.find_spec("cudnn") is None, reason="nvidia-cudnn-frontend is not installed")
def test_fp8_attention_in_segments_equals_float32(monkeypatch) -> None:
    """The second chunk of a prompt: two whole segments, a shorter one, and itself."""
    from llmval_runners.engine.attention import cudnn_sizes
    from llmval_runners.engine.attention.backend import Prompts, TokenSpan
    from llmval_runners.engine.attention.fp8_prefill import Fp8PrefillAttention

    monkeypatch.setattr(cudnn_sizes, "FP8_SEGMENT", 2048)
    torch.manual_seed(2)
    start, count = 5120, 2048
    pages = (start + count) // PAGE
    kind = torch.float8_e4m3fn
    cache = PagedKVCache(SHAPE, tensor_parallel=1, pages=pages, page_size=PAGE, dtype=kind, device=GPU)
    order = torch.randperm(pages).tolist()
    k, v = (torch.randn(SHAPE.kv_heads, start + count, SHAPE.head_dim, device=GPU).to(kind) for _ in range(2))
    for pool, tokens in zip(cache.layer(0), (k, v), strict=True):
        for place, page in enumerate(order):
            pool[:, page * PAGE : (page + 1) * PAGE] = tokens[:, place * PAGE : (place + 1) * PAGE]
    qkv = torch.randn(count, SHAPE.heads + 2 * SHAPE.kv_heads, SHAPE.head_dim, device=GPU).bfloat16()
    attention = Fp8PrefillAttention(cache, SHAPE.heads)
    chunk: Any = None  # the tokens and the page table are those of the spans
    found = attention.prefill(chunk, chunk, Prompts([TokenSpan(0, 0, count, start)], [order]))(qkv, *cache.layer(0))
    q = qkv[:, : SHAPE.heads].float().transpose(0, 1)
    k, v = (x.float().repeat_interleave(SHAPE.heads // SHAPE.kv_heads, 0) for x in (k, v))
    scores = q @ k.transpose(1, 2) * SHAPE.head_dim**-0.5
    hidden = torch.arange(start + count, device=GPU) > start + torch.arange(count, device=GPU)[:, None]
    expected = (scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v).transpose(0, 1).flatten(1)
    assert error(found, expected) < 0.08, "E4M3 has 3 bits of mantissa: each value is off by 2.6 % on average"


def test_transformer_engine_layers_take_one_byte_per_weight(models) -> None:
    layer: Any = model_of(models, "transformer").layers[0].gate_up
    assert (layer.weight.dtype, layer.weight.element_size()) == (torch.float8_e4m3fn, 1)
    assert layer.inner.weight._transpose is None  # it would be a copy for training
    dequantised = layer.weight.float() * layer.scales
    assert error(dequantised, models["bf16"].layers[0].gate_up.weight) < 0.04  # rounding to 3 bits of mantissa


@pytest.mark.parametrize("flags", ["--fp8-mode transformer-engine --kv-dtype fp8", "--compile-mode smart"])
def test_a_short_load_test_reports_what_ran(flags: str, tmp_path: Path) -> None:
    if "transformer" in flags:
        skip_without_transformer_engine()
    out = tmp_path / "result.json"
    script = Path(__file__).parents[3] / "runners" / "inference_server_load_test.py"
    sizes = "--layers 2 --prompt-len 70 --output-len 9 --kv-tokens 16384 --max-batch 8 --duration 2 --target-qps 4"
    subprocess.run([sys.executable, script, *sizes.split(), *flags.split(), "--output-json", out], check=True)
    result = json.loads(out.read_text())
    assert result["completed"] == result["num_prompts"] > 0
    identity = result["llmval"]["identity"]
    if "transformer" in flags:
        assert identity["fp8_mode"] == "transformer-engine"
        assert "Float8CurrentScaling" in identity["fp8_kernel"]
    else:
        assert identity["compile_mode"] == "smart"
        assert identity["compile"]["graphs_after_start"] == 0
