"""The analyzer: exact on worked examples, correct on generated sweeps, and clear about unsupported files."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llmval_runners.power.analysis import markdown, plot
from llmval_runners.power.analysis.economics import cost_per_million_tokens
from llmval_runners.power.analysis.record import UnsupportedFile
from llmval_runners.power.analysis.summary import read, read_all, summarise

from tests.helpers.runners.power_cells import cell, phase, write

SCRIPT = Path(__file__).parents[3] / "runners" / "power_efficiency_analyzer.py"
BASELINES = Path(__file__).parents[3] / "docs" / "power_efficiency_baselines.md"


def summary_of(paths, price=0.16, pue=1.5):
    return summarise(*read_all(paths), price, pue)


def test_figures_of_a_worked_example(tmp_path):
    records = [
        cell("bf16", 2, {"prefill": phase(20_000, 0.035), "decode": phase(200, 3.0)}),
        cell("fp16", 2, {"prefill": phase(16_000, 0.040), "decode": phase(220, 2.5)}),
        cell("fp8_te", 2, {"prefill": phase(30_000, 0.020), "decode": phase(300, 2.0)}),
        cell("bf16", 3, {"prefill": phase(21_000, 0.034), "decode": phase(280, 2.2, valid=False)}),
        cell("fp8_te", 4, {}, status="refused", reasons=["fp8_te needs Transformer Engine"]),
    ]
    found = summary_of(write(tmp_path, *records))
    assert found["counts"] == {"valid": 3, "invalid": 1, "no_energy": 0, "refused": 1, "failed": 0, "missing": 0}
    row = next(row for row in found["cells"] if row["cell"].endswith("b2-bf16") and row["phase"] == "prefill")
    assert row["tokens_per_joule"] == pytest.approx(1 / 0.035)
    # 0.035 J ÷ 3.6e6 × 1e6 × 0.16 × 1.5; idle: 100 W over 20,000 tokens/s is 0.005 J
    assert row["cost_per_million_tokens"] == pytest.approx(0.035 / 3.6 * 0.24)
    assert row["joules_per_token_net"] == pytest.approx(0.030)
    assert row["cost_per_million_tokens_net"] == pytest.approx(0.030 / 3.6 * 0.24)
    ratios = {
        (c["phase"], c["against"]): (c["throughput_ratio"], c["tokens_per_joule_ratio"]) for c in found["comparisons"]
    }
    assert ratios == {
        ("prefill", "bf16"): (pytest.approx(1.5), pytest.approx(1.75)),
        ("prefill", "fp16"): (pytest.approx(1.875), pytest.approx(2.0)),
        ("decode", "bf16"): (pytest.approx(1.5), pytest.approx(1.5)),
        ("decode", "fp16"): (pytest.approx(300 / 220), pytest.approx(1.25)),
    }
    assert all(compared["same_gpus"] for compared in found["comparisons"])
    best = {row["phase"]: row for row in found["best"]}
    assert best["prefill"]["most_efficient"].endswith("b2-fp8_te") and best["prefill"][
        "tokens_per_joule"
    ] == pytest.approx(50)
    assert best["decode"]["fastest"].endswith("b2-fp8_te")
    assert [(row["cell"][-7:], row["phase"]) for row in found["invalid"]] == [("b3-bf16", "decode")]
    assert "40 %" in found["invalid"][0]["reasons"][0]
    assert found["refused"][0]["reasons"] == ["fp8_te needs Transformer Engine"]


def test_known_figure_of_the_cost_formula():
    # 8.6 tokens/J at 0.16 USD/kWh and PUE 1.5
    assert cost_per_million_tokens(1 / 8.6, 0.16, 1.5) == pytest.approx(0.0077519, rel=1e-4)


figures = st.tuples(st.floats(1, 1e5), st.floats(1e-3, 50), st.booleans())
sweeps = st.dictionaries(
    st.tuples(
        st.sampled_from([32, 48]),
        st.sampled_from([1, 2, 3, 4]),
        st.sampled_from(["fp16", "bf16", "fp8_te", "fp8_native"]),
    ),
    st.tuples(figures, figures),
    min_size=1,
    max_size=12,
)


def records_of(sweep):
    return [
        cell(
            mode,
            batch,
            {"prefill": phase(p[0], p[1], valid=p[2]), "decode": phase(d[0], d[1], valid=d[2])},
            layers=layers,
        )
        for (layers, batch, mode), (p, d) in sweep.items()
    ]


@settings(deadline=None)
@given(sweeps, st.floats(0.01, 2), st.floats(1, 3))
def test_properties_of_generated_sweeps(tmp_path_factory, sweep, price, pue):
    paths = write(tmp_path_factory.mktemp("sweep"), *records_of(sweep))
    found = summary_of(paths, price, pue)
    rows = {(row["cell"], row["phase"]): row for row in found["cells"]}
    bad = {(row["cell"], row["phase"]) for row in found["invalid"]}
    assert len(rows) + len(bad) == 2 * len(sweep) and not rows.keys() & bad
    for front in found["pareto"]:
        group = [row for row in rows.values() if (row["model"], row["phase"]) == (front["model"], front["phase"])]
        on_front = [row for row in group if row["cell"] in front["cells"]]
        assert len(on_front) == len(front["cells"]) > 0, "a cell that is not valid is on the front"
        for row in group:
            beaten = any(
                other["tokens_per_s"] >= row["tokens_per_s"]
                and other["tokens_per_joule"] >= row["tokens_per_joule"]
                and (other["tokens_per_s"], other["tokens_per_joule"]) != (row["tokens_per_s"], row["tokens_per_joule"])
                for other in group
            )
            assert beaten != (row in on_front)
    for best in found["best"]:
        group = [row for row in rows.values() if (row["model"], row["phase"]) == (best["model"], best["phase"])]
        assert best["tokens_per_joule"] == max(row["tokens_per_joule"] for row in group)
        assert rows[best["fastest"], best["phase"]]["tokens_per_s"] == max(row["tokens_per_s"] for row in group)
    for compared in found["comparisons"]:
        for mode in (compared["mode"], compared["against"]):
            assert (f"{compared['model']}-s4096-b{compared['batch_size']}-{mode}", compared["phase"]) in rows
    double = summary_of(paths, 2 * price, pue)
    for row, other in zip(found["cells"], double["cells"], strict=True):
        assert other["cost_per_million_tokens"] == pytest.approx(2 * row["cost_per_million_tokens"])
    tables, drawing = markdown.render(found, "summary.json", "0" * 64), plot.render(found)
    assert all(tables.count(name) >= 1 for name, _ in bad)
    ET.fromstring(drawing)


def test_machines_and_power_limits_are_never_compared(tmp_path):
    slow = cell("bf16", 2, {"prefill": phase(20_000, 0.03)}, limit_w=400.0)
    fast = cell("fp8_te", 2, {"prefill": phase(30_000, 0.02)}, limit_w=700.0)
    found = summary_of(write(tmp_path, slow, fast))
    assert found["comparisons"] == []
    assert len(found["machines"]) == len(found["pareto"]) == 2


def test_a_cell_measured_again_counts_once_by_its_newest_result(tmp_path):
    old = cell("bf16", 2, {"prefill": phase(10, 1.0)})
    new = cell("bf16", 2, {"prefill": phase(20, 1.0)}, ended_utc="2026-01-03T00:00:00Z")
    paths = write(tmp_path, new, old)
    found = summary_of([*paths, paths[0]])
    assert [row["tokens_per_s"] for row in found["cells"]] == [20]
    assert found["superseded"] == [{"path": str(paths[1]), "by": str(paths[0])}]


def test_cells_of_the_manifest_without_a_result_are_missing(tmp_path):
    there = cell("bf16", 2, {"prefill": phase(10, 1.0)})
    manifest = tmp_path / "sweep.json"
    manifest.write_text(json.dumps({"schema": 1, "kind": "power_sweep", "cells": [there["cell"], "other"]}))
    found = summary_of([*write(tmp_path, there), manifest])
    assert found["missing"] == ["other"] and found["counts"]["missing"] == 1


VLLM = {
    "date": "20260102-030405",
    "backend": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B",
    "num_prompts": 100,
    "duration": 50.0,
    "completed": 100,
    "total_input_tokens": 100_000,
    "total_output_tokens": 20_000,
    "request_throughput": 2.0,
    "output_throughput": 400.0,
    "total_token_throughput": 2400.0,
    "energy_gpu_ids": [0, 1],
    "gpu_energy_j": 40_000.0,
    "gpu_energy_duration_s": 50.0,
    "gpu_avg_power_w": 800.0,
    "gpu_energy_per_output_token_j": 2.0,
}
AIPERF = {
    "schema_version": "1.0",
    "aiperf_version": "0.13.0",
    "input_config": {"endpoint": {"model_names": ["Qwen/Qwen3-32B"]}},
    "was_cancelled": False,
    "output_token_throughput": {"unit": "tokens/sec", "avg": 500.0},
    "benchmark_duration": {"unit": "sec", "avg": 60.0},
    "total_output_tokens": {"unit": "tokens", "avg": 30_000.0},
    "total_gpu_power": {"unit": "W", "avg": 1000.0},
    "total_gpu_energy": {"unit": "J", "avg": 60_000.0},
    "output_tokens_per_joule": {"unit": "tokens/J", "avg": 0.5},
}


def as_file(folder, record, name="result.json"):
    path = folder / name
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def test_vllm_and_aiperf_are_listed_and_never_ranked(tmp_path):
    ours = write(tmp_path, cell("bf16", 2, {"decode": phase(10, 100.0)}))
    later = {key: value for key, value in AIPERF.items() if key != "total_gpu_energy"} | {
        "nvidia_total_gpu_energy": AIPERF["total_gpu_energy"]
    }
    paths = [
        *ours,
        as_file(tmp_path, VLLM, "vllm.json"),
        as_file(tmp_path, AIPERF, "a.json"),
        as_file(tmp_path, later, "b.json"),
    ]
    found = summary_of(paths)
    assert found["refused_files"] == []
    vllm, *aiperf = found["external"]
    assert (vllm["tokens_per_s"], vllm["tokens_per_joule"], vllm["power_w"]) == (400.0, 0.5, 800.0)
    assert vllm["cost_per_million_tokens"] == pytest.approx(2.0 / 3.6 * 0.24)
    assert [(row["model"], row["tokens_per_joule"]) for row in aiperf] == [("Qwen/Qwen3-32B", 0.5)] * 2
    assert {row["origin"] for row in found["cells"]} == {"llmval"}
    assert [front["phase"] for front in found["pareto"]] == [best["phase"] for best in found["best"]] == ["decode"]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "not one JSON value"),
        ("[]", "not a JSON object"),
        ({"a": 1}, "neither a cell"),
        (VLLM | {"llmval": {"kind": "load_test"}}, "it is a load test of inference_server_load_test.py, which"),
        (VLLM | {"llmval": {"kind": "load_test"}}, "run precision_power_sweep.py"),
        ({k: v for k, v in VLLM.items() if k != "gpu_energy_j"}, "without energy"),
        (VLLM | {"gpu_avg_power_w": 900.0}, "contradicts itself"),
        (VLLM | {"output_throughput": 500.0}, "contradicts itself"),
        (VLLM | {"completed": 0}, "no completed request"),
        (VLLM | {"gpu_energy_j": "many"}, "gpu_energy_j is not a number"),
        ({k: v for k, v in AIPERF.items() if k != "total_gpu_energy"}, "--gpu-telemetry"),
        (AIPERF | {"total_gpu_energy": {"unit": "MJ", "avg": 0.06}}, "'MJ', but J is expected"),
        (AIPERF | {"was_cancelled": True}, "cancelled"),
        (AIPERF | {"output_tokens_per_joule": {"unit": "tokens/J", "avg": 5.0}}, "contradicts itself"),
        (cell("bf16", 2, {"decode": phase(10, 1.0)}, schema=9), "schema 9"),
        (cell("bf16", 2, {"decode": phase(10, None)}), "valid but has no tokens_per_joule"),
        (cell("bf16", 2, {"decode": phase(10, 1.0, valid=False) | {"valid": True}}), "valid but breaks a rule"),
        (cell("bf16", 2, {"decode": {}}), "lacks"),
        (cell("bf16", 2, {}, status="fine"), "'fine'"),
    ],
)
def test_an_unsupported_file_is_refused_with_its_reason(tmp_path, record, said):
    with pytest.raises(UnsupportedFile) as caught:
        read(as_file(tmp_path, record))
    assert said in str(caught.value)


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def test_the_script_writes_three_files_and_names_what_it_refused(tmp_path):
    good = write(tmp_path, cell("bf16", 2, {"prefill": phase(10, 1.0)}))
    bad = as_file(tmp_path, "{", "torn.json")
    output = tmp_path / "deep" / "summary_20260102.json"
    done = run(*good, bad, "--output", output)
    assert done.returncode == 0 and f"{bad}: it is not one JSON value" in done.stderr
    assert json.loads(output.read_text())["refused_files"] == [{"path": str(bad), "reason": "it is not one JSON value"}]
    assert output.with_suffix(".md").read_text().startswith(markdown.BEGIN)
    assert output.with_suffix(".svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "none of the 1 files"),
        (("--pue", "0.5"), "below 1"),
        (("--price-per-kwh", "-1"), "not a price"),
        (("--outputs", "x"), "--outputs"),
    ],
)
def test_bad_input_writes_nothing(tmp_path, flags, said):
    torn, output = as_file(tmp_path, "{", "torn.json"), tmp_path / "summary.json"
    done = run(torn, "--output", output, *flags)
    assert done.returncode == 2 and done.stderr.startswith("refused: ") and said in done.stderr
    assert not output.exists()


def test_the_output_is_never_one_of_the_inputs(tmp_path):
    path = write(tmp_path, cell("bf16", 2, {"prefill": phase(10, 1.0)}))[0]
    before = path.read_bytes()
    assert run(path, "--output", path).returncode == 2
    assert path.read_bytes() == before


def test_the_analyzer_needs_no_torch():
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import llmval_runners.power.analysis.cli; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_comparison_across_two_cards_is_marked(tmp_path):
    bf16, fp8 = cell("bf16", 2, {"prefill": phase(20_000, 0.035)}), cell("fp8_te", 2, {"prefill": phase(30_000, 0.020)})
    fp8["identity"]["gpus"][0]["uuid"] = "GPU-b"
    fp8["phases"]["prefill"]["baseline_grade"] = False
    found = summary_of(write(tmp_path, bf16, fp8))
    assert [compared["same_gpus"] for compared in found["comparisons"]] == [False]
    text = markdown.render(found, "summary.json", "0" * 64)
    assert "| another of its kind |" in text and "(short of a published baseline's 60 s), on 2 cards" in text


def test_markers_are_those_of_the_document_and_names_cannot_end_the_block(tmp_path):
    document = BASELINES.read_text()
    assert document.count(markdown.BEGIN) == document.count(markdown.END) == 1
    hostile = cell(
        "bf16",
        2,
        {"prefill": phase(10, 1.0), "decode": phase(10, 1.0, valid=False) | {"reasons": [f"a | b {markdown.END}\nc"]}},
    )
    hostile["identity"]["host"] = f"{markdown.END}\n# mine"
    text = markdown.render(summary_of(write(tmp_path, hostile)), "summary.json", "0" * 64)
    assert text.count(markdown.END) == 1 and text.rstrip().endswith(markdown.END)
    assert "\n# mine" not in text
    assert "a \\| b" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (12345.6, "12,346"),
        (999.96, "1000.0"),
        (28.5714, "28.57"),
        (0.0023333, "0.002333"),
        (1.0, "1.000"),
    ],
)
def test_figures_have_four_digits(value, shown):
    assert markdown._figure(value) == shown


def test_the_plot_shows_every_valid_cell_with_title_and_units(tmp_path):
    records = [
        cell(mode, batch, {"prefill": phase(1e4 * batch, 0.03 / batch)})
        for mode in ("bf16", "fp8_te")
        for batch in (2, 4)
    ]
    svg = plot.render(summary_of(write(tmp_path, *records)))
    root = ET.fromstring(svg)
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    titles = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "throughput, tokens/s" in texts and "efficiency, tokens/J (gross)" in texts
    assert sum("tokens/J" in title for title in titles) == 4
    assert "No valid cell" in plot.render(summary_of(write(tmp_path, cell("bf16", 2, {}, status="refused"))))


def schema(name):
    return fastjsonschema.compile(json.loads((BASELINES.parent / "schemas" / f"{name}.schema.json").read_text()))


def test_summary_and_cells_keep_their_schemas(tmp_path):
    check, check_cell = schema("power_summary"), schema("power_cell")
    refused = cell("fp8_te", 4, {}, status="refused", reasons=["fp8_te needs Transformer Engine"])
    records = [
        cell("bf16", 2, {"prefill": phase(20_000, 0.03), "decode": phase(200, 3.0)}),
        cell("fp8_te", 2, {"prefill": phase(30_000, 0.02)}),
        cell("fp16", 2, {"decode": phase(30_000, 0.02, valid=False)}, reasons=["decode: host"]),
        refused,
    ]
    for record in records:
        check_cell(record)
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check_cell(refused | {"reasons": []})
    paths = [*write(tmp_path, *records), as_file(tmp_path, VLLM), as_file(tmp_path, "{", "torn.json")]
    found = summary_of(paths)
    assert found["external"] and found["invalid"] and found["refused"] and found["comparisons"]
    check(json.loads(json.dumps(found)))
    found["cells"][0]["tokens_per_joule"] = 0
    with pytest.raises(fastjsonschema.JsonSchemaException):
        check(found)


def test_a_machine_without_a_driver_has_none_in_its_name(tmp_path):
    record = cell("bf16", 2, {"decode": phase(10, 1.0)})
    record["identity"] |= {"gpus": [], "driver": None, "cpu": "EPYC"}
    assert "no GPU (EPYC), torch" in read(as_file(tmp_path, record)).rows[0].machine
