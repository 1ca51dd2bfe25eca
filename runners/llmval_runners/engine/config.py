"""Turns the settings from a runner's flags into the engine's configuration on this machine.

All decisions and refusals happen here, before any heavy work. Nothing falls back silently.
"""

from dataclasses import dataclass, replace

import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.checkpoint.gate import Checkpoint, read_checkpoint, read_model_shape
from llmval_runners.engine.kv_cache import GIB, check_gpu_page, kv_formula, pages_for, refuse_longer
from llmval_runners.engine.settings import EngineSettings, FlagNames
from llmval_runners.engine.shapes import CPU_PARAMETERS, DEFAULT_MODEL, ModelShape, shape_by_name, weight_bytes_on
from llmval_runners.measure.free_memory import free_memory
from llmval_runners.process.errors import Refused

FLEX_ELEMENTS = 2**31 - 1  # most elements in a layer's keys: the kernels of flex attention use 32-bit offsets
FLEX_PAGE = 128  # a page must not be smaller than the mask's block (pytorch#182593)
CUDA_RESERVE = 0.10  # of the free memory, for activations and the allocator


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """The engine's configuration on this machine. `longest_context`: the longest context of a request, in tokens."""

    shape: ModelShape
    checkpoint: Checkpoint | None
    device: torch.device
    dtype: torch.dtype
    kv_dtype: torch.dtype
    fp8_mode: str  # none, native or transformer-engine
    compile_mode: str  # off, smart or default
    attention_backend: str  # auto, flex or sdpa; the result names the one that ran
    tensor_parallel: int
    max_batch: int
    prefill_chunk: int
    page_size: int
    kv_tokens: int | None  # None: computed from `kv_bytes`, or from the free memory after the weights are loaded
    kv_bytes: int | None  # bytes of the KV cache on each rank
    longest_context: int
    temperature: float
    seed: int
    flags: FlagNames

    @property
    def weight_bytes_per_rank(self) -> int:
        """Each rank has the whole embedding table and its share of the rest. In FP8, table and head keep `dtype`."""
        element = 1 if self.fp8_mode != "none" else self.dtype.itemsize
        return weight_bytes_on(self.shape, self.tensor_parallel, self.dtype.itemsize, element)


def model_shape(settings: EngineSettings, flags: FlagNames) -> ModelShape:
    """The shape of the checkpoint or of the named model.

    Raises:
        Refused: there is no such model, or the checkpoint is not supported.
    """
    if settings.checkpoint is not None:
        read = read_model_shape if settings.dummy_weights else lambda folder: read_checkpoint(folder).shape
        return read(settings.checkpoint)
    return shape_by_name(settings.model or DEFAULT_MODEL, settings.shape_overrides, flags.or_checkpoint)


def configure(
    settings: EngineSettings,
    shape: ModelShape,
    longest_context: int,
    *,
    world_size: int,
    local_rank: int,
    local_ranks: int,
    flags: FlagNames | None = None,
) -> EngineConfig:
    """Decide everything that needs no weights.

    `world_size`: the ranks that share the model. `local_ranks`: all ranks of this node, each of which needs a GPU.

    Raises:
        Refused: this machine or this release cannot run it; the message names the flag to pass instead.
    """
    flags = flags or FlagNames()
    device = choose_device(settings.device, local_ranks=local_ranks, local_rank=local_rank, ranks_flag=flags.ranks)
    stored = settings.checkpoint is not None and not settings.dummy_weights
    checkpoint = read_checkpoint(settings.checkpoint) if settings.checkpoint and stored else None
    if settings.fp8_mode == "auto":
        settings = replace(settings, fp8_mode=_automatic_fp8(settings, checkpoint, device, world_size))
    _check_precision(settings, device, flags)
    _check_backend(settings, device)
    shape.check_tensor_parallel(world_size, flags.ranks)
    if settings.fp8_mode != "none":
        _check_fp8_shape(shape, world_size, flags)
    on_cpu = device.type == "cpu"
    if on_cpu and shape.parameters > CPU_PARAMETERS:
        default = "" if settings.model or settings.checkpoint else ", the default model,"
        raise Refused(
            f"{shape.name}{default} has {shape.parameters / 1e9:.1f} B parameters, and this run is on a CPU: "
            f"pass {flags.tiny_model}."
        )
    dtype = _dtype(settings.dtype, torch.float32 if on_cpu else torch.bfloat16)
    config = EngineConfig(
        shape=shape,
        checkpoint=checkpoint,
        device=device,
        dtype=dtype,
        kv_dtype=torch.float8_e4m3fn if settings.kv_dtype == "fp8" else _dtype(settings.kv_dtype, dtype),
        fp8_mode=settings.fp8_mode,
        compile_mode=settings.compile_mode,
        attention_backend=settings.attention_backend,
        tensor_parallel=world_size,
        max_batch=settings.max_batch or (64 if on_cpu else 256),
        prefill_chunk=settings.prefill_chunk or (256 if on_cpu else 2048),
        page_size=settings.page_size or (16 if on_cpu else 128),
        kv_tokens=settings.kv_tokens,
        kv_bytes=round(settings.kv_cache_gib * GIB) if settings.kv_cache_gib else None,
        longest_context=longest_context,
        temperature=settings.temperature,
        seed=settings.seed,
        flags=flags,
    )
    _check_memory(config)
    return config


def kv_pages(config: EngineConfig, free_bytes: int) -> int:
    """The number of pages in this rank's cache. `free_bytes`: free on its device after the weights are loaded.

    Raises:
        Refused: the cache does not fit into the memory; the message states the bytes.
    """
    page = config.shape.kv_bytes_per_token_on(config.tensor_parallel, config.kv_dtype.itemsize) * config.page_size
    if config.device.type == "cuda":
        free_bytes -= page  # the padding page
    if config.kv_tokens is not None:
        pages = pages_for(config.kv_tokens, config.page_size)
    elif config.kv_bytes is not None:
        pages = config.kv_bytes // page
    elif config.device.type == "cpu":
        pages = config.max_batch * pages_for(config.longest_context, config.page_size)
    else:
        pages = int(free_bytes * (1 - CUDA_RESERVE)) // page
        if config.attention_backend == "flex":
            pages = min(pages, _flex_pages(config))
    if config.attention_backend == "flex" and config.device.type == "cuda" and pages > _flex_pages(config):
        reach = _flex_pages(config) * config.page_size
        raise Refused(
            f"flex attention's 32-bit offsets reach {reach:,} tokens of this cache, and it would have "
            f"{pages * config.page_size:,}: pass {config.flags.smaller_cache.format(tokens=reach)}, or sdpa attention."
        )
    if pages * page > free_bytes:
        a_token = kv_formula(config.shape, config.kv_dtype.itemsize, config.tensor_parallel)
        smaller = config.flags.smaller_cache.format(tokens=free_bytes // page * config.page_size)
        raise Refused(
            f"the KV cache needs {pages * page:,} bytes on each rank ({pages * config.page_size:,} tokens, {a_token} "
            f"each) and {free_bytes:,} are free: pass {smaller}."
        )
    element_bytes, larger = config.kv_dtype.itemsize, config.flags.larger_cache
    refuse_longer(config.longest_context, config.shape, element_bytes, pages, config.page_size, larger)
    return pages


def _flex_pages(config: EngineConfig) -> int:
    """The most pages that flex attention's offsets reach, without the padding page."""
    kv_heads = config.shape.kv_heads_on(config.tensor_parallel)
    return FLEX_ELEMENTS // (kv_heads * config.shape.head_dim * config.page_size) - 1


def choose_device(
    name: str, *, local_ranks: int, local_rank: int, ranks_flag: str = "--nproc_per_node"
) -> torch.device:
    """The device of a rank for `--device`. Creates no CUDA context. `local_ranks`: those on this node.

    Raises:
        Refused: there are no GPUs, or fewer GPUs than ranks. The message names `ranks_flag`, which sets the ranks.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    if count == 0:
        raise Refused(
            "--device cuda was passed, and torch finds no CUDA device here: pass --device cpu, or check the driver "
            "with nvidia-smi."
        )
    if local_ranks > count:  # compares the number of ranks, not this rank's index, so that every rank refuses
        raise Refused(
            f"{local_ranks} ranks need {local_ranks} GPUs, and {count} can be used: pass {ranks_flag} {count} or fewer."
        )
    return torch.device("cuda", local_rank)


def _automatic_fp8(
    settings: EngineSettings, checkpoint: Checkpoint | None, device: torch.device, world_size: int
) -> str:
    """`native` if the checkpoint is in FP8 and this run can compute in FP8, else `none`."""
    if checkpoint is None or not checkpoint.in_fp8 or device.type == "cpu" or settings.compile_mode != "off":
        return "none"
    divides = not any(size % fp8.MULTIPLE for size in fp8_widths(checkpoint.shape, world_size).values())
    return "native" if divides and torch.cuda.get_device_capability(device) >= fp8.CAPABILITY else "none"


def _check_precision(settings: EngineSettings, device: torch.device, flags: FlagNames) -> None:
    """Refuse a precision that the device lacks: FP8 needs a recent GPU, and the GPU kernels need bfloat16."""
    on_cpu = device.type == "cpu"
    for flag, wanted, without in _fp8_flags(settings, flags):
        if wanted and on_cpu:
            needs = "Transformer Engine and " if "transformer" in flag else ""
            raise Refused(
                f"{flag} needs {needs}an NVIDIA GPU of compute capability 8.9 or later, and this run is on a CPU: "
                f"pass {without}."
            )
        if wanted and (found := torch.cuda.get_device_capability(device)) < fp8.CAPABILITY:
            raise Refused(
                f"{flag} needs an NVIDIA GPU of compute capability 8.9 or later, and "
                f"{torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}: pass {without}."
            )
    if not on_cpu and settings.dtype not in ("auto", "bfloat16"):
        raise Refused(f"--dtype {settings.dtype} is for CPU runs; the GPU engine computes in bfloat16: leave it out.")
    if not on_cpu and settings.kv_dtype not in ("auto", "bfloat16", "fp8"):
        raise Refused(f"--kv-dtype {settings.kv_dtype} is for CPU runs: pass --kv-dtype bfloat16 or fp8.")
    if settings.compile_mode != "off":
        _check_compile(settings, on_cpu, flags)
    if settings.fp8_mode == "transformer-engine":
        load_transformer_engine(flags)


def load_transformer_engine(flags: FlagNames) -> fp8.TransformerEngine:
    """Import Transformer Engine. Raises Refused, with the runner's flag names, if it is missing or too old."""
    return fp8.load_transformer_engine(
        flags.fp8.format(mode="transformer-engine"),
        f", or pass {flags.native_fp8}",
    )


def _fp8_flags(settings: EngineSettings, flags: FlagNames) -> tuple[tuple[str, bool, str], ...]:
    """For each flag that needs FP8: the flag, whether it was passed, and the flag to pass instead."""
    return (
        (flags.fp8.format(mode=settings.fp8_mode), settings.fp8_mode != "none", flags.without_fp8),
        (flags.fp8_cache, settings.kv_dtype == "fp8", flags.without_fp8_cache),
    )


def _check_compile(settings: EngineSettings, on_cpu: bool, flags: FlagNames) -> None:
    """Refuse FP8 with torch.compile; on a CPU, also refuse if there is no C++ compiler, which Inductor needs."""
    mode = settings.compile_mode
    for flag, wanted, without in _fp8_flags(settings, flags):
        if wanted:
            raise Refused(
                f"--compile-mode {mode} compiles the engine in bfloat16 only, and {flag} needs its own fused kernels: "
                f"pass --compile-mode off, or {without}."
            )
    if on_cpu:
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            raise Refused(
                f"--compile-mode {mode} on a CPU needs a C++ compiler, and there is none: install g++, or pass "
                "--compile-mode off."
            ) from None


def _check_backend(settings: EngineSettings, device: torch.device) -> None:
    if device.type == "cuda" and settings.page_size:
        check_gpu_page(settings.page_size)
        if settings.attention_backend == "flex" and settings.page_size % FLEX_PAGE:
            raise Refused(
                f"flex attention gives wrong results for pages smaller than its blocks of {FLEX_PAGE} tokens, and "
                f"--page-size is {settings.page_size}: pass --page-size {FLEX_PAGE}, or --attention-backend sdpa."
            )


def _check_fp8_shape(shape: ModelShape, world_size: int, flags: FlagNames) -> None:
    for what, size in fp8_widths(shape, world_size).items():
        if size % fp8.MULTIPLE:
            raise Refused(
                f"FP8 products need sizes divisible by {fp8.MULTIPLE}, and the {what} of {shape.name} on each of "
                f"{world_size} ranks is {size}: pass {flags.without_fp8}."
            )


def fp8_widths(shape: ModelShape, ranks: int) -> dict[str, int]:
    """The sizes of a rank's matrix products. Each must be a multiple of `fp8.MULTIPLE`."""
    return {
        "hidden size": shape.hidden,
        "query width": shape.heads * shape.head_dim // ranks,
        "KV width": shape.kv_heads_on(ranks) * shape.head_dim,
        "FFN width": shape.ffn // ranks,
    }


def _dtype(name: str, default: torch.dtype) -> torch.dtype:
    if name == "auto":
        return default
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _check_memory(config: EngineConfig) -> None:
    if config.longest_context > config.shape.max_positions:
        raise Refused(
            f"the longest request has {config.longest_context} tokens and {config.shape.name} has "
            f"{config.shape.max_positions} positions: pass {config.flags.shorter_requests}."
        )
    config.shape.check_context(config.longest_context, config.flags.shorter_requests)
    if config.kv_tokens is not None or config.kv_bytes is not None:  # the cache size is known before loading
        kv_pages(config, free_memory(config.device))
    free = free_memory(config.device)
    if config.weight_bytes_per_rank > free:
        raise Refused(
            f"the weights of {config.shape.name} need {config.weight_bytes_per_rank:,} bytes on each of "
            f"{config.tensor_parallel} ranks and {free:,} are free: use more ranks, or another --model."
        )
