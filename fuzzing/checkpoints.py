"""Damaged checkpoints: every one must be loaded or refused in one sentence, and quickly.

A damaged checkpoint has a mutated config.json, header or index. One that the gate accepts is loaded and split over two
ranks as well.
"""

import json
import random
import struct
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fuzzing.mutation import damage, mutate
from fuzzing.target import Target, Wrong, scratch

SLOW_S = 5.0  # of processor time, for a checkpoint of 40 kB
_JUNK: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 64, 2**31, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e-300, 1e300, 1e29, "", "a",
    "silu", "gelu", "yarn", "default", "tensor", "\ud800", "x" * 1000, [], [1], [1.0] * 4, [None], ["full_attention"],
    ["sliding_attention"] * 2, {}, {"a": 1}, {"rope_type": "yarn"}, {"rope_type": "linear", "factor": 1e29},
    {"type": "dynamic", "factor": 2}, {"rope_type": "yarn", "factor": 1e-29, "mscale": 1e29, "mscale_all_dim": 1},
    {"rope_type": "longrope", "short_factor": [1] * 4, "long_factor": [2] * 4}, {"quant_method": "fp8"},
    {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"g": {"weights": {}}}},
]  # fmt: skip
_FIELDS = (
    "rope_scaling", "rope_parameters", "rope_theta", "head_dim", "sliding_window", "layer_types", "use_sliding_window",
    "max_window_layers", "attention_bias", "mlp_bias", "quantization_config", "auto_map", "partial_rotary_factor",
    "original_max_position_embeddings", "hidden_activation", "tie_word_embeddings", "rope_type", "factor",
    "attention_factor", "beta_fast", "beta_slow", "mscale", "truncate", "weight_block_size", "quant_method", "type",
    "low_freq_factor",
)  # fmt: skip
_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 16,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip
_FAMILIES: list[dict[str, Any]] = [
    {},
    {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
                         "original_max_position_embeddings": 16}},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 32}},
    {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False, "sliding_window": 32},
    {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 8},
    {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": 32},
    {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}},
    {"quantization_config": {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {
        "group_0": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}, "targets": ["Linear"]}}}},
]  # fmt: skip


def checkpoint(chance: random.Random) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """A valid checkpoint: its configuration, the header of its only file, and the data."""
    from llmval_runners.engine.checkpoint.families import FAMILIES
    from llmval_runners.engine.checkpoint.fields import Fields
    from llmval_runners.engine.checkpoint.gate import read_shape
    from llmval_runners.engine.shapes import tensor_shapes

    config = json.loads(json.dumps(_CONFIG | chance.choice(_FAMILIES)))
    shape = read_shape(Fields(config, "c"), FAMILIES[config["model_type"]], "c")
    header: dict[str, Any] = {}
    end = 0
    for name, size in tensor_shapes(shape):
        tensors = [(name, "F32", size)]
        if "quantization_config" in config and "_proj" in name:
            tensors = [(name, "F8_E4M3", size), (f"{name}_scale", "F32", (size[0], 1))]
        for full, dtype, one in tensors:
            count = (4 if dtype == "F32" else 1) * one[0] * (one[1] if len(one) > 1 else 1)
            header[full] = {"dtype": dtype, "shape": list(one), "data_offsets": [end, end + count]}
            end += count
    return config, header, b"\x01" * end  # small numbers: a matrix of zeros is refused


def write(folder: Path, chance: random.Random) -> None:
    """Write a damaged checkpoint."""
    config, header, data = checkpoint(chance)
    index = {"weight_map": dict.fromkeys(header, "model.safetensors")} if chance.random() < 0.2 else None
    target = chance.randrange(3 if index is None else 4)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if target in (0, 2):
            config = mutate(config, chance, _JUNK, _FIELDS)
        elif target == 1:
            header = mutate(header, chance, _JUNK, _FIELDS)
        else:
            index = mutate(index, chance, _JUNK, _FIELDS)
    text = json.dumps(config).encode()
    start = json.dumps(header).encode()
    file = struct.pack("<Q", len(start)) + start + data
    if chance.random() < 0.3:
        text, file = (damage(text, chance, 8), file) if chance.random() < 0.5 else (text, damage(file, chance, 8))
    (folder / "config.json").write_bytes(text)
    (folder / "model.safetensors").write_bytes(file)
    path = folder / "model.safetensors.index.json"
    path.write_bytes(json.dumps(index).encode()) if index is not None else path.unlink(missing_ok=True)


def attempt(folder: Path) -> str:
    """`accepted` or `refused`. Any other exception is a fault of the gate."""
    import torch
    from llmval_runners.engine.checkpoint.gate import read_checkpoint
    from llmval_runners.engine.checkpoint.load import from_checkpoint
    from llmval_runners.engine.parallel import Parallel
    from llmval_runners.engine.weights import build
    from llmval_runners.process.errors import Refused

    try:
        found = read_checkpoint(folder)
        found.shape.check_tensor_parallel(2)
        device = torch.device("cpu")
        model = build(found.shape, from_checkpoint(found, device), Parallel(device), torch.float32)
    except Refused as refusal:
        text = str(refusal)
        if "\n" in text or len(text) > 2000:
            raise ValueError(f"not one sentence: {text!r}") from refusal
        text.encode()
        return "refused"
    if not torch.isfinite(model.frequencies).all():
        raise ValueError(f"frequencies {model.frequencies} of {found.shape}")
    return "accepted"


def case(chance: random.Random) -> str:
    """One damaged checkpoint."""
    write(scratch("checkpoints"), chance)
    from llmval_runners.engine import weights  # noqa: F401  (not in the time of the first case)

    began = time.process_time()
    outcome = attempt(scratch("checkpoints"))
    if (seconds := time.process_time() - began) > SLOW_S:
        raise Wrong(f"a checkpoint of 40 kB took {seconds:.1f} s")
    return outcome


TARGET = Target(
    "checkpoints",
    "damaged checkpoints: loaded, or refused in one sentence",
    case,
    10_000,
    lambda: None if find_spec("torch") else "torch is not installed",
)
