"""Decides the settings of a run from the flags and the machine. Refuses before any heavy work; never falls back."""

import importlib.util
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.attention.cudnn_fp8 import is_default
from llmval_runners.engine.attention.cudnn_sizes import CUDNN_MIN_TOKENS, CUDNN_MULTIPLE, cudnn_supports
from llmval_runners.engine.checkpoint.gate import read_checkpoint
from llmval_runners.engine.config import FLEX_ELEMENTS, FLEX_PAGE, choose_device
from llmval_runners.engine.kv_cache import check_gpu_page
from llmval_runners.engine.shapes import CPU_PARAMETERS, ModelShape, shape_by_name
from llmval_runners.long_context.options import DEFAULT_MODEL, LongContextOptions
from llmval_runners.long_context.predict.advice import fits, refusal
from llmval_runners.long_context.predict.peak_memory import pages
from llmval_runners.long_context.setup import GIB, Setup
from llmval_runners.measure.free_memory import free_memory
from llmval_runners.process.errors import Refused
from llmval_runners.process.files import check_writable
from llmval_runners.process.placement import Placement


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run."""

    setup: Setup
    reference: Setup | None  # the setup that the logits are compared with
    no_reference: str | None  # why there is no reference
    device: torch.device
    lengths: list[int]
    backend: str  # as given; the result has the name of the attention backend that ran
    options: LongContextOptions


def decide(options: LongContextOptions, place: Placement) -> Settings:
    """Decide the settings. Allocates no device memory.

    Raises:
        Refused: the machine or this release cannot run it; says what to pass instead.
    """
    device, ranks = _device(options, place.local_rank, place.local_world_size), place.tensor_parallel
    shape = read_checkpoint(options.checkpoint).shape if options.checkpoint else _named(options)
    shape.check_tensor_parallel(ranks, "--tensor-parallel-gpus")
    on_gpu = device.type == "cuda"
    if not on_gpu and shape.parameters > CPU_PARAMETERS and not options.predict_only:
        raise Refused(
            f"{shape.name} has {shape.parameters / 1e9:.1f} B parameters, and this run is on a CPU: pass --model tiny "
            "to try the validation here, or --predict-only --memory-limit-gib N to plan for a GPU of N GiB."
        )
    planned = on_gpu or (options.predict_only and options.memory_limit_gib is not None and options.device != "cpu")
    setup = _setup(options, shape, device, ranks, planned)
    for length in options.lengths:
        shape.check_context(length + setup.decode_tokens, "shorter --sequence-lengths")
    if options.output_json is not None:
        check_writable(options.output_json, "--output-json")
    reference, why = _reference(options, setup)
    return Settings(setup, reference, why, device, options.lengths, options.attention_backend, options)


def check_fits(settings: Settings, free_bytes: int) -> None:
    """Raises Refused if a length does not fit. Names the shortest such length, and what would fit."""
    for length in settings.lengths:
        if not fits(settings.setup, length, free_bytes):
            raise Refused(refusal(settings.setup, length, free_bytes))


def free_bytes(settings: Settings) -> int:
    """Free bytes that this rank may use: on its GPU, or its share of the CPU memory that is available."""
    limit = settings.options.memory_limit_gib
    if limit is not None and settings.setup.on_gpu and settings.device.type == "cpu":  # planning for a GPU elsewhere
        return round(limit * GIB)
    devices = [settings.device]
    if settings.options.predict_only and settings.device.type == "cuda":  # there are no ranks that check their own GPU
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
        devices = devices[: settings.setup.tensor_parallel]
    free = min(map(free_memory, devices))
    return free if limit is None else min(free, round(limit * GIB))


def _setup(options: LongContextOptions, shape: ModelShape, device: torch.device, ranks: int, on_gpu: bool) -> Setup:
    dtype = options.dtype if options.dtype != "auto" else "bfloat16" if on_gpu else "float32"
    has_fp8 = on_gpu and (device.type == "cpu" or torch.cuda.get_device_capability(device) >= fp8.CAPABILITY)
    mode = (
        options.fp8_mode if options.fp8_mode != "auto" else "native" if has_fp8 and _divides(shape, ranks) else "none"
    )
    _check_precision(options, mode, dtype, on_gpu, has_fp8, _divides(shape, ranks))
    if mode == "transformer-engine" and device.type == "cuda":
        fp8.load_transformer_engine()
    default = "fp8" if mode != "none" else dtype
    setup = Setup(
        shape,
        tensor_parallel=ranks,
        dtype=dtype,
        weight_dtype=default,
        kv_dtype=default if options.kv_dtype == "auto" else options.kv_dtype,
        batch=options.batch_size,
        chunk=options.prefill_chunk or (8192 if on_gpu else 128),
        page_size=options.page_size or (128 if on_gpu else 16),
        decode_tokens=options.decode_tokens or (128 if on_gpu else 8),
        on_gpu=on_gpu,
        backend="sdpa" if options.attention_backend == "auto" else options.attention_backend,
        transformer_engine=mode == "transformer-engine",
        prefill_attention=options.prefill_attention,
    )
    if setup.prefill_attention == "auto":
        setup = replace(
            setup, prefill_attention="fp8" if _takes_fp8_prompts(setup, options.lengths, device) else "bf16"
        )
    if setup.prefill_attention == "fp8":
        _check_prefill_attention(setup, device)
    if on_gpu:
        _check_pages(setup, options.lengths)
    return setup


def _check_pages(setup: Setup, lengths: list[int]) -> None:
    check_gpu_page(setup.page_size)
    if setup.backend != "flex":
        return
    if setup.page_size % FLEX_PAGE:
        raise Refused(f"--page-size {setup.page_size} is not a multiple of {FLEX_PAGE}: pass one that is, such as 128.")
    reach = FLEX_ELEMENTS // (setup.kv_heads * setup.shape.head_dim)
    for length in lengths:
        if (pages(setup, length) + 1) * setup.page_size > reach:
            raise Refused(
                f"flex attention's 32-bit offsets reach {reach:,} tokens of this cache, and {length:,} × {setup.batch} "
                "were requested: pass --attention-backend sdpa, or more --tensor-parallel-gpus."
            )


def _takes_fp8_prompts(setup: Setup, lengths: list[int], device: torch.device) -> bool:
    """Whether prompts run in FP8 attention by default: where the cache and the first chunk of each length allow it."""
    return (
        setup.on_gpu
        and setup.kv_dtype == "fp8"
        and setup.backend == "sdpa"
        and is_default(device, setup.shape.head_dim, setup.page_size)
        and all(cudnn_supports(min(length, setup.chunk), 0, setup.page_size) for length in lengths)
    )


def _check_prefill_attention(setup: Setup, device: torch.device) -> None:
    def refuse(reason: str, instead: str) -> NoReturn:
        raise Refused(f"--prefill-attention fp8 {reason}: pass {instead}.")

    if not setup.on_gpu:
        refuse("needs an NVIDIA GPU, and this run is on a CPU", "--prefill-attention bf16")
    if setup.kv_dtype != "fp8":
        refuse("reads an FP8 cache", "--kv-dtype fp8 with it")
    if setup.backend != "sdpa":
        refuse("is not flex attention's", "--attention-backend sdpa with it")
    if CUDNN_MULTIPLE % setup.page_size or setup.chunk % CUDNN_MULTIPLE or setup.chunk < CUDNN_MIN_TOKENS:
        refuse(
            f"takes chunks of multiples of {CUDNN_MULTIPLE} tokens from {CUDNN_MIN_TOKENS}, in whole pages",
            f"--prefill-chunk 8192 --page-size 128 in place of {setup.chunk} and {setup.page_size}",
        )
    if device.type == "cuda" and importlib.util.find_spec("cudnn") is None:
        refuse("needs the package nvidia-cudnn-frontend, which is not installed", "--prefill-attention bf16")


def _check_precision(
    options: LongContextOptions, mode: str, dtype: str, on_gpu: bool, has_fp8: bool, divides: bool
) -> None:
    for flag, asked, instead in (
        (f"--fp8-mode {mode}", mode != "none", "--fp8-mode none"),
        ("--kv-dtype fp8", options.kv_dtype == "fp8", "--kv-dtype auto"),
    ):
        if asked and not has_fp8:
            why = "this GPU is older" if on_gpu else "this run is on a CPU"
            raise Refused(f"{flag} needs an NVIDIA GPU of compute capability 8.9 or later, and {why}: pass {instead}.")
    if mode != "none" and not divides:
        raise Refused(f"FP8 products need sizes divisible by {fp8.MULTIPLE} on each GPU: pass --fp8-mode none.")
    if on_gpu and dtype != "bfloat16":
        raise Refused(f"--dtype {dtype} is for CPU runs, and the GPU engine computes in bfloat16: leave it out.")
    if on_gpu and options.kv_dtype not in ("auto", "bfloat16", "fp8"):
        raise Refused(f"--kv-dtype {options.kv_dtype} is for CPU runs: pass --kv-dtype bf16 or fp8.")


def _divides(shape: ModelShape, ranks: int) -> bool:
    widths = (shape.hidden, shape.heads * shape.head_dim // ranks, shape.kv_heads_on(ranks) * shape.head_dim)
    return not any(width % fp8.MULTIPLE for width in (*widths, shape.ffn // ranks))


def _reference(options: LongContextOptions, setup: Setup) -> tuple[Setup | None, str | None]:
    """The reference: the same weights in a higher precision. Returns None and the reason if there is no reference."""
    if options.reference == "none":
        return None, "switched off (--reference none)"
    name = options.reference if options.reference != "auto" else "bfloat16" if setup.on_gpu else "float32"
    if setup.on_gpu and name != "bfloat16":
        raise Refused(f"--reference {name} is for CPU runs, and the GPU engine computes in bfloat16: leave it out.")
    reference = replace(
        setup, dtype=name, weight_dtype=name, kv_dtype=name, transformer_engine=False, prefill_attention="bf16"
    )
    if reference == setup:
        return None, f"this run has the precision of the reference itself ({name})"
    return reference, None


def check_devices(options: LongContextOptions, ranks: int) -> None:
    """Raises Refused if the requested devices are missing. Makes no CUDA context."""
    _device(options, 0, ranks)


def _device(options: LongContextOptions, local_rank: int, ranks: int) -> torch.device:
    if options.predict_only and not torch.cuda.is_available():
        return torch.device("cpu")  # predicts for a GPU elsewhere, whatever --device is
    ranks = 1 if options.predict_only else ranks
    return choose_device(options.device, local_ranks=ranks, local_rank=local_rank, ranks_flag="--tensor-parallel-gpus")


def _named(options: LongContextOptions) -> ModelShape:
    return shape_by_name(options.model or DEFAULT_MODEL, options.shape_overrides)
