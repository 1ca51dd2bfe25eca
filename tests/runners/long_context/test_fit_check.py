"""The fit check: the draw, the memory cap, and the whole check on a CPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from llmval_runners.engine import fp8
from llmval_runners.engine.attention import cudnn_fp8
from llmval_runners.engine.shapes import SHAPES
from llmval_runners.engine.weights import random_weights
from llmval_runners.long_context.engine_adapter import Weights
from llmval_runners.long_context.fit_check import main as fit_check
from llmval_runners.long_context.fit_check import trial as fit_trial
from llmval_runners.long_context.fit_check.cases import (
    CLOSE,
    FITS,
    FITS_NOT,
    GPU_SHAPES,
    draw,
    least_bytes,
    verdict,
)
from llmval_runners.long_context.fit_check.memory_cap import CappedCpu
from llmval_runners.long_context.fit_check.report import Row, counts, table
from llmval_runners.long_context.fit_check.trial import Outcome
from llmval_runners.long_context.predict import peak_memory as predict
from llmval_runners.long_context.setup import Setup
from llmval_runners.process.errors import Refused

from tests.runners.long_context.conftest import ROOT

CPU = torch.device("cpu")
CAPPED_RUN = Path(__file__).with_name("capped_run.py")


@pytest.mark.parametrize("on_gpu", [True, False])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_half_of_the_limits_are_large_enough_and_some_only_just(on_gpu, ranks):
    cases = draw(50, 0, ranks, on_gpu=on_gpu, flex=2)
    assert cases == draw(50, 0, ranks, on_gpu=on_gpu, flex=2) != draw(50, 1, ranks, on_gpu=on_gpu, flex=2)
    assert len({(case.setup, case.length) for case in cases}) == 50
    assert [case.predicted for case in cases] == [FITS, FITS_NOT] * 25
    needed = [case.free_bytes / case.parts.needed_bytes for case in cases[::2]]
    least = [case.free_bytes / least_bytes(case.setup, case.parts) for case in cases[1::2]]
    assert 1 <= min(needed) < 1.001
    assert 0.95 < max(least) < 1 > 0.7 > min(least)
    assert {case.setup.tensor_parallel for case in cases} == {1, ranks}
    assert {case.setup.kv_dtype for case in cases[::2]} == {case.setup.kv_dtype for case in cases[1::2]}
    assert len({case.setup.kv_dtype for case in cases}) == 2
    assert [case.setup.backend for case in cases].count("flex") == 2
    assert not on_gpu or max(case.free_bytes for case in cases) < 60 * 2**30


@pytest.mark.parametrize("ranks", [1, 4])
def test_installed_packages_are_drawn_too_and_otherwise_nothing_changes(ranks):
    before = draw(50, 0, ranks, on_gpu=True, flex=2)
    kinds = [(case.setup.transformer_engine, case.setup.prefill_attention) for case in before]
    assert kinds == [(False, "bf16")] * 50
    for names in (["transformer_engine"], ["fp8_prefill"], ["transformer_engine", "fp8_prefill"]):
        more = dict.fromkeys(names, True)
        cases = draw(60, 0, ranks, on_gpu=True, flex=2, **more)
        fp8 = [case.setup for case in cases if case.setup.prefill_attention == "fp8"]
        assert bool(fp8) is more.get("fp8_prefill", False)
        assert {(setup.kv_dtype, setup.backend) for setup in fp8} <= {("fp8", "sdpa")}
        te = [case.setup for case in cases if case.setup.transformer_engine]
        assert bool(te) is more.get("transformer_engine", False)
        assert {setup.weight_dtype for setup in te} <= {"fp8"}


def test_a_package_that_does_not_load_is_reported_and_not_drawn(monkeypatch, capsys):
    def broken():
        raise Refused("built for another torch")

    monkeypatch.setattr(fit_check.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(fp8, "load_transformer_engine", broken)
    monkeypatch.setattr(cudnn_fp8, "fp8_sdpa", lambda device: device)
    assert fit_check._optional(CPU) == {"transformer_engine": False, "fp8_prefill": True}
    assert capsys.readouterr().err == "no combination uses transformer_engine: built for another torch\n"
    monkeypatch.setattr(fit_check.importlib.util, "find_spec", lambda name: None)
    assert fit_check._optional(CPU) == {"transformer_engine": False, "fp8_prefill": False}


def test_between_least_and_needed_nothing_is_claimed():
    setup = Setup(SHAPES["llama-3.1-8b"])
    parts = predict.predict(setup, 65536)
    assert verdict(setup, parts, parts.needed_bytes) == FITS
    assert verdict(setup, parts, parts.needed_bytes - 1) == CLOSE
    assert verdict(setup, parts, parts.total_bytes - 1) == FITS_NOT


@pytest.mark.parametrize(
    ("width", "layers", "weights", "chunk", "tokens", "batch", "free_bytes"),
    [
        (2, 2, "fp8", 4096, 65536, 2, 3_628_072_960),
        (0, 3, "bfloat16", 4096, 33792, 1, 5_622_464_512),
        (0, 3, "fp8", 8192, 8192, 1, 5_454_692_352),
        (0, 4, "fp8", 8192, 8192, 1, 5_796_528_128),
        (0, 5, "fp8", 8192, 49152, 1, 6_146_752_512),
    ],
)
def test_combinations_that_ran_out_of_memory_while_loading_are_not_predicted_to_fit(
    width, layers, weights, chunk, tokens, batch, free_bytes
):
    # On an H200: the allocator held 0.2 to 0.8 GiB in blocks that fitted nothing, beside the load's peak.
    shape = replace(GPU_SHAPES[width], layers=layers)
    setup = Setup(shape, weight_dtype=weights, kv_dtype="fp8", chunk=chunk, batch=batch, decode_tokens=8)
    assert verdict(setup, predict.predict(setup, tokens), free_bytes) == CLOSE


@pytest.mark.parametrize("on_gpu", [True, False])
def test_the_table_fits_a_terminal_of_80_columns_and_its_columns_stay_in_line(on_gpu):
    cases = draw(60, 0, 4, on_gpu=on_gpu, flex=2, transformer_engine=on_gpu, fp8_prefill=on_gpu)
    rows = [
        Row(case, observed, True, Outcome(None, None, 0), 139 * 2**30, 2000.0)
        for case, observed in zip(cases, [FITS, FITS_NOT] * 30, strict=True)
    ]
    lines = table(rows, head=True).splitlines()
    assert len(lines) == 2 * (1 + len(rows))
    assert max(map(len, lines)) <= 80
    end = lines[1].index("predicted") + len("predicted")
    assert all(line[:end].endswith((f" {FITS}", FITS_NOT)) for line in lines[3::2])


def test_the_cap_counts_living_tensors_and_names_the_one_that_did_not_fit():
    with CappedCpu(CPU, 1000) as card:
        first = torch.zeros(100)
        assert first.view(10, 10).t()[0].sum() == 0
        del first
        second = torch.zeros(200)
        assert (card.allocated, card.peak) == (800, 800)
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 400 bytes, with 800 of 1,000 bytes held"):
            second[:100].clone()
        del second
    assert card.allocated == 0


@pytest.mark.parametrize("weight_dtype", ["bfloat16", "fp8"])
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(("vocab", "ffn"), [(2048, 384), (256, 2048), (8192, 256)])
def test_the_peak_while_weights_are_loaded(weight_dtype, ranks, vocab, ffn):
    shape = replace(SHAPES["tiny"], vocab=vocab, ffn=ffn, hidden=256, layers=3)
    setup = Setup(shape, tensor_parallel=ranks, weight_dtype=weight_dtype, on_gpu=False)
    with torch.inference_mode(), CappedCpu(CPU, 1 << 40) as card:
        weights = Weights(setup, random_weights(0, CPU), SimpleNamespace(device=CPU, rank=0, size=ranks))
    assert card.allocated == weights.bytes == predict.weights_bytes(setup)
    assert card.peak == pytest.approx(predict.load_bytes(setup), rel=0.003)


def _check(tmp_path, *flags):
    with pytest.raises(SystemExit) as ended:
        fit_check.main(["--device", "cpu", "--combinations", "4", "--output-json", str(tmp_path / "r.json"), *flags])
    written = tmp_path / "r.json"
    return ended.value.code, json.loads((written if written.exists() else tmp_path / "r.partial.json").read_text())


@pytest.fixture(autouse=True)
def _no_handlers(monkeypatch):
    """The check runs in this process, whose signal handlers are pytest's."""
    monkeypatch.setattr(fit_check.StopSignals, "install", lambda _: None)
    monkeypatch.setattr(fit_check, "end_on_signals", lambda: None)


def test_the_predictions_are_right(tmp_path, capsys):
    code, value = _check(tmp_path, "--seed", "3")
    assert code == 0
    assert (value["partial"], value["tried"], value["right"]) == (False, 4, 4)
    assert [row["observed"] for row in value["rows"]] == [FITS, FITS_NOT] * 2
    assert value["rows"][0]["peak_bytes"] > value["rows"][0]["prediction"]["weights_bytes"]
    assert value["rows"][1]["out_of_memory"].startswith("the ")
    assert "4 of 4 predictions right, 2 of 4 ran to their end" in " ".join(capsys.readouterr().out.split())
    assert value["verdict"]["word"] == "ok"


def test_a_wrong_prediction_is_seen(tmp_path, monkeypatch):
    """A formula without the cache predicts that a combination fits although it does not."""
    monkeypatch.setattr(predict, "kv_bytes", lambda setup, length: 0)
    monkeypatch.setattr(predict, "activation_bytes", lambda setup, length: 0)
    code, value = _check(tmp_path)
    assert code == 1
    assert value["wrong_said_fits"] > 0
    assert not all(row["right"] for row in value["rows"])


def test_another_error_is_not_taken_for_running_out_of_memory(tmp_path, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(fit_trial, "Weights", broken)
    code, value = _check(tmp_path)
    assert (code, value["partial"]) == (1, True)
    assert not (tmp_path / "r.json").exists()
    assert "RuntimeError: illegal memory access" in capsys.readouterr().err


class Ended(BaseException):
    """Raised in place of the end of the process."""


@pytest.mark.parametrize("code", [0, 1, 2, "a failure"])
def test_several_ranks_end_at_once_with_any_exit_code(code, monkeypatch, capsys):
    """NCCL's communicator is never destroyed, so the interpreter's own shutdown may not end."""

    def check(*_):
        if code == 2:
            raise Refused("so")
        if code == "a failure":
            raise RuntimeError("lost")
        return code

    def end(number):
        raise Ended(number)

    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fit_check, "_check", check)
    monkeypatch.setattr(fit_check.os, "_exit", end)
    with pytest.raises(Ended) as ended:
        fit_check.main([])
    assert ended.value.args == (1 if code == "a failure" else code,)
    assert ("RuntimeError: lost" in capsys.readouterr().err) is (code == "a failure")


def test_a_mistyped_flag_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        fit_check.main(["--combination", "4"])
    assert ended.value.code == 2
    words = "refused: unrecognized arguments: --combination 4: see --help for the flags and their values.\n"
    assert capsys.readouterr().err == words


def test_out_of_memory_is_found_even_if_another_error_hides_it(monkeypatch):
    def capture(*_):
        try:
            raise torch.OutOfMemoryError("Tried to allocate 2.00 MiB")
        finally:
            raise RuntimeError("the capture was invalidated")

    monkeypatch.setattr(fit_trial, "Weights", capture)
    case = draw(1, 0, 1, on_gpu=False)[0]
    outcome = fit_trial.run(
        case, SimpleNamespace(device=CPU), SimpleNamespace(begin=lambda where: None, where="graphs")
    )
    assert (outcome.out_of_memory, outcome.message) == ("graphs", "Tried to allocate 2.00 MiB")


def test_open_cases_and_ranks_that_disagree_are_not_right():
    cases = draw(2, 0, 1, on_gpu=False)
    close = replace(cases[0], free_bytes=cases[0].parts.needed_bytes - 1)
    seen = Outcome(None, None, 1)
    rows = [Row(close, FITS, True, seen, 1, 1.0), Row(cases[0], FITS, False, seen, 1, 1.0)]
    found = counts(rows)
    assert (found["too_close_to_say"], found["predicted"], found["right"]) == (1, 1, 0)


def test_out_of_memory_within_the_second_length_keeps_the_first(tmp_path, read):
    setup = Setup(
        SHAPES["tiny"], dtype="float32", weight_dtype="float32", kv_dtype="float32", chunk=256, page_size=16,
        decode_tokens=8, on_gpu=False,
    )  # fmt: skip
    parts = predict.predict(setup, 1024)
    limit = parts.weights_bytes + parts.kv_bytes + 1_500_000  # the cache fits, and a whole chunk after others does not
    result = tmp_path / "r.json"
    flags = ("--model", "tiny", "--device", "cpu", "--sequence-lengths", "64", "1024", "--prefill-chunk", "256")
    command = [sys.executable, str(CAPPED_RUN), str(limit), *flags, "--output-json", str(result)]
    env = os.environ | {"PYTHONPATH": str(ROOT / "runners")}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT, env=env)
    assert ended.returncode == 1, ended.stderr
    first, second = read(result)["lengths"]
    assert (first["status"], second["status"]) == ("passed", "out_of_memory")
    assert first["prefill"]["seconds"] > 0 < first["decode"]["step_ms"]
    failure = second["failure"][0]
    assert failure["where"].startswith("warmup: prompt 1, tokens ")
    assert 0 < failure["tried_bytes"] < limit
    assert failure["predicted_bytes"] == parts.total_bytes
    assert "out of memory at 1,024 tokens on rank 0: an allocation of" in ended.stderr
