"""The gate refuses, by name, files that are damaged, missing or of another program."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from llmval_runners.engine.checkpoint.gate import read_checkpoint

from tests.helpers.runners import checkpoints as made
from tests.runners.engine.checkpoint.conftest import LFS, refusal

pytest.importorskip("transformers")


def header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: Any = (2,), offsets: Any = (0, 8), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape) if isinstance(shape, tuple) else shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"", "is truncated or is not a safetensors file"),
        (b"\x01\x02", "is truncated or is not a safetensors file"),
        (LFS, "Git LFS pointer"),
        (struct.pack("<Q", 2**63) + b"{}", "is truncated or is not"),
        (struct.pack("<Q", 99_000_000) + b"{}", "is truncated or is not"),
        (struct.pack("<Q", 2) + b"[]", "holds a list"),
        (struct.pack("<Q", 4) + b"\xff\xff\xff\xff", "is not valid JSON"),
        (header({"a": 1}), "no dtype, shape and data_offsets"),
        (header({"a": entry(dtype="F7")}, b"0" * 8), "the dtype F7"),
        (header({"a": entry(dtype="F4")}, b"0" * 8), "is in F4, which this engine does not read: pass a checkpoint"),
        (header({"a": entry(dtype=None)}, b"0" * 8), "the dtype None"),
        (header({"a": entry(shape=(-2,))}, b"0" * 8), "not a short list of sizes"),
        (header({"a": entry(shape=[1] * 1_000)}, b"0" * 8), "not a short list of sizes"),
        (header({"a": entry(shape=(2**60,))}, b"0" * 8), "not a short list of sizes"),
        (header({"a": entry(shape="2")}, b"0" * 8), "not a short list of sizes"),
        (header({"a": entry(offsets=[0])}, b"0" * 8), "not two positions"),
        (header({"a": entry(offsets=[8, 0])}, b"0" * 8), "which is not the size"),
        (header({"a": entry(offsets=[0, 12])}, b"0" * 12), "which is not the size"),
        (header({"a": entry()}, b"0" * 7), "is truncated: 1 bytes are missing"),
        (header({"a": entry()}, b"0" * 9), "1 bytes after its last tensor"),
        (header({"a": entry(), "b": entry(offsets=[4, 12])}, b"0" * 12), "does not begin where"),
        (header({"a": entry(), "b": entry(offsets=[12, 20])}, b"0" * 20), "does not begin where"),
        (header({"\ud800\n": entry(dtype="F7")}, b"0" * 8), "entry for ?? has"),
        (header({"__metadata__": 5, "a": entry()}, b"0" * 8), "has 5 as __metadata__"),
        (header({"__metadata__": {"format": {}}, "a": entry()}, b"0" * 8), "as __metadata__"),
        (struct.pack("<Q", 3) + b" {}", "does not begin with {"),
        (struct.pack("<Q", 6) + "{}".encode("utf-16"), "does not begin with {"),
    ],
    ids=range(27),
)
def test_a_damaged_safetensors_file_is_refused(data: bytes, names: str, tmp_path: Path) -> None:
    made.write_config(tmp_path, made.config_of())
    (tmp_path / "model.safetensors").write_bytes(data)
    assert names in refusal(tmp_path)


def test_a_truncated_download_is_refused(state: made.State, tmp_path: Path) -> None:
    made.store(made.write_config(tmp_path, made.config_of()), state)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100, 7):
        file.write_bytes(whole[:size])
        assert "truncated" in refusal(tmp_path)


def test_the_index_decides_which_files_count(state: made.State, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    made.write_config(tmp_path, made.config_of())
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name].contiguous() for name in own}, tmp_path / file)
    save_file({"tok_embeddings.weight": torch.zeros(2)}, tmp_path / "consolidated.safetensors")
    assert "consolidated.safetensors" in refusal(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    weight_map = {name: file for file, own in parts.items() for name in own}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert len(read_checkpoint(tmp_path).weights) == len(names)
    wrong: list[Any] = [{}, {"a": 7}, {"a": "../x.safetensors"}, {"a": "\ud800.safetensors"}, []]
    for broken in wrong:
        index.write_text(json.dumps({"weight_map": broken}))
        assert "weight_map" in refusal(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map | {"more.weight": next(iter(parts))}}))
    assert "names more.weight, which no file has" in refusal(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors is missing" in refusal(tmp_path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "none")
    assert "has no config.json:" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "only a LoRA adapter" in refusal(tmp_path)
    made.write_config(tmp_path, made.config_of())
    assert "has a LoRA adapter (adapter_config.json) beside the model" in refusal(tmp_path)
    (tmp_path / "adapter_config.json").unlink()
    assert "cannot be read (File name too long)" in refusal(tmp_path / ("x" * 300))
    assert "has no .safetensors file:" in refusal(tmp_path)
    (tmp_path / "m-Q4_K_M.gguf").touch()
    assert "in GGUF (m-Q4_K_M.gguf)" in refusal(tmp_path) and "llama-server" in refusal(tmp_path)
    assert "is in GGUF" in refusal(tmp_path / "m-Q4_K_M.gguf" / ".." / "other.gguf")
    (tmp_path / "m-Q4_K_M.gguf").unlink()
    (tmp_path / "pytorch_model.bin").touch()
    assert "it has pytorch_model.bin" in refusal(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    assert "not a regular file" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("params.json", "{}", "is in Mistral's own format (params.json)"),
        ("m.gguf", "", "has its weights in GGUF (m.gguf)"),
        ("config.json", '{"builder_config": {}, "pretrained_config": {}}', "serve it with trtllm-serve"),
        ("config.json", '{"architecture": "LlamaForCausalLM", "dtype": "bfloat16"}', "serve it with trtllm-serve"),
    ],
)
def test_the_format_of_another_program_is_named_with_what_serves_it(
    file: str, text: str, names: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    assert names in refusal(tmp_path)


def test_two_saves_in_one_folder_are_refused(state: made.State, tmp_path: Path) -> None:
    """transformers reads model.safetensors then, and other programs what the index names."""
    from safetensors.torch import save_file

    made.store(made.write_config(tmp_path, made.config_of()), state)
    save_file(state, tmp_path / "model-00001-of-00001.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "model-00001-of-00001.safetensors")}))
    assert "has model.safetensors, and an index that names other files" in refusal(tmp_path)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "model.safetensors")}))
    read_checkpoint(tmp_path)
