"""The engine's settings from the flags of a runner, and the names of those flags. Needs no torch."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The engine's settings from a runner's flags. None and "auto" leave the choice to `configure`."""

    model: str | None = None
    checkpoint: Path | None = None
    dummy_weights: bool = False  # take only the checkpoint's shape, and make random weights
    shape_overrides: dict[str, int | None] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    kv_dtype: str = "auto"
    fp8_mode: str = "none"  # "auto": native for a checkpoint in FP8 on a GPU that has FP8, else none
    compile_mode: str = "off"
    attention_backend: str = "auto"
    max_batch: int | None = None
    prefill_chunk: int | None = None
    page_size: int | None = None
    kv_tokens: int | None = None
    kv_cache_gib: float | None = None
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FlagNames:
    """The flag names for these settings in the runner that was started. The defaults are those of the load test.

    The fields are used in sentences such as "… needs an NVIDIA GPU: pass {without_fp8}."
    """

    fp8: str = "--fp8-mode {mode}"
    without_fp8: str = "--fp8-mode none"
    native_fp8: str = "--fp8-mode native"
    fp8_cache: str = "--kv-dtype fp8"
    without_fp8_cache: str = "--kv-dtype auto"
    ranks: str = "--nproc_per_node"
    smaller_cache: str = "--kv-tokens {tokens} or less"
    larger_cache: str = "--kv-tokens {tokens} or more, or shorter --prompt-len and --output-len"
    shorter_requests: str = "shorter --prompt-len or --output-len"
    less_memory: str = "a smaller --kv-tokens, --max-batch or --prefill-chunk"
    or_checkpoint: str = ", or --checkpoint DIR"
    tiny_model: str = "--model tiny to try the load test on a CPU"
