"""All that a run's memory and work depend on besides the length. No torch."""

from dataclasses import dataclass

from llmval_runners.engine.shapes import ModelShape

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}


@dataclass(frozen=True, slots=True)
class Setup:
    """All that memory depends on besides the length. Types are keys of `ELEMENT_BYTES`."""

    shape: ModelShape
    tensor_parallel: int = 1
    dtype: str = "bfloat16"  # of activations, norms, embedding table and head
    weight_dtype: str = "bfloat16"  # of the layers' matrices
    kv_dtype: str = "bfloat16"
    batch: int = 1
    chunk: int = 8192  # prompt tokens a step
    page_size: int = 128
    decode_tokens: int = 128
    on_gpu: bool = True
    backend: str = "sdpa"  # flex reads the pages in place
    transformer_engine: bool = False  # makes the FP8 matrices, and quantises activations beside what it was given
    prefill_attention: str = "bf16"  # or fp8

    @property
    def kv_heads(self) -> int:
        """KV heads that one GPU holds: 1/min(TP, KV heads) of them, so beyond as many GPUs a head is held twice."""
        return max(1, self.shape.kv_heads // self.tensor_parallel)

    @property
    def fp8_mode(self) -> str:
        """As `--fp8-mode` names it."""
        return "none" if self.weight_dtype != "fp8" else "transformer-engine" if self.transformer_engine else "native"


def matrix_shapes(setup: Setup) -> list[tuple[int, int]]:
    """(out, in) of the four matrices of a layer, as one GPU holds them."""
    shape, ranks = setup.shape, setup.tensor_parallel
    queries, ffn = shape.heads * shape.head_dim // ranks, shape.ffn // ranks
    keys = setup.kv_heads * shape.head_dim
    return [(queries + 2 * keys, shape.hidden), (shape.hidden, queries), (2 * ffn, shape.hidden), (shape.hidden, ffn)]
