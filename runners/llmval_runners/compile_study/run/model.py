"""The workload in the requested size, with seeded random weights or those of a checkpoint."""

from dataclasses import dataclass
from typing import cast

import torch
from llmval_runners.compile_study.options import StudyOptions
from llmval_runners.compile_study.run.workload import OPTIONAL, Block, Dimensions, Prefill, random_model, world_group
from llmval_runners.engine import weights
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.engine.checkpoint.load import from_checkpoint
from llmval_runners.engine.model import rope_frequencies
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import SHAPES, ModelShape


@dataclass(frozen=True, slots=True)
class _RankPlace:
    """The fields of `Parallel` that `weights.build` reads. The study opens its process group itself."""

    device: torch.device
    rank: int
    size: int


def shape_of(options: StudyOptions) -> ModelShape:
    """The shape of the checkpoint, or of the model that `options.model` names."""
    return read_checkpoint(options.checkpoint).shape if options.checkpoint else SHAPES[options.model or ""]


def dimensions(shape: ModelShape, ranks: int) -> Dimensions:
    return Dimensions(
        shape.layers,
        shape.hidden,
        shape.heads,
        shape.kv_heads,
        shape.head_dim,
        shape.ffn,
        shape.vocab,
        ranks,
        shape.norm_eps,
        shape.qkv_bias,
        shape.output_bias,
        shape.mlp_bias,
        shape.qk_norm,
        shape.activation,
    )


def dtype_for(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def make_model(options: StudyOptions, device: torch.device, rank: int, size: int) -> Prefill:
    shape, group = shape_of(options), world_group(size)
    sizes = dimensions(shape, size)
    if options.checkpoint is None:
        return random_model(sizes, device, dtype_for(device), options.seed, rank, group)
    place = cast(Parallel, _RankPlace(device, rank, size))
    source = from_checkpoint(read_checkpoint(options.checkpoint), device)
    decoder = weights.build(shape, source, place, dtype_for(device))
    blocks = [
        Block(sizes, {"attention_norm": layer.attention_norm, "qkv": layer.qkv.weight, "output": layer.output.weight,
                      "mlp_norm": layer.mlp_norm, "gate_up": layer.gate_up.weight, "down": layer.down.weight,
                      **{name: getattr(layer, name) for name in OPTIONAL}}, group)
        for layer in decoder.layers
    ]  # fmt: skip
    frequencies = rope_frequencies(shape).to(device)
    return Prefill(
        sizes, blocks, embedding=decoder.embedding, norm=decoder.norm, head=decoder.head.weight, frequencies=frequencies
    )


def tokens_for(options: StudyOptions, model: Prefill, device: torch.device) -> torch.Tensor:
    """int64 [batch, tokens], the same on every rank."""
    generator = torch.Generator().manual_seed(options.seed)
    vocabulary = model.embedding.shape[0]
    return torch.randint(vocabulary, (options.batch_size, options.sequence_length), generator=generator).to(device)
