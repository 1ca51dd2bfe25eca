"""The sweep's parameter grid: its cells, their names, and the order in which they run. Needs no torch.

A cell is one model at one batch size in one mode.
"""

import random
from dataclasses import dataclass

from llmval_runners.process.errors import Refused

MODES = ("fp16", "bf16", "fp8_te", "fp8_native")
PHASES = ("prefill", "decode")
FP8_MULTIPLE = 16  # torch._scaled_mm and Transformer Engine need both widths of an FP8 GEMM divisible by it


@dataclass(frozen=True, slots=True)
class StackShape:
    """A GPT-style decoder stack with as many KV heads as heads, a two-matrix MLP, no embedding and no LM head."""

    layers: int
    d_model: int
    heads: int
    d_ff: int

    @property
    def name(self) -> str:
        return f"{self.layers}L-d{self.d_model}-h{self.heads}-ff{self.d_ff}"

    @property
    def head_dim(self) -> int:
        return self.d_model // self.heads

    @property
    def linear_parameters(self) -> int:
        """Weights of the four matrices of every layer: 3·d² + d² + 2·d·d_ff."""
        return self.layers * (4 * self.d_model**2 + 2 * self.d_model * self.d_ff)

    @property
    def parameters(self) -> int:
        """All weights: the matrices, two norms per layer and the final one (weight and bias each)."""
        return self.linear_parameters + (2 * self.layers + 1) * 2 * self.d_model

    def check(self) -> None:
        """Raises Refused if the numbers do not make a decoder."""
        if self.d_model % self.heads:
            raise Refused(
                f"a model width of {self.d_model} cannot be shared by {self.heads} heads: for each model, pass a "
                "--model-heads that divides --model-d-model."
            )


@dataclass(frozen=True, slots=True)
class Cell:
    """One model at one batch size in one mode."""

    shape: StackShape
    batch: int
    mode: str
    sequence_length: int

    @property
    def name(self) -> str:
        """Also the stem of the result file, so that the parameters alone identify it."""
        return f"{self.shape.name}-s{self.sequence_length}-b{self.batch}-{self.mode}"


def shapes_of(layers: list[int], d_model: list[int], heads: list[int], d_ff: list[int]) -> list[StackShape]:
    """The models given by the four lists; values at the same position belong together.

    Raises:
        Refused: the lists differ in length, or a model does not make a decoder.
    """
    lists = {"--model-layers": layers, "--model-d-model": d_model, "--model-heads": heads, "--model-d-ff": d_ff}
    if len({len(values) for values in lists.values()}) > 1:
        counts = ", ".join(f"{flag} has {len(values)}" for flag, values in lists.items())
        raise Refused(
            f"the model lists go together by position and must be equally long, but {counts}: give each model one "
            "value in each list."
        )
    shapes = [StackShape(*values) for values in zip(layers, d_model, heads, d_ff, strict=True)]
    for shape in shapes:
        shape.check()
    return shapes


def cells_of(shapes: list[StackShape], batches: list[int], modes: list[str], sequence_length: int) -> list[Cell]:
    """Every model at every batch size in every mode, in the order of the flags. A value given twice counts once."""
    return [
        Cell(shape, batch, mode, sequence_length)
        for shape in dict.fromkeys(shapes)
        for batch in dict.fromkeys(batches)
        for mode in dict.fromkeys(modes)
    ]


def shuffled(cells: list[Cell], seed: int) -> list[Cell]:
    """The cells in random order, so that a drift of the room temperature does not favour one mode."""
    order = list(cells)
    random.Random(seed).shuffle(order)
    return order
