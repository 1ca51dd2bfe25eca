"""Sources of weights, by Hugging Face's names: a seed, a state dict, or a checkpoint folder.

A random tensor is drawn whole, from a generator that is seeded by the seed and the tensor's name. Each rank keeps its
slice, so a sharded model has exactly the weights of the whole one, for every number of ranks.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine.model import Decoder, Layer, Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import ModelShape, RopeScaling
from llmval_runners.process.errors import Refused

Source = Callable[[str, tuple[int, ...]], torch.Tensor]
"""Returns the whole tensor for a name and shape. Raises Refused if it is missing or has another shape."""

_ROWS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head")
_COLUMNS = ("o_proj", "down_proj")


def tensor_shapes(shape: ModelShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The Hugging Face name and the unsharded shape of every tensor of the model."""
    yield "model.embed_tokens.weight", (shape.vocab, shape.hidden)
    for index in range(shape.layers):
        yield from ((f"model.layers.{index}.{name}.weight", size) for name, size in _layer_shapes(shape).items())
    yield "model.norm.weight", (shape.hidden,)
    if not shape.tied_embeddings:
        yield "lm_head.weight", (shape.vocab, shape.hidden)


def _layer_shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return {
        "input_layernorm": (shape.hidden,),
        "self_attn.q_proj": (queries, shape.hidden),
        "self_attn.k_proj": (keys, shape.hidden),
        "self_attn.v_proj": (keys, shape.hidden),
        "self_attn.o_proj": (shape.hidden, queries),
        "post_attention_layernorm": (shape.hidden,),
        "mlp.gate_proj": (shape.ffn, shape.hidden),
        "mlp.up_proj": (shape.ffn, shape.hidden),
        "mlp.down_proj": (shape.hidden, shape.ffn),
    }


def random_weights(seed: int, device: torch.device) -> Source:
    """Normal weights with variance 1/fan-in, which keeps the size of activations, and norms of 1; made on `device`."""

    def source(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if len(size) == 1:
            return torch.ones(size, device=device)
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        return torch.randn(size, generator=generator, device=device).mul_(size[1] ** -0.5)

    return source


def from_state_dict(state: dict[str, torch.Tensor]) -> Source:
    """Tensors that are in memory already."""

    def source(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if name not in state:
            raise Refused(f"the weights lack {name}: pass a Llama checkpoint, or a --model shape without --checkpoint.")
        if tuple(state[name].shape) != size:
            raise Refused(
                f"{name} is {list(state[name].shape)} in the weights and {list(size)} in the shape: "
                "pass the --model it was saved from."
            )
        return state[name]

    return source


def build(
    shape: ModelShape,
    source: Source,
    parallel: Parallel,
    dtype: torch.dtype,
    linear: Callable[[torch.Tensor], Any] = Linear,
) -> Decoder:
    """This rank's part of the model, on the rank's device, in `dtype`; `linear` makes the layers of a block."""

    def part(name: str, size: tuple[int, ...]) -> torch.Tensor:
        whole = source(name, size)
        axis = _axis(name)
        if axis is not None and parallel.size > 1:
            whole = whole.chunk(parallel.size, dim=axis)[parallel.rank]
        return whole.to(device=parallel.device, dtype=dtype).contiguous()

    layers = []
    sizes = _layer_shapes(shape)
    for index in range(shape.layers):
        own = {name: part(f"model.layers.{index}.{name}.weight", size) for name, size in sizes.items()}
        qkv = torch.cat([own.pop(f"self_attn.{which}_proj") for which in "qkv"])
        gate_up = torch.cat([own.pop(f"mlp.{which}_proj") for which in ("gate", "up")])
        layers.append(
            Layer(
                attention_norm=own["input_layernorm"],
                qkv=linear(qkv),
                output=linear(own["self_attn.o_proj"]),
                mlp_norm=own["post_attention_layernorm"],
                gate_up=linear(gate_up),
                down=linear(own["mlp.down_proj"]),
            )
        )
    embedding = part("model.embed_tokens.weight", (shape.vocab, shape.hidden))
    if shape.tied_embeddings:
        head = embedding.chunk(parallel.size)[parallel.rank]
    else:
        head = part("lm_head.weight", (shape.vocab, shape.hidden))
    norm = part("model.norm.weight", (shape.hidden,))
    return Decoder(shape, parallel, embedding=embedding, layers=layers, norm=norm, head=Linear(head))


def _axis(name: str) -> int | None:
    """The axis along which tensor parallelism cuts a tensor; None if every rank keeps it whole."""
    module = name.split(".")[-2]
    return 0 if module in _ROWS else 1 if module in _COLUMNS else None


def export(model: Decoder) -> dict[str, torch.Tensor]:
    """The state dict of an unsharded model, by Hugging Face's names."""
    if model.parallel.size != 1:
        raise ValueError("only an unsharded model has every weight")
    shape = model.shape
    state = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm}
    if not shape.tied_embeddings:
        state["lm_head.weight"] = model.head.weight
    keys = shape.kv_heads * shape.head_dim
    for index, layer in enumerate(model.layers):
        q, k, v = torch.split(layer.qkv.weight, [shape.heads * shape.head_dim, keys, keys])
        gate, up = layer.gate_up.weight.chunk(2)
        own = {
            "input_layernorm": layer.attention_norm, "self_attn.q_proj": q, "self_attn.k_proj": k,
            "self_attn.v_proj": v,
            "self_attn.o_proj": layer.output.weight, "post_attention_layernorm": layer.mlp_norm, "mlp.gate_proj": gate,
            "mlp.up_proj": up, "mlp.down_proj": layer.down.weight,
        }  # fmt: skip
        state |= {f"model.layers.{index}.{name}.weight": tensor for name, tensor in own.items()}
    return state


def checkpoint_shape(folder: Path) -> ModelShape:
    """The shape that a Hugging Face folder's config.json states.

    Raises:
        Refused: there is no readable config.json, another architecture, or a rotary scaling that is not Llama 3's.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise Refused(
            f"{folder} has no readable config.json ({error}): pass the folder of a Hugging Face checkpoint."
        ) from None
    architectures = config.get("architectures") or ["none"]
    if "LlamaForCausalLM" not in architectures:
        raise Refused(
            f"{folder} holds a {architectures[0]}, and only LlamaForCausalLM is supported: pass a Llama checkpoint."
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", "default")
    if kind not in ("default", "llama3"):
        raise Refused(f"{folder} wants the rotary scaling {kind!r}: pass a checkpoint with 'llama3' or none.")
    scaling = None
    if kind == "llama3":
        scaling = RopeScaling(
            rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
        )
    heads = config["num_attention_heads"]
    shape = ModelShape(
        folder.resolve().name,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads", heads),
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        ffn=config["intermediate_size"],
        vocab=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
        rope_theta=float(rope.get("rope_theta", config.get("rope_theta", 10_000.0))),
        rope_scaling=scaling,
        norm_eps=config["rms_norm_eps"],
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
    )
    shape.check()
    return shape


def from_checkpoint(folder: Path) -> Source:
    """Tensors of a folder of safetensors files, read one at a time.

    Raises:
        Refused: safetensors is not installed, or the folder has none of its files.
    """
    try:
        from safetensors import safe_open
    except ImportError:
        raise Refused(
            "--checkpoint needs the package safetensors: run `pip install safetensors`, or leave --checkpoint out."
        ) from None
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise Refused(f"{folder} has no .safetensors file: pass a checkpoint saved in that format.")
    handles: list[Any] = [safe_open(file, framework="pt") for file in files]  # safetensors has no types
    place = {name: handle for handle in handles for name in handle.keys()}  # noqa: SIM118  (the handle is no dict)

    def source(name: str, size: tuple[int, ...]) -> torch.Tensor:
        tensors = {name: place[name].get_tensor(name)} if name in place else {}
        return from_state_dict(tensors)(name, size)

    return source
