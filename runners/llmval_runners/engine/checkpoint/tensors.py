"""Checks that the files hold exactly the tensors of a shape, and finds the scales of quantised ones. No torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from llmval_runners.engine.checkpoint.fields import ELSEWHERE
from llmval_runners.engine.checkpoint.quantization import Quantization
from llmval_runners.engine.checkpoint.safetensors_header import StoredTensor, read_header, read_json, short
from llmval_runners.engine.shapes import EMBEDDING, HEAD, ModelShape, tensor_shapes
from llmval_runners.process.errors import Refused

_WHOLE_DTYPES = ("BF16", "F16", "F32", "F64")
_SCALE_DTYPES = ("BF16", "F16", "F32")
_SCALES = ("weight_scale", "weight_scale_inv")  # both are multiplied with the stored values
# Of quantised checkpoints: the engine scales activations by row, and its KV cache has no scale.
_UNUSED_SCALES = (
    ".input_scale", ".activation_scale", ".activation_scale_inv", ".input_zero_point", ".output_scale", ".q_scale",
    ".k_scale", ".v_scale", ".kv_scale",
)  # fmt: skip
GGUF = (
    "which this engine does not read: serve it with llama.cpp (llama-server; llama-bench measures it), or pass the "
    "safetensors that it was made from"
)
_UNUSED = ".rotary_emb.inv_freq"  # of early files; the frequencies follow from config.json


@dataclass(frozen=True, slots=True)
class Stored:
    """A weight of the model in the files. `scale` multiplies it: one number, one for each row, or one for each block.

    `block`: rows and columns of a scale's block; None: the scale is one number or one for each row.
    """

    tensor: StoredTensor
    scale: StoredTensor | None = None
    block: tuple[int, int] | None = None


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of a folder by name: of the files in its index, else of `model.safetensors`, else of all files.

    Raises:
        Refused: there is no such file, or one is damaged or missing.
    """
    index = folder / "model.safetensors.index.json"
    names: set[str] | None = None
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_file_name, weight_map.values())):
            raise Refused(f"{index} has no weight_map from tensors to files of its folder: download it again.")
        files, names = sorted({folder / file for file in weight_map.values()}), set(weight_map)
        if (single := folder / "model.safetensors").exists() and single not in files:
            raise Refused(
                f"{folder} has {single.name}, and an index that names other files ({index.name}): keep the files of "
                "one save."
            )
    elif (folder / "model.safetensors").exists():
        files = [folder / "model.safetensors"]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        refuse_gguf(folder)
        others = sorted(path.name for kind in ("*.bin", "*.pth") for path in folder.glob(kind))
        has = f" (it has {short(', '.join(others))})" if others else ""
        raise Refused(f"{folder} has no .safetensors file{has}: pass a checkpoint saved in that format.")
    found: dict[str, StoredTensor] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if name in found:
                raise Refused(f"{short(name)} is in {found[name].file.name} and in {file}: keep the files of one save.")
            found[name] = tensor
    if names is not None and (missing := sorted(names - found.keys())):
        raise Refused(f"{index} names {short(missing[0])}, which no file has: download the checkpoint again.")
    return found


def refuse_gguf(folder: Path) -> None:
    """Refuse a folder that has its weights in GGUF."""
    if found := sorted(path.name for path in folder.glob("*.gguf")):
        raise Refused(f"{folder} has its weights in GGUF ({short(', '.join(found))}), {GGUF}.")


def match(
    folder: Path, shape: ModelShape, stored: dict[str, StoredTensor], quantization: Quantization | None
) -> dict[str, Stored]:
    """The model's weights by name. Each stored tensor is one of them, a scale of one, or known to be irrelevant.

    Raises:
        Refused: a tensor is missing, has another shape or dtype, or is not one that this model has.
    """
    rest = dict(stored)
    found = {}
    for name, size in tensor_shapes(shape):
        tensor = rest.pop(name, None)
        if tensor is None:
            raise Refused(f"{folder} lacks {name}, which its config.json asks for: {_complete(stored, name)}.")
        if tensor.shape != size:
            raise Refused(
                f"{name} is {list(tensor.shape)} in {tensor.file.name} and {list(size)} in config.json of {folder}: "
                "pass the config.json it was saved with."
            )
        found[name] = _weight(name, tensor, rest, quantization)
    if shape.tied_embeddings:
        head = rest.pop(HEAD, None)  # the loader checks that its values are those of the embedding
        if head is not None and (head.shape, head.dtype) != (
            found[EMBEDDING].tensor.shape,
            found[EMBEDDING].tensor.dtype,
        ):
            raise Refused(f"{HEAD} is in {head.file.name} although config.json ties it to the embedding: {ELSEWHERE}.")
    unused = (_UNUSED,) if quantization is None else (_UNUSED, *_UNUSED_SCALES)
    for name, tensor in rest.items():
        if not name.endswith(unused):
            raise Refused(
                f"{tensor.file} has {short(name)}, which this engine does not use for the model that config.json "
                f"describes: {ELSEWHERE}."
            )
    if quantization is not None and all(weight.scale is None for weight in found.values()):
        raise Refused(
            f"{folder}/config.json declares {quantization.method}, and no tensor is in {quantization.dtype}: remove "
            "quantization_config, or pass the quantised checkpoint."
        )
    return found


def _weight(
    name: str, tensor: StoredTensor, rest: dict[str, StoredTensor], quantization: Quantization | None
) -> Stored:
    """The weight with its scale, which is taken out of `rest`."""
    module = name.rpartition(".")[0]
    scales = (
        [f"{module}.{suffix}" for suffix in _SCALES if f"{module}.{suffix}" in rest] if name.endswith(".weight") else []
    )
    if tensor.dtype in _WHOLE_DTYPES:
        if scales:
            raise Refused(
                f"{name} is in {tensor.dtype} and has {scales[0]}, so it is unclear how to read it: {ELSEWHERE}."
            )
        return Stored(tensor)
    expected = quantization.dtype if quantization is not None else None
    if tensor.dtype != expected or len(tensor.shape) != 2 or name == EMBEDDING:
        raise Refused(
            f"{name} is in {tensor.dtype}, and config.json of {tensor.file.parent} does not say how to read that: pass "
            f"a checkpoint in 16 bits or FP8, or {ELSEWHERE}."
        )
    if len(scales) != 1:
        raise Refused(f"{name} is in {tensor.dtype} and has {len(scales)} scales instead of one: {ELSEWHERE}.")
    if f"{module}.weight_zero_point" in rest:
        raise Refused(f"{name} has a zero point, which this engine does not implement: {ELSEWHERE}.")
    scale = rest.pop(scales[0])
    rows, columns = tensor.shape
    block = quantization.block if quantization is not None else None
    one_or_rows = [(), (1,), (1, 1), (rows,), (rows, 1)]
    blocks = block and (-(-rows // block[0]), -(-columns // block[1]))
    if scale.dtype not in _SCALE_DTYPES or (scale.shape != blocks if blocks else scale.shape not in one_or_rows):
        raise Refused(
            f"{scales[0]} is {scale.dtype} {list(scale.shape)}, which does not fit {list(tensor.shape)}: this engine "
            f"reads one scale a matrix, a row, or a block that config.json states: {ELSEWHERE}."
        )
    return Stored(tensor, scale, block)


def _complete(stored: dict[str, StoredTensor], name: str) -> str:
    """What to do about a model without the tensor `name`."""
    inner = name.removeprefix("model.")
    if alias := next((other for other in stored if other.endswith(f".{inner}") or other == inner), None):
        return (
            f"its tensors have other names ({short(alias)}), as a part of a larger model or another program writes "
            f"them; {ELSEWHERE}"
        )
    fused = re.sub(r"(q|k|v)_proj\.weight$", "qkv_proj.weight", name)
    fused = re.sub(r"(gate|up)_proj\.weight$", "gate_up_proj.weight", fused)
    if fused != name and fused in stored:
        return f"it has {fused}, projections in one tensor, which this engine does not split; {ELSEWHERE}"
    packed = name.removesuffix("weight")
    if any(f"{packed}{suffix}" in stored for suffix in ("weight_packed", "qweight")):
        return f"it has packed weights, which this engine does not read; {ELSEWHERE}"
    return "download the checkpoint again, with all its files"


def _is_file_name(value: object) -> bool:
    plain = isinstance(value, str) and value.isascii() and value.isprintable() and "/" not in value
    return plain and str(value).endswith(".safetensors")
