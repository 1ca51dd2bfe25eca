"""The GPU engine against a float32 reference, and against itself: by graph or eagerly, in chunks, in any batch."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
from llmval_runners.engine.weights import build, export, from_state_dict, random_weights

from tests.helpers.te_here import skip_without_transformer_engine

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
    """The same weights three times: bf16 and FP8 on the GPU, and what bf16 holds, in float32, on the CPU."""
    bf16 = build(SHAPE, random_weights(3, GPU), Parallel(GPU), torch.bfloat16)
    state = {name: tensor.float().cpu() for name, tensor in export(bf16).items()}
    return {
        "bf16": bf16,
        "fp8": build(SHAPE, from_state_dict(state), Parallel(GPU), torch.bfloat16, Fp8Weight.quantize),
        "reference": build(SHAPE, from_state_dict(state), Parallel(CPU), torch.float32, Linear),
    }


def model_of(models: dict[str, Decoder], weights: str) -> Decoder:
    """One of `models`, or `transformer`: bf16's weights in Transformer Engine's layers, where it is installed."""
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


def gpu_runner(
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
):
    from llmval_runners.engine.compiled import CompiledDecoder
    from llmval_runners.engine.gpu.executor import GpuExecutor
    from llmval_runners.engine.loader import gpu_attention

    dtype = torch.bfloat16 if kv == "bf16" else torch.float8_e4m3fn
    cache = PagedKVCache(
        SHAPE, tensor_parallel=1, pages=pages, page_size=PAGE, dtype=dtype, device=GPU, with_padding_page=True
    )
    attention = gpu_attention(backend, cache, model.heads)
    if backend == "flex":
        attention.decode_sizes, attention.prefill_sizes = [1], [512]  # a size costs seconds of compiling
    compiled = None if compile_mode == "off" else CompiledDecoder(model, cache, compile_mode)
    return GpuExecutor(
        model, cache, attention, max_batch=max_batch, max_pages=pages, graphs=graphs, temperature=temperature,
        compiled=compiled, prompt_chunk=prompt_chunk,
    )  # fmt: skip


def ids(count: int, seed: int = 1) -> list[int]:
    return random.Random(seed).choices(range(SHAPE.vocab), k=count)


def admit(sizes: list[int], pages: int = 40) -> list[Admit]:
    order = random.Random(5).sample(range(pages), pages)
    counts = [pages_for(size, PAGE) for size in sizes]
    starts = [sum(counts[:index]) for index in range(len(counts))]
    places = zip(starts, counts, strict=True)
    return [Admit(row, order[start : start + count]) for row, (start, count) in enumerate(places)]


def reference(model: Decoder, tokens: list[int]) -> torch.Tensor:
    """Logits of every position, float32, by the CPU engine in one piece."""
    cache = PagedKVCache(SHAPE, tensor_parallel=1, pages=1, page_size=len(tokens), dtype=torch.float32, device=CPU)
    runner = CpuExecutor(model, cache, reference_attention("sdpa"), max_batch=1, max_pages=1)
    hidden, _, _ = runner.forward(StepPlan(admits=[Admit(0, [0])], prefills=[Prefill(0, 0, tokens, True)]))
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
    """Prompts of one token, and around a page's end; in one piece and in chunks; then decodes over a page's end."""
    runner = gpu_runner(model_of(models, weights), backend, kv=kv, compile_mode=compile_mode)
    sizes = [1, 127, 128, 129, 300]
    prompts = [ids(size, size) for size in sizes]
    expected = [reference(models["reference"], [*prompt, 7, 9, 11]) for prompt in prompts]
    runner._admit(StepPlan(admits=admit([size + 3 for size in sizes])))
    whole, _ = runner.prefill([Prefill(row, 0, prompt, True) for row, prompt in enumerate(prompts)], all_logits=True)
    for part, size, logits in zip(whole.split(sizes), sizes, expected, strict=True):
        assert error(part, logits[:size]) < bound
    longest = prompts[4]
    for start, end in ((0, 100), (100, 230), (230, 300)):  # chunks that end within a page
        part, _ = runner.prefill([Prefill(4, start, longest[start:end], end == 300)], all_logits=True)
        assert error(part, expected[4][start:end]) < bound
    for step, token in enumerate((7, 9, 11)):
        runner.last_token[:5] = token
        logits = runner.decode_logits(StepPlan(decodes=[Decode(row, size + step) for row, size in enumerate(sizes)]))
        for row, size in enumerate(sizes):
            assert error(logits[row], expected[row][size + step]) < bound
        runner.last_token[3] = token
        alone = runner.decode_logits(StepPlan(decodes=[Decode(3, sizes[3] + step)]))  # another bucket: other kernels
        assert error(alone[0], expected[3][sizes[3] + step]) < bound
    if runner.compiled is not None:
        assert runner.compiled.as_json["graphs_after_start"] == 0


@pytest.mark.parametrize("weights", ["bf16", "fp8", "transformer"])
def test_long_chunks_by_cudnn_equal_one_piece_by_flash(models, weights: str) -> None:
    runner = gpu_runner(model_of(models, weights), pages=60)
    prompt = ids(6144)
    runner._admit(StepPlan(admits=admit([6145], 60)))
    parts = [Prefill(0, start, prompt[start : start + 2048], True) for start in (0, 2048, 4096)]
    chunks = [runner.prefill([part], all_logits=True)[0] for part in parts]
    whole, _ = runner.prefill([Prefill(0, 0, [*prompt, 5], True)], all_logits=True)  # no multiple of 1024: flash
    bound = BF16_BOUND if weights == "bf16" else FP8_BOUND
    assert error(torch.cat(chunks), whole[:-1]) < bound
    runner._admit(StepPlan(admits=admit([4096, 2048], 60)))
    first, second = Prefill(0, 0, prompt[:4096], True), Prefill(1, 0, prompt[:2048], True)
    together, _ = runner.prefill([first, second], all_logits=True)  # both fresh, of two lengths: nothing to merge with
    assert error(together, torch.cat((whole[:4096], whole[:2048]))) < bound


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
def test_a_graph_replays_what_eager_computes(models, weights: str, compile_mode: str, temperature: float) -> None:
    sizes = [300, 5, 128]
    tokens = []
    for graphs in (True, False):
        model = model_of(models, weights)
        runner = gpu_runner(model, graphs=graphs, temperature=temperature, compile_mode=compile_mode)
        if runner.generator is not None:
            runner.generator.manual_seed(11)
        prefills = [Prefill(row, 0, ids(size), True) for row, size in enumerate(sizes)]
        plans = [StepPlan(admits=admit([size + 9 for size in sizes]), prefills=prefills)]
        for step in range(8):
            plans += [StepPlan(decodes=[Decode(row, size + step) for row, size in enumerate(sizes)])]
        got = [list(runner.execute(plan)) for plan in plans]
        logits = runner.decode_logits(StepPlan(decodes=[Decode(row, size + 8) for row, size in enumerate(sizes)]))
        tokens.append((got, logits.cpu()))
    assert tokens[0][0] == tokens[1][0]
    assert torch.equal(tokens[0][1], tokens[1][1])


@pytest.mark.parametrize(
    ("weights", "backend"),
    [("bf16", "sdpa"), ("fp8", "sdpa"), ("transformer", "sdpa"), ("bf16", "flex"), ("transformer", "flex")],
)
def test_captured_layers_compute_what_eager_ones_do(models, weights: str, backend: str, monkeypatch) -> None:
    # With flex as many rows as a decode graph beside which prompts go into one pass.
    runner = gpu_runner(model_of(models, weights), backend, prompt_chunk=1024, max_batch=64 if backend == "flex" else 8)
    runner._admit(StepPlan(admits=admit([1030, 400, 600])))
    prompt = ids(400)
    steps = [
        ([Prefill(0, 0, ids(1024), True)], []),  # whole steps by cuDNN, and filled up
        ([Prefill(1, 0, prompt[:130], False)], []),
        ([Prefill(1, 130, prompt[130:], True), Prefill(2, 0, ids(77), True)], []),
    ]
    steps.append(([Prefill(2, 77, ids(512), True)], [Decode(0, 1024)] * (2 if backend == "flex" else 1)))
    ran = []

    def run() -> list[torch.Tensor]:
        runner.last_token.fill_(7)
        found = [runner.prefill(prefills, decodes=decodes, all_logits=True)[0].clone() for prefills, decodes in steps]
        return [*found, runner.cache.pool[:, :, :, :-PAGE].clone().view(torch.uint8)]

    graphs = runner._prefill_graphs
    replayed = graphs.forward

    def counted(tokens, *rest):
        ran.append(len(tokens.ids))
        return replayed(tokens, *rest)

    def eager(tokens, num_decodes, prompts, output_indices):
        attend = runner._attend(tokens, num_decodes, prompts)
        return runner.decoder.forward(tokens, runner.page_table, attend, output_indices)

    monkeypatch.setattr(graphs, "forward", counted)
    captured = run()
    assert ran == ([512, 512, 576] if backend == "flex" else [1024, 256, 384, 768])
    monkeypatch.setattr(graphs, "forward", eager)
    for one, two in zip(captured, run(), strict=True):
        assert torch.equal(one, two)


def serve(runner, requests: list[Request], pages: int = 40, chunk: int = 256, together: int = 8) -> list[list[int]]:
    scheduler = Scheduler(SHAPE, PageAllocator(pages, PAGE), max_batch=together, chunk=chunk, element_bytes=2)
    engine = Engine(PlanChannel(runner, max_batch=together), scheduler)
    for request in requests:
        engine.submit(request)
    while not engine.idle:
        for request, token, ended in engine.step():
            request.tokens.append(token)
            assert ended == (len(request.tokens) == request.output_tokens)
    assert scheduler.allocator.used == 0
    return [request.tokens for request in requests]


SIZES = [(1, 9), (128, 8), (127, 3), (129, 1), (700, 12), (256, 130), (2, 2)]


def test_batch_composition_keeps_greedy_tokens_within_a_bucket(models) -> None:
    """One decode bucket, every prompt a pass of its own: then a row's arithmetic is the same in any company."""
    runner = gpu_runner(models["bf16"])
    runner._sizes = [8]

    def requests() -> list[Request]:
        return [Request(index, ids(prompt, index), output) for index, (prompt, output) in enumerate(SIZES)]

    alone = [serve(runner, [request], chunk=1024, together=8)[0] for request in requests()]
    together = requests()
    scheduler = Scheduler(SHAPE, PageAllocator(40, PAGE), max_batch=8, chunk=1024, element_bytes=2)
    engine = Engine(PlanChannel(runner, max_batch=8), scheduler)
    for request in together:
        engine.submit(request)
        for done, token, _ in engine.step():  # one prompt a step, while the others decode
            done.tokens.append(token)
    while not engine.idle:
        for done, token, _ in engine.step():
            done.tokens.append(token)
    assert [request.tokens for request in together] == alone


def test_a_pass_of_decodes_and_prompts_equals_the_reference(models) -> None:
    """What a step of many sequences does (`MERGE_FROM`): decodes, a fresh prompt and a continued one in one pass."""
    runner = gpu_runner(models["bf16"])
    sizes, prompt = [300, 128], ids(200, 77)
    plan = StepPlan(admits=admit([301, 129, 201]))
    runner._admit(plan)
    starting = [Prefill(row, 0, ids(size, size), False) for row, size in enumerate(sizes)]
    runner.prefill([*starting, Prefill(2, 0, prompt[:90], False)])
    runner.last_token[:2] = 7
    decodes = [Decode(0, 300), Decode(1, 128)]
    logits, rows = runner.prefill([Prefill(2, 90, prompt[90:], True)], decodes=decodes)
    assert rows.tolist() == [0, 1, 2]
    wanted = [reference(models["reference"], [*ids(size, size), 7])[-1] for size in sizes]
    wanted.append(reference(models["reference"], prompt)[-1])
    for found, expected in zip(logits, wanted, strict=True):
        assert error(found, expected) < BF16_BOUND


def test_a_full_cache_and_rows_that_wait(models) -> None:
    runner = gpu_runner(models["bf16"], pages=7, max_batch=3)
    requests = [Request(0, ids(700), 197), Request(1, ids(20), 100), Request(2, ids(1), 128), Request(3, ids(256), 2)]
    found = serve(runner, requests, pages=7, together=3)  # the first takes all 7 pages to the last slot
    assert [len(tokens) for tokens in found] == [197, 100, 128, 2]


@pytest.mark.parametrize("rows", [1, 2, 16, 17, 64, 65, 300])
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_products_of_any_number_of_rows(models, rows: int, fp8: bool, split: bool) -> None:
    from llmval_runners.engine.gpu.decoder import FusedDecoder
    from llmval_runners.engine.kernels import fused_ops as kernels

    model = models["fp8" if fp8 else "bf16"]
    cache = PagedKVCache(SHAPE, tensor_parallel=1, pages=1, page_size=PAGE, dtype=torch.bfloat16, device=GPU)
    decoder = FusedDecoder(model, cache)
    x = torch.randn(rows, SHAPE.ffn, device=GPU, dtype=torch.bfloat16)
    layer = model.layers[1].down
    given = kernels.linear_input(x, fp8)
    values = given.values.double() * (given.scales[:, None] if fp8 else 1)
    weight = layer.weight.double() * (layer.scales[:, None] if fp8 else 1)
    found = decoder.linear(layer, given, split=split).double().sum(0)
    expected = values @ weight.T
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < 6e-3


@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("splits", [1, 4])
def test_one_kernel_rotates_writes_and_attends_as_two_do(fp8: bool, parts: int, splits: int) -> None:
    """A first token, tokens around a tile's and a page's end, and rows that fill a batch up."""
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
    sizes = {"heads": SHAPE.heads, "page_size": PAGE}
    qkv = rope_and_cache(
        projected.clone(), frequencies, rows, positions, table, *one, dtype=torch.bfloat16, **sizes
    )  # fmt: skip
    apart = paged_decode(qkv, *one, rows, positions, table, splits=splits, **sizes)
    whole = paged_decode(projected, *two, rows, positions, table, splits=splits, frequencies=frequencies, **sizes)
    assert error(whole[:8], apart[:8]) < BF16_BOUND
    one, two, before = (kept[:, :, : 24 * PAGE].float() for kept in (one, two, pools))  # not the page of the spare rows
    assert error(two, one) < 0.005 and error(two, before) > 0.05


def test_transformer_engine_layers_hold_one_byte_a_weight(models) -> None:
    layer = model_of(models, "transformer").layers[0].gate_up
    assert (layer.weight.dtype, layer.weight.element_size()) == (torch.float8_e4m3fn, 1)
    assert layer.inner.weight._transpose is None  # a copy for training
    dequantised = layer.weight.float() * layer.scales
    assert error(dequantised, models["bf16"].layers[0].gate_up.weight) < 0.04  # rounding to 3 bits of mantissa


@pytest.mark.parametrize("flags", ["--fp8-mode transformer-engine --kv-dtype fp8", "--compile-mode smart"])
def test_a_load_test_of_a_few_requests_says_what_ran(flags: str, tmp_path: Path) -> None:
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
