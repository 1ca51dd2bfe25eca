"""Small checkpoints with random weights, written by transformers, and the logits of both implementations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from llmval_runners.engine.attention.reference import reference_attention
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.engine.checkpoint.load import from_checkpoint
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.kv_cache import PagedKVCache, pages_for
from llmval_runners.engine.model import Decoder
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.step_plan import Admit, Prefill, StepPlan
from llmval_runners.engine.weights import build
from safetensors.torch import save_file

from tests.helpers.runners.two_ranks import together

CPU = torch.device("cpu")
TOKENS = [3 + (7 * place) % 120 for place in range(53)]  # above the original context of the scaled shapes
State = dict[str, torch.Tensor]

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 128,
    "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Logits of both implementations, whose size is about 1, in float32."""
    torch.testing.assert_close(ours, theirs, atol=3e-5, rtol=0)


def config_of(**changes: Any) -> dict[str, Any]:
    """Llama's configuration with changes; a value of `...` removes a field."""
    return {name: value for name, value in (LLAMA | changes).items() if value is not ...}


def write_config(folder: Path, config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def reference_of(folder: Path, seed: int = 1) -> Any:
    """transformers' model for the configuration in `folder`, with random weights, also in norms and biases."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            drawn = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1:
                tensor.copy_(0.2 * drawn if name.endswith("bias") else 1 + 0.2 * drawn)
            else:
                small = "embed" not in name or model.config.tie_word_embeddings  # keeps the logits' size at about 1
                tensor.copy_(drawn * tensor.shape[1] ** -0.5 if small else drawn)
    return model


def save(folder: Path, config: dict[str, Any], *, seed: int = 1) -> Any:
    """Write a checkpoint; returns the reference model with its weights."""
    write_config(folder, config)
    model = reference_of(folder, seed)
    save_file({name: tensor.contiguous() for name, tensor in model_state(model).items()}, folder / "model.safetensors")
    return model


def model_state(model: Any) -> State:
    """The state dict without the tied head."""
    tied = model.config.tie_word_embeddings
    return {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == "lm_head.weight")}


def expected(model: Any, tokens: list[int] = TOKENS) -> torch.Tensor:
    """The reference's logits [tokens, vocab]."""
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([tokens])).logits[0]
    return logits


def model_of(folder: Path, parallel: Parallel, **options: Any) -> Decoder:
    checkpoint = read_checkpoint(folder)
    return build(checkpoint.shape, from_checkpoint(checkpoint, CPU), parallel, torch.float32, **options)


def logits_of(folder: Path, ranks: int = 1, tokens: list[int] = TOKENS) -> torch.Tensor:
    """The engine's logits [tokens, vocab] for a checkpoint, on one or two ranks."""

    def rank(parallel: Parallel) -> torch.Tensor:
        return own_logits(model_of(folder, parallel), tokens)

    return rank(Parallel(CPU)) if ranks == 1 else torch.cat(together(rank), dim=1)


@torch.inference_mode()
def own_logits(model: Decoder, tokens: list[int]) -> torch.Tensor:
    """This rank's logits of a prompt: two chunks, and its last token as a decode would compute it."""
    pages, size = pages_for(len(tokens), 8), model.parallel.size
    cache = PagedKVCache(
        model.shape, tensor_parallel=size, pages=pages, page_size=8, dtype=torch.float32, device=CPU
    )  # fmt: skip
    executor = CpuExecutor(model, cache, reference_attention("sdpa"), max_batch=1, max_pages=pages)
    cut = len(tokens) // 2
    parts = []
    for start, chunk in ((0, tokens[:cut]), (cut, tokens[cut:-1]), (len(tokens) - 1, tokens[-1:])):
        admits = [Admit(0, list(range(pages)))] if not start else []
        parts.append(executor.forward(StepPlan(admits=admits, prefills=[Prefill(0, start, chunk, True)]))[0])
    return model.logits(torch.cat(parts))


def store(folder: Path, state: State) -> None:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")


Quantise = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""(stored, scale, the matrix that they mean)"""


def save_quantised(
    folder: Path, config: dict[str, Any], quantise: Quantise, *, scale: str = "weight_scale", more: State | None = None
) -> Any:
    """Write a checkpoint with quantised layers; returns the reference with the values that it means."""
    model = save(folder, config)
    state = dict(model_state(model))
    for name in [name for name in state if "_proj.weight" in name]:
        stored, scales, meant = quantise(state[name])
        with torch.no_grad():
            model.get_parameter(name).copy_(meant)
        state[name], state[name.removesuffix("weight") + scale] = stored, scales
    store(folder, state | (more or {}))
    return model
