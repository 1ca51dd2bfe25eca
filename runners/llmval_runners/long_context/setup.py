"""The settings that decide memory and work at a given length. No torch."""

from dataclasses import dataclass

from llmval_runners.engine.shapes import ModelShape

ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1}
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings that decide memory, except the length. Dtypes are keys of `ELEMENT_BYTES`."""

    shape: ModelShape
    tensor_parallel: int = 1
    dtype: str = "bfloat16"  # dtype of activations, norms, embedding table and head
    weight_dtype: str = "bfloat16"  # dtype of the layers' matrices
    kv_dtype: str = "bfloat16"
    batch: int = 1
    chunk: int = 8192  # prompt tokens a step
    page_size: int = 128
    decode_tokens: int = 128
    on_gpu: bool = True
    backend: str = "sdpa"  # attention backend; flex reads the pages in place
    transformer_engine: bool = False  # FP8 matrices by Transformer Engine: each product also quantises its input
    prefill_attention: str = "bf16"  # or fp8

    @property
    def kv_heads(self) -> int:
        """KV heads on one GPU."""
        return self.shape.kv_heads_on(self.tensor_parallel)

    @property
    def fp8_mode(self) -> str:
        """The value of `--fp8-mode`: none, native or transformer-engine."""
        return "none" if self.weight_dtype != "fp8" else "transformer-engine" if self.transformer_engine else "native"


def matrix_shapes(setup: Setup) -> list[tuple[int, int]]:
    """(out, in) of a layer's four matrices on one GPU: QKV, attention output, gate and up, down."""
    shape, ranks = setup.shape, setup.tensor_parallel
    queries, ffn = shape.heads * shape.head_dim // ranks, shape.ffn // ranks
    keys = setup.kv_heads * shape.head_dim
    return [(queries + 2 * keys, shape.hidden), (shape.hidden, queries), (2 * ffn, shape.hidden), (shape.hidden, ffn)]
