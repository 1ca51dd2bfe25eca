"""From what was asked to what this machine will do, or a refusal before any heavy work; never a silent fallback."""

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.kv_cache import GIB, check_gpu_page, kv_formula, pages_for, refuse_longer
from llmval_runners.engine.shapes import CPU_PARAMETERS, ModelShape, shape_by_name
from llmval_runners.engine.weights import checkpoint_shape
from llmval_runners.load_test.arrivals import Lengths, Load, arrival_times, schedule
from llmval_runners.load_test.metrics import Slo
from llmval_runners.load_test.options import DEFAULT_MODEL, OVERRIDES
from llmval_runners.process.errors import Refused

FLEX_ELEMENTS = 2**31 - 1  # of a layer's keys: the reach of the 32-bit offsets of flex attention's kernels
CUDA_RESERVE = 0.10  # of the free memory, for activations and the allocator


@dataclass(frozen=True, slots=True)
class Config:
    """What will run."""

    shape: ModelShape
    checkpoint: Path | None
    device: torch.device
    dtype: torch.dtype
    kv_dtype: torch.dtype
    fp8: str  # none, native or transformer-engine
    compile_mode: str  # off, smart or default
    attention: str  # auto, flex or sdpa: the backend's own name goes into the result
    tensor_parallel: int
    prompt: Lengths
    output: Lengths
    slo: Slo
    max_batch: int
    chunk: int
    page_size: int
    kv_tokens: int | None  # None: from `kv_bytes`, or from what is free once the weights are there
    kv_bytes: int | None  # of each rank
    options: argparse.Namespace  # for the rest: plain numbers that need no decision

    @property
    def longest(self) -> int:
        """Tokens of the longest context that any request will hold; of a search, whose trials draw anew, can hold."""
        if self.options.find_max_qps:
            return self.prompt.most + self.output.most - 1
        load = self.load()
        return max(a.input_tokens + a.output_tokens - 1 for a in load.arrivals + load.warmup)

    def load(self, qps: float | None = None, seed: int | None = None) -> Load:
        """The requests of one window: at the rate and from the seed asked for, or at those of a trial of a search.

        Raises:
            Refused: fewer than two requests.
        """
        options = self.options
        qps, seed = options.target_qps if qps is None else qps, options.seed if seed is None else seed
        times = arrival_times(qps, options.duration, options.burstiness, seed)
        warmup = schedule([0.0] * options.warmup, self.prompt, self.output, seed + 1)
        return Load(schedule(times, self.prompt, self.output, seed), warmup, qps, options.duration, seed)

    @property
    def weight_bytes_per_rank(self) -> int:
        """The embedding table is whole on each rank, the rest is shared; of FP8, table and head keep `dtype`."""
        table = self.shape.vocab * self.shape.hidden
        head = 0 if self.shape.tied_embeddings else table
        layers = self.shape.parameters - table - head
        share = layers * (1 if self.fp8 != "none" else self.dtype.itemsize) + head * self.dtype.itemsize
        return table * self.dtype.itemsize + share // self.tensor_parallel


def configure(options: argparse.Namespace, *, world_size: int, local_rank: int) -> Config:
    """Decide everything that needs no weights.

    Raises:
        Refused: the machine or this release cannot do what was asked; says what to pass instead.
    """
    device = choose_device(options.device, ranks=world_size, local_rank=local_rank)
    _check_precision(options, device)
    _check_backend(options, device)
    shape = checkpoint_shape(options.checkpoint) if options.checkpoint else _named_shape(options)
    shape.check_tensor_parallel(world_size)
    if options.fp8_mode != "none":
        _check_fp8_shape(shape, world_size)
    on_cpu = device.type == "cpu"
    if on_cpu and shape.parameters > CPU_PARAMETERS:
        asked = "" if options.model or options.checkpoint else ", the default model,"
        raise Refused(
            f"{shape.name}{asked} has {shape.parameters / 1e9:.1f} B parameters, and this run is on a CPU: "
            "pass --model tiny to try the load test on a CPU."
        )
    small = shape.parameters < 100_000_000
    prompt = Lengths.parse(options.prompt_len or ("uniform:16:64" if small else "uniform:512:1024"))
    output = Lengths.parse(options.output_len or ("8" if small else "512"))
    dtype = _dtype(options.dtype, torch.float32 if on_cpu else torch.bfloat16)
    config = Config(
        shape=shape,
        checkpoint=options.checkpoint,
        device=device,
        dtype=dtype,
        kv_dtype=torch.float8_e4m3fn if options.kv_dtype == "fp8" else _dtype(options.kv_dtype, dtype),
        fp8=options.fp8_mode,
        compile_mode=options.compile_mode,
        attention=options.attention_backend,
        tensor_parallel=world_size,
        prompt=prompt,
        output=output,
        slo=Slo(options.slo_ttft_ms, options.slo_tpot_ms, options.slo_e2e_ms),
        max_batch=options.max_batch or (64 if on_cpu else 256),
        chunk=options.prefill_chunk or (256 if on_cpu else 2048),
        page_size=options.page_size or (16 if on_cpu else 128),
        kv_tokens=options.kv_tokens,
        kv_bytes=round(options.kv_cache_gib * GIB) if options.kv_cache_gib else None,
        options=options,
    )
    _check_lengths(config)
    if options.output_json is not None:
        check_output(options.output_json)
    return config


def kv_pages(config: Config, free_bytes: int) -> int:
    """Pages of this rank's cache. `free_bytes`: of its device, after the weights.

    Raises:
        Refused: the memory does not hold what was asked; says the bytes.
    """
    page = config.shape.kv_bytes_per_token(config.kv_dtype.itemsize) * config.page_size // config.tensor_parallel
    if config.device.type == "cuda":
        free_bytes -= page  # the padding page
    if config.kv_tokens is not None:
        pages = pages_for(config.kv_tokens, config.page_size)
    elif config.kv_bytes is not None:
        pages = config.kv_bytes // page
    elif config.device.type == "cpu":
        pages = config.max_batch * pages_for(config.longest, config.page_size)
    else:
        pages = int(free_bytes * (1 - CUDA_RESERVE)) // page
        if config.attention == "flex":
            kv_heads = config.shape.kv_heads // config.tensor_parallel
            pages = min(pages, FLEX_ELEMENTS // (kv_heads * config.shape.head_dim * config.page_size) - 1)
    if pages * page > free_bytes:
        a_token = kv_formula(config.shape, config.kv_dtype.itemsize, config.tensor_parallel)
        tokens = pages * config.page_size
        raise Refused(
            f"the KV cache needs {pages * page:,} bytes on each rank ({tokens:,} tokens, {a_token} each) "
            f"and {free_bytes:,} are free: pass --kv-tokens {free_bytes // page * config.page_size} or less."
        )
    refuse_longer(config.longest, config.shape, config.kv_dtype.itemsize, pages, config.page_size)
    return pages


def free_memory(device: torch.device) -> int:
    """Free bytes of the device; of a CPU, what the kernel calls available, shared evenly by this node's ranks."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    raise OSError("/proc/meminfo has no line MemAvailable")


def choose_device(asked: str, *, ranks: int, local_rank: int, ranks_flag: str = "--nproc_per_node") -> torch.device:
    """The device of a rank for `--device`. Makes no CUDA context.

    Raises:
        Refused: there are no GPUs, or fewer than ranks; names `ranks_flag`, by which the caller's ranks are set.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and count == 0):
        return torch.device("cpu")
    if count == 0:
        raise Refused(
            "--device cuda was asked for, and torch finds no CUDA device here: pass --device cpu, or see what "
            "nvidia-smi says of the driver."
        )
    if ranks > count:  # compares the number of ranks, not this rank's index, so that every rank refuses
        raise Refused(f"{ranks} ranks need {ranks} GPUs, and {count} can be used: pass {ranks_flag} {count} or fewer.")
    return torch.device("cuda", local_rank)


def _check_precision(options: argparse.Namespace, device: torch.device) -> None:
    """FP8 needs a GPU of a certain age; and a GPU's kernels here are written for bfloat16."""
    instead = "pass --fp8-mode none"
    on_cpu = device.type == "cpu"
    for flag, asked, without in (
        (f"--fp8-mode {options.fp8_mode}", options.fp8_mode != "none", instead),
        ("--kv-dtype fp8", options.kv_dtype == "fp8", "pass --kv-dtype auto"),
    ):
        if asked and on_cpu:
            needs = "Transformer Engine and " if "transformer" in flag else ""
            raise Refused(
                f"{flag} needs {needs}an NVIDIA GPU of compute capability 8.9 or later, and this run is on a CPU: "
                f"{without}."
            )
        if asked and (found := torch.cuda.get_device_capability(device)) < fp8.CAPABILITY:
            raise Refused(
                f"{flag} needs an NVIDIA GPU of compute capability 8.9 or later, and "
                f"{torch.cuda.get_device_name(device)} has {found[0]}.{found[1]}: {without}."
            )
    if not on_cpu and options.dtype not in ("auto", "bfloat16"):
        raise Refused(f"--dtype {options.dtype} is for CPU runs; the GPU engine computes in bfloat16: leave it out.")
    if not on_cpu and options.kv_dtype not in ("auto", "bfloat16", "fp8"):
        raise Refused(f"--kv-dtype {options.kv_dtype} is for CPU runs: pass --kv-dtype bfloat16 or fp8.")
    if options.compile_mode != "off":
        _check_compile(options, on_cpu)
    if options.fp8_mode == "transformer-engine":
        fp8.load_transformer_engine()


def _check_compile(options: argparse.Namespace, on_cpu: bool) -> None:
    """Inductor gets plain weights and a plain cache; on a CPU it writes C++."""
    for flag, asked, without in (
        (f"--fp8-mode {options.fp8_mode}", options.fp8_mode != "none", "--fp8-mode none"),
        ("--kv-dtype fp8", options.kv_dtype == "fp8", "--kv-dtype auto"),
    ):
        if asked:
            raise Refused(
                f"--compile-mode {options.compile_mode} compiles the engine in bfloat16 only, and {flag} needs its own "
                f"fused kernels: pass --compile-mode off, or {without}."
            )
    if on_cpu:
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            raise Refused(
                f"--compile-mode {options.compile_mode} on a CPU needs a C++ compiler, and there is none: install g++, "
                "or pass --compile-mode off."
            ) from None


def _check_backend(options: argparse.Namespace, device: torch.device) -> None:
    if device.type == "cuda" and options.page_size:
        check_gpu_page(options.page_size)
        if options.attention_backend == "flex" and options.page_size % 128:
            raise Refused(
                "flex attention gives wrong results for pages smaller than its blocks of 128 tokens, and --page-size "
                f"is {options.page_size}: pass --page-size 128, or --attention-backend sdpa."
            )


def _check_fp8_shape(shape: ModelShape, world_size: int) -> None:
    sizes = {
        "hidden size": shape.hidden,
        "query width": shape.heads * shape.head_dim // world_size,
        "KV width": shape.kv_heads * shape.head_dim // world_size,
        "FFN width": shape.ffn // world_size,
    }
    for what, size in sizes.items():
        if size % fp8.MULTIPLE:
            raise Refused(
                f"FP8 products need sizes divisible by {fp8.MULTIPLE}, and the {what} of {shape.name} on each of "
                f"{world_size} ranks is {size}: pass --fp8-mode none."
            )


def _named_shape(options: argparse.Namespace) -> ModelShape:
    return shape_by_name(options.model or DEFAULT_MODEL, {name: getattr(options, name) for name in OVERRIDES})


def _dtype(name: str, default: torch.dtype) -> torch.dtype:
    return default if name == "auto" else getattr(torch, name)


def _check_lengths(config: Config) -> None:
    if config.longest > config.shape.max_positions:
        raise Refused(
            f"the longest request has {config.longest} tokens and {config.shape.name} has {config.shape.max_positions} "
            "positions: pass shorter --prompt-len or --output-len."
        )
    if config.kv_tokens is not None or config.kv_bytes is not None:  # known before the weights are
        kv_pages(config, free_memory(config.device))
    free = free_memory(config.device)
    if config.weight_bytes_per_rank > free:
        raise Refused(
            f"the weights of {config.shape.name} need {config.weight_bytes_per_rank:,} bytes on each of "
            f"{config.tensor_parallel} ranks and {free:,} are free: use more ranks, or another --model."
        )


def check_output(path: Path) -> None:
    """Make the result's folder and try to write there: permissions alone do not tell (root, read-only mounts).

    Raises:
        Refused: it is a folder, or cannot be written.
    """
    if path.is_dir():
        raise Refused(f"{path} is a folder: pass a file for --output-json.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise Refused(
            f"--output-json {path} cannot be written ({error.strerror}): pass a path in a folder that you may write."
        ) from None
