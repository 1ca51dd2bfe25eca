"""The judge of long-context results: it recomputes the gates from the figures."""

import json
from pathlib import Path

import pytest

from llmval_tui.actions.steps.command import judge_results
from llmval_tui.runs.evidence import archive
from llmval_tui.runs.records import Outcome, worst
from tests.helpers.long_context_results import GIB, LIST, PATH, entry, result_of

PUBLISHED = Path(__file__).parents[3] / "docs/results/h200-x4-2026-11-26"


def bad(run):
    return {gate.name: gate.outcome for gate in judge_results(run)[0] if gate.outcome is not Outcome.PASS}


def test_a_good_result_passes_with_its_figures(long_context_run):
    run = long_context_run()
    gates, metrics, summary, _ = judge_results(run)
    assert bad(run) == {}
    assert {"ran as asked", "precision", "lengths", "65,536: peak memory"} <= {gate.name for gate in gates}
    assert metrics["decode_step_ms_65536"] == 5.0
    assert metrics["peak_memory_bytes_32768"] > GIB
    assert "32,768 tokens: prefill 2.000 s" in summary


def changed(path, value):
    result = result_of(32768, 65536)
    *way, last = path
    place = result
    for step in way:
        place = place[step]
    place[last] = value
    return result


SECOND = ("lengths", 1)


@pytest.mark.parametrize(
    ("path", "value", "gate", "outcome"),
    [
        (("partial",), True, "runner's own checks", Outcome.FAIL),
        (("reasons",), ["no"], "runner's own checks", Outcome.FAIL),
        (("identity", "matrix_dtype"), "bfloat16", "precision", Outcome.FAIL),
        (("identity", "kv_dtype"), "bfloat16", "precision", Outcome.FAIL),
        (("lengths",), [entry(32768)], "lengths", Outcome.FAIL),
        ((*SECOND, "memory", 3, "kv_bytes"), 1, "65,536: weights and cache", Outcome.INVALID),
        ((*SECOND, "memory"), entry(65536)["memory"][:1], "65,536: weights and cache", Outcome.INVALID),
        ((*SECOND, "memory"), entry(65536)["memory"][1:], "65,536: weights and cache", Outcome.INVALID),
        ((*SECOND, "memory", 7, "rank"), 0, "65,536: weights and cache", Outcome.INVALID),
        ((*SECOND, "memory", 7, "allocated_peak_bytes"), 2 * GIB, "65,536: peak memory", Outcome.INCONCLUSIVE),
        ((*SECOND, "memory", 7, "allocated_peak_bytes"), None, "65,536: peak memory", Outcome.INCONCLUSIVE),
        ((*SECOND, "memory", 0, "allocated_peak_bytes"), GIB, "65,536: peak memory", Outcome.INCONCLUSIVE),
        ((*SECOND, "prefill", "tokens_per_s"), 99.0, "65,536: times", Outcome.INVALID),
        ((*SECOND, "prefill", "ttft_ms"), 5.0, "65,536: times", Outcome.INVALID),
        ((*SECOND, "decode", "tokens_per_s"), 99999.0, "65,536: times", Outcome.INVALID),
        ((*SECOND, "decode", "steps"), 4, "65,536: times", Outcome.INVALID),
        ((*SECOND, "decode", "mbu", 0, "percent"), 104.0, "65,536: times", Outcome.INVALID),
        ((*SECOND, "fidelity", "prompt", "relative_error"), 0.0, "65,536: fidelity of prompt", Outcome.FAIL),
        ((*SECOND, "fidelity", "decode", "relative_error"), 0.7, "65,536: fidelity of decode", Outcome.FAIL),
        ((*SECOND, "fidelity", "prompt", "kl_mean_nats"), 0.7, "65,536: fidelity of prompt", Outcome.FAIL),
        ((*SECOND, "fidelity", "prompt", "finite"), False, "65,536: fidelity of prompt", Outcome.FAIL),
        ((*SECOND, "fidelity", "status"), "not_compared", "65,536: fidelity", Outcome.INCONCLUSIVE),
        ((*SECOND, "fidelity", "status"), "not_run", "65,536: fidelity", Outcome.INCONCLUSIVE),
        ((*SECOND, "needle"), {"depths": [], "missing": "short"}, "65,536: needle", Outcome.INCONCLUSIVE),
    ],
)
def test_each_doubt_has_its_gate(long_context_run, path, value, gate, outcome):
    assert bad(long_context_run(changed(path, value))) == {gate: outcome}


def test_a_checkpoint_is_judged_by_its_choices_too(long_context_run):
    result = changed(("identity", "weights"), "/models/x")
    assert set(bad(long_context_run(result))) == {
        f"{at}: fidelity of {kind}" for at in ("32,768", "65,536") for kind in ("prompt", "decode")
    }, "top-1 of 80 %"
    found = [{"depth": depth, "found": depth != 0.5, "expected": "1", "answer": "2"} for depth in (0.0, 0.5)]
    result = changed((*SECOND, "needle"), {"depths": found, "missing": None})
    assert bad(long_context_run(result)) == {"65,536: needle": Outcome.FAIL}


def test_out_of_memory_fails_and_keeps_the_first_length(long_context_run, workspace):
    result = result_of(32768, 65536)
    second = result["lengths"][1]
    failure = {
        "rank": 0,
        "where": "the KV cache",
        "message": "Tried to allocate 4.00 GiB",
        "tried_bytes": 4 * GIB,
        "allocated_bytes": GIB,
        "predicted_bytes": 4 * GIB,
        "prediction_error_bytes": GIB,
    }
    second |= {"status": "out_of_memory", "memory": [], "prefill": None, "decode": None, "failure": [failure]}
    run = long_context_run(result)
    assert bad(run) == {"lengths": Outcome.FAIL, "65,536: memory": Outcome.FAIL}
    assert "32,768 tokens: prefill 2.000 s" in judge_results(run)[2]
    workspace.judge(run, worst(judge_results(run)[0]))
    for number in ("4.2", "4.3"):
        assert "pass" in (workspace.propose(LIST, number).refusal or ""), "neither finding nor tick without a pass"


@pytest.mark.parametrize(
    ("flags", "gate"),
    [
        ("--fp8-mode none", "ran as asked"),
        ("--kv-dtype bf16", "ran as asked"),
        ("--attention-backend flex", "ran as asked"),
        ("--model tiny", "ran as asked"),
        ("--batch-size 16", "ran as asked"),
        ("--checkpoint /models/x", "ran as asked"),
        ("--decode-tokens 512", "ran as asked"),
        ("--prefill-attention fp8", "ran as asked"),
    ],
)
def test_flags_of_the_command_must_have_run(long_context_run, flags, gate):
    assert bad(
        long_context_run(text=LIST.replace("--tensor-parallel-gpus 8", f"--tensor-parallel-gpus 8 {flags}"))
    ) == {gate: Outcome.FAIL}


def test_fewer_ranks_than_asked_for_fail_and_their_memory_is_not_explained(long_context_run):
    assert bad(long_context_run(changed(("identity", "tensor_parallel"), 4))) == {
        "ran as asked": Outcome.FAIL,
        "32,768: weights and cache": Outcome.INVALID,
        "65,536: weights and cache": Outcome.INVALID,
    }


def test_a_run_as_the_command_asks_passes(long_context_run):
    result = result_of(32768, 65536)
    result["identity"] |= {"weights": "/models/x", "prefill_attention": "fp8"}
    result["setup"] |= {"batch": 2, "decode_tokens": 64}
    for one in result["lengths"]:
        one["prefill"]["tokens_per_s"] *= 2
        one["decode"] |= {"steps": 64, "tokens_per_s": 400.0}
        for kind in ("prompt", "decode"):
            one["fidelity"][kind]["top1_agreement"] = 0.95
    flags = "--checkpoint /models/x/ --batch-size 2 --decode-tokens 64 --prefill-attention fp8"
    assert (
        bad(long_context_run(result, LIST.replace("--tensor-parallel-gpus 8", f"--tensor-parallel-gpus 8 {flags}")))
        == {}
    )


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("long_context_*.json")), ids=lambda path: path.stem)
def test_the_published_results_hold(long_context_run, path):
    result = json.loads(path.read_bytes())
    asked, setup = result["asked"], result["setup"]
    flags = (
        f"--sequence-lengths {' '.join(map(str, asked['sequence_lengths']))} --model {asked['model']} "
        f"--tensor-parallel-gpus {asked['tensor_parallel']} --prefill-attention {asked['prefill_attention']} "
        f"--batch-size {setup['batch']} --decode-tokens {setup['decode_tokens']}"
    )
    text = LIST.replace("--sequence-lengths 32768 65536 --tensor-parallel-gpus 8", flags)
    found = bad(long_context_run(result, text))
    assert [name for name in found if "fidelity" not in name] == [], "how far FP8 may be from BF16 is another question"


def test_the_gated_item_counts_the_lengths_that_passed(workspace, long_context_run):
    divided = LIST.replace("--tensor-parallel-gpus 8", "--length-divisor 64 --tensor-parallel-gpus 8")
    result = result_of(512, 1024)
    run = long_context_run(result, divided)
    assert bad(run) == {}
    workspace.judge(run, Outcome.PASS)
    assert "do not cover 32768, 65536 tokens" in (workspace.propose(divided, "4.3").refusal or "")
    assert workspace.propose(divided, "4.3", demo=True).refusal is None
    run = long_context_run()
    workspace.judge(run, Outcome.PASS)
    archive(run.folder, run.verdict().evidence, workspace.folder)
    workspace.write(PATH, json.dumps(result))
    assert workspace.propose(LIST, "4.3").refusal is None, "the run's own copy is the judged one"
    next(run.folder.glob("evidence/*")).unlink()
    assert "do not cover" in (workspace.propose(LIST, "4.3").refusal or ""), "the present file belongs to another run"


def test_a_file_that_is_not_a_result_is_invalid(long_context_run):
    run = long_context_run({"schema": 1})
    assert bad(run) == {"result": Outcome.INVALID}


def test_bf16_on_a_cpu_needs_no_comparison_and_no_peak(long_context_run):
    result = result_of(32768, 65536)
    result["identity"] |= {"matrix_dtype": "float32", "kv_dtype": "float32", "device": "cpu"}
    result["setup"] |= {"weight_dtype": "float32", "kv_dtype": "float32", "dtype": "float32"}
    for one in result["lengths"]:
        one["fidelity"] = {"status": "not_compared", "reason": "the reference itself", "prompt": None, "decode": None}
        for rank in one["memory"]:
            rank |= {"allocated_peak_bytes": None, "missing": "a CPU"}
    assert bad(long_context_run(result)) == {}


def test_the_gated_record_rests_on_this_verdict(workspace, long_context_run):
    run = long_context_run()
    workspace.judge(run, worst(judge_results(run)[0]))
    assert workspace.propose(LIST, "4.3").refusal is None
