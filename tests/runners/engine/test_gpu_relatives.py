"""Relatives of Llama and FP8 checkpoints on a GPU, compared with the float32 model on a CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from llmval_runners.engine import loader
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.engine.checkpoint.load import from_checkpoint
from llmval_runners.engine.compiled import CompiledDecoder
from llmval_runners.engine.config import configure
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.fp8 import Fp8Weight
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.loader import linear_maker, make_executor, new_cache
from llmval_runners.engine.model import Decoder
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.settings import EngineSettings
from llmval_runners.engine.shapes import ModelShape, YarnRope, tensor_shapes
from llmval_runners.engine.step_plan import Admit, Decode, Prefill, StepPlan
from llmval_runners.engine.weights import build

from tests.helpers.runners import checkpoints as made
from tests.helpers.runners.state_source import from_state_dict
from tests.helpers.runners.te_here import skip_without_transformer_engine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPE = ModelShape(
    "test", layers=3, hidden=2048, heads=16, kv_heads=2, head_dim=128, ffn=4096, vocab=4096, max_positions=4096
)  # fmt: skip
RELATIVES: dict[str, dict[str, Any]] = {
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True},
    "llama with biases": {"qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "gelu": {"activation": "gelu_tanh"},
    "yarn": {"rope_scaling": YarnRope(4.0, 64), "query_scale": 1.3},
    "qwen3 with yarn": {"qk_norm": True, "rope_scaling": YarnRope(4.0, 64), "query_scale": 1.3},
}
# On one H200, FP8 with yarn reached 0.2006.
BOUNDS = {"none": 0.02, "native": 0.25, "transformer-engine": 0.25}  # of ‖logits − reference‖ / ‖reference‖
PAGE = 128


def state_of(shape: ModelShape) -> made.State:
    """Weights that bfloat16 holds exactly; norms around 1 and biases that matter."""
    draw = torch.Generator().manual_seed(4)
    state = {}
    for name, size in tensor_shapes(shape):
        drawn = torch.randn(size, generator=draw)
        whole = drawn * size[-1] ** -0.5 if len(size) > 1 else 0.3 * drawn + name.endswith("norm.weight")
        state[name] = whole.bfloat16().float()
    return state


@torch.inference_mode()
def expected(model: Decoder, tokens: list[int]) -> torch.Tensor:
    cache = PagedKVCache(
        model.shape, tensor_parallel=1, pages=1, page_size=len(tokens), dtype=torch.float32, device=CPU
    )
    executor = CpuExecutor(model, cache, reference_attention("sdpa"), max_batch=1, max_pages=1)
    plan = StepPlan(admits=[Admit(0, [0])], prefills=[Prefill(0, 0, tokens, True)])
    return model.logits(executor.forward(plan)[0])


def check(executor: Any, reference: Decoder, bound: float) -> None:
    """A prompt, and decode steps of one and of three sequences, against the reference."""

    def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
        return float((found.float().cpu() - wanted).norm() / wanted.norm())

    sizes = (130, 7, 300)
    prompts = [[(3 + 7 * place + size) % 4096 for place in range(size)] for size in sizes]
    wanted = [expected(reference, [*prompt, 9, 11]) for prompt in prompts]
    admits = [Admit(row, [4 * row, 4 * row + 2, 4 * row + 1]) for row in range(3)]
    executor._admit(StepPlan(admits=admits))
    for row, prompt in enumerate(prompts):
        found, _ = executor.prefill([Prefill(row, 0, prompt, True)], all_logits=True)
        assert error(found, wanted[row][: len(prompt)]) < bound
    for step, token in enumerate((9, 11)):
        executor.last_token[:3] = token
        decodes = [Decode(row, size + step) for row, size in enumerate(sizes)]
        together = executor.decode_logits(StepPlan(decodes=decodes))
        for row, size in enumerate(sizes):
            assert error(together[row], wanted[row][size + step]) < bound
        executor.last_token[0] = token
        assert error(executor.decode_logits(StepPlan(decodes=decodes[:1]))[0], wanted[0][sizes[0] + step]) < bound


def executor_of(model: Decoder, backend: str, compile_mode: str = "off", kv: torch.dtype = torch.bfloat16) -> Any:
    cache = new_cache(model.shape, model.parallel, pages=12, page_size=PAGE, dtype=kv)
    compiled = None if compile_mode == "off" else CompiledDecoder(model, cache, compile_mode)
    return make_executor(model, cache, backend, max_batch=8, max_pages=4, compiled=compiled, prompt_chunk=512)


@pytest.mark.parametrize("relative", RELATIVES)
@pytest.mark.parametrize(
    ("mode", "backend", "compile_mode"),
    [
        ("none", "sdpa", "off"),
        ("native", "sdpa", "off"),
        ("transformer-engine", "sdpa", "off"),
        ("none", "flex", "off"),
        ("none", "sdpa", "smart"),
        ("none", "sdpa", "default"),
    ],
)
def test_relatives_equal_the_reference(relative: str, mode: str, backend: str, compile_mode: str) -> None:
    if mode == "transformer-engine":
        skip_without_transformer_engine()
    shape = replace(SHAPE, **RELATIVES[relative])
    source = from_state_dict(state_of(shape))
    reference = build(shape, source, Parallel(CPU), torch.float32)
    model = build(shape, source, Parallel(GPU), torch.bfloat16, linear_maker(mode))
    check(executor_of(model, backend, compile_mode), reference, BOUNDS[mode])


@pytest.mark.parametrize("mode", ["auto", "none"])
def test_an_fp8_checkpoint_runs_with_its_own_scales(mode: str, tmp_path: Path) -> None:
    """With `auto`, the GPU computes with the stored bytes; with `none`, with their values in bfloat16."""
    pytest.importorskip("transformers")
    weights = {"num_bits": 8, "type": "float", "strategy": "channel"}
    quantization = {
        "quant_method": "compressed-tensors", "format": "float-quantized",
        "config_groups": {"group_0": {"weights": weights, "targets": ["Linear"]}},
    }  # fmt: skip
    config = made.config_of(
        architectures=["Qwen2ForCausalLM"], model_type="qwen2", hidden_size=2048, num_attention_heads=16,
        num_key_value_heads=2, intermediate_size=4096, vocab_size=4096, max_position_embeddings=4096,
        quantization_config=quantization,
    )  # fmt: skip

    def by_row(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scale = matrix.abs().amax(1, keepdim=True) / 448
        stored = (matrix / scale).to(torch.float8_e4m3fn)
        return stored, scale, stored.float() * scale

    made.save_quantised(tmp_path, config, by_row)
    settings = EngineSettings(checkpoint=tmp_path, device="cuda", fp8_mode=mode, kv_tokens=4096)
    found = configure(settings, read_checkpoint(tmp_path).shape, 512, world_size=1, local_rank=0, local_ranks=1)
    assert found.fp8_mode == ("native" if mode == "auto" else "none")
    assert found.checkpoint is not None
    executor = loader.load(found, from_checkpoint(found.checkpoint, GPU), Parallel(GPU))
    layer = executor.model.layers[0]
    assert isinstance(layer.down, Fp8Weight) == (mode == "auto")
    if isinstance(layer.down, Fp8Weight):
        stored = found.checkpoint.weights["model.layers.0.mlp.down_proj.weight"]
        with stored.tensor.file.open("rb") as file:
            file.seek(stored.tensor.begin)
            data = file.read(stored.tensor.end - stored.tensor.begin)
        assert bytes(layer.down.weight.view(torch.uint8).cpu().flatten().tolist()) == data
    check(executor, made.model_of(tmp_path, Parallel(CPU)), BOUNDS[found.fp8_mode])
