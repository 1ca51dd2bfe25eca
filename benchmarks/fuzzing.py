"""Damaged checkpoints: every one must be loaded or refused in one sentence, and quickly.

    PYTHONPATH=runners python -m benchmarks.fuzzing 10000 [SEED]

A damaged checkpoint has a mutated config.json, header or index. One that the gate accepts is loaded and split over two
ranks as well. The same seed makes the same checkpoints.
"""

import copy
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.report import Row

SLOW_S = 5.0  # for a checkpoint of 40 kB
COUNT = 10_000
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
    return config, header, bytes(end)


def mutate(value: Any, chance: random.Random) -> Any:
    """`value` with a change somewhere inside."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.15:
            del value[key]
        elif kind < 0.35:
            value[chance.choice(_FIELDS)] = copy.deepcopy(chance.choice(_JUNK))
        elif kind < 0.45:
            value[str(key) + chance.choice("_x \n\0é")] = value.pop(key)
        else:
            value[key] = mutate(value[key], chance)
        return value
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        value[place] = mutate(value[place], chance)
        return value
    if type(value) is int and chance.random() < 0.5:
        return value + chance.choice([-1, 1, 2, 4, 8, -8, 2**20])
    return copy.deepcopy(chance.choice(_JUNK))  # a later mutation may change it


def damage(data: bytes, chance: random.Random) -> bytes:
    """`data` with bytes changed, removed, inserted or cut off."""
    for _ in range(chance.choice([1, 1, 2, 8])):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place] + data[place + chance.randrange(1, 40) :]
        elif kind == 3:
            data = (
                data[:place] + chance.choice([b"[" * 5000, b"9" * 5000, b'{"a":', b"\xff", b"NaN", b'"']) + data[place:]
            )
        else:
            data = data[:8] + data[place:] if chance.random() < 0.3 else data + data[:place]
    return data


def write(folder: Path, chance: random.Random) -> None:
    """Write a damaged checkpoint."""
    config, header, data = checkpoint(chance)
    index = {"weight_map": dict.fromkeys(header, "model.safetensors")} if chance.random() < 0.2 else None
    target = chance.randrange(3 if index is None else 4)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        if target in (0, 2):
            config = mutate(config, chance)
        elif target == 1:
            header = mutate(header, chance)
        else:
            index = mutate(index, chance)
    text = json.dumps(config).encode()
    start = json.dumps(header).encode()
    file = struct.pack("<Q", len(start)) + start + data
    if chance.random() < 0.3:
        text, file = (damage(text, chance), file) if chance.random() < 0.5 else (text, damage(file, chance))
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


def fuzz(count: int, seed: int = 0) -> Counter[str]:
    """Outcomes of `count` damaged checkpoints: accepted, refused, traceback, slow. Prints the first faults."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            write(Path(scratch), chance)
            began = time.monotonic()
            try:
                outcome = attempt(Path(scratch))
            except Exception:  # noqa: BLE001  (this is what the fuzzer looks for)
                outcome = "traceback"
                if outcomes["traceback"] < 3:
                    print(f"number {number} of seed {seed}:\n{traceback.format_exc()}", file=sys.stderr)
            outcomes["slow"] += time.monotonic() - began > SLOW_S
            outcomes[outcome] += 1
    return outcomes


def row() -> Row:
    """The gate's answers to `COUNT` damaged checkpoints."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzzing", str(COUNT)], cwd=root, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'runners'}"},
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if not lines:
        return Row("damaged checkpoints", done.stderr.strip()[-200:], None, None)
    return Row(f"{COUNT:,} damaged checkpoints", lines[-1], "0 tracebacks, 0 slow", done.returncode == 0)


if __name__ == "__main__":
    found = fuzz(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    print(", ".join(f"{found[name]:,} {name}" for name in ("accepted", "refused", "traceback", "slow")))
    sys.exit(bool(found["traceback"] or found["slow"]))
