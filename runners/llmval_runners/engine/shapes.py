"""Model shapes by name, and the figures that depend only on a shape: parameters, KV bytes, tensor-parallel sizes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from llmval_runners.process.errors import Refused

# Larger models are refused on a CPU. A step reads every weight (4 GB in float32), which takes about half a second at
# 10 GB/s. A load test would not keep up, a power window would have too few steps, and a study would take hours.
CPU_PARAMETERS = 1_000_000_000
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"  # Hugging Face's names


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3.1's frequency scaling (`rope_type: llama3` in Hugging Face configurations)."""

    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192


@dataclass(frozen=True, slots=True)
class DividedRope:
    """Frequencies divided by numbers: one for all (`linear`), or one for each (`longrope`)."""

    divisors: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class YarnRope:
    """YaRN (arXiv:2309.00071): frequencies below a ramp are divided by `factor`, those above it are unchanged.

    `beta_fast` and `beta_slow` are the turns within the original context at the two ends of the ramp. `truncate` moves
    its ends to whole dimensions.
    """

    factor: float
    original_max_positions: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class ContextLimit:
    """The longest context, in tokens, that the engine computes as the model defines it, and why not more."""

    tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A Llama-style decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU. The last fields are those of relatives."""

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
    rope_scaling: RopeScaling | DividedRope | YarnRope | None = None
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    activation: str = "silu"  # activation of the MLP's gate: a name that `model.activate` knows
    qkv_bias: bool = False
    output_bias: bool = False  # whether the attention's output projection has a bias
    mlp_bias: bool = False
    qk_norm: bool = False  # an RMSNorm of each head's query and key before the rotation
    query_scale: float = 1.0  # queries are multiplied by it (the square of YaRN's and LongRoPE's attention factor)
    context_limit: ContextLimit | None = None

    @property
    def parameters(self) -> int:
        """Number of weights, norms included."""
        attention = 2 * self.hidden * self.heads * self.head_dim + 2 * self.hidden * self.kv_heads * self.head_dim
        layer = attention + 3 * self.hidden * self.ffn + 2 * self.hidden + self.small_parameters(1)
        embeddings = self.vocab * self.hidden * (1 if self.tied_embeddings else 2)
        return self.layers * layer + embeddings + self.hidden

    def small_parameters(self, ranks: int) -> int:
        """Number of a layer's biases and of its norms of queries and keys, on each of `ranks` ranks."""
        width = (self.heads // ranks + 2 * self.kv_heads_on(ranks)) * self.head_dim
        mlp = 2 * self.ffn // ranks + self.hidden
        return (
            self.qkv_bias * width
            + self.output_bias * self.hidden
            + self.mlp_bias * mlp
            + self.qk_norm * 2 * self.head_dim
        )

    def kv_heads_on(self, ranks: int) -> int:
        """KV heads on each of `ranks` ranks. If there are more ranks than heads, several ranks have the same head."""
        return max(1, self.kv_heads // ranks)

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of keys and values of one token on all GPUs together: 2 · layers · KV heads · head dim · bytes.

        Source: Pope et al., "Efficiently Scaling Transformer Inference" (arXiv:2211.05102), section 3.3, with KV heads
        in place of heads for grouped-query attention. On one of several GPUs: `kv_bytes_per_token_on`.
        """
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes

    def kv_bytes_per_token_on(self, ranks: int, element_bytes: int) -> int:
        """Bytes of keys and values of one token on each of `ranks` ranks."""
        return 2 * self.layers * self.kv_heads_on(ranks) * self.head_dim * element_bytes

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
        if (why := self._undivided(size)) is not None:
            fits = [str(n) for n in range(1, 9) if self._undivided(n) is None]
            raise Refused(
                f"{self.name} cannot be split over {size} ranks, because {why}: pass {flag} {' or '.join(fits)}."
            )

    def _undivided(self, size: int) -> str | None:
        """Why `size` ranks cannot share the model; None if they can."""
        parts = {"query heads": self.heads, "FFN width": self.ffn, "vocabulary": self.vocab}
        for what, count in parts.items():
            if count % size:
                return f"its {what} ({count}) are not divisible by {size}"
        if self.kv_heads % size and size % self.kv_heads:
            return f"its KV heads ({self.kv_heads}) neither divide {size} nor are divisible by {size}"
        return None

    def check_context(self, tokens: int, instead: str) -> None:
        """Raises Refused if a context of `tokens` would not be computed as the model defines it.

        `instead`: the flag to pass, such as `a shorter --prompt-len`.
        """
        limit = self.context_limit
        if limit is not None and tokens > limit.tokens:
            raise Refused(
                f"{self.name} {limit.reason}, which this engine does not implement, so it is right up to "
                f"{limit.tokens:,} tokens only, and {tokens:,} were asked for: pass {instead}, or serve it with vLLM "
                "or SGLang."
            )


def tensor_shapes(shape: ModelShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The Hugging Face name and the unsharded shape of every tensor of the model."""
    yield EMBEDDING, (shape.vocab, shape.hidden)
    for index in range(shape.layers):
        yield from ((f"model.layers.{index}.{name}", size) for name, size in layer_shapes(shape).items())
    yield "model.norm.weight", (shape.hidden,)
    if not shape.tied_embeddings:
        yield HEAD, (shape.vocab, shape.hidden)


def layer_shapes(shape: ModelShape) -> dict[str, tuple[int, ...]]:
    """The tensors of a layer: name within the layer, and unsharded shape."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    found: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (shape.hidden,),
        "self_attn.q_proj.weight": (queries, shape.hidden),
        "self_attn.k_proj.weight": (keys, shape.hidden),
        "self_attn.v_proj.weight": (keys, shape.hidden),
        "self_attn.o_proj.weight": (shape.hidden, queries),
        "post_attention_layernorm.weight": (shape.hidden,),
        "mlp.gate_proj.weight": (shape.ffn, shape.hidden),
        "mlp.up_proj.weight": (shape.ffn, shape.hidden),
        "mlp.down_proj.weight": (shape.hidden, shape.ffn),
    }
    if shape.qkv_bias:
        found |= {f"self_attn.{one}_proj.bias": (size,) for one, size in (("q", queries), ("k", keys), ("v", keys))}
    if shape.output_bias:
        found["self_attn.o_proj.bias"] = (shape.hidden,)
    if shape.mlp_bias:
        found |= {f"mlp.{one}_proj.bias": (size,) for one, size in (("gate", shape.ffn), ("up", shape.ffn))}
        found["mlp.down_proj.bias"] = (shape.hidden,)
    if shape.qk_norm:
        found |= {f"self_attn.{one}_norm.weight": (shape.head_dim,) for one in "qk"}
    return found


def weight_bytes_on(shape: ModelShape, ranks: int, element: int, matrix_element: int) -> int:
    """Bytes of the weights on each of `ranks` ranks, without scales. A layer has `matrix_element` bytes per weight, the
    embedding table and the head have `element`.
    """
    keys = shape.kv_heads_on(ranks) * shape.head_dim
    attention = (2 * shape.heads * shape.head_dim // ranks + 2 * keys) * shape.hidden
    layer = attention + 3 * shape.hidden * shape.ffn // ranks
    small = 2 * shape.hidden + shape.small_parameters(ranks)
    table = shape.vocab * shape.hidden
    head = 0 if shape.tied_embeddings else table // ranks
    return shape.layers * (layer * matrix_element + small * element) + (table + head + shape.hidden) * element


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
