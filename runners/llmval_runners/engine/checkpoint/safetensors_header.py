"""Headers of safetensors files, read and checked without loading a tensor. No torch.

Format: 8 bytes with the header's length (little-endian), the header in JSON, then the data (github.com/huggingface/
safetensors). As that library does, this refuses headers above 100 MB, metadata that is no text, and holes and overlaps
in the data.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from llmval_runners.process.errors import Refused

MAX_HEADER = 100_000_000  # bytes
MAX_JSON = 20_000_000  # bytes of config.json or an index; the largest index of a public model is below 10 MB
MAX_AXES = 8
LFS_POINTER = b"version https://git-lfs"
OTHER_DTYPES = ("F4", "F6_E2M3", "F6_E3M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64")  # of the format, and of no model here
ELEMENT_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I64": 8, "I32": 4, "I16": 2,
    "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: bytes `begin` to `end` of it. `dtype` is a key of `ELEMENT_BYTES`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises:
        Refused: it is not an object, or not strict JSON: a name given twice, NaN, numbers or nesting without end.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{short(twice)} is there twice")
        return found

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number of JSON")

    try:
        value = json.loads(data, object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refused(f"{path} is not valid JSON ({reason}): download the file again.") from None
    if not isinstance(value, dict):
        raise Refused(f"{path} holds a {type(value).__name__} and not an object: download the file again.")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises Refused if it cannot be read."""
    try:
        if not path.is_file():  # a pipe would block
            raise Refused(f"{path} is not a regular file: download it again.")
        if path.stat().st_size > MAX_JSON:
            raise Refused(f"{path} is larger than {MAX_JSON:,} bytes, which no such file is: download it again.")
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): check the folder.") from None
    if data.startswith(LFS_POINTER):
        raise Refused(_pointer(path))
    return parse_json(data, path)


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, by name.

    Raises:
        Refused: the file is not complete, is not in this format, or is a Git LFS pointer.
    """
    try:
        if not path.is_file():
            raise Refused(f"{path} is missing or is not a regular file: download it again.")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(max(8, len(LFS_POINTER)))
            if start == LFS_POINTER:
                raise Refused(_pointer(path))
            length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise Refused(
                    f"{path} has {size:,} bytes and is truncated or is not a safetensors file: download it again."
                )
            file.seek(8)
            data = file.read(length)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({error.strerror}): check the folder.") from None
    header = parse_json(data, path)
    if not data.startswith(b"{"):  # blanks, or another encoding
        raise Refused(f"{path} has a header that does not begin with {{: download it again.")
    about = header.pop("__metadata__", {})
    if not (isinstance(about, dict) and all(isinstance(value, str) for value in about.values())):
        raise Refused(f"{path} has {short(about)} as __metadata__, which must be texts by name: download it again.")
    return _tensors(path, header, first=8 + length, size=size)


def _tensors(path: Path, header: dict[str, Any], *, first: int, size: int) -> dict[str, StoredTensor]:
    found = {name: _tensor(path, name, entry, first) for name, entry in header.items()}
    end = first
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.end > size:
            missing = max(t.end for t in found.values()) - size
            raise Refused(f"{path} is truncated: {missing:,} bytes are missing at its end: download it again.")
        if tensor.begin != end:
            raise Refused(f"{path}: {short(name)} does not begin where the tensor before it ends: download it again.")
        end = tensor.end
    if end != size:
        raise Refused(f"{path} has {size - end:,} bytes after its last tensor: download it again.")
    return found


def _tensor(path: Path, name: str, entry: Any, first: int) -> StoredTensor:
    def wrong(what: str) -> Refused:
        return Refused(f"{path}: the header's entry for {short(name)} has {what}: download the file again.")

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise wrong("no dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype in OTHER_DTYPES:
        raise Refused(
            f"{path}: {short(name)} is in {dtype}, which this engine does not read: pass a checkpoint in 16 bits or "
            "FP8 (E4M3), or serve it with vLLM or SGLang."
        )
    if not isinstance(dtype, str) or dtype not in ELEMENT_BYTES:
        raise wrong(f"the dtype {short(dtype)}, which is not supported here")
    if not (isinstance(shape, list) and len(shape) <= MAX_AXES and all(map(_is_size, shape))):
        raise wrong("a shape that is not a short list of sizes")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(map(_is_size, offsets))):
        raise wrong("data_offsets that are not two positions")
    begin, end = offsets
    if end - begin != math.prod(shape) * ELEMENT_BYTES[dtype]:
        raise wrong(f"{end - begin:,} bytes, which is not the size of {dtype} {shape}")
    return StoredTensor(path, dtype, tuple(shape), first + begin, first + end)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**48


def short(value: object) -> str:
    """A value for a message: on one line, at most 80 characters."""
    try:
        text = value if isinstance(value, str) else repr(value)[:200]
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 80 else text[:77] + "…"


def _pointer(path: Path) -> str:
    return f"{path} is a Git LFS pointer and not the file itself: run `git lfs pull` in its folder."
