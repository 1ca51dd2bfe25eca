"""Loads the tensors of a checkpoint that passed the gate: mapped files, read as they are needed.

A matrix in FP8 with one scale, or one for each row, stays in FP8: `weights.build` uses it as it is in the FP8 mode
`native` and multiplies it out otherwise. Other quantised matrices are multiplied out here, in float32.
"""

import mmap
from collections.abc import Callable
from pathlib import Path

import torch
from llmval_runners.engine.checkpoint.fields import ELSEWHERE
from llmval_runners.engine.checkpoint.gate import Checkpoint
from llmval_runners.engine.checkpoint.safetensors_header import StoredTensor
from llmval_runners.engine.checkpoint.tensors import Stored
from llmval_runners.engine.fp8 import Fp8Weight
from llmval_runners.engine.shapes import EMBEDDING, HEAD
from llmval_runners.engine.weights import Source
from llmval_runners.process.errors import Refused

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "I8": torch.int8,
}  # fmt: skip


def from_checkpoint(checkpoint: Checkpoint, device: torch.device) -> Source:
    """The checkpoint's tensors by name, in memory of their own if they stay on a CPU (`device`).

    Raises:
        Refused: a head that should be tied to the embedding has other values.
    """
    files: dict[Path, mmap.mmap] = {}

    def read(stored: StoredTensor) -> torch.Tensor:
        if not stored.end - stored.begin:
            return torch.empty(stored.shape, dtype=DTYPES[stored.dtype])
        if stored.file not in files:
            with stored.file.open("rb") as file:
                # A private copy on write, because PyTorch warns about memory that it must not write to.
                files[stored.file] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        # As bytes first: the format allows any position, and PyTorch only multiples of the element's size.
        data = torch.frombuffer(
            files[stored.file], dtype=torch.uint8, count=stored.end - stored.begin, offset=stored.begin
        )
        aligned = stored.begin % DTYPES[stored.dtype].itemsize == 0
        data = data.clone() if device.type == "cpu" or not aligned else data
        return data.view(DTYPES[stored.dtype]).view(stored.shape)

    def source(name: str, size: tuple[int, ...]) -> torch.Tensor | Fp8Weight:
        return _scaled(name, checkpoint.weights[name], read)

    if checkpoint.tied_head is not None:
        embedding, head = read(checkpoint.weights[EMBEDDING].tensor), read(checkpoint.tied_head)
        if not torch.equal(embedding, head):
            raise Refused(
                f"{checkpoint.folder} has a {HEAD} with other values than the embedding, although its config.json ties "
                f"them: set tie_word_embeddings to false if the head was trained, or {ELSEWHERE}."
            )
    return source


def _scaled(name: str, weight: Stored, read: Callable[[StoredTensor], torch.Tensor]) -> torch.Tensor | Fp8Weight:
    values = read(weight.tensor)
    if weight.scale is None:
        return values
    scales = read(weight.scale).float()
    if bool((scales < 0).any()):
        raise Refused(f"the scales of {name} have negative values, which no quantisation gives: download it again.")
    if weight.block is not None:
        rows, columns = weight.block
        whole = scales.repeat_interleave(rows, 0)[: len(values)].repeat_interleave(columns, 1)[:, : values.shape[1]]
        return values.float() * whole
    of_rows = scales.reshape(-1).expand(len(values)).contiguous()
    if values.dtype == torch.float8_e4m3fn:
        return Fp8Weight(values, of_rows)
    return values.float() * of_rows[:, None]
