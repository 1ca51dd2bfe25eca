"""Makes an engine from a configuration: the weights, cache and executor of one rank on its device.

`load` makes all three. The long-context runner makes its weights once, and a new cache and executor for each length.
"""

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.attention import reference
from llmval_runners.engine.attention.cudnn_fp8 import is_default
from llmval_runners.engine.compiled import CompiledDecoder
from llmval_runners.engine.config import EngineConfig, kv_pages, load_transformer_engine
from llmval_runners.engine.cpu_executor import CpuExecutor
from llmval_runners.engine.engine import Executor
from llmval_runners.engine.fp8 import NATIVE_KERNEL, Fp8Weight
from llmval_runners.engine.kv_cache import GIB, PagedKVCache, kv_formula, pages_for
from llmval_runners.engine.model import Decoder, Linear
from llmval_runners.engine.parallel import Parallel
from llmval_runners.engine.settings import FlagNames
from llmval_runners.engine.shapes import ModelShape
from llmval_runners.engine.weights import Source, build
from llmval_runners.measure.free_memory import free_memory
from llmval_runners.process.errors import Refused

if TYPE_CHECKING:
    from llmval_runners.engine.gpu.executor import GpuExecutor


class Attention(Protocol):
    """The names of an attention backend and its kernel for the result."""

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
    """Make everything that takes memory: first the weights, then the cache from the free memory, then the graphs.

    Raises:
        Refused: it does not fit into the device's memory; the message states the needed and the free memory.
    """
    on_cuda = config.device.type == "cuda"
    gc.collect()  # reference cycles still keep the memory of an earlier engine
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
            prefill_attention="auto",
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
    """Load this rank's weights onto its device."""
    return build(shape, source, parallel, dtype, linear_maker(fp8_mode, flags))


def new_cache(shape: ModelShape, parallel: Parallel, *, pages: int, page_size: int, dtype: torch.dtype) -> PagedKVCache:
    """Make this rank's KV cache on its device. On a GPU it has a padding page for graphs with a fixed batch size."""
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
    prefill_attention: str = "bf16",
) -> "CpuExecutor | GpuExecutor":
    """Make the executor for the cache's device, with its attention backend. On a GPU it captures the graphs.

    Args:
        model: this rank's weights.
        cache: this rank's cache, on the same device.
        attention_backend: auto, sdpa or flex.
        max_batch: the most sequences in a step.
        max_pages: the most pages of a sequence.
        temperature: 0 for greedy sampling.
        seed: for the sampling noise.
        compiled: the same model's layers, compiled.
        graphs: on a GPU, capture graphs.
        prompt_chunk: on a GPU, the most prompt tokens of a captured step; 0: capture no steps with prompts.
        prefill_attention: on a GPU, bf16, fp8, or auto: fp8 for an FP8 cache where `cudnn_fp8.is_default`.
    """
    if cache.pool.device.type != "cuda":
        attention = reference.reference_attention(attention_backend)
        return CpuExecutor(
            model, cache, attention, max_batch=max_batch, max_pages=max_pages, temperature=temperature, seed=seed,
            compiled=compiled,
        )  # fmt: skip
    from llmval_runners.engine.gpu.executor import GpuExecutor  # needs Triton, which the CPU build of torch lacks

    return GpuExecutor(
        model, cache, gpu_attention(attention_backend, cache, model.heads, prefill_attention),
        max_batch=max_batch, max_pages=max_pages, temperature=temperature, seed=seed, compiled=compiled, graphs=graphs,
        prompt_chunk=prompt_chunk,
    )  # fmt: skip


def out_of_memory(config: EngineConfig, free: int, error: Exception) -> str:
    """One sentence with the memory that the engine needs on each GPU and the memory that was free."""
    shape, size, ranks = config.shape, config.kv_dtype.itemsize, config.tensor_parallel
    return (
        f"the GPU ran out of memory: each of {ranks} ranks needs {config.weight_bytes_per_rank / GIB:.1f} GiB for "
        f"weights, {kv_formula(shape, size, ranks)} of KV cache a token, and room for a step, and {free / GIB:.1f} GiB "
        f"were free: pass {config.flags.less_memory} ({str(error).splitlines()[0]})."
    )


def linear_maker(fp8_mode: str, flags: FlagNames | None = None) -> Callable[[torch.Tensor], Any]:
    """The function that makes a linear layer from its weights [out, in].

    Raises:
        Refused: Transformer Engine is missing or too old.
    """
    if fp8_mode == "transformer-engine":
        return load_transformer_engine(flags or FlagNames()).linear
    return Fp8Weight.quantize if fp8_mode == "native" else Linear


def fp8_kernel(model: Decoder) -> str | None:
    """The kernel of the FP8 products, as found in the layers; None if the layers are not in FP8."""
    first = model.layers[0].qkv
    if isinstance(first, fp8.TeLinear):
        return first.engine.kernel
    return NATIVE_KERNEL if isinstance(first, Fp8Weight) else None


def fp8_mode(model: Decoder) -> str:
    """The FP8 mode of the model, as found in its layers: none, native or transformer-engine."""
    first = model.layers[0].qkv
    if isinstance(first, fp8.TeLinear):
        return "transformer-engine"
    return "native" if isinstance(first, Fp8Weight) else "none"


def gpu_attention(name: str, cache: PagedKVCache, heads: int, prefill_attention: str = "bf16") -> Any:
    """The GPU attention backend called `name`. `auto` is `sdpa`, which was faster at every measured size."""
    if name == "flex" and prefill_attention != "fp8":
        from llmval_runners.engine.attention.flex import FlexAttention

        return FlexAttention(cache, heads)
    by_default = cache.dtype.itemsize == 1 and is_default(cache.pool.device, cache.pool.shape[4], cache.page_size)
    if prefill_attention == "fp8" or (prefill_attention == "auto" and by_default):
        from llmval_runners.engine.attention.fp8_prefill import Fp8PrefillAttention

        return Fp8PrefillAttention(cache, heads)
    from llmval_runners.engine.attention.sdpa import SdpaAttention

    return SdpaAttention(cache, heads)
