"""What the gate accepts is computed as transformers computes it: float32, on a CPU, on one and on two ranks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.engine.fp8 import Fp8Weight
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.weights import export
from llmval_runners.process.errors import Refused

from tests.helpers.runners import checkpoints as made
from tests.helpers.runners.two_ranks import together

pytest.importorskip("transformers")
QWEN2: dict[str, Any] = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3: dict[str, Any] = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 16}
MISTRAL: dict[str, Any] = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
SHORT, LONG = [1.0 + place / 8 for place in range(4)], [2.0 + place for place in range(4)]
LONGROPE = {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG, "original_max_position_embeddings": 64}

CASES: dict[str, dict[str, Any]] = {
    "llama": {},
    "head dim of its own": {"head_dim": 12},
    "no KV heads stated": {"num_key_value_heads": ...},
    "one KV head": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "attention bias": {"attention_bias": True},
    "MLP bias": {"mlp_bias": True},
    "both biases, tied": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "gelu": {"hidden_act": "gelu"},
    "gelu_new": {"hidden_act": "gelu_new"},
    "gelu_pytorch_tanh": {"hidden_act": "gelu_pytorch_tanh"},
    "relu": {"hidden_act": "relu"},
    "theta": {"rope_theta": 500000.0},
    "theta in rope_parameters": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear, old spelling": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
    "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500000.0},
    "llama3 in rope_parameters": {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}},
    "yarn": {"rope_scaling": YARN},
    "yarn, old spelling": {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}},
    "yarn, its options": {"rope_scaling": {**YARN, "beta_fast": 16, "beta_slow": 2, "truncate": False}},
    "yarn, mscale": {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0}},
    "yarn, attention factor": {"rope_scaling": {**YARN, "attention_factor": 1.3}},
    "yarn, no original context": {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    "longrope": {"rope_scaling": LONGROPE},
    "longrope, attention factor": {"rope_scaling": {**LONGROPE, "attention_factor": 1.2, "factor": 3.0}},
    "original context beside": {
        "rope_scaling": {"rope_type": "longrope", "short_factor": SHORT, "long_factor": LONG},
        "original_max_position_embeddings": 64,
    },
    "qwen2": QWEN2,
    "qwen2, yarn and tied": {**QWEN2, "rope_scaling": YARN, "tie_word_embeddings": True},
    "qwen2, window off": {**QWEN2, "use_sliding_window": False, "sliding_window": 8, "max_window_layers": 1},
    "qwen2, window long enough": {**QWEN2, "use_sliding_window": True, "sliding_window": 53, "max_window_layers": 1},
    "qwen3": QWEN3,
    "qwen3, biases and yarn": {**QWEN3, "attention_bias": True, "rope_scaling": YARN},
    "qwen3, yarn, truncate null": {**QWEN3, "rope_scaling": {**YARN, "truncate": None}},
    "qwen3, one KV head": {**QWEN3, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "mistral": {**MISTRAL, "sliding_window": None},
    "mistral, window long enough": {**MISTRAL, "sliding_window": 53},
    "mistral, head dim of its own": {**MISTRAL, "sliding_window": None, "head_dim": 16},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_transformers_on_one_and_two_ranks(case: str, tmp_path: Path) -> None:
    reference = made.save(tmp_path, made.config_of(**CASES[case]))
    wanted = made.expected(reference)
    for ranks in (1, 2):
        made.assert_equal(made.logits_of(tmp_path, ranks), wanted)


@pytest.mark.parametrize("case", ["attention bias", "qwen2", "qwen3, biases and yarn", "both biases, tied"])
def test_every_tensor_comes_back(case: str, tmp_path: Path) -> None:
    reference = made.save(tmp_path, made.config_of(**CASES[case]))
    again = export(made.model_of(tmp_path, Parallel(made.CPU)))
    state = made.model_state(reference)
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(again[name], tensor, atol=0, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "tokens", "why"),
    [
        ({**MISTRAL, "sliding_window": 16}, 16, "sliding window"),
        ({**MISTRAL, "sliding_window": 16, "use_sliding_window": False}, 16, "sliding window"),  # has no such switch
        ({**QWEN2, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, 16, "sliding window"),
        ({**MISTRAL}, 4096, "sliding window"),  # transformers' default
        ({"rope_scaling": LONGROPE}, 64, "longrope"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 256, "dynamic"),
    ],
)
def test_a_longer_context_than_the_engine_computes_is_refused(
    changes: dict[str, Any], tokens: int, why: str, tmp_path: Path
) -> None:
    made.save(tmp_path, made.config_of(**changes))
    shape = read_checkpoint(tmp_path).shape
    shape.check_context(tokens, "fewer")
    with pytest.raises(
        Refused, match=f"{why}.*right up to {tokens:,} tokens only, and {tokens + 1:,} were.*pass fewer"
    ):
        shape.check_context(tokens + 1, "fewer")


def test_a_window_changes_the_logits_beyond_it(tmp_path: Path) -> None:
    """So the refusal is needed, and up to the window the engine is right."""
    reference = made.save(tmp_path, made.config_of(**MISTRAL, sliding_window=16))
    ours, theirs = made.logits_of(tmp_path), made.expected(reference)
    made.assert_equal(ours[:16], theirs[:16])
    assert (ours[17:] - theirs[17:]).abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_read_as_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    reference = made.save(tmp_path, made.config_of())
    stored = {name: tensor.to(dtype) for name, tensor in made.model_state(reference).items()}
    made.store(tmp_path, stored)
    reference.load_state_dict({name: tensor.float() for name, tensor in stored.items()})
    made.assert_equal(made.logits_of(tmp_path), made.expected(reference))


E4M3 = torch.float8_e4m3fn


def by_tensor(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scale = matrix.abs().max() / 448
    stored = (matrix / scale).to(E4M3)
    return stored, scale, stored.float() * scale


def by_row(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scale = matrix.abs().amax(1, keepdim=True) / 448
    stored = (matrix / scale).to(E4M3)
    return stored, scale, stored.float() * scale


def by_block(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Blocks of 16 × 24, which divide neither 64 nor 96 columns into whole ones only."""
    rows, columns = -(-matrix.shape[0] // 16), -(-matrix.shape[1] // 24)
    scale = torch.rand(rows, columns, generator=torch.Generator().manual_seed(2)) / 200 + 0.01
    whole = scale.repeat_interleave(16, 0).repeat_interleave(24, 1)[: matrix.shape[0], : matrix.shape[1]]
    stored = (matrix / whole).clamp(-448, 448).to(E4M3)
    return stored, scale, stored.float() * whole


def in_int8(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scale = matrix.abs().amax(1, keepdim=True) / 127
    stored = (matrix / scale).round().to(torch.int8)
    return stored, scale.bfloat16(), stored.float() * scale.bfloat16().float()


def compressed(form: str, kind: str, strategy: str, **weights: Any) -> dict[str, Any]:
    group = {
        "weights": {"num_bits": 8, "type": kind, "strategy": strategy, "symmetric": True, "dynamic": False, **weights},
        "input_activations": {"num_bits": 8, "type": kind, "strategy": "token", "dynamic": True},
        "targets": ["Linear"],
    }
    return {
        "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
        "ignore": ["lm_head"], "config_groups": {"group_0": group},
    }  # fmt: skip


INPUT_SCALES = {
    f"model.layers.{index}.{module}.input_scale": torch.tensor(0.02)
    for index in range(2)
    for module in ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj")
}
QUANTISED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "fp8, static": ({"quant_method": "fp8", "activation_scheme": "static"}, by_tensor, "weight_scale"),
    "fp8, dynamic, by row": ({"quant_method": "fp8", "activation_scheme": "dynamic"}, by_row, "weight_scale"),
    "fp8, in blocks": (
        {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [16, 24]},
        by_block,
        "weight_scale_inv",
    ),
    "compressed-tensors, fp8 by row": (compressed("float-quantized", "float", "channel"), by_row, "weight_scale"),
    "compressed-tensors, fp8 by matrix": (compressed("float-quantized", "float", "tensor"), by_tensor, "weight_scale"),
    "compressed-tensors, fp8 in blocks": (
        compressed("float-quantized", "float", "block", block_structure=[16, 24]), by_block, "weight_scale",
    ),
    "compressed-tensors, int8": (compressed("int-quantized", "int", "channel"), in_int8, "weight_scale"),
    "compressed-tensors, frozen": (
        compressed("naive-quantized", "float", "tensor") | {"quantization_status": "frozen"}, by_tensor, "weight_scale",
    ),
    "modelopt": ({"quant_method": "modelopt", "quant_algo": "FP8", "producer": {}}, by_tensor, "weight_scale"),
    "modelopt, nested": (
        {"quant_method": "modelopt", "producer": {}, "quantization": {"quant_algo": "FP8", "exclude_modules": []}},
        by_tensor, "weight_scale",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", QUANTISED)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_quantised_weights_are_multiplied_out_on_a_cpu(case: str, family: str, tmp_path: Path) -> None:
    declared, quantise, scale = QUANTISED[case]
    more = INPUT_SCALES if "static" in case else None
    config = made.config_of(**CASES[family], quantization_config=declared)
    reference = made.save_quantised(tmp_path, config, quantise, scale=scale, more=more)
    wanted = made.expected(reference)
    for ranks in (1, 2):
        made.assert_equal(made.logits_of(tmp_path, ranks), wanted)


def test_a_checkpoint_of_modelopt_states_its_format_in_a_file_beside_config_json(tmp_path: Path) -> None:
    reference = made.save_quantised(tmp_path, made.config_of(), by_tensor)
    beside = tmp_path / "hf_quant_config.json"
    about = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    beside.write_text(json.dumps({"producer": {"name": "modelopt", "version": "0.23.0"}, "quantization": about}))
    made.assert_equal(made.logits_of(tmp_path), made.expected(reference))
    beside.write_text(json.dumps({"quantization": {"quant_algo": "NVFP4"}}))
    with pytest.raises(Refused, match=r"hf_quant_config\.json, quantization: quant_algo is NVFP4"):
        read_checkpoint(tmp_path)
    reference = made.save(tmp_path, made.config_of())
    beside.write_text(json.dumps({"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}))
    made.assert_equal(made.logits_of(tmp_path), made.expected(reference))


@pytest.mark.parametrize("case", ["fp8, static", "compressed-tensors, fp8 by row"])
def test_the_native_mode_keeps_the_stored_bytes(case: str, tmp_path: Path) -> None:
    """On a GPU, FP8 weights with one scale a matrix or a row are computed with as they are, also on two ranks."""
    declared, quantise, scale = QUANTISED[case]
    config = made.config_of(quantization_config=declared, rope_scaling=YARN)
    reference = made.save_quantised(tmp_path, config, quantise, scale=scale)

    def rank(parallel: Parallel) -> tuple[Any, ...]:
        layer = made.model_of(tmp_path, parallel, linear=Fp8Weight.quantize).layers[1]
        return layer.qkv, layer.output, layer.gate_up, layer.down

    first, second = together(rank)
    layer, factor = reference.model.layers[1], read_checkpoint(tmp_path).shape.query_scale
    assert factor > 1
    for one, names in (
        (0, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        (2, ("mlp.gate_proj", "mlp.up_proj")),
    ):
        halves = [layer.get_submodule(name).weight * (factor if "q_proj" in name else 1) for name in names]
        for half, ours in enumerate((first, second)):
            assert ours[one].weight.dtype == E4M3
            meant = torch.cat([whole.chunk(2)[half] for whole in halves])
            torch.testing.assert_close(ours[one].multiplied_out(torch.float32), meant, atol=1e-6, rtol=1e-6)
    for one, name in ((1, "self_attn.o_proj"), (3, "mlp.down_proj")):
        both = torch.cat([ours[one].multiplied_out(torch.float32) for ours in (first, second)], dim=1)
        torch.testing.assert_close(both, layer.get_submodule(name).weight.detach(), atol=1e-6, rtol=1e-6)
