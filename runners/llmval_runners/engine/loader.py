"""From a configuration to an engine: the weights, cache and executor of one rank on its device.

`load` makes all three. The long-context runner loads its weights once, and a cache and an executor for each length.
"""

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.attention import reference
from llmval_runners.engine.compiled import CompiledDecoder
from llmval_runners.engine.config import EngineConfig, free_memory, kv_pages, load_transformer_engine
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.engine import Executor
from llmval_runners.engine.fp8 import NATIVE_KERNEL, Fp8Weight
from llmval_runners.engine.kv_cache import GIB, PagedKVCache, kv_formula, pages_for
from llmval_runners.engine.model import Decoder, Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.settings import FlagNames
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.engine.weights import Source, build
from llmval_runners.process.errors import Refused

if TYPE_CHECKING:
    from llmval_runners.engine.gpu.executor import GpuExecutor


class Attention(Protocol):
    """What the result says about an attention backend."""

    name: str
    kernel: str


class Loaded(Executor, Protocol):
    """An executor with its attention backend, and its compiled layers if it has any."""

    @property
    def attention(self) -> Attention: ...

    @property
    def compiled(self) -> CompiledDecoder | None: ...


def load(
    config: EngineConfig, source: Source, parallel: Parallel, *, graphs: bool = True
) -> "CpuExecutor | GpuExecutor":
    """Make everything that takes memory, in the order in which its size is known: weights, cache, graphs.

    Raises:
        Refused: the device's memory does not hold it; the message says what was needed and what was free.
    """
    on_cuda = config.device.type == "cuda"
    gc.collect()  # the memory of an earlier engine is in reference cycles
    free = free_memory(config.device)
    try:
        model = load_model(config.shape, source, parallel, config.dtype, config.fp8_mode, config.flags)
        if on_cuda:
            torch.cuda.empty_cache()
        free = free_memory(config.device)
        pages = parallel.min_over_ranks(kv_pages(config, free))
        cache = new_cache(config.shape, parallel, pages=pages, page_size=config.page_size, dtype=config.kv_dtype)
        compiled = None if config.compile_mode == "off" else CompiledDecoder(model, cache, config.compile_mode)
        return make_executor(
            model, cache, config.attention_backend, max_batch=config.max_batch,
            max_pages=pages_for(config.longest_context, config.page_size), temperature=config.temperature,
            seed=config.seed, compiled=compiled, graphs=graphs, prompt_chunk=config.prefill_chunk,
        )  # fmt: skip
    except torch.OutOfMemoryError as error:
        raise Refused(out_of_memory(config, free, error)) from error


def load_model(
    shape: ModelShape,
    source: Source,
    parallel: Parallel,
    dtype: torch.dtype,
    fp8_mode: str,
    flags: FlagNames | None = None,
) -> Decoder:
    """This rank's weights on its device."""
    return build(shape, source, parallel, dtype, linear_maker(fp8_mode, flags))


def new_cache(shape: ModelShape, parallel: Parallel, *, pages: int, page_size: int, dtype: torch.dtype) -> PagedKVCache:
    """This rank's KV cache on its device. On a GPU it has a padding page, which graphs of a fixed batch need."""
    return PagedKVCache(
        shape,
        tensor_parallel=parallel.size,
        pages=pages,
        page_size=page_size,
        dtype=dtype,
        device=parallel.device,
        with_padding_page=parallel.device.type == "cuda",
    )


def make_executor(
    model: Decoder,
    cache: PagedKVCache,
    attention_backend: str,
    *,
    max_batch: int,
    max_pages: int,
    temperature: float = 0.0,
    seed: int = 0,
    compiled: CompiledDecoder | None = None,
    graphs: bool = True,
    prompt_chunk: int = 0,
    fp8_prompts: bool = False,
) -> "CpuExecutor | GpuExecutor":
    """The executor for the cache's device, with its attention backend. On a GPU it captures the graphs.

    Args:
        model: this rank's weights.
        cache: on the same device.
        attention_backend: auto, sdpa or flex.
        max_batch: the most sequences.
        max_pages: the most pages of a sequence.
        temperature: 0 for greedy sampling.
        seed: of the sampling noise.
        compiled: the same model's layers, compiled.
        graphs: on a GPU, capture graphs.
        prompt_chunk: on a GPU, the most prompt tokens of a captured step; 0: capture no steps with prompts.
        fp8_prompts: on a GPU, compute the attention of prompts in FP8 instead of by `attention_backend`.
    """
    if cache.pool.device.type != "cuda":
        attention = reference.reference_attention(attention_backend)
        return CpuExecutor(
            model, cache, attention, max_batch=max_batch, max_pages=max_pages, temperature=temperature, seed=seed,
            compiled=compiled,
        )  # fmt: skip
    from llmval_runners.engine.gpu.executor import GpuExecutor  # needs Triton, which torch for CPUs does not bring

    return GpuExecutor(
        model, cache, gpu_attention(attention_backend, cache, model.heads, fp8_prompts=fp8_prompts),
        max_batch=max_batch, max_pages=max_pages, temperature=temperature, seed=seed, compiled=compiled, graphs=graphs,
        prompt_chunk=prompt_chunk,
    )  # fmt: skip


def out_of_memory(config: EngineConfig, free: int, error: Exception) -> str:
    """What an engine needs of each GPU's memory, and what was free, in one sentence."""
    shape, size, ranks = config.shape, config.kv_dtype.itemsize, config.tensor_parallel
    return (
        f"the GPU ran out of memory: each of {ranks} ranks needs {config.weight_bytes_per_rank / GIB:.1f} GiB for "
        f"weights, {kv_formula(shape, size, ranks)} of KV cache a token, and room for a step, and {free / GIB:.1f} GiB "
        f"were free: pass {config.flags.less_memory} ({str(error).splitlines()[0]})."
    )


def linear_maker(fp8_mode: str, flags: FlagNames | None = None) -> Callable[[torch.Tensor], Any]:
    """The function that makes a block's layer of its weights [out, in].

    Raises:
        Refused: Transformer Engine is missing or too old.
    """
    if fp8_mode == "transformer-engine":
        return load_transformer_engine(flags or FlagNames()).linear
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


def gpu_attention(name: str, cache: PagedKVCache, heads: int, *, fp8_prompts: bool = False) -> Any:
    """The backend called `name` on a GPU. `auto` is `sdpa`, which measured faster at every size."""
    if fp8_prompts:
        from llmval_runners.engine.attention.fp8_prefill import Fp8PrefillAttention

        return Fp8PrefillAttention(cache, heads)
    if name == "flex":
        from llmval_runners.engine.attention.flex import FlexAttention

        return FlexAttention(cache, heads)
    from llmval_runners.engine.attention.sdpa import SdpaAttention

    return SdpaAttention(cache, heads)
