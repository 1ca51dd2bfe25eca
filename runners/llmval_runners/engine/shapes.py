"""Model shapes by name, and the figures that depend only on a shape: parameters, KV bytes, tensor-parallel sizes."""

from dataclasses import dataclass, replace

from llmval_runners.process.errors import Refused

# Larger models are refused on a CPU. A step reads every weight (4 GB in float32), which takes about half a second at
# 10 GB/s. A load test would not keep up, a power window would have too few steps, and a study would take hours.
CPU_PARAMETERS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's frequency scaling (`rope_type: llama3` in Hugging Face configurations)."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A Llama-style decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    max_positions: int
    rope_theta: float = 500_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    tied_embeddings: bool = False

    @property
    def parameters(self) -> int:
        """Number of weights, norms included."""
        attention = 2 * self.hidden * self.heads * self.head_dim + 2 * self.hidden * self.kv_heads * self.head_dim
        layer = attention + 3 * self.hidden * self.ffn + 2 * self.hidden
        embeddings = self.vocab * self.hidden * (1 if self.tied_embeddings else 2)
        return self.layers * layer + embeddings + self.hidden

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of keys and values of one token on all GPUs together: 2 · layers · KV heads · head dim · bytes.

        Source: Pope et al., "Efficiently Scaling Transformer Inference" (arXiv:2211.05102), section 3.3, with KV heads
        in place of heads for grouped-query attention. Under tensor parallelism a GPU has 1/TP of it.
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes

    def check(self) -> None:
        """Raises Refused if the numbers do not make a valid decoder."""
        small = [
            field
            for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")
            if getattr(self, field) < 1
        ]
        if small:
            raise Refused(
                f"{small[0].replace('_', '-')} must be at least 1: pass another --{small[0].replace('_', '-')}."
            )
        if self.heads % self.kv_heads:
            raise Refused(
                f"{self.heads} query heads cannot share {self.kv_heads} KV heads evenly: "
                f"pass --kv-heads that divides {self.heads}."
            )
        if self.head_dim % 2:
            raise Refused(f"a head dimension of {self.head_dim} cannot be rotated in pairs: pass an even --head-dim.")

    def check_tensor_parallel(self, size: int, flag: str = "--nproc_per_node") -> None:
        """Raises Refused if `size` ranks cannot share the model evenly; the message names the flag and valid sizes."""
        parts = {"KV heads": self.kv_heads, "query heads": self.heads, "FFN width": self.ffn, "vocabulary": self.vocab}
        for what, count in parts.items():
            if count % size:
                fits = [str(n) for n in range(1, 9) if not any(value % n for value in parts.values())]
                raise Refused(
                    f"{self.name} cannot be split over {size} ranks, because its {what} ({count}) are not divisible by "
                    f"{size}: pass {flag} {' or '.join(fits)}."
                )


_LLAMA_31 = RopeScaling()

SHAPES = {
    # For trials on a CPU: it has all mechanisms of the large shapes, three orders of magnitude smaller.
    "tiny": ModelShape(
        "tiny", layers=2, hidden=128, heads=8, kv_heads=4, head_dim=16, ffn=384, vocab=2048, max_positions=4096
    ),
    # config.json of meta-llama/Llama-3.1-8B and -70B.
    "llama-3.1-8b": ModelShape(
        "llama-3.1-8b", layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256,
        max_positions=131072, rope_scaling=_LLAMA_31,
    ),
    # No public checkpoint has this size: 48 layers of the 70B's width and heads, with the FFN that makes 39.6 B.
    "llama40b": ModelShape(
        "llama40b", layers=48, hidden=8192, heads=64, kv_heads=8, head_dim=128, ffn=25600, vocab=128256,
        max_positions=131072, rope_scaling=_LLAMA_31,
    ),
    "llama-3.1-70b": ModelShape(
        "llama-3.1-70b", layers=80, hidden=8192, heads=64, kv_heads=8, head_dim=128, ffn=28672, vocab=128256,
        max_positions=131072, rope_scaling=_LLAMA_31,
    ),
}  # fmt: skip

DEFAULT_MODEL = "llama-3.1-8b"
OVERRIDES = ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")


def shape_by_name(
    name: str, overrides: dict[str, int | None], or_checkpoint: str = ", or --checkpoint DIR"
) -> ModelShape:
    """The shape called `name`, with some numbers replaced. A changed shape is called `<name>-custom`.

    Raises:
        Refused: the name is unknown, or the numbers do not make a valid decoder.
    """
    if name not in SHAPES:
        raise Refused(f"there is no model shape called {name!r}: pass --model {', '.join(SHAPES)}{or_checkpoint}.")
    shape = SHAPES[name]
    changes = {key: value for key, value in overrides.items() if value is not None and value != getattr(shape, key)}
    if changes:
        shape = replace(shape, name=f"{name}-custom", **changes)  # type: ignore[arg-type]
    shape.check()
    return shape
