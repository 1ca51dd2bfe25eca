"""Long contexts on several replicas: each must pass, throughput adds, and a time is that of the slowest."""

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from llmval_runners.long_context.last_screen import last_screen, verdict_of
from llmval_runners.long_context.together import replica_json, together

from tests.helpers.long_context_results import result_of

VALID = fastjsonschema.compile(
    json.loads((Path(__file__).parents[3] / "docs/schemas/long_context.schema.json").read_text())
)
RANKS = 8


def own_record(slower: float = 1.0) -> dict[str, Any]:
    """The record of one replica, whose times are `slower` times those of the first."""
    value = result_of(32768, 65536)
    value["identity"]["data_parallel"] = 2
    for entry in value["lengths"]:
        entry["prefill_attention"] = "bf16"
        entry["prefill"]["seconds"] *= slower
        entry["prefill"]["ttft_ms"] *= slower
        entry["prefill"]["tokens_per_s"] /= slower
        for key in ("step_ms", "step_min_ms", "step_max_ms", "wall_step_ms"):
            entry["decode"][key] *= slower
        entry["decode"]["tokens_per_s"] /= slower
    value["verdict"] = verdict_of(value).as_json()
    return value


def record(*values: dict[str, Any], early: str | None = None) -> dict[str, Any]:
    parts = [
        replica_json(value, {"replica": number, "host": f"n{number}", "ranks": [RANKS * number, RANKS * number + 7]})
        for number, value in enumerate(values)
    ]
    made: dict[str, Any] = json.loads(json.dumps(together(values[0], parts, RANKS, early)))
    VALID(made)
    return made


def out_of_memory(value: dict[str, Any]) -> dict[str, Any]:
    entry = value["lengths"][1]
    failure = {
        "rank": 11, "where": "prefill", "message": "CUDA out of memory", "tried_bytes": 1, "allocated_bytes": 2,
        "predicted_bytes": 3, "prediction_error_bytes": 0,
    }  # fmt: skip
    entry |= {"status": "out_of_memory", "memory": [], "prefill": None, "decode": None, "failure": [failure]}
    return value | {"reasons": ["out of memory"], "partial": True}


def test_throughput_and_energy_add_and_times_are_the_slowest_ones() -> None:
    made = record(own_record(), own_record(2.0))
    entry, (first, second) = made["lengths"][1], [one["lengths"][1] for one in made["replicas"]]
    assert entry["prefill"]["seconds"] == 4.0 and entry["prefill"]["ttft_ms"] == second["prefill"]["ttft_ms"]
    for phase in ("prefill", "decode"):
        parts = (first[phase], second[phase])
        assert entry[phase]["tokens_per_s"] == pytest.approx(sum(part["tokens_per_s"] for part in parts))
        assert entry[phase]["energy"]["energy_j"] == sum(part["energy"]["energy_j"] for part in parts)
        assert entry[phase]["energy"]["tokens_per_joule"] == pytest.approx(2.0)
    assert [rank["rank"] for rank in entry["memory"]] == list(range(16))
    assert made["verdict"]["word"] == "ok" and made["reasons"] == []


def test_a_replica_without_energy_leaves_none_for_all() -> None:
    second = own_record()
    missing = {"energy_j": None, "power_w": None, "tokens_per_joule": None, "missing": "no driver"}
    second["lengths"][0]["prefill"]["energy"] = missing
    assert record(own_record(), second)["lengths"][0]["prefill"]["energy"] == missing


def test_a_length_must_pass_on_each_replica() -> None:
    made = record(own_record(), out_of_memory(own_record()), early="replica 1 (ranks 8 to 15 on n1): out of memory")
    states = [entry["status"] for entry in made["lengths"]]
    assert states == ["passed", "out_of_memory"] and made["lengths"][1]["prefill"] is None
    assert made["lengths"][1]["failure"][0]["rank"] == 11
    assert made["verdict"]["word"] == "failed" and "n1" in made["verdict"]["reason"]


def test_a_replica_that_tells_nothing_has_passed_nothing() -> None:
    whole = own_record()
    silent = {
        "replica": 1, "host": "n1", "ranks": [8, 15], "device_name": None, "partial": True, "reasons": ["gone"],
        "verdict": {"word": "ended early", "reason": "gone"}, "memory": None, "lengths": [], "find_max": None,
    }  # fmt: skip
    facts = {"replica": 0, "host": "n0", "ranks": [0, 7]}
    made = together(whole, [replica_json(whole, facts), silent], RANKS, "replica 1 (ranks 8 to 15): no sign of life")
    VALID(json.loads(json.dumps(made)))
    assert {entry["status"] for entry in made["lengths"]} == {"not_run"}
    assert made["verdict"]["word"] == "ended early"
    assert "1 n1: ended early" in last_screen(made, "x")


def test_the_worst_comparison_the_lost_needle_and_the_shortest_maximum_are_those_of_all() -> None:
    first, second = own_record(), own_record()
    second["lengths"][0]["fidelity"]["prompt"]["relative_error"] = 0.2
    lost = {"depths": [{"depth": 0.5, "found": False}], "missing": None}
    first["lengths"][0]["needle"] = {"depths": [{"depth": 0.5, "found": True}], "missing": None}
    second["lengths"][0]["needle"] = lost
    first["find_max"] = {"length": 90_000, "free_bytes": 2, "proved": True}
    second["find_max"] = {"length": 80_000, "free_bytes": 1, "proved": True}
    parts = [replica_json(one, {"replica": n, "host": "n", "ranks": [n, n]}) for n, one in enumerate((first, second))]
    made = together(first, parts, 1)
    assert made["lengths"][0]["fidelity"]["prompt"]["relative_error"] == 0.2
    assert made["lengths"][0]["needle"] == lost
    assert made["find_max"]["length"] == 80_000 and made["find_max"]["proved"]


def test_the_last_screen_has_a_line_for_each_node_in_80_columns() -> None:
    lines = last_screen(record(own_record(), own_record(2.0)), "x.json").splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split("  ")[1] for line in lines if line.startswith(("  0 n0: ", "  1 n1: "))] == [
        "0 n0: ok",
        "1 n1: ok",
    ]
