"""The verdict, the last screen and the layout of nccl-tests, from records; each fault is named."""

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.collective import baseline, expected, nccl_layout, record
from llmval_runners.collective.last_screen import last_screen, rate
from llmval_runners.collective.verdict import verdict_of
from llmval_runners.process.errors import Refused

from llmval_tui.actions.tools.nccl_tests import _from_json
from tests.helpers.collective_records import finished, gpu, record_of

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/schemas/collective_bandwidth.schema.json").read_text())


def described(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """The keys of a record that the schema does not describe."""
    if isinstance(value, list):
        return [key for one in value for key in described(one, schema["items"], f"{where}[]")]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    unknown = [f"{where}.{key}" for key in value.keys() - schema["properties"].keys()]
    return unknown + [
        found for key in value.keys() & schema["properties"].keys()
        for found in described(value[key], schema["properties"][key], f"{where}.{key}")
    ]  # fmt: skip


def undescribed(schema: dict[str, Any], where: str = "") -> list[str]:
    """The properties of a schema without a description."""
    found = []
    for key, one in schema.get("properties", {}).items():
        found += [] if one.get("description") else [f"{where}.{key}"]
        found += undescribed(one, f"{where}.{key}") + undescribed(one.get("items", {}), f"{where}.{key}[]")
    return found


def test_every_field_is_in_the_schema_and_described() -> None:
    assert undescribed(SCHEMA) == []
    for made in (record_of(8), record_of(1), record_of(2, kind=expected.PCIE)):
        fastjsonschema.compile(SCHEMA)(json.loads(json.dumps(made)))
        assert described(made, SCHEMA) == []


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_a_healthy_node_is_ok(ranks: int) -> None:
    made = record_of(ranks)
    assert made["verdict"] == {
        "word": "ok", "exit_code": 0,
        "reason": "every result is right, no GPU or pair is slow, and the links carry what they should",
    }  # fmt: skip


def test_a_pair_that_is_throttled_in_one_direction_is_named() -> None:
    made = record_of(8, rate=lambda cell: 0.8 if (cell.source, cell.target) == (3, 5) else 1.0)
    assert made["verdict"]["exit_code"] == 1
    assert made["verdict"]["reason"].startswith("pair 3→5 20% slower than the others")
    assert "5→3" not in made["verdict"]["reason"]


def test_a_gpu_with_a_lost_link_is_named() -> None:
    made = record_of(8, rate=lambda cell: 17 / 18 if 2 in (cell.source, cell.target) else 1.0)
    assert made["verdict"]["word"] == "slow"
    assert "GPU 2 sends" in made["verdict"]["reason"]
    down = [gpu(rank) for rank in range(8)]
    down[6] = gpu(6, active=17, inactive=[5])
    assert record_of(8, gpus=down)["verdict"]["reason"] == "rank 6 on node1: 17 of 18 NVLinks are active"


def test_two_gpus_over_shared_memory_are_named_by_their_share_and_by_the_counters() -> None:
    """As with NCCL_P2P_DISABLE=1: NCCL goes through the host, the copy engine does not."""
    made = record_of(2, busbw=21.0, rate=lambda cell: 0.06 if cell.method == "nccl" else 1.0)
    for one in made["pairs"]["cells"]:
        if one["method"] == "nccl":
            one["source_tx_bytes"] = one["target_rx_bytes"] = 4096
    by_pair = {(one["from"], one["to"]): one for one in made["pair_paths"]}
    made["counters"]["readings"] = record.counter_readings(made["pairs"]["cells"], by_pair)
    reason = verdict_of(made).reason
    assert reason.startswith("NVLink carried 0% of NCCL's send and receive at rank 0"), reason
    assert "NCCL_P2P_DISABLE" in reason
    made["counters"]["readings"] = []
    assert verdict_of(made).reason == (
        "all-reduce busbw 21.0 GB/s, at least 270.0 expected (60% of 450 GB/s of NVLink)"
    )
    made["settings"]["min_busbw_gb_per_s"] = 20.0
    assert verdict_of(made).reason == (
        "nccl 0→1: 20.3 GB/s is 5% of the line rate, at least 20% expected"
    ) or verdict_of(made).reason.startswith("nccl 1→0: 20.")


def test_wrong_results_come_first() -> None:
    made = record_of(8, busbw=10.0)
    made["rows"][0] |= {"wrong": 3, "first_wrong": "rank 2, torch.float32: element 7 is 1 instead of 2"}
    assert verdict_of(made).reason == (
        "all_reduce of 1,048,576 bytes, eager: 3 wrong elements (rank 2, torch.float32: element 7 is 1 instead of 2)"
    )
    made = record_of(8)
    made["pairs"]["cells"][5]["wrong"] = 1
    assert verdict_of(made).word == "failed"


def test_counters_that_do_not_fit_are_not_a_pass() -> None:
    made = record_of(8)
    made["counters"]["readings"][3] |= {"tx_bytes": 1, "tx_share": 1.05}
    assert verdict_of(made).word == "inconclusive"
    assert "saw 105.0%" in verdict_of(made).reason
    made["counters"]["readings"][3] |= {"tx_share": 1.019}
    assert verdict_of(made).word == "ok"


def test_one_rank_proves_nothing() -> None:
    made = record_of(1)
    assert (made["verdict"]["word"], made["verdict"]["exit_code"]) == ("inconclusive", 3)
    assert made["verdict"]["reason"].startswith("one rank")
    assert made["rows"][0]["busbw_gb_per_s"] is None
    assert made["summary"]["local_copy_gb_per_s"] > 0


def test_without_a_reference_the_operator_has_to_state_a_bound() -> None:
    made = record_of(4, kind=expected.PCIE)
    assert made["verdict"]["word"] == "inconclusive"
    assert made["verdict"]["reason"] == (
        "there is no bound for this topology (no reference is known for PCIe): pass --min-busbw or --baseline"
    )
    assert record_of(4, kind=expected.PCIE, min_busbw=30.0)["verdict"]["word"] == "ok"
    low = record_of(4, kind=expected.PCIE, min_busbw=60.0)["verdict"]
    assert (low["word"], low["exit_code"]) == ("slow", 1)


def test_what_could_not_be_measured_is_not_a_pass() -> None:
    made = record_of(8)
    made["rows"][1] |= {"time_us": None, "reason": "it cannot be captured in a CUDA graph (x)"}
    assert verdict_of(made).reason == "all_reduce, graph: it cannot be captured in a CUDA graph (x)"
    made = record_of(8)
    made["ended_early"] = "ended by signal 2"
    assert verdict_of(made).as_json() == {"word": "ended early", "reason": "ended by signal 2", "exit_code": 3}


def test_a_baseline_is_compared_figure_by_figure(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(record_of(8)))
    known = baseline.read(earlier, 5.0)
    same = record_of(8, seed=1)
    same["baseline"] = baseline.compared(known, same)
    assert verdict_of(same).word == "ok"
    assert len(same["baseline"]["compared"]) > 100
    slower = record_of(8, busbw=330.0)
    slower["baseline"] = baseline.compared(known, slower)
    assert verdict_of(slower).reason.endswith("330.0 GB/s, the baseline has 360.0 (-8.3%)")
    other = record_of(4)
    other["baseline"] = baseline.compared(known, other) | {"compared": []}
    assert verdict_of(other).reason == "the baseline has no figure of the same operation, size and mode"


@pytest.mark.parametrize("text", ["", "{}", '{"kind": "load_test"}', "[1]"])
def test_a_baseline_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(Refused, match=r"is not a record of this program .*: pass an earlier --output-json"):
        baseline.read(tmp_path / "b.json", 5.0)


@pytest.mark.parametrize(
    "made",
    [
        record_of(8),
        record_of(1),
        record_of(2, kind=expected.PCIE),
        record_of(12, rate=lambda cell: 0.7 if cell.source == 11 else 1.0),
    ],
)
def test_the_last_screen_fits_in_80_columns(made: dict[str, Any]) -> None:
    made["warnings"] = ["NCCL_P2P_DISABLE=1 keeps NCCL off NVLink"]
    screen = last_screen(made, "artifacts/x.json")
    assert max(map(len, screen.splitlines())) <= 80
    assert len(screen.splitlines()) <= 34
    assert screen.startswith(made["verdict"]["word"])
    assert "None" not in screen and "nan" not in screen


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "n/a"), (0.0, "0.00"), (412.345, "412.35"), (0.25, "0.25"), (0.0123, "0.012"), (0.000004, "0.0000040")],
)
def test_the_bandwidth_of_a_small_message_is_not_shown_as_zero(value: float | None, shown: str) -> None:
    assert rate(value) == shown
    assert len(shown) <= 11


def test_the_last_screen_answers_whether_the_node_is_good() -> None:
    made = record_of(8, rate=lambda cell: 0.8 if (cell.source, cell.target) == (3, 5) else 1.0)
    screen = last_screen(made, "none: pass --output-json to keep one")
    assert "slow: pair 3→5 20% slower than the others" in screen
    assert "all_reduce" in screen and "360.00" in screen
    assert "NVLink, 450 GB/s a direction; the all-reduce reached 80% of it" in screen
    assert "none: pass --output-json to keep one" in screen


def test_the_layout_of_nccl_tests_is_read_by_its_reader() -> None:
    files = nccl_layout.layouts(record_of(8))
    assert set(files) == {
        f"{program}{end}.json" for program in ("all_reduce_perf", "all_gather_perf") for end in ("", "_graph")
    }
    read = _from_json(json.loads(json.dumps(files["all_reduce_perf.json"])))
    assert (read.ranks, read.out_of_bounds, read.average_okay, read.known) == (8, 0, None, True)
    assert [(one.bytes, round(one.busbw or 0, 1), one.wrong) for one in read.sizes] == [
        (1 << 20, 36.0, 0), (1 << 30, 360.0, 0)
    ]  # fmt: skip
    assert files["all_reduce_perf.json"]["results"][0]["out_of_place"] is None, "torch sums in place"
    assert files["all_gather_perf.json"]["results"][0]["count"] == (1 << 20) // 4 // 8
    assert files["all_reduce_perf.json"]["nccl_version"] == 22809
    wrong = record_of(8)
    wrong["rows"][0]["wrong_int32"] = 2
    assert nccl_layout.layouts(wrong)["all_reduce_perf.json"]["out_of_bounds"] == {"count": 2, "okay": "false"}


def test_the_summary_has_the_figures_that_criteria_name() -> None:
    made = finished(record_of(8))
    assert made["summary"]["all_reduce_busbw_gb_per_s"] == pytest.approx(360.0)
    assert made["summary"]["all_reduce_share_of_line"] == pytest.approx(0.8)
    assert made["summary"]["pair_min_gb_per_s"] == pytest.approx(378, rel=0.02)
    assert made["summary"]["local_copy_gb_per_s"] is None
