"""The gate refuses, in one sentence that names the fault, what the engine would compute wrongly or cannot read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from llmval_runners.engine.checkpoint.gate import read_checkpoint, read_model_shape
from llmval_runners.engine.checkpoint.load import from_checkpoint
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.weights import build
from llmval_runners.process.errors import Refused

from fuzzing import checkpoints
from fuzzing.target import fuzz, remove_scratch
from tests.helpers.runners import checkpoints as made
from tests.runners.engine.checkpoint.conftest import LFS, refusal

pytest.importorskip("transformers")
E4M3 = torch.float8_e4m3fn


CONFIGS: list[tuple[Any, str]] = [
    ([], "holds a list and not an object"),
    (None, "holds a NoneType"),
    ("llama", "holds a str"),
    (made.config_of(architectures=...), ""),
    (made.config_of(architectures=[], model_type="llama"), "architectures must be a list"),
    (made.config_of(architectures="LlamaForCausalLM"), "architectures must be a list"),
    (made.config_of(architectures=["LlamaForSequenceClassification"]), "LlamaForSequenceClassification"),
    (made.config_of(model_type=7), "model_type"),
    (made.config_of(architectures=..., model_type=...), "neither architectures nor model_type"),
    (made.config_of(rms_norm_eps=...), "has no rms_norm_eps"),
    (made.config_of(rms_norm_eps=0), "rms_norm_eps is 0"),
    (made.config_of(rms_norm_eps="1e-5"), "rms_norm_eps is 1e-5"),
    (made.config_of(num_key_value_heads=None), "k_proj.weight is [16, 64]"),  # null: as many as query heads
    (made.config_of(num_key_value_heads="2"), "num_key_value_heads is 2"),
    (made.config_of(num_key_value_heads=3), "cannot share 3 KV heads"),
    (made.config_of(hidden_size=-64), "hidden_size is -64"),
    (made.config_of(hidden_size=64.0), "hidden_size is 64.0"),
    (made.config_of(hidden_size=True), "hidden_size is True"),
    (made.config_of(hidden_size=65), "not divisible by 8 heads"),
    (made.config_of(head_dim=7), "cannot be rotated in pairs"),
    (made.config_of(num_hidden_layers=0), "num_hidden_layers is 0"),
    (made.config_of(num_hidden_layers=10**9), "lacks model.layers.2."),
    (made.config_of(vocab_size=10**400), "vocab_size is 1000"),
    (made.config_of(hidden_act="quick_gelu"), "hidden_act quick_gelu"),
    (made.config_of(attention_bias="yes"), "attention_bias is yes"),
    (made.config_of(attention_bias=True), "lacks model.layers.0.self_attn.q_proj.bias"),
    (made.config_of(tie_word_embeddings=None), "tie_word_embeddings is None"),
    (made.config_of(partial_rotary_factor=0.5), "a part of each head"),
    (made.config_of(rope_theta=-1), "rope_theta is -1"),
    (made.config_of(rope_scaling="linear"), "must be an object or null"),
    (made.config_of(rope_scaling={"factor": 4.0}), "without rope_type"),
    (made.config_of(rope_scaling={"type": "ntk-by-parts", "factor": 4.0}), "ntk-by-parts is not one of"),
    (made.config_of(rope_scaling={"type": "linear", "rope_type": "yarn", "factor": 4.0}), "keep one of the two"),
    (made.config_of(rope_scaling={"type": "linear"}), "has no factor"),
    (made.config_of(rope_scaling={"type": "linear", "factor": 0}), "factor is 0"),
    (made.config_of(rope_scaling={"type": "linear", "factor": 2.0, "base": 3}), "base is 3"),
    (made.config_of(rope_scaling={"rope_type": "default", "mrope_section": [2, 1, 1]}), "mrope_section"),
    (made.config_of(rope_scaling={"type": "mrope", "mrope_section": [2, 1, 1]}), "mrope is not one of"),
    (made.config_of(rope_scaling={"type": "longrope", "short_factor": [1], "long_factor": [1]}), "short_factor"),
    (made.config_of(rope_scaling={"type": "linear", "factor": 2}, rope_parameters={"rope_type": "default"}), "differ"),
    (made.config_of(rope_parameters={"full_attention": {"rope_type": "default"}}), "without rope_type"),
    (made.config_of(is_causal=None), "is_causal is None"),  # transformers attends to later tokens then
    (made.config_of(is_causal=False), "is_causal is False"),
    (made.config_of(is_causal=True), ""),
    (made.config_of(attn_logit_softcapping=50.0), "soft caps of scores"),
    (made.config_of(auto_map={"AutoModelForCausalLM": "modeling_x.X"}), "code of its own"),
    (made.config_of(layer_types=["full_attention", "linear_attention"]), "linear_attention"),
    (made.config_of(embedding_multiplier=12.0), "embedding_multiplier is 12.0"),
    (made.config_of(no_rope_layers=[1, 0]), "no_rope_layers"),
    (made.config_of(quantization_config=7), "must be an object"),
    (made.config_of(quantization_config={"quant_method": "gptq", "bits": 4}), "gptq quantisation"),
    (made.config_of(quantization_config={"quant_method": "awq", "bits": 4}), "awq quantisation"),
    (made.config_of(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), "bitsandbytes"),
    (made.config_of(quantization_config={"load_in_8bit": True}), "quant_method is missing"),
    (made.config_of(quantization_config={"quant_method": "mxfp4"}), "mxfp4 quantisation"),
    (made.config_of(quantization_config={"quant_method": "fp8"}), "declares fp8, and no tensor"),
    (made.config_of(quantization_config={"quant_method": "fp8", "scale_fmt": "ue8m0"}), "powers of two"),
    (made.config_of(quantization_config={"quant_method": "fp8", "fmt": "e5m2"}), "E4M3"),
    (made.config_of(quantization_config={"quant_method": "modelopt", "quant_algo": "NVFP4"}), "ModelOpt"),
    (
        made.config_of(quantization_config={"quant_method": "compressed-tensors", "format": "pack-quantized"}),
        "pack-quantized is not one of",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "names"), CONFIGS, ids=range(len(CONFIGS)))
def test_a_configuration_is_refused_by_name(config: Any, names: str, state: made.State, tmp_path: Path) -> None:
    made.store(made.write_config(tmp_path, config), state)
    if not names:
        read_checkpoint(tmp_path)
        return
    assert names in refusal(tmp_path)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b'{"a": 1, "a": 2}', "a is there twice"),
        (b'{"rms_norm_eps": NaN}', "NaN is not a number"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (b'{"a":' * 3_000 + b"1" + b"}" * 3_000, "nested too deeply"),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (LFS, "Git LFS pointer"),
        (b"{" + b" " * 20_000_000 + b"}", "larger than 20,000,000 bytes"),
    ],
    ids=range(10),
)
def test_a_damaged_config_json_is_refused(data: bytes, names: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(data)
    text = refusal(tmp_path)
    assert names in text or (names == "nested too deeply" and "neither architectures" in text)


Q = "model.layers.1.self_attn.q_proj.weight"
FP8 = {"quant_method": "fp8", "activation_scheme": "static"}


@pytest.mark.parametrize(
    ("changes", "quantization", "names"),
    [
        ({Q: None}, None, f"lacks {Q}"),
        ({"lm_head.weight": None}, None, "lacks lm_head.weight"),
        ({Q: torch.zeros(64, 63)}, None, f"{Q} is [64, 63]"),
        ({"model.layers.1.self_attn.q_proj.bias": torch.zeros(64)}, None, "has model.layers.1.self_attn.q_proj.bias"),
        ({"model.layers.2.input_layernorm.weight": torch.zeros(64)}, None, "has model.layers.2."),
        ({"model.layers.0.self_attn.q_norm.weight": torch.zeros(8)}, None, "self_attn.q_norm.weight"),
        ({"model.layers.0.self_attn.q_proj.weight_scale": torch.ones(1)}, None, "it is unclear how to read it"),
        ({"model.layers.0.mlp.input_scale": torch.ones(1)}, None, "has model.layers.0.mlp.input_scale"),
        ({Q: torch.zeros(64, 64, dtype=E4M3)}, None, "is in F8_E4M3, and config.json"),
        ({Q: torch.zeros(64, 64, dtype=torch.int8)}, None, "is in I8"),
        ({Q: torch.zeros(64, 64, dtype=torch.int8)}, FP8, "is in I8"),
        ({Q: torch.zeros(64, 64, dtype=E4M3)}, FP8, "has 0 scales instead of one"),
        ({Q: torch.zeros(64, 64, dtype=torch.float8_e5m2)}, FP8, "is in F8_E5M2"),
        ({Q: torch.zeros(64, 64, dtype=E4M3), f"{Q}_scale": torch.ones(3)}, FP8, "which does not fit [64, 64]"),
        ({Q: torch.zeros(64, 64, dtype=E4M3), f"{Q}_scale": torch.ones(1, 64)}, FP8, "which does not fit [64, 64]"),
        (
            {Q: torch.zeros(64, 64, dtype=E4M3), f"{Q}_scale": torch.ones(1, dtype=torch.int32)},
            FP8,
            "q_proj.weight_scale is I32",
        ),
        (
            {
                Q: torch.zeros(64, 64, dtype=E4M3),
                f"{Q}_scale": torch.ones(1),
                f"{Q}_zero_point": torch.ones(1),
            },
            FP8,
            "zero point",
        ),
        (
            {Q: None, Q.replace("weight", "weight_packed"): torch.zeros(64, 8, dtype=torch.int32)},
            FP8,
            "it has packed weights",
        ),
        ({"model.embed_tokens.weight": torch.zeros(128, 64, dtype=E4M3)}, FP8, "embed_tokens.weight is in F8_E4M3"),
    ],
    ids=range(19),
)
def test_every_tensor_is_used_or_refused(
    changes: dict[str, Any], quantization: Any, names: str, state: made.State, tmp_path: Path
) -> None:
    made.write_config(tmp_path, made.config_of(quantization_config=quantization))
    made.store(tmp_path, {name: tensor for name, tensor in (state | changes).items() if tensor is not None})
    assert names in refusal(tmp_path)


def test_what_does_not_matter_is_accepted(state: made.State, tmp_path: Path) -> None:
    made.write_config(
        tmp_path,
        made.config_of(
            bos_token_id=1, torch_dtype="bfloat16", attention_dropout=0.1, use_cache=False, unknown_but_unset=None,
            auto_map={"AutoTokenizer": "tokenization_x.X"}, pretraining_tp=4, rope_scaling=None,
        ),
    )  # fmt: skip
    made.store(tmp_path, state | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)})
    read_checkpoint(tmp_path)


def test_a_tied_head_with_other_values_is_refused(state: made.State, tmp_path: Path) -> None:
    made.write_config(tmp_path, made.config_of(tie_word_embeddings=True))
    made.store(tmp_path, state | {"lm_head.weight": state["model.embed_tokens.weight"].clone()})
    from_checkpoint(read_checkpoint(tmp_path), made.CPU)
    made.store(tmp_path, state)
    with pytest.raises(Refused, match=r"lm_head\.weight with other values than the embedding"):
        from_checkpoint(read_checkpoint(tmp_path), made.CPU)


@pytest.mark.parametrize(
    ("rename", "names"),
    [
        (lambda name: name.removeprefix("model."), "its tensors have other names (embed_tokens.weight)"),
        (lambda name: f"language_model.{name}", "other names (language_model.model.embed_tokens.weight)"),
        (lambda name: name.replace("q_proj", "qkv_proj"), "has model.layers.0.self_attn.qkv_proj.weight, projections"),
        (lambda name: name.replace("up_proj", "gate_up_proj"), "layers.0.mlp.gate_up_proj.weight, projections in one"),
    ],
)
def test_tensors_with_other_names_are_not_an_incomplete_download(
    rename: Any, names: str, state: made.State, tmp_path: Path
) -> None:
    made.write_config(tmp_path, made.config_of())
    made.store(tmp_path, {rename(name): tensor for name, tensor in state.items()})
    assert names in refusal(tmp_path) and "download" not in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("model.norm.weight", float("nan"), "not finite numbers in torch.float32"),
        ("model.layers.1.mlp.up_proj.weight", float("inf"), "not finite numbers in torch.float32"),
        ("model.layers.1.mlp.up_proj.weight", 0.0, "only zeros, as a download that did not finish"),
        ("model.norm.weight", 0.0, "only zeros, as a download that did not finish"),
        (f"{Q}_scale", 0.0, "only zeros, as a download that did not finish"),
        (f"{Q}_scale", -0.1, "negative values"),
        (f"{Q}_scale", float("nan"), "not finite numbers in torch.float32"),
        (Q, float("nan"), "not finite numbers in torch.float8"),
    ],
)
def test_values_that_no_model_has_are_refused(
    name: str, value: float, why: str, state: made.State, tmp_path: Path
) -> None:
    whole = dict(state)
    if name.startswith(Q):
        whole |= {Q: state[Q].to(E4M3), f"{Q}_scale": torch.ones(1)}
    made.write_config(tmp_path, made.config_of(**({"quantization_config": FP8} if name.startswith(Q) else {})))
    made.store(tmp_path, whole | {name: torch.full_like(whole[name].float(), value).to(whole[name].dtype)})
    with pytest.raises(Refused, match=why) as refused:
        made.model_of(tmp_path, Parallel(made.CPU))
    assert name.removesuffix("_scale") in str(refused.value)


def test_values_beyond_the_dtype_of_the_run_are_refused(state: made.State, tmp_path: Path) -> None:
    made.store(made.write_config(tmp_path, made.config_of()), state | {Q: state[Q] + 1e5})
    checkpoint = read_checkpoint(tmp_path)
    with pytest.raises(Refused, match=r"not finite numbers in torch\.float16"):
        build(checkpoint.shape, from_checkpoint(checkpoint, made.CPU), Parallel(made.CPU), torch.float16)


def test_quantised_values_beyond_the_dtype_of_the_run_are_refused(state: made.State, tmp_path: Path) -> None:
    made.write_config(tmp_path, made.config_of(quantization_config=FP8))
    made.store(tmp_path, state | {Q: state[Q].to(E4M3), f"{Q}_scale": torch.full((1,), 1e6)})
    checkpoint = read_checkpoint(tmp_path)
    with pytest.raises(Refused, match=r"not finite numbers in torch\.float16"):
        build(checkpoint.shape, from_checkpoint(checkpoint, made.CPU), Parallel(made.CPU), torch.float16)


ROOT = Path(__file__).parents[4]
RUNNERS = {
    "inference_server_load_test.py": ["--duration", "1"],
    "long_context_validation.py": ["--sequence-lengths", "32"],
    "torch_compile_repro.py": ["--skip-compile", "--output-dir", "{folder}/out"],
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_refuses_with_one_sentence_and_exit_code_2(runner: str, tmp_path: Path) -> None:
    made.write_config(tmp_path, made.config_of(architectures=["MixtralForCausalLM"], model_type="mixtral"))
    flags = [flag.format(folder=tmp_path) for flag in RUNNERS[runner]]
    ended = subprocess.run(
        [sys.executable, ROOT / "runners" / runner, "--checkpoint", tmp_path, "--device", "cpu", *flags],
        capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and "MixtralForCausalLM has a mixture of experts" in ended.stderr


def test_damaged_checkpoints_are_loaded_or_refused() -> None:
    """A few of those that `make fuzz` makes."""
    found = fuzz(checkpoints.TARGET, 250, seed=3)
    assert (found.wrong, found.outcomes.total()) == ([], 250)
    assert found.outcomes["accepted"] > 3
    remove_scratch()


def test_the_shape_alone_needs_no_weights(tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    made.save(folder, made.config_of())
    shape = read_checkpoint(folder).shape
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    with pytest.raises(Refused):
        read_checkpoint(folder)
    assert read_model_shape(folder) == shape
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "moe": 4}))
    with pytest.raises(Refused, match="moe"):
        read_model_shape(folder)
