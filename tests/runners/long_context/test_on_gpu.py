"""On a GPU: FP8 really runs, its memory is as predicted, and its logits are close to those of bfloat16."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from tests.helpers.runners.te_here import skip_without_transformer_engine
from tests.runners.long_context.conftest import ROOT

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 9),
        reason="no NVIDIA GPU with FP8 here",
    ),
]


@pytest.mark.parametrize(("mode", "workspaces"), [("native", 1), ("transformer-engine", 2)])
def test_three_layers_of_the_8b_shape(tmp_path, finished, read, mode, workspaces):
    """Up to `workspaces` of 32 MiB may be missing: cuBLAS allocates its own when a product first needs it."""
    if mode == "transformer-engine":
        skip_without_transformer_engine()
    result = tmp_path / "r.json"
    flags = ("--layers", "3", "--sequence-lengths", "16384", "32768", "--output-json", str(result), "--fp8-mode", mode)
    code, out, err = finished(tmp_path, *flags, model="llama-3.1-8b")
    assert code == 0, out + err
    value = read(result)
    assert value["identity"]["matrix_dtype"] == value["identity"]["kv_dtype"] == "float8_e4m3fn"
    assert ("Float8CurrentScaling" in value["identity"]["fp8_kernel"]) == (mode == "transformer-engine")
    for entry in value["lengths"]:
        rank = entry["memory"][0]
        assert rank["weights_bytes"] == entry["prediction"]["weights_bytes"]
        assert rank["kv_bytes"] == entry["prediction"]["kv_bytes"]
        assert abs(rank["residual_bytes"]) < workspaces * 32 * 2**20
        for kind in ("prompt", "decode"):
            assert 0 < entry["fidelity"][kind]["relative_error"] < 0.3


@pytest.mark.skipif(importlib.util.find_spec("cudnn") is None, reason="nvidia-cudnn-frontend is not installed")
def test_fp8_attention_of_prompts(tmp_path, finished, read):
    result = tmp_path / "r.json"
    flags = ("--layers", "4", "--sequence-lengths", "32768", "--prefill-attention", "fp8", "--output-json", str(result))
    code, out, err = finished(tmp_path, *flags, model="llama-3.1-8b")
    assert code == 0, out + err
    value = read(result)
    assert value["identity"]["prefill_attention"] == "fp8"
    for kind in ("prompt", "decode"):
        assert 0 < value["lengths"][0]["fidelity"][kind]["relative_error"] < 0.3


def test_a_few_combinations_on_a_small_card(tmp_path):
    command = [sys.executable, str(ROOT / "runners" / "fit_check.py"), "--combinations", "4"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "4 of 4 predictions right, 2 of 4 ran to their end" in ended.stdout
