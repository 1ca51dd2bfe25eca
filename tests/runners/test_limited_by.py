"""The last screen says what limits the node, or that the figures do not show it. Real records from docs/results."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from llmval_runners.benchmark import last_screen as benchmark
from llmval_runners.collective import last_screen as collective
from llmval_runners.load_test import last_screen as load_test
from llmval_runners.long_context import last_screen as long_context
from llmval_runners.measure import limits
from llmval_runners.power import last_screen as sweep

from tests.helpers.collective_records import gpu, record_of

RESULTS = Path(__file__).parents[2] / "docs/results"
OLD = {"word": "ok", "reason": "of a record before verdicts", "exit_code": 0}


def read(name: str) -> Any:
    path = RESULTS / name
    return json.loads(lzma.open(path).read() if path.suffix == ".xz" else path.read_text())


def limit(screen: str) -> str:
    """The row `limited by` of a screen, in one line."""
    lines = screen.splitlines()
    assert max(map(len, lines)) <= 80
    start = next(number for number, line in enumerate(lines) if line.startswith("limited by"))
    assert start == lines.index("") + 1, "it stands beside the verdict"
    rest = []
    for line in lines[start + 1 :]:
        if not line.startswith("      "):
            break
        rest.append(line.strip())
    return " ".join([lines[start][10:].strip(), *rest])


def served(name: str = "h200-2026-11-29/yardstick_4.json.xz", **changes: Any) -> str:
    """The limit of a load test with changes of its part `llmval`; `completed` and others of the record stay."""
    record = read(name)
    for key, value in changes.items():
        found = record["llmval"].get(key)
        record["llmval"][key] = found | value if isinstance(found, dict) and isinstance(value, dict) else value
    return limit(load_test.last_screen(record, "r.json"))


def test_a_load_that_is_held_names_no_limit_but_that_of_its_steps() -> None:
    assert served() == (
        "nothing seen: the queue did not grow at 4.00 requests/s; its steps: memory bandwidth (MBU 74 % of 4.21 TB/s, "
        "measured on one H200)"
    )
    assert served("h200-2026-11-29/yardstick_14.json.xz").endswith(
        "its steps: not seen (MFU 30 % and MBU 54 %, below 70 %)"
    )


def test_the_power_limit_of_the_gpus_comes_first() -> None:
    assert served(energy={"power_w": 690.0, "power_limit_w": 700.0}).endswith("power limit (690 W of 700 W)")
    assert "power" not in served(energy={"power_w": 690.0, "power_limit_w": None})


def test_an_overloaded_server_says_what_was_offered_and_completed() -> None:
    assert served("h200-2026-11-29/server_14.json.xz") == (
        "the server: 14.00 requests/s offered, 7.57 completed, the queue grew; "
        "its GPUs: n/a (a server does not report them)"
    )


@pytest.mark.parametrize(("queue", "used", "words"), [
    ({"most_waiting": 9, "most_running": 200}, 96.0, "KV cache full (96 %, at most 9 waiting)"),
    ({"most_waiting": 9, "most_running": 256}, 90.0, "batch full (256 of 256 running; --max-batch)"),
    ({"most_waiting": 9, "most_running": 255}, 90.0, ""),
    ({"most_waiting": 0, "most_running": 256}, 99.0, ""),
    ({"most_waiting": 9}, 90.0, ""),  # a record before most_running
])  # fmt: skip
def test_a_queue_that_grew_says_why_no_request_could_start(queue: dict[str, int], used: float, words: str) -> None:
    found = served(ttft_slope=0.5, queue=queue, memory={"kv_used_percent": used}, workload={"max_batch": 256})
    assert found.startswith("the engine: 4.00 requests/s offered, 3.73 completed, the queue grew; ")
    assert words in found and found.count("full") == bool(words)


@pytest.mark.parametrize(("changes", "words"), [
    ({"verdict": {"word": "invalid"}}, "n/a (invalid, so no capacity is shown)"),
    ({"verdict": {"word": "ended early"}, "ttft_slope": 0.5}, "n/a (ended early, so no capacity is shown)"),
    ({"ttft_slope": None}, "n/a (too few requests for a trend of the queue)"),
    ({"search": {"trials": [], "interval_qps": None}}, "n/a (the search has no interval)"),
    ({"search": {"trials": [], "interval_qps": [10.1, 10.5], "confidence": 0.95}},
     "n/a (no trial failed above the interval's lower end); last trial's steps: memory bandwidth"),
    ({"utilisation": None, "energy": None}, "its steps: n/a (no step was measured)"),
    ({"utilisation": {"mfu": [], "mbu": [], "missing": "no peak rate is known for a CPU"}, "energy": None},
     "its steps: n/a (no peak rate is known for a CPU)"),
])  # fmt: skip
def test_what_the_figures_do_not_show_is_not_claimed(changes: dict[str, Any], words: str) -> None:
    assert words in served(**changes)


def test_a_search_names_what_its_lowest_failed_trial_failed_by() -> None:
    for entry in read("h200-x2-2026-11-29/rate_search.json.xz")[:3]:
        low = entry["search"]["interval_qps"][0]
        failed = [one for one in entry["search"]["trials"] if one["verdict"] == "fails" and one["target_qps"] >= low]
        lowest = min(failed, key=lambda one: one["target_qps"])
        assert served(search=entry["search"]).startswith(
            f"at {lowest['target_qps']:,.4g} requests/s {lowest['reason']}; last trial's steps: "
        )


def test_percentiles_of_a_few_answers_say_so() -> None:
    record = read("h200-2026-11-29/yardstick_4.json.xz")
    assert "in no percentile" not in load_test.last_screen(record, "r.json")
    record |= {"completed": 11, "failed": 109}
    assert "of the 11 that completed; the other 109 are in no percentile" in load_test.last_screen(record, "r.json")


@pytest.mark.parametrize(("name", "word", "words"), [
    ("yardstick_4", "ok", "next                --find-max-qps with a --slo-… finds the highest rate"),
    ("yardstick_14", "ok", "capture_fp8_flexattention_traces.sh shows"),
    ("server_14", "overloaded", "next                a lower --target-qps; --find-max-qps with a --slo-… finds"),
    ("server_4", "inconclusive", "next                a longer --duration or a higher --target-qps"),
    ("server_4", "invalid", ""),
    ("server_4", "failed", ""),
])  # fmt: skip
def test_a_load_test_says_what_to_run_next(name: str, word: str, words: str) -> None:
    record = read(f"h200-2026-11-29/{name}.json.xz")
    record["llmval"]["verdict"]["word"] = word
    screen = load_test.last_screen(record, "r.json")
    assert words in screen and ("\nnext " in screen) == bool(words)
    assert "capture" not in screen or name == "yardstick_14"


def test_a_sweep_names_the_limit_of_each_phase() -> None:
    cells = [read(f"h200-power-2026-11-23/cells/{name}.json") for name in (
        "32L-d5120-h40-ff20480-s4096-b2-bf16", "32L-d5120-h40-ff20480-s4096-b4-bf16",
        "32L-d5120-h40-ff20480-s4096-b2-fp8_te",
    )]  # fmt: skip
    assert limit(sweep.last_screen(cells, sweep.verdict_of(cells, None), "cells")) == (
        "prefill: power limit (for example sw_power_cap in 100 % of the samples, 692 W of 700 W); decode: memory "
        "bandwidth in 2 of 3 (MBU 79 to 83 % of 4.21 TB/s, measured on one H200), not seen in 1 of 3 "
        "(MFU 1 % and MBU 56 %, below 70 %)"
    )


def test_a_sweep_says_a_common_reason_once() -> None:
    cells = [read(f"h200-power-2026-11-23/cells/48L-d6144-h48-ff24576-s4096-b{batch}-fp8_te.json") for batch in (2, 3)]
    screen = sweep.last_screen(cells, sweep.verdict_of(cells, None), "cells")
    words = " ".join(screen.splitlines()[3:][0:20]).replace("  ", "")
    assert words.count("undefined symbol") == 1 and "batch 2" in words and "batch 3" in words


CONTEXTS = {
    "long_context_64k_bf16.json": "prefill: compute (MFU 79 % of 790 TFLOP/s, measured on one H200); decode: memory "
    "bandwidth (MBU 93 % of 4.21 TB/s, measured on one H200)",
    "long_context_40b.json": "prefill: not seen (for example MFU 51 %, below 70 %); decode: not seen (MBU 41 %, "
    "below 70 %)",
}


@pytest.mark.parametrize(("name", "words"), CONTEXTS.items())
def test_long_contexts_name_the_limit_of_each_phase(name: str, words: str) -> None:
    record = read(f"h200-x4-2026-11-26/{name}")
    record["verdict"] = OLD
    assert limit(long_context.last_screen(record, "r.json")) == words


def test_collectives_name_the_limit_of_large_and_small_messages() -> None:
    assert limit(collective.last_screen(read("h200-x2-2026-11-29/collectives.json.xz"), "r.json")) == (
        "large messages: the NVLink links (all-reduce 73 % of 450 GB/s, healthy nodes reach 60 % or more); small ones: "
        "latency, 11.45 us for an all-reduce of 8 bytes"
    )


@pytest.mark.parametrize(("record", "words"), [
    (record_of(8, rate=lambda cell: 0.8 if (cell.source, cell.target) == (3, 5) else 1.0),
     "large messages: pair 3→5 20% slower than the others"),
    (record_of(8, gpus=[gpu(rank, active=17, inactive=[4]) if rank == 2 else gpu(rank) for rank in range(8)]),
     "large messages: rank 2 on node1: 17 of 18 NVLinks are active"),
    (record_of(8, busbw=200.0), "large messages: not seen; not the links (all-reduce 44 % of 450 GB/s, healthy nodes"),
    (record_of(1), "large messages: n/a ("),
])  # fmt: skip
def test_collectives_blame_the_links_only_if_they_are_used_up(record: dict[str, Any], words: str) -> None:
    assert limit(collective.last_screen(record, "r.json")).startswith(words)


def test_an_engine_benchmark_names_the_limit_of_each_row() -> None:
    record = read("h100-2026-11-27/engine_sdpa.json") | {"verdict": OLD, "peak_allocated_bytes": None}
    record["rows"] = [row for row in record["rows"] if row.get("precision") == "bf16"]
    found = limit(benchmark.last_screen(record, "r.json"))
    assert "decode: memory bandwidth (MBU 86 to 93 % of the measured rate)" in found
    assert "prefill: compute (MFU 80 % of the measured rate)" in found
    assert "saturated: compute and memory bandwidth (99 % of the modelled rate of both)" in found


def test_the_documented_rules_are_those_of_the_code() -> None:
    text = (RESULTS.parent / "explanation.md").read_text().split("## What limits a run")[1]
    assert [reason for reason in limits.SLOWED_DOWN if f"`{reason}`" not in text] == []
    for share, words in (
        (limits.SLOWED_SHARE, "in at least {} of the samples"),
        (limits.HALF, "`sw_power_cap` in at least {} of the samples"),
        (limits.AT_POWER_LIMIT, "mean power is at least {} of the enforced limit"),
        (limits.NEAR, "MFU and MBU is at least {} of the peak rate"),
        (load_test.FULL / 100, "means at least {} of it used"),
    ):
        assert words.format(limits.percent(share)) in text
