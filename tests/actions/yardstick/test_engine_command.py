"""The command of our engine for the load and the model of a server."""

import argparse
import json
import shlex
from pathlib import Path

import pytest
from llmval_runners.load_test import load_flags

from llmval_tui.actions.yardstick.engine_command import _DEFAULT_LENGTHS, _LOAD_FLAGS, engine_command, served_model
from llmval_tui.foundation.errors import Refused

LOAD = (
    "python openai_load_test.py --url http://127.0.0.1:8000 --target-qps 14 --duration 30 --prompt-len uniform:512:1024"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    return folder


def command(server: str, workspace: Path, load: str = LOAD, *, on_cpu: bool = False) -> str:
    return engine_command(shlex.split(load), shlex.split(server), workspace, "out.json", on_cpu=on_cpu)


def test_load_and_model_are_those_of_the_item_and_its_server(tmp_path: Path, model: Path) -> None:
    load = f"{LOAD} --seed 3 --burstiness=2 --slo-ttft-ms 500 --vocab 500 --api completions --output-json x.json"
    server = "vllm serve models/tiny --port 8000 --load-format dummy -tp 2 --max-num-seqs 128"
    assert command(server, tmp_path, load) == (
        f"torchrun --nproc_per_node=2 inference_server_load_test.py --checkpoint {model} --load-format dummy "
        "--dtype bfloat16 --fp8-mode none --kv-dtype auto --max-batch 128 --duration 30 --target-qps 14 --burstiness 2 "
        "--seed 3 --slo-ttft-ms 500 --prompt-len uniform:512:1024 --output-len 512 --output-json out.json"
    )


def test_every_flag_that_both_load_tests_have_is_taken_over() -> None:
    root = argparse.ArgumentParser()
    load_flags.add_load_flags(root, "", "")
    load_flags.add_search_flags(root)
    load_flags.add_slo_flags(root)
    flags = {word for action in root._actions for word in action.option_strings} - {"-h", "--help", "--find-max-qps"}
    assert flags == set(_LOAD_FLAGS) | set(_DEFAULT_LENGTHS)


def test_lengths_that_the_item_does_not_state_are_the_default_of_its_client(tmp_path: Path, model: Path) -> None:
    found = command("vllm serve models/tiny", tmp_path, "openai_load_test.py --url http://h:1")
    assert "--prompt-len uniform:512:1024 --output-len 512" in found


def test_a_search_stays_a_search_and_a_node_without_a_gpu_uses_its_cpu(tmp_path: Path, model: Path) -> None:
    load = f"{LOAD} --find-max-qps --max-qps 40 --slo-ttft-ms 500"
    found = command("vllm serve models/tiny", tmp_path, load, on_cpu=True)
    assert "--find-max-qps" in found and "--max-qps 40" in found and "--device cpu" in found


@pytest.mark.parametrize(
    ("server", "wanted"),
    [
        ("vllm serve models/tiny", ("bfloat16", False, False, False, 1)),
        ("vllm serve --model models/tiny --dtype half", ("float16", False, False, False, 1)),
        ("vllm serve models/tiny --dtype float32 --kv-cache-dtype fp8_e4m3", ("float32", False, True, False, 1)),
        ("vllm serve models/tiny --quantization fp8 --tensor-parallel-size=8", ("bfloat16", True, False, False, 8)),
        ("python -m sglang.launch_server --model-path models/tiny --tp 4", ("bfloat16", False, False, False, 4)),
        ("transformers serve models/tiny --port 8200 --device cpu", ("bfloat16", False, False, False, 1)),
        ("trtllm-serve models/tiny --tp_size 2", ("bfloat16", False, False, False, 2)),
        ("env VLLM_NO_USAGE_STATS=1 vllm serve models/tiny --load-format dummy", ("bfloat16", False, False, True, 1)),
    ],
)
def test_precision_and_size(tmp_path: Path, model: Path, server: str, wanted: tuple[object, ...]) -> None:
    found = served_model(shlex.split(server), tmp_path)
    assert (found.dtype, found.fp8, found.kv_fp8, found.dummy, found.tensor_parallel) == wanted
    assert found.folder == model


def test_a_model_of_the_hub_is_found_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "hub" / "models--meta--llama" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"torch_dtype": "float16", "quantization_config": {"quant_method": "fp8"}}')
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = served_model(["vllm", "serve", "meta/llama"], tmp_path)
    assert (found.folder, found.dtype, found.fp8) == (snapshot, "float16", True)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ("vllm serve", "names no model"),
        ("vllm serve --port 8000", "names no model"),
        ("vllm serve nowhere/model", "no folder nowhere/model"),
        ("llama-server --model m.gguf", "GGUF"),
        ("vllm serve models/tiny --quantization awq", "awq"),
        ("vllm serve models/tiny --dtype int8", "int8"),
        ("vllm serve models/tiny --kv-cache-dtype int4", "int4"),
        ("vllm serve models/tiny --pipeline-parallel-size 2", "--pipeline-parallel-size"),
        ("vllm serve models/tiny --enable-lora", "--enable-lora"),
        ("vllm serve models/tiny --speculative-config {}", "--speculative-config"),
        ("vllm serve models/tiny -tp two", "two is not a number"),
    ],
)
def test_what_our_engine_does_not_have_is_refused_by_name(tmp_path: Path, model: Path, server: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        command(server, tmp_path)


@pytest.mark.parametrize("flag", ["--trace t.csv", "--prompts p.txt"])
def test_a_load_that_our_engine_cannot_have_is_refused(tmp_path: Path, model: Path, flag: str) -> None:
    with pytest.raises(Refused, match="no yardstick"):
        command("vllm serve models/tiny", tmp_path, f"openai_load_test.py --url http://h:1 {flag}")


def test_flags_that_change_nothing_are_not_a_reason(tmp_path: Path, model: Path) -> None:
    assert (
        served_model(["vllm", "serve", "models/tiny", "-pp", "1", "--kv-cache-dtype", "auto"], tmp_path).tensor_parallel
        == 1
    )


def test_a_damaged_configuration_is_refused(tmp_path: Path, model: Path) -> None:
    (model / "config.json").write_text("[]")
    with pytest.raises(Refused, match="not a JSON object"):
        command("vllm serve models/tiny", tmp_path)
