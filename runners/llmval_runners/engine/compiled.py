"""The decoder's layers compiled by Inductor (`--compile-mode`), on a CPU or a GPU, in bfloat16 or float32 only.

`smart` compiles two regions of a layer: before attention (add, norm, projection, rotation, cache write) and after it
(add, norm, gate and up, SiLU, down). Weights are arguments, so all layers share the compiled code. `default` compiles
the pass over all layers as one graph, in which attention and all-reduce are opaque operators. Each function is compiled
twice when the engine starts: for one token and for any other number of tokens. In both modes, the output projection
stays a separate matrix product, as it has nothing to fuse with.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypedDict, TypeVar

import torch
import torch.nn.functional as F
from llmval_runners.engine.attention.backend import Attend, CpuAttention, Tokens
from llmval_runners.engine.kernels import all_reduce
from llmval_runners.engine.kv_cache import PagedKVCache
from llmval_runners.engine.model import Decoder, activate, add_bias, norm_heads, rotate

# The compiler specialises on one token. With a second number it makes the number dynamic (torch's automatic dynamic
# shapes), so there are never more than two versions.
_FIRST_SIZES = (1, 16)

_Attend = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(qkv [tokens, heads + 2 · KV heads, head dim], the layer's pool, its index) → [tokens, heads · dim]."""


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class CompileReport(TypedDict):
    what: str
    graphs: int
    graphs_after_start: int
    first_calls_s: float


class _Block(NamedTuple):
    """A layer's weights, and its `pool` of keys and values [2, KV heads, slots, head dim].

    `small` has its biases and norms of queries and keys, or None for each: (qkv, output, gate and up, down, query norm,
    key norm).
    """

    layer: int  # its index
    attention_norm: torch.Tensor
    qkv: torch.Tensor
    output: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    pool: torch.Tensor
    small: tuple[torch.Tensor | None, ...]


class _Pass(NamedTuple):
    """The functions of a pass over the layers: compiled in mode `smart`, plain in mode `default`."""

    pre_attention: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    post_attention: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    attend: _Attend
    reduce: Callable[[torch.Tensor], torch.Tensor] | None  # None: there is one rank
    heads: int
    eps: float
    activation: str


def _pre_attention(
    x: torch.Tensor,
    residual_update: torch.Tensor,
    norm_weight: torch.Tensor,
    weight: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    slots: torch.Tensor,
    pool: torch.Tensor,
    small: tuple[torch.Tensor | None, ...],
    heads: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x + residual_update; and its rotated queries, rotated keys, and values. Writes keys and values to the cache."""
    x = x + residual_update
    kv_heads, dim = pool.shape[1], pool.shape[3]
    bias, _, _, _, query_norm, key_norm = small
    qkv = add_bias(F.linear(F.rms_norm(x, (x.shape[1],), norm_weight, eps), weight), bias).view(x.shape[0], -1, dim)
    q, k, v = qkv.split_with_sizes((heads, kv_heads, kv_heads), dim=1)
    q, k = norm_heads(q, query_norm, eps), norm_heads(k, key_norm, eps)
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    pool[:, :, slots] = torch.stack((k, v)).transpose(1, 2).to(pool.dtype)
    return x, torch.cat((q, k, v), dim=1)


def _post_attention(
    x: torch.Tensor,
    residual_update: torch.Tensor,
    norm_weight: torch.Tensor,
    gate_up: torch.Tensor,
    down: torch.Tensor,
    small: tuple[torch.Tensor | None, ...],
    eps: float,
    activation: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x + residual_update, and the MLP's output for it."""
    x = x + residual_update
    _, _, bias, down_bias, _, _ = small
    gate, up = add_bias(F.linear(F.rms_norm(x, (x.shape[1],), norm_weight, eps), gate_up), bias).chunk(2, dim=-1)
    return x, add_bias(F.linear(activate(activation, gate) * up, down), down_bias)


def _layers(
    functions: _Pass, blocks: list[_Block], x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, slots: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The residual stream [tokens, hidden] before the last layer's MLP is added, and that MLP's output."""
    reduce, residual_update = functions.reduce, torch.zeros_like(x)
    eps = functions.eps
    for block in blocks:
        x, qkv = functions.pre_attention(
            x, residual_update, block.attention_norm, block.qkv, cos, sin, slots, block.pool, block.small,
            functions.heads, eps,
        )  # fmt: skip
        projected = add_bias(F.linear(functions.attend(qkv, block.pool, block.layer), block.output), block.small[1])
        x, residual_update = functions.post_attention(
            x, projected if reduce is None else reduce(projected), block.mlp_norm, block.gate_up, block.down,
            block.small, eps, functions.activation,
        )  # fmt: skip
        residual_update = residual_update if reduce is None else reduce(residual_update)
    return x, residual_update


class CompiledDecoder:
    """A decoder's compiled layers on a cache. `first_calls_s` is the time that their compilation took."""

    def __init__(self, model: Decoder, cache: PagedKVCache, mode: str) -> None:
        """Compile for steps of any size. `mode`: smart or default."""
        self.model, self.cache, self.mode = model, cache, mode
        self._compiled: list[str] = []  # names of the compiled functions
        self._blocks = [
            _Block(
                index, layer.attention_norm, layer.qkv.weight, layer.output.weight, layer.mlp_norm,
                layer.gate_up.weight, layer.down.weight, cache.pool[index],
                (layer.qkv_bias, layer.output_bias, layer.gate_up_bias, layer.down_bias, layer.query_norm,
                 layer.key_norm),
            )
            for index, layer in enumerate(model.layers)
        ]  # fmt: skip
        self._attend: _Attend = self._return_queries  # replaced during each step
        one_graph = mode == "default"
        attend, reduce = (_opaque_attend, _opaque_all_reduce) if one_graph else (self._attended, self._reduced)
        self._functions = _Pass(
            _pre_attention if one_graph else self._compile(_pre_attention),
            _post_attention if one_graph else self._compile(_post_attention),
            attend,
            None if model.parallel.size == 1 else reduce,
            model.heads,
            model.shape.norm_eps,
            model.shape.activation,
        )
        self._layers = self._compile(_layers) if one_graph else _layers
        begun = time.perf_counter()
        self._first_calls()
        self.first_calls_s = time.perf_counter() - begun
        self.graphs_at_start = self.graphs

    def run(
        self, ids: torch.Tensor, positions: torch.Tensor, slots: torch.Tensor, attend: _Attend
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run `_layers` on a step's tokens: `ids`, `positions` and `slots` [tokens]; ids and slots are int64."""
        global _running
        x = F.embedding(ids, self.model.embedding)
        angles = positions[:, None].float() * self.model.frequencies
        _running, self._attend = self, attend
        try:
            return self._layers(self._functions, self._blocks, x, angles.cos()[:, None], angles.sin()[:, None], slots)
        finally:
            _running, self._attend = None, self._return_queries

    def final_norm(self, x: torch.Tensor, residual_update: torch.Tensor) -> torch.Tensor:
        """The final norm of the result of `run`."""
        return F.rms_norm(x + residual_update, (x.shape[1],), self.model.norm, self.model.shape.norm_eps)

    @property
    def graphs(self) -> int:
        """The number of compilations so far."""
        return len(self._compiled)

    def as_json(self) -> CompileReport:
        """For the result file. A compilation after the start would have delayed a request."""
        return {
            "what": "two regions of a layer" if self.mode == "smart" else "the pass over all layers",
            "graphs": self.graphs,
            "graphs_after_start": self.graphs - self.graphs_at_start,
            "first_calls_s": round(self.first_calls_s, 3),
        }

    def _compile(self, function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        inductor, compiled, name = torch._dynamo.lookup_backend("inductor"), self._compiled, function.__name__

        def backend(module: torch.fx.GraphModule, inputs: list[torch.Tensor], **options: Any) -> Any:
            compiled.append(name)  # not via `self`: Dynamo keeps its backends alive, and an engine must be freed
            return inductor(module, inputs, **options)

        # One per number of tokens and engine; a process can have several engines.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        return torch.compile(function, backend=backend, fullgraph=True)

    @torch.inference_mode()
    def _first_calls(self) -> None:
        """Compile all versions. Writes to the last slot: the padding page's, or one that a request fills before use."""
        device = self.model.embedding.device
        for size in _FIRST_SIZES:
            ids = torch.zeros(size, dtype=torch.int64, device=device)
            self.run(ids, ids, torch.full_like(ids, self.cache.pool.shape[3] - 1), self._return_queries)

    def _return_queries(self, qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
        """Stands in for attention outside a step."""
        return qkv[:, : self.model.heads].flatten(1).clone()  # an operator must not return its argument

    def _attended(self, qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
        return self._attend(qkv, pool, index)

    def _reduced(self, tensor: torch.Tensor) -> torch.Tensor:
        return self.model.parallel.all_reduce(tensor)


_running: CompiledDecoder | None = None  # the decoder of the current pass: an operator takes only tensors and numbers


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
    total = _running._reduced(tensor.clone())  # it may sum in place
    # Inductor may reuse an operator's result, but the next call overwrites the buffer that holds a two-shot sum.
    return total.clone() if parallel.all_reduce_for(tensor) == all_reduce.TWO_SHOT else total


@_all_reduce.register_fake
def _(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor)


def _opaque_attend(qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
    width = (qkv.shape[1] - 2 * pool.shape[1]) * pool.shape[3]
    attended: torch.Tensor = torch.ops.llmval.attend(qkv, pool, index, width)
    return attended


def _opaque_all_reduce(tensor: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = torch.ops.llmval.all_reduce(tensor)
    return total


class CompiledCpuDecoder:
    """`Decoder.forward`, compiled."""

    def __init__(self, compiled: CompiledDecoder) -> None:
        self.compiled = compiled

    def forward(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        cache: PagedKVCache,
        attention: CpuAttention,
    ) -> torch.Tensor:
        heads = self.compiled.model.heads

        def attend(qkv: torch.Tensor, pool: torch.Tensor, index: int) -> torch.Tensor:
            return attention.attend(index, qkv[:, :heads], cache).flatten(1)

        return self.compiled.final_norm(*self.compiled.run(tokens, positions, slots, attend))


class CompiledGpuDecoder:
    """`FusedDecoder.forward` and `logits`, compiled."""

    def __init__(self, compiled: CompiledDecoder) -> None:
        self.compiled = compiled

    def forward(
        self, tokens: Tokens, page_table: torch.Tensor, attend: Attend, output_indices: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """As `FusedDecoder.forward`, but all tokens go through the whole last layer."""
        size = self.compiled.cache.page_size
        pages = page_table[tokens.rows.long(), tokens.positions.long() // size].long()
        slots = pages * size + tokens.positions % size
        x, residual_update = self.compiled.run(
            tokens.ids, tokens.positions, slots, lambda qkv, pool, _: attend(qkv, pool[0], pool[1])
        )
        if output_indices is None:
            return x, residual_update
        if not len(output_indices):
            return None
        return x.index_select(0, output_indices), residual_update.index_select(0, output_indices)

    def logits(self, x: torch.Tensor, residual_update: torch.Tensor) -> torch.Tensor:
        """This rank's logits [rows, vocab / ranks]."""
        return self.compiled.model.head(self.compiled.final_norm(x, residual_update))
