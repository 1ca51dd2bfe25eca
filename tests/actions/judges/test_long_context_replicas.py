"""The judge of long-context results over several replicas: each one's figures count, not the record's claims."""

from copy import deepcopy
from typing import Any

import pytest

from llmval_tui.actions.steps.command import judge_results
from llmval_tui.runs.records import Outcome
from tests.runners.long_context.test_together import out_of_memory, own_record, record


def outcomes(run: Any) -> dict[str, Any]:
    return {gate.name: gate for gate in judge_results(run)[0]}


def test_the_judge_looks_at_each_replica(long_context_run) -> None:
    good = outcomes(long_context_run(record(own_record(), own_record(2.0))))
    assert {gate.outcome for gate in good.values()} == {Outcome.PASS} and "replicas" in good
    second = own_record()
    second["lengths"][1]["memory"][3]["kv_bytes"] = 1
    gate = outcomes(long_context_run(record(own_record(), second)))["65,536: weights and cache"]
    assert gate.outcome is Outcome.INVALID and gate.measured.startswith("replica 1 on n1: rank 3")


def wrong_sum(value: dict[str, Any]) -> None:
    value["lengths"][0]["decode"]["tokens_per_s"] *= 2


def one_lost(value: dict[str, Any]) -> None:
    value["replicas"][1]["replica"] = 2


def one_silent(value: dict[str, Any]) -> None:
    value["replicas"][1]["lengths"].pop()


@pytest.mark.parametrize("spoil", [wrong_sum, one_lost, one_silent])
def test_the_judge_does_not_trust_the_record_of_all(long_context_run, spoil) -> None:
    made = deepcopy(record(own_record(), own_record()))
    spoil(made)
    assert outcomes(long_context_run(made))["replicas"].outcome is Outcome.INVALID


def test_a_length_that_one_replica_lost_is_not_passed(long_context_run) -> None:
    made = record(own_record(), out_of_memory(own_record()), early="out of memory")
    made["lengths"] = deepcopy(own_record()["lengths"])  # it claims that all passed
    found = outcomes(long_context_run(made))
    assert found["lengths"].outcome is Outcome.FAIL and found["65,536: memory"].outcome is Outcome.FAIL
