"""Weights, cache and executor of one rank, for the device that it has."""

import gc
from collections.abc import Callable
from typing import Any, Protocol

import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.attention import reference as attention
from llmval_runners.engine.compiled import CompiledDecoder
from llmval_runners.engine.config import Config, free_memory, kv_pages
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.engine import Executor
from llmval_runners.engine.fp8 import NATIVE_KERNEL, Fp8Weight
from llmval_runners.engine.kv_cache import GIB, PagedKVCache, kv_formula, pages_for
from llmval_runners.engine.model import Decoder, Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.engine.weights import Source, build
from llmval_runners.process.errors import Refused


class Attention(Protocol):
    """What the result says of an attention backend."""

    name: str
    kernel: str


class Loaded(Executor, Protocol):
    """An executor with its model and attention backend, and its compiled layers where it has such."""

    model: Decoder
    attention: Any
    compiled: CompiledDecoder | None


def load(config: Config, source: Source, parallel: Parallel, *, graphs: bool = True) -> Loaded:
    """Everything that takes memory, in the order in which its size is known: weights, cache, graphs.

    Raises:
        Refused: the device's memory does not hold it; says what was needed and what was free.
    """
    on_cuda = config.device.type == "cuda"
    gc.collect()  # an earlier engine's memory is in reference cycles
    free = free_memory(config.device)
    try:
        model = load_model(config.shape, source, parallel, config.dtype, config.fp8)
        if on_cuda:
            torch.cuda.empty_cache()
        free = free_memory(config.device)
        pages = parallel.min_over_ranks(kv_pages(config, free))
        cache = PagedKVCache(
            config.shape,
            tensor_parallel=config.tensor_parallel,
            pages=pages,
            page_size=config.page_size,
            dtype=config.kv_dtype,
            device=config.device,
            with_padding_page=on_cuda,
        )
        compiled = None if config.compile_mode == "off" else CompiledDecoder(model, cache, config.compile_mode)
        return make_executor(
            model,
            cache,
            config.attention,
            compiled=compiled,
            max_batch=config.max_batch,
            max_pages=pages_for(config.longest, config.page_size),
            temperature=config.options.temperature,
            seed=config.options.seed,
            graphs=graphs,
            prompt_chunk=config.chunk,
        )
    except torch.OutOfMemoryError as error:
        raise Refused(out_of_memory(config, free, error)) from error


def load_model(shape: ModelShape, source: Source, parallel: Parallel, dtype: torch.dtype, fp8_mode: str) -> Decoder:
    """One rank's weights on its device. `fp8_mode` (none, native or transformer-engine) decides the layers' matrices.

    Raises:
        Refused: Transformer Engine is missing.
    """
    return build(shape, source, parallel, dtype, linear_maker(fp8_mode))


def make_executor(
    model: Decoder,
    cache: PagedKVCache,
    backend: str,
    *,
    max_batch: int,
    max_pages: int,
    compiled: CompiledDecoder | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    graphs: bool = True,
    prompt_chunk: int = 0,
    fp8_prompts: bool = False,
) -> Loaded:
    """The executor for the model's device, with its attention backend. On a GPU it captures the graphs.

    Args:
        model: this rank's weights.
        cache: on the same device.
        backend: auto, sdpa or flex.
        max_batch: the most sequences.
        max_pages: the most pages of a sequence.
        compiled: the same model's layers, compiled.
        temperature: 0 for greedy sampling.
        seed: of the sampling noise.
        graphs: on a GPU, capture graphs.
        prompt_chunk: on a GPU, the most prompt tokens of a captured step; 0: capture no steps with prompts.
        fp8_prompts: on a GPU, compute the attention of prompts in FP8, in place of `backend`.
    """
    if model.embedding.device.type != "cuda":
        return CpuExecutor(
            model,
            cache,
            attention.reference_attention(backend),
            compiled=compiled,
            max_batch=max_batch,
            max_pages=max_pages,
            temperature=temperature,
            seed=seed,
        )
    from llmval_runners.engine.gpu.executor import GpuExecutor  # needs Triton, which a CPU's torch does not bring

    return GpuExecutor(
        model,
        cache,
        _fp8_prompt_attention(cache, model.heads) if fp8_prompts else gpu_attention(backend, cache, model.heads),
        compiled=compiled,
        max_batch=max_batch,
        max_pages=max_pages,
        temperature=temperature,
        seed=seed,
        graphs=graphs,
        prompt_chunk=prompt_chunk,
    )


def _fp8_prompt_attention(cache: PagedKVCache, heads: int) -> Any:
    from llmval_runners.engine.attention.fp8_prefill import Fp8PrefillAttention

    return Fp8PrefillAttention(cache, heads)


def out_of_memory(config: Config, free: int, error: Exception) -> str:
    """What an engine needs of each GPU's memory, and what was free, in one sentence."""
    shape, size, ranks = config.shape, config.kv_dtype.itemsize, config.tensor_parallel
    return (
        f"the GPU ran out of memory: each of {ranks} ranks needs {config.weight_bytes_per_rank / GIB:.1f} GiB for "
        f"weights, {kv_formula(shape, size, ranks)} of KV cache a token, and room for a step, and {free / GIB:.1f} GiB "
        f"were free: pass a smaller --kv-tokens, --max-batch or --prefill-chunk ({str(error).splitlines()[0]})."
    )


def linear_maker(fp8_mode: str) -> Callable[[torch.Tensor], Any]:
    """What makes a block's layers of their weights [out, in]. Raises Refused where Transformer Engine is missing."""
    if fp8_mode == "transformer-engine":
        return fp8.load_transformer_engine().linear
    return Fp8Weight.quantize if fp8_mode == "native" else Linear


def fp8_kernel(model: Decoder) -> str | None:
    """How the layers' FP8 products run, read from the layers themselves; None where they are not FP8."""
    first = model.layers[0].qkv
    if isinstance(first, fp8.TeLinear):
        return first.engine.kernel
    return NATIVE_KERNEL if isinstance(first, Fp8Weight) else None


def fp8_mode(model: Decoder) -> str:
    """The mode whose layers these are."""
    first = model.layers[0].qkv
    if isinstance(first, fp8.TeLinear):
        return "transformer-engine"
    return "native" if isinstance(first, Fp8Weight) else "none"


def gpu_attention(name: str, cache: PagedKVCache, heads: int) -> Any:
    """The backend called `name` on a GPU; `auto` is `sdpa`, which measured faster at every size."""
    if name == "flex":
        from llmval_runners.engine.attention.flex import FlexAttention

        return FlexAttention(cache, heads)
    from llmval_runners.engine.attention.sdpa import SdpaAttention

    return SdpaAttention(cache, heads)
