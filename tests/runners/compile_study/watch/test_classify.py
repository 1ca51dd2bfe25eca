"""The classifier on stacks as torch's own code leaves them. Starts no process."""

from typing import Any

import pytest
from llmval_runners.compile_study.watch.classify import classify

T = "/venv/lib/python3.12/site-packages/torch"
IDLE = ("wait", "/usr/lib/python3.12/threading.py")
STACKS = {
    "dynamo_tracing": [
        ("sleep", "/x/inject.py"),
        ("run", f"{T}/_dynamo/symbolic_convert.py"),
        ("__call__", f"{T}/_dynamo/eval_frame.py"),
    ],
    "aot_autograd": [
        ("inner", f"{T}/_functorch/_aot_autograd/graph_capture.py"),
        ("compile_fx", f"{T}/_inductor/compile_fx.py"),
    ],
    "inductor_codegen": [
        ("simplify", "/venv/sympy/core.py"),
        ("codegen", f"{T}/_inductor/scheduler.py"),
        ("compile", f"{T}/_dynamo/convert_frame.py"),
    ],
    "compile_worker": [
        IDLE,
        ("result", "/usr/lib/python3.12/concurrent/futures/_base.py"),
        ("AsyncCompile._wait_futures", f"{T}/_inductor/async_compile.py"),
        ("codegen", f"{T}/_inductor/graph.py"),
    ],
    "autotune": [
        ("do_bench", f"{T}/_inductor/runtime/benchmarking.py"),
        ("__call__", f"{T}/_inductor/select_algorithm.py"),
        ("run", f"{T}/_inductor/graph.py"),
    ],
}
IN_COLLECTIVE = [("wait_tensor", f"{T}/distributed/_functional_collectives.py"), ("forward", "/x/workload.py")]
IN_SYNC = [("synchronize", f"{T}/cuda/__init__.py"), ("step", "/x/rank.py")]
IN_COMPILED = [
    ("__call__", f"{T}/_ops.py"),
    ("call", "/tmp/cache/cabc.py"),
    ("__call__", f"{T}/_inductor/output_code.py"),
    ("_fn", f"{T}/_dynamo/eval_frame.py"),
]


def rank(number: int, frames: list[tuple[str, str]], **changes: Any) -> dict[str, Any]:
    process = {"state": "S", "wchan": "futex_do_wait", "waits_for_file": None, "cpu_fraction": 0.0}
    beat = {"operation": "", "sequence": 7, "phase": "compiled", "step": 2, "progress_order": [5, 2]}
    return {
        "rank": number,
        "idle_s": changes.get("idle_s", 10.0),
        "process": process | changes.get("process", {}),
        "beat": beat | changes.get("beat", {}),
        "stack": {"source": "py-spy", "main": [{"function": f, "file": file, "line": 1} for f, file in frames]},
        "workers": changes.get("workers", []),
        "collectives": changes.get("collectives", []),
    }


def judged(*ranks: dict[str, Any]) -> tuple[str, list[int]]:
    verdict = classify({"ranks": list(ranks)})
    assert verdict["reasons"] and len(verdict["findings"]) == len(ranks)
    return verdict["kind"], verdict["ranks"]


@pytest.mark.parametrize("kind", STACKS)
@pytest.mark.parametrize("guilty", [0, 1])
def test_a_stuck_rank_is_blamed_and_the_ranks_that_wait_for_it_are_not(kind: str, guilty: int) -> None:
    assert judged(*(rank(n, STACKS[kind] if n == guilty else IN_COLLECTIVE) for n in range(2))) == (kind, [guilty])


def test_the_function_names_of_faulthandler_give_the_same_verdict() -> None:
    plain = [(function.rpartition(".")[2], file) for function, file in STACKS["compile_worker"]]
    assert judged(rank(0, plain)) == judged(rank(0, STACKS["compile_worker"])) == ("compile_worker", [0])


def test_a_rank_that_waits_for_others_to_join_is_not_blamed() -> None:
    assert judged(
        rank(0, STACKS["dynamo_tracing"]), rank(1, [("rendezvous", f"{T}/distributed/distributed_c10d.py")])
    ) == ("dynamo_tracing", [0])


def test_io_is_recognised_by_the_kernel_whatever_the_stack_is() -> None:
    assert judged(
        rank(0, STACKS["inductor_codegen"], process={"waits_for_file": "read /nfs/shard"}), rank(1, IN_COLLECTIVE)
    ) == ("io", [0])
    assert judged(rank(0, IN_COLLECTIVE, process={"state": "D", "wchan": "rpc_wait_bit"}), rank(1, IN_COLLECTIVE)) == (
        "io",
        [0],
    )


@pytest.mark.parametrize("frames", [IN_COLLECTIVE, IN_SYNC])
def test_a_rank_with_fewer_collectives_is_late(frames: list[tuple[str, str]]) -> None:
    ahead = [
        {"sequence": n, "operation": "all_gather" if n == 6 else "all_reduce", "sizes": [[4]], "done": n < 6}
        for n in range(1, 8)
    ]
    late = rank(2, frames, beat={"sequence": 5}, collectives=ahead[:5])
    verdict = classify({"ranks": [rank(0, frames, collectives=ahead), rank(1, frames, collectives=ahead), late]})
    assert (verdict["kind"], verdict["ranks"], verdict["operation"]) == ("collective_desync", [2], "all_gather")


def test_a_rank_with_as_many_collectives_but_further_on_skipped_one() -> None:
    further = rank(
        1,
        [("barrier", f"{T}/distributed/distributed_c10d.py")],
        beat={"progress_order": [6, 0], "operation": "barrier"},
    )
    assert judged(rank(0, IN_COLLECTIVE), further) == ("collective_desync", [1])


def test_another_operation_at_the_same_place_is_found_in_the_flight_recorder() -> None:
    def record(operation: str) -> list[dict[str, Any]]:
        return [{"sequence": 7, "operation": operation, "sizes": [[4]], "done": False}]

    ranks = [rank(n, IN_SYNC, collectives=record("broadcast" if n == 1 else "all_reduce")) for n in range(3)]
    assert judged(*ranks) == ("collective_desync", [1])


def test_ranks_that_agree_on_all_are_not_blamed() -> None:
    assert judged(rank(0, IN_SYNC), rank(1, IN_SYNC)) == ("device", [])
    assert judged(rank(0, IN_SYNC), rank(1, IN_COLLECTIVE)) == ("unknown", [])
    assert judged(rank(0, IN_COLLECTIVE, beat={"sequence": None}), rank(1, IN_COLLECTIVE)) == ("collective", [])


def test_compiled_code_is_a_wait_only_if_its_collective_has_not_ended() -> None:
    pending, ended = (
        [{"sequence": 7, "operation": "all_reduce", "sizes": [[4]], "done": done}] for done in (False, True)
    )
    assert judged(rank(0, IN_COMPILED, collectives=pending), rank(1, STACKS["autotune"])) == ("autotune", [1])
    assert judged(rank(0, IN_COMPILED, collectives=ended))[0] == "compiled_code"


def test_of_two_causes_the_older_is_the_verdict_and_the_other_is_mentioned() -> None:
    verdict = classify(
        {"ranks": [rank(0, STACKS["autotune"], idle_s=9.0), rank(1, STACKS["dynamo_tracing"], idle_s=60.0)]}
    )
    assert (verdict["kind"], verdict["ranks"]) == ("dynamo_tracing", [1])
    assert any("rank 0 in autotune" in reason for reason in verdict["reasons"])


def test_an_unknown_stack_is_called_unknown() -> None:
    assert judged(rank(0, [("compute", "/opt/thing.py")])) == ("unknown", [0])
    assert judged(rank(0, [], process={"state": "T"})) == ("stopped", [0])
    assert classify({"ranks": []})["kind"] == "unknown"
