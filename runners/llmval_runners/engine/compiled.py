"""The decoder's layers compiled by Inductor (`--compile-mode`), on a CPU and on a GPU; in bfloat16 or float32 alone.

`smart` compiles the two regions of one layer, before attention (add, norm, projection, rotation, cache write) and
behind it (add, norm, gate and up, SiLU, down); weights are arguments, so all layers share one compiled code. `default`
compiles the pass over all layers as one graph, in which attention and all-reduce are opaque operators. Each is compiled
twice, for one token and for any other number of them, when the engine starts. The output projection is a matrix
product by itself in both: there is nothing to fuse it with.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.reference import AttentionBackend
from llmval_runners.engine.gpu import all_reduce
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder, rotate

if TYPE_CHECKING:
    from llmval_runners.engine.gpu.decoder import Attend, Tokens

# One token is a shape of its own to the compiler; with the second number it lets the number vary (torch's automatic
# dynamic shapes), so two are all that there ever are.
_FIRST_SIZES = (1, 16)

_Attend = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(qkv [tokens, heads + 2 · KV heads, head dim], the layer's pool, its index) → [tokens, heads · dim]."""


class _Block(NamedTuple):
    """A layer's weights, and its keys and values in the cache: [2, KV heads, slots, head dim]."""

    place: int
    attention_norm: torch.Tensor
    qkv: torch.Tensor
    output: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    pool: torch.Tensor


class _Parts(NamedTuple):
    """What a pass is made of: compiled each, or plain in a pass that is compiled whole."""

    before: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    behind: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    attend: _Attend
    reduce: Callable[[torch.Tensor], torch.Tensor] | None  # None: one rank
    heads: int
    eps: float


def _before(
    x: torch.Tensor,
    delta: torch.Tensor,
    gain: torch.Tensor,
    weight: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    slots: torch.Tensor,
    pool: torch.Tensor,
    heads: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x + delta; and queries and keys of it, rotated, with the values, of which the latter two go to the cache."""
    x = x + delta
    kv_heads, dim = pool.shape[1], pool.shape[3]
    qkv = F.linear(F.rms_norm(x, (x.shape[1],), gain, eps), weight).view(x.shape[0], -1, dim)
    q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    pool[:, :, slots] = torch.stack((k, v)).transpose(1, 2).to(pool.dtype)
    return x, torch.cat((q, k, v), dim=1)


def _behind(
    x: torch.Tensor, delta: torch.Tensor, gain: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """x + delta, and the MLP of it."""
    x = x + delta
    gate, up = F.linear(F.rms_norm(x, (x.shape[1],), gain, eps), gate_up).chunk(2, dim=-1)
    return x, F.linear(F.silu(gate) * up, down)


def _layers(
    parts: _Parts, blocks: list[_Block], x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, slots: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The residual stream [tokens, hidden] before the last layer's MLP is added, and what that MLP adds."""
    reduce, delta = parts.reduce, torch.zeros_like(x)
    for block in blocks:
        x, qkv = parts.before(
            x, delta, block.attention_norm, block.qkv, cos, sin, slots, block.pool, parts.heads, parts.eps
        )
        projected = F.linear(parts.attend(qkv, block.pool, block.place), block.output)
        x, delta = parts.behind(
            x, projected if reduce is None else reduce(projected), block.mlp_norm, block.gate_up, block.down, parts.eps
        )
        delta = delta if reduce is None else reduce(delta)
    return x, delta


class CompiledDecoder:
    """A decoder's layers on a cache, compiled. `graphs` counts the compilations, `first_calls_s` is what they took."""

    def __init__(self, model: Decoder, cache: PagedKVCache, mode: str) -> None:
        """Compiles all that steps of any size will need. `mode`: smart or default."""
        self.model, self.cache, self.mode = model, cache, mode
        self._compiled: list[str] = []  # names of what was compiled
        self._blocks = [
            _Block(
                index, layer.attention_norm, layer.qkv.weight, layer.output.weight, layer.mlp_norm,
                layer.gate_up.weight, layer.down.weight, cache.pool[index],
            )
            for index, layer in enumerate(model.layers)
        ]  # fmt: skip
        self._attend: _Attend = self._queries  # the step's
        whole = mode == "default"
        alone = model.parallel.size == 1
        one, all_ranks = (_opaque_attend, _opaque_all_reduce) if whole else (self._attended, self._reduced)
        pieces = (_before, _behind) if whole else (self._compile(_before), self._compile(_behind))
        self._parts = _Parts(*pieces, one, None if alone else all_ranks, model.heads, model.shape.norm_eps)
        self._layers = self._compile(_layers) if whole else _layers
        begun = time.perf_counter()
        self._first_calls()
        self.first_calls_s = time.perf_counter() - begun
        self.graphs_at_start = self.graphs

    def run(
        self, ids: torch.Tensor, positions: torch.Tensor, slots: torch.Tensor, attend: _Attend
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What `_layers` says, of a step's tokens (`ids`, `positions`, `slots` [tokens]; ids and slots int64)."""
        global _running
        x = F.embedding(ids, self.model.embedding)
        angles = positions[:, None].float() * self.model.frequencies
        _running, self._attend = self, attend
        try:
            return self._layers(self._parts, self._blocks, x, angles.cos()[:, None], angles.sin()[:, None], slots)
        finally:
            _running, self._attend = None, self._queries

    def normed(self, x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """The final norm of what `run` gave."""
        return F.rms_norm(x + delta, (x.shape[1],), self.model.norm, self.model.shape.norm_eps)

    @property
    def graphs(self) -> int:
        """Compilations so far."""
        return len(self._compiled)

    @property
    def as_json(self) -> dict[str, Any]:
        """For the result. A graph compiled after the start would have cost a request its time."""
        return {
            "what": "two regions of a layer" if self.mode == "smart" else "the pass over all layers",
            "graphs": self.graphs,
            "graphs_after_start": self.graphs - self.graphs_at_start,
            "first_calls_s": round(self.first_calls_s, 3),
        }

    def _compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        inductor, compiled = torch._dynamo.lookup_backend("inductor"), self._compiled

        def backend(module: Any, inputs: Any, **options: Any) -> Any:
            compiled.append(function.__name__)  # not `self`: Dynamo keeps its backends, and an engine must be freed
            return inductor(module, inputs, **options)

        # One a token count and engine, of which a process can have several.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        return torch.compile(function, backend=backend, fullgraph=True)

    @torch.inference_mode()
    def _first_calls(self) -> None:
        """Write into the last slot, which is the spare page's, or one that a request fills before it is read."""
        device = self.model.embedding.device
        for size in _FIRST_SIZES:
            ids = torch.zeros(size, dtype=torch.int64, device=device)
            self.run(ids, ids, torch.full_like(ids, self.cache.pool.shape[3] - 1), self._queries)

    def _queries(self, qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
        """In attention's place where there is no step."""
        return qkv[:, : self.model.heads].flatten(1).clone()  # an operator's result must not be its argument

    def _attended(self, qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
        return self._attend(qkv, pool, index)

    def _reduced(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.model.parallel.all_reduce(tensor)


_running: CompiledDecoder | None = None  # whose pass it is: an operator takes tensors and numbers alone


@torch.library.custom_op("llmval::attend", mutates_args=())
def _attend(qkv: torch.Tensor, pool: torch.Tensor, index: int, width: int) -> torch.Tensor:
    assert _running is not None
    return _running._attended(qkv, pool, index).contiguous()


@_attend.register_fake
def _(qkv: torch.Tensor, pool: torch.Tensor, index: int, width: int) -> torch.Tensor:
    return qkv.new_empty(qkv.shape[0], width)


@torch.library.custom_op("llmval::all_reduce", mutates_args=())
def _all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    assert _running is not None
    parallel = _running.model.parallel
    total = _running._reduced(tensor.clone())  # which may be in place
    # Inductor may reuse an operator's result, and the two-shot sum lies in the buffer that the next call overwrites.
    return total.clone() if parallel.all_reduce_of(tensor) == all_reduce.TWO_SHOT else total


@_all_reduce.register_fake
def _(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor)


def _opaque_attend(qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
    return torch.ops.llmval.attend(qkv, pool, index, (qkv.shape[1] - 2 * pool.shape[1]) * pool.shape[3])


def _opaque_all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    return torch.ops.llmval.all_reduce(tensor)


class CpuSteps:
    """`Decoder.hidden`, compiled."""

    def __init__(self, compiled: CompiledDecoder) -> None:
        self.compiled = compiled

    def hidden(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        cache: PagedKVCache,
        attention: AttentionBackend,
    ) -> torch.Tensor:
        heads = self.compiled.model.heads

        def attend(qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
            return attention.attend(index, qkv[:, :heads], cache).flatten(1)

        return self.compiled.normed(*self.compiled.run(tokens, positions, slots, attend))


class GpuSteps:
    """`FusedDecoder.hidden` and `finish`, compiled."""

    def __init__(self, compiled: CompiledDecoder) -> None:
        self.compiled = compiled

    def hidden(
        self, tokens: "Tokens", page_table: torch.Tensor, attend: "Attend", wanted: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """All tokens go through the last layer; `wanted` names those that come back."""
        size = self.compiled.cache.page_size
        pages = page_table[tokens.rows.long(), tokens.positions.long() // size].long()
        slots = pages * size + tokens.positions % size
        x, delta = self.compiled.run(
            tokens.ids, tokens.positions, slots, lambda qkv, pool, _: attend(qkv, pool[0], pool[1])
        )
        if wanted is None:
            return x, delta
        return (x.index_select(0, wanted), delta.index_select(0, wanted)) if len(wanted) else None

    def finish(self, x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """Logits of this rank [rows, vocab / ranks]."""
        return self.compiled.model.head(self.compiled.normed(x, delta))
