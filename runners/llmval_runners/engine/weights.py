"""Sources of weights, by Hugging Face's names: a seed or a state dict; and the model that is made from a source.

`checkpoint/load.py` is the source for a folder.

A random tensor is drawn whole, from a generator that is seeded by the seed and the tensor's name. Each rank keeps its
slice, so a sharded model has exactly the weights of the whole one, for every number of ranks.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from llmval_runners.engine.fp8 import Fp8Weight
from llmval_runners.engine.model import Decoder, Layer, Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import EMBEDDING, HEAD, ModelShape, layer_shapes
from llmval_runners.process.errors import Refused

Source = Callable[[str, tuple[int, ...]], "torch.Tensor | Fp8Weight"]
"""Returns the whole tensor for a name and shape. Raises Refused if it is missing or has another shape."""

_ROWS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head")
_COLUMNS = ("o_proj", "down_proj")
_KV = ("k_proj", "v_proj")
_SUMMED_BIASES = ("o_proj.bias", "down_proj.bias")  # on the first rank only, because the ranks' results are summed


def random_weights(seed: int, device: torch.device) -> Source:
    """Normal weights with variance 1/fan-in, which keeps the size of activations, norms of 1 and biases of 0; made on
    `device`."""

    def source(name: str, size: tuple[int, ...]) -> torch.Tensor:
        if len(size) == 1:
            return torch.zeros(size, device=device) if name.endswith(".bias") else torch.ones(size, device=device)
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        return torch.randn(size, generator=generator, device=device).mul_(size[1] ** -0.5)

    return source


def build(
    shape: ModelShape,
    source: Source,
    parallel: Parallel,
    dtype: torch.dtype,
    linear: Callable[[torch.Tensor], Any] = Linear,
) -> Decoder:
    """This rank's part of the model, on the rank's device, in `dtype`; `linear` makes the layers of a block.

    A matrix that the source has in FP8 is kept as it is if `linear` is `Fp8Weight.quantize`.
    """
    keep_fp8 = linear == Fp8Weight.quantize

    def part(name: str, size: tuple[int, ...]) -> torch.Tensor | Fp8Weight:
        found = source(name, size)
        scale = shape.query_scale if name.endswith(_queries(shape)) else 1.0
        if isinstance(found, Fp8Weight):
            scales = _slice(name, found.scales, shape, parallel) if _axis(name) == 0 else found.scales
            weight = _slice(name, found.weight, shape, parallel)
            own = Fp8Weight(weight.to(parallel.device).contiguous(), scales.to(parallel.device) * scale)
            _check_values(name, own.scales)
            _check_values(name, own.weight)
            if keep_fp8:
                return own
            multiplied = own.multiplied_out(dtype)
            _check_values(name, multiplied)
            return multiplied
        whole = _slice(name, found, shape, parallel)
        if name.endswith(_SUMMED_BIASES) and parallel.rank:
            whole = torch.zeros_like(whole)
        if scale != 1.0:
            whole = whole.float() * scale
        whole = whole.to(device=parallel.device, dtype=dtype).contiguous()
        _check_values(name, whole)
        return whole

    def tensor(name: str, size: tuple[int, ...]) -> torch.Tensor:
        return _whole(part(name, size), dtype)

    def made(matrix: torch.Tensor | Fp8Weight) -> Any:
        return matrix if isinstance(matrix, Fp8Weight) else linear(matrix)

    layers = []
    sizes = layer_shapes(shape)
    for index in range(shape.layers):
        own = {name: part(f"model.layers.{index}.{name}", size) for name, size in sizes.items()}

        def below(*names: str, own: dict[str, torch.Tensor | Fp8Weight] = own) -> torch.Tensor | Fp8Weight:
            return _below([own.pop(f"{name}.weight") for name in names], dtype)

        def vector(*names: str, own: dict[str, torch.Tensor | Fp8Weight] = own) -> torch.Tensor | None:
            return torch.cat([_whole(own.pop(name), dtype) for name in names]) if names[0] in own else None

        qkv = below("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        gate_up = below("mlp.gate_proj", "mlp.up_proj")
        layers.append(
            Layer(
                attention_norm=_whole(own["input_layernorm.weight"], dtype),
                qkv=made(qkv),
                output=made(own["self_attn.o_proj.weight"]),
                mlp_norm=_whole(own["post_attention_layernorm.weight"], dtype),
                gate_up=made(gate_up),
                down=made(own["mlp.down_proj.weight"]),
                qkv_bias=vector("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"),
                output_bias=vector("self_attn.o_proj.bias"),
                gate_up_bias=vector("mlp.gate_proj.bias", "mlp.up_proj.bias"),
                down_bias=vector("mlp.down_proj.bias"),
                query_norm=vector("self_attn.q_norm.weight"),
                key_norm=vector("self_attn.k_norm.weight"),
            )
        )
    embedding = tensor(EMBEDDING, (shape.vocab, shape.hidden))
    if shape.tied_embeddings:
        head = embedding.chunk(parallel.size)[parallel.rank]
    else:
        head = tensor(HEAD, (shape.vocab, shape.hidden))
    norm = tensor("model.norm.weight", (shape.hidden,))
    return Decoder(shape, parallel, embedding=embedding, layers=layers, norm=norm, head=Linear(head))


def _check_values(name: str, values: torch.Tensor) -> None:
    """Refuse values with which every figure would be measured, and all tokens be worthless.

    A download into a file of the final size that was not finished leaves zeros, with which a GPU is faster, too.
    """
    kind = values.dtype
    if kind == torch.float8_e4m3fn:
        values = values.view(torch.uint8)
        finite = not bool(((values & 0x7F) == 0x7F).any())
    else:
        finite = bool(values.sum(dtype=torch.float32).isfinite())  # needs no memory, unlike isfinite() of each value
    if not finite:
        raise Refused(f"{name} has values that are not finite numbers in {kind}: download the checkpoint again.")
    if not name.endswith("bias") and not bool(values.any()):
        raise Refused(
            f"{name} has only zeros, as a download that did not finish leaves: download the checkpoint again."
        )


def _whole(part: torch.Tensor | Fp8Weight, dtype: torch.dtype) -> torch.Tensor:
    return part.multiplied_out(dtype) if isinstance(part, Fp8Weight) else part


def _below(parts: list[torch.Tensor | Fp8Weight], dtype: torch.dtype) -> torch.Tensor | Fp8Weight:
    """One matrix of several below each other."""
    fp8 = [part for part in parts if isinstance(part, Fp8Weight)]
    if len(fp8) == len(parts):
        return Fp8Weight(torch.cat([part.weight for part in fp8]), torch.cat([part.scales for part in fp8]))
    return torch.cat([_whole(part, dtype) for part in parts])


def _queries(shape: ModelShape) -> tuple[str, ...]:
    """The tensors that `query_scale` multiplies: the last ones before the rotation."""
    return ("q_norm.weight",) if shape.qk_norm else ("q_proj.weight", "q_proj.bias")


def _slice(name: str, whole: torch.Tensor, shape: ModelShape, parallel: Parallel) -> torch.Tensor:
    """This rank's part of a tensor. If there are fewer KV heads than ranks, several ranks have the same head."""
    axis = _axis(name)
    if axis is None or parallel.size == 1:
        return whole
    parts = min(parallel.size, shape.kv_heads) if name.split(".")[-2] in _KV else parallel.size
    return whole.chunk(parts, dim=axis)[parallel.rank * parts // parallel.size]


def _axis(name: str) -> int | None:
    """The axis along which tensor parallelism cuts a tensor; None if every rank keeps it whole."""
    module, _, kind = name.rpartition(".")
    module = module.rpartition(".")[2]
    return 0 if module in _ROWS else 1 if module in _COLUMNS and kind != "bias" else None


def export(model: Decoder) -> dict[str, torch.Tensor]:
    """The state dict of an unsharded model, by Hugging Face's names."""
    if model.parallel.size != 1:
        raise ValueError("only an unsharded model has every weight")
    shape = model.shape
    state = {EMBEDDING: model.embedding, "model.norm.weight": model.norm}
    if not shape.tied_embeddings:
        state[HEAD] = model.head.weight
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    for index, layer in enumerate(model.layers):
        own: dict[str, torch.Tensor | None] = {
            "input_layernorm.weight": layer.attention_norm, "post_attention_layernorm.weight": layer.mlp_norm,
            "self_attn.o_proj.weight": layer.output.weight, "self_attn.o_proj.bias": layer.output_bias,
            "mlp.down_proj.weight": layer.down.weight, "mlp.down_proj.bias": layer.down_bias,
            "self_attn.q_norm.weight": layer.query_norm, "self_attn.k_norm.weight": layer.key_norm,
        }  # fmt: skip
        for kind, qkv, gate_up in (
            ("weight", layer.qkv.weight, layer.gate_up.weight),
            ("bias", layer.qkv_bias, layer.gate_up_bias),
        ):
            if qkv is not None:
                for name, tensor in zip("qkv", torch.split(qkv, [queries, keys, keys]), strict=True):
                    own[f"self_attn.{name}_proj.{kind}"] = tensor
            if gate_up is not None:
                own[f"mlp.gate_proj.{kind}"], own[f"mlp.up_proj.{kind}"] = gate_up.chunk(2)
        for name, value in own.items():
            if value is not None:
                scaled = shape.query_scale != 1.0 and name.endswith(_queries(shape))
                state[f"model.layers.{index}.{name}"] = value / shape.query_scale if scaled else value
    return state
