"""The words of an item against the real output of fio, perftest, STREAM and lm_eval."""

import shlex

import pytest

from llmval_tui.actions.criteria.claims import claims_of
from llmval_tui.actions.criteria.evaluate import criteria_gates
from llmval_tui.actions.reading.model import WrittenCommand
from llmval_tui.runs.records import Command, Outcome
from tests.actions.criteria.test_evaluate import run_with
from tests.helpers.tool_results import RESULTS

PASS, FAIL, UNCLEAR = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
# What another tool prints: no reader knows it, and a figure of it must not be guessed.
LLAMA_BENCH = """\
| model                          |       size |     params | backend    | ngl |            test |                  t/s |
| ------------------------------ | ---------: | ---------: | ---------- | --: | --------------: | -------------------: |
| llama 8B Q4_K - Medium         |   4.58 GiB |     8.03 B | CUDA       |  99 |           pp512 |      2000.50 ± 12.00 |
| llama 8B Q4_K - Medium         |   4.58 GiB |     8.03 B | CUDA       |  99 |           tg128 |         30.10 ± 0.10 |
"""
LOCUST = " Aggregated   1000   13(1.30%) |   12   5  210  10 | 9.90 0.10\n"
K6 = """\
     http_req_duration..............: avg=211.04ms min=88ms med=200ms max=1.9s p(90)=380ms p(95)=912.5ms
     http_req_failed................: 2.50% ✓ 15 ✗ 585
"""
LM_EVAL = """\
|Tasks|Version|     Filter     |n-shot|  Metric   |   |Value |   |Stderr|
|-----|------:|----------------|-----:|-----------|---|-----:|---|-----:|
|gsm8k|      3|flexible-extract|     5|exact_match|↑  |0.8901|±  |0.0086|
|     |       |strict-match    |     5|exact_match|↑  |0.7901|±  |0.0112|
"""


@pytest.mark.parametrize(
    ("item", "log", "expected"),
    [
        ("Disk: `fio seq.fio` ≥ 5 GB/s read", "fio.txt", PASS),  # 5012 MiB/s are 5.26 GB/s
        ("Disk: `fio seq.fio` ≥ 5.3 GB/s read", "fio.txt", FAIL),
        ("Disk: `fio seq.fio`, read bandwidth ≥ 5", "fio.txt", UNCLEAR),  # of which unit?
        ("Disk: `fio seq.fio` ≥ 1 GB/s write", "fio.txt", UNCLEAR),
        ("Disk: `fio rr.fio`, IOPS > 600k and p99 latency under 500 us", "fio.json", PASS),
        ("Disk: `fio rr.fio`, IOPS > 600k and p99 latency under 400 us", "fio.json", FAIL),
        ("`ib_write_bw peer` BW average ≥ 46000 MB/s", "perftest_write_bw.txt", PASS),
        ("`ib_write_bw peer` BW average ≥ 47000 MB/s", "perftest_write_bw.txt", FAIL),
        ("`ib_write_bw peer` shows at least 48 GB/s", "perftest_write_bw.txt", PASS),
        ("`ib_write_bw -a peer` shows at least 300 Gb/s", "perftest_write_bw_gbits.txt", UNCLEAR),
        ("Latency: `ib_write_lat peer` t_typical <= 1.3 us", "perftest_write_lat.txt", PASS),
        ("Latency: `ib_write_lat peer` t_typical <= 1.2 us", "perftest_write_lat.txt", FAIL),
        ("STREAM triad (`./stream`) >= 332 GB/s", "stream.txt", PASS),
        ("STREAM triad (`./stream`) >= 340 GB/s", "stream.txt", FAIL),
    ],
)
def test_a_demand_on_the_output(workspace, item, log, expected):
    assert outcome(workspace, item, (RESULTS / log).read_text()) is expected


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        ("gsm8k exact_match >= 0.75", PASS),
        ("gsm8k exact_match >= 0.80", FAIL),  # the worst of its filters counts
        ("gsm8k exact_match flexible-extract >= 0.80", PASS),
        ("gsm8k strict-match exact_match >= 0.80", FAIL),
        ("exact_match >= 0.75", PASS),
        ("hellaswag acc ≥ 0.55", PASS),
        ("hellaswag accuracy at least 0.60", FAIL),
        ("hellaswag acc_norm ≥ 0.80", FAIL),
        ("mmlu acc ≥ 0.1", UNCLEAR),
        ("hellaswag acc ≥ 55 %", UNCLEAR),  # a share is from 0 to 1
    ],
)
def test_a_demand_on_the_scores_of_lm_eval(workspace, demand, expected):
    command = "lm_eval --tasks gsm8k,hellaswag --output_path artifacts/acc"
    files = {"artifacts/acc/m/results_2026.json": (RESULTS / "lm_eval.json").read_text()}
    assert outcome(workspace, f"`{command}`: {demand}", LM_EVAL, files) is expected


@pytest.mark.parametrize(
    ("item", "output"),
    [
        ("`llama-bench -m m.gguf` tg128 ≥ 35 t/s", LLAMA_BENCH),
        ("`locust --headless`, failures below 1 %", LOCUST),
        ("`k6 run smoke.js`, http_req_duration p(95) < 800ms, http_req_failed rate below 1%", K6),
        ("`lm_eval --tasks gsm8k`: strict exact_match ≥ 0.85", LM_EVAL),
        ("`lm_eval --tasks gsm8k`: exact_match ≥ 0.85", LM_EVAL),
    ],
)
def test_a_format_without_a_reader_never_passes_a_figure_that_it_misses(workspace, item, output):
    assert outcome(workspace, item, output) is not PASS


@pytest.mark.parametrize(
    ("heading", "output", "expected"),
    [
        ("Memory (triad ≥ 332 GB/s)", "stream.txt", PASS),
        ("Memory (triad ≥ 340 GB/s)", "stream.txt", FAIL),
        ("Memory (triad ≥ 332 GB/s)", "dcgm3.txt", UNCLEAR),  # the output of another tool
    ],
)
def test_a_bound_of_the_heading_is_compared_with_the_result(workspace, heading, output, expected):
    assert outcome(workspace, "`./stream`", (RESULTS / output).read_text(), above=(heading,)) is expected


def outcome(workspace, item, output, files=None, above=()):
    text = item.split("`")[1]
    run = run_with(workspace, stdout=output, files=files, text=item, command=Command("main", shlex.split(text), text))
    claims = claims_of(workspace.context(item).step, (WrittenCommand(text, 1),), None, above)
    outcomes = {gate.outcome for gate in criteria_gates(run, claims)}
    return next((one for one in (FAIL, UNCLEAR) if one in outcomes), PASS if outcomes else UNCLEAR)
