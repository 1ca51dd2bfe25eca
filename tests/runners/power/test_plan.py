"""The grid, the flags, FLOPs and bytes, and the rules: plain numbers."""

import json
import shlex
from pathlib import Path

import pytest
from llmval_runners.power import validity
from llmval_runners.power.grid import Cell, StackShape, shuffled
from llmval_runners.power.options import parse
from llmval_runners.power.utilisation import flops_per_token, kv_bytes, utilisation, weight_bytes
from llmval_runners.process.errors import Refused

CHECKLIST = Path(__file__).parents[3] / "docs" / "llm_validation_checklist.md"
RECORDED = CHECKLIST.parent / "results" / "h200-power-2026-11-23"
SMALL = "--model-layers 2 --model-d-model 64 --model-heads 4 --model-d-ff 256 --output-dir out"


def argv(text: str) -> list[str]:
    return shlex.split(text)


def test_the_checklists_own_command_makes_eighteen_cells(tmp_path):
    line = next(line for line in CHECKLIST.read_text().splitlines() if "precision_power_sweep.py" in line)
    command = line[
        line.index("precision_power_sweep.py") + len("precision_power_sweep.py") : line.index("--output-dir")
    ]
    options = parse(argv(f"{command} --output-dir {tmp_path}"))
    cells = options.cells
    assert len(cells) == len({cell.name for cell in cells}) == 18
    assert {cell.shape for cell in cells} == {StackShape(32, 5120, 40, 20480), StackShape(48, 6144, 48, 24576)}
    settings = options.settings
    assert not settings.compile and settings.attention_backend == "sdpa" and settings.window_s == 60


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (SMALL.replace("--model-heads 4", "--model-heads 4 8"), "--model-heads has 2"),
        (SMALL.replace("--model-heads 4", "--model-heads 5"), "cannot be shared by 5 heads"),
        (SMALL + " --modes fp4", "fp4"),
        (SMALL + " --devices zero", "--devices takes CUDA indices"),
        (SMALL + " --window-s 0", "0 seconds"),
        (SMALL + " --trials 0", "at least 1"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(flags, said):
    with pytest.raises(Refused, match=said):
        parse(argv(flags))


def test_the_order_is_random_by_seed_and_complete():
    cells = [Cell(StackShape(2, 64, 4, 256), batch, mode, 64) for batch in range(1, 9) for mode in ("bf16", "fp16")]
    assert shuffled(cells, 1) == shuffled(cells, 1) != shuffled(cells, 2)
    assert set(shuffled(cells, 1)) == set(cells)


BIG = Cell(StackShape(32, 5120, 40, 20480), 2, "bf16", 4096)


def test_parameters_flops_and_bytes_by_hand():
    # a layer: 4 · 5120² + 2 · 5120 · 20480 = 314,572,800
    assert BIG.shape.linear_parameters == 32 * 314_572_800
    assert BIG.shape.parameters == 32 * 314_572_800 + 65 * 2 * 5120
    # decode: 2 · parameters + 4 · 32 · 5120 · 4096; prefill sees (4096 + 1) / 2 keys on average
    assert flops_per_token(BIG, "decode") == 2 * 10_066_329_600 + 4 * 32 * 5120 * 4096
    assert flops_per_token(BIG, "prefill") == 2 * 10_066_329_600 + 4 * 32 * 5120 * 2048.5
    assert kv_bytes(BIG) == 2 * 32 * 5120 * 2 * 4096 * 2
    assert weight_bytes(BIG) == 2 * BIG.shape.parameters
    eight = Cell(BIG.shape, 2, "fp8_te", 4096)
    assert weight_bytes(eight) == BIG.shape.linear_parameters + 2 * 65 * 2 * 5120


def test_utilisation_names_each_peak_and_its_source():
    found = utilisation(BIG, "prefill", "NVIDIA H200", 30_000)
    assert [peak["peak_tflops_per_s"] for peak in found["mfu"]] == [989.0, 790.0]
    assert found["mfu"][0]["value"] == pytest.approx(flops_per_token(BIG, "prefill") * 30_000 / 989e12)
    assert "datasheet" in found["mfu"][0]["source"] and "measured" in found["mfu"][1]["source"]
    assert found["mbu"] == [] and found["achieved_tb_per_s"] is None
    decode = utilisation(BIG, "decode", "NVIDIA H200", 200)  # 100 steps a second
    moved = (weight_bytes(BIG) + kv_bytes(BIG)) * 100
    assert decode["mbu"][0]["value"] == pytest.approx(moved / 4.8e12)
    unknown = utilisation(BIG, "prefill", "Some GPU", 30_000)
    assert unknown["mfu"] == [] and "Some GPU" in unknown["missing"]


def trial(**changes):
    gpu = {"utilisation_percent": 99.0, "throttle_share": {}} | changes.pop("gpu", {})
    return {
        "window_s": 10.0,
        "tokens_per_s": 100.0,
        "tokens_per_joule": 1.0,
        "disagreement_percent": 1.0,
        "gpus": [gpu],
    } | changes


def broken_rules(trials, warmup_s=5.0, finite=True):
    rules = validity.judge(trials, warmup_s=warmup_s, energy_missing=None, finite=finite)
    return {rule.name for rule in rules if not rule.ok}


def test_every_rule_at_its_bound_and_just_beyond():
    assert broken_rules([trial()] * 3) == set()
    assert broken_rules([trial()] * 2 + [trial(window_s=9.99)]) == {"window_s"}
    assert broken_rules([trial()] * 3, warmup_s=4.99) == {"warmup_s"}
    assert broken_rules([trial()] * 2) == {"trials"}
    assert broken_rules([trial()] * 3, finite=False) == {"output_finite"}
    assert broken_rules([trial(disagreement_percent=5.0)] * 3) == set()
    assert broken_rules([trial()] * 2 + [trial(disagreement_percent=5.01)]) == {"disagreement_percent"}
    assert broken_rules([trial(gpu={"utilisation_percent": 70.01})] * 3) == set()
    assert broken_rules([trial()] * 2 + [trial(gpu={"utilisation_percent": 70.0})]) == {"utilisation_percent"}
    assert broken_rules([trial()] * 2 + [trial(gpu={"throttle_share": {"hw_power_brake": 0.01}})]) == {"throttling"}
    assert broken_rules([trial(gpu={"throttle_share": {"sw_power_cap": 1.0}})] * 3) == set()


@pytest.mark.parametrize(
    ("name", "rule"), [("utilisation_percent", "utilisation_percent"), ("throttle_share", "throttling")]
)
def test_nine_of_ten_readings_must_be_known(name, rule):
    def of(known):
        counts = {"utilisation_percent": 100, "throttle_share": 100} | {name: known}
        return trial(gpu={"samples": 100, "known": counts})

    assert broken_rules([of(90)] * 3) == set()
    assert broken_rules([of(100)] * 2 + [of(89)]) == {rule}
    assert broken_rules([of(100)] * 2 + [trial()]) == set(), "older records without the count are judged without it"


def test_recorded_cells_stay_valid():
    records = [json.loads(path.read_text()) for path in sorted((RECORDED / "cells").glob("*L-*.json"))]
    assert any(record["status"] == "valid" for record in records)
    for record in records:
        for phase in record["phases"].values():
            rules = validity.judge(
                phase["trials"], warmup_s=phase["warmup_s"], energy_missing=phase["energy_missing"], finite=True
            )
            assert validity.reasons(rules) == phase["reasons"] and phase["valid"] == (not phase["reasons"])


def test_variation_is_the_sample_standard_deviation_over_the_mean():
    assert validity.cv_percent([98.0, 100.0, 102.0]) == pytest.approx(2.0)
    for key in ("tokens_per_s", "tokens_per_joule"):
        assert broken_rules([trial(**{key: value}) for value in (98.0, 100.0, 102.0)]) == set()
        assert broken_rules([trial(**{key: value}) for value in (97.9, 100.0, 102.1)]) == {"cv_percent"}


def test_each_rule_has_its_measured_value_bound_and_reason():
    rules = validity.judge([trial(window_s=3.0)] * 3, warmup_s=5.0, energy_missing=None, finite=True)
    rule = next(rule for rule in rules if rule.name == "window_s")
    assert (rule.measured, rule.bound, rule.ok) == (3.0, "≥ 10", False)
    assert rule.reason.startswith("window_s is 3")
    assert all(rule.reason == "" for rule in rules if rule.ok)
