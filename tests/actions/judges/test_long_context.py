"""A long-context result is judged by its figures, and its findings go into a document only by the operator's word."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.accept import accept, accepted
from llmval_tui.actions.documents.findings_section import BEGIN, END, with_section
from llmval_tui.actions.registry import action_named
from llmval_tui.actions.steps.command import judge_results
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.paths import bundled
from llmval_tui.runs.evidence import archive
from llmval_tui.runs.records import Outcome, worst

COMMAND = (
    "`python tools/long_context_validation.py --sequence-lengths 32768 65536 --tensor-parallel-gpus 8 "
    "--output-json artifacts/long_context/r.json`"
)
LIST = f"""# L

## 4. Long
- [ ] Run: {COMMAND}.
- [ ] Note peak memory, add findings to `docs/f.md` (create if absent).
- [ ] Update `docs/TODO.md` once 32K/64K runs pass without OOM.
"""
GIB = 1024**3
PATH = "artifacts/long_context/r.json"
PUBLISHED = Path(__file__).parents[3] / "docs/results/h200-x4-2026-11-26"


def entry(length: int) -> dict:
    kv = length * 8192
    total = GIB + kv + 3 * 2**20
    distance = {
        "positions": 384,
        "finite": True,
        "relative_error": 0.05,
        "top1_agreement": 0.8,
        "kl_mean_nats": 0.002,
        "kl_max_nats": 0.01,
    }
    energy = {"energy_j": 10.0, "power_w": 5.0, "tokens_per_joule": 2.0, "missing": None}
    return {
        "sequence_length": length,
        "status": "passed",
        "prediction": {
            "weights_bytes": GIB,
            "kv_bytes": kv,
            "activation_bytes": 2**20,
            "workspace_bytes": 2**20,
            "graph_bytes": 2**20,
            "reserve_bytes": 2**20,
            "load_bytes": GIB,
            "load_reserve_bytes": 2**20,
            "total_bytes": total,
            "needed_bytes": total + 2**25,
            "free_bytes": 100 * GIB,
            "fits": True,
        },
        "memory": [
            {
                "rank": rank,
                "weights_bytes": GIB,
                "kv_bytes": kv,
                "allocated_peak_bytes": total + 2**20,
                "reserved_peak_bytes": total + 2**22,
                "nvml_peak_bytes": total + GIB,
                "residual_bytes": 2**20,
                "residual_percent": 0.1,
                "missing": None,
            }
            for rank in range(8)
        ],
        "prefill": {
            "seconds": 2.0,
            "tokens_per_s": length / 2.0,
            "ttft_ms": 2001.0,
            "model_flops": 1e15,
            "mfu": [{"percent": 40.0, "peak_tflops": 1979.0, "peak_source": "NVIDIA H200 datasheet, dense"}],
            "energy": energy,
        },
        "decode": {
            "step_ms": 5.0,
            "step_min_ms": 4.9,
            "step_max_ms": 5.2,
            "wall_step_ms": 5.1,
            "steps": 128,
            "tokens_per_s": 200.0,
            "bytes_per_step": 10**9,
            "mbu": [{"percent": 60.0, "peak_tb_per_s": 4.8, "peak_source": "NVIDIA H200 datasheet"}],
            "energy": energy,
        },
        "fidelity": {
            "status": "compared",
            "reason": None,
            "reference": {"dtype": "bfloat16", "kv_dtype": "bfloat16"},
            "prompt": distance,
            "decode": dict(distance),
        },
        "needle": None,
        "failure": None,
        "beyond_positions": False,
    }


def result_of(*lengths: int) -> dict:
    return {
        "schema": 1,
        "kind": "long_context",
        "partial": False,
        "reasons": [],
        "asked": {
            "sequence_lengths": list(lengths),
            "length_divisor": 1,
            "tensor_parallel": 8,
            "fp8_mode": "auto",
            "kv_dtype": "auto",
            "attention_backend": "auto",
            "model": None,
            "memory_limit_gib": None,
            "predict_only": False,
            "seed": 0,
        },
        "identity": {
            "model": "llama-3.1-8b",
            "weights": "random",
            "tensor_parallel": 8,
            "matrix_dtype": "float8_e4m3fn",
            "kv_dtype": "float8_e4m3fn",
            "attention_backend": "sdpa",
            "attention_kernel": "paged",
            "decode_steps": "CUDA graphs",
            "device": "cuda",
            "device_name": "NVIDIA H200",
            "host": "node1",
            "torch_version": "2.11.0",
            "cuda_version": "13.0",
            "python_version": "3.12.3",
            "transformers_version": None,
        },
        "shape": {"name": "llama-3.1-8b", "parameters": 8},
        "setup": {
            "tensor_parallel": 8,
            "dtype": "bfloat16",
            "weight_dtype": "fp8",
            "kv_dtype": "fp8",
            "batch": 1,
            "chunk": 8192,
            "page_size": 128,
            "decode_tokens": 128,
            "on_gpu": True,
            "backend": "sdpa",
        },
        "memory": {"free_bytes": 100 * GIB, "total_bytes": 140 * GIB, "nvml_used_before_bytes": 0, "peak_source": "x"},
        "lengths": [entry(length) for length in lengths],
        "find_max": None,
        "started_utc": "2026-01-02T03:04:05Z",
        "ended_utc": "2026-01-02T03:05:05Z",
    }


@pytest.fixture
def run_of(workspace):
    """A finished run of item 4.1 with this result."""

    def make(result=None, text=LIST, **changes):
        proposal = workspace.propose(text, "4.1")
        assert proposal.refusal is None, proposal.refusal
        workspace.write(PATH, json.dumps(result or result_of(32768, 65536)))
        return workspace.run(workspace.context(text, "4.1"), proposal, telemetry=False, **changes)

    return make


def bad(run):
    return {gate.name: gate.outcome for gate in judge_results(run)[0] if gate.outcome is not Outcome.PASS}


def test_a_good_result_passes_and_tells_its_figures(run_of):
    run = run_of()
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
def test_each_doubt_has_its_gate(run_of, path, value, gate, outcome):
    assert bad(run_of(changed(path, value))) == {gate: outcome}


def test_a_checkpoint_is_judged_by_its_choices_too(run_of):
    result = changed(("identity", "weights"), "/models/x")
    assert set(bad(run_of(result))) == {
        f"{at}: fidelity of {kind}" for at in ("32,768", "65,536") for kind in ("prompt", "decode")
    }, "top-1 of 80 %"
    found = [{"depth": depth, "found": depth != 0.5, "expected": "1", "answer": "2"} for depth in (0.0, 0.5)]
    result = changed((*SECOND, "needle"), {"depths": found, "missing": None})
    assert bad(run_of(result)) == {"65,536: needle": Outcome.FAIL}


def test_out_of_memory_fails_and_keeps_the_first_length(run_of, workspace):
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
    run = run_of(result)
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
def test_what_was_asked_by_name_must_have_run(run_of, flags, gate):
    assert bad(run_of(text=LIST.replace("--tensor-parallel-gpus 8", f"--tensor-parallel-gpus 8 {flags}"))) == {
        gate: Outcome.FAIL
    }


def test_fewer_ranks_than_asked_for_fail_and_their_memory_is_not_explained(run_of):
    assert bad(run_of(changed(("identity", "tensor_parallel"), 4))) == {
        "ran as asked": Outcome.FAIL,
        "32,768: weights and cache": Outcome.INVALID,
        "65,536: weights and cache": Outcome.INVALID,
    }


def test_what_was_asked_and_ran_passes(run_of):
    result = result_of(32768, 65536)
    result["identity"] |= {"weights": "/models/x", "prefill_attention": "fp8"}
    result["setup"] |= {"batch": 2, "decode_tokens": 64}
    for one in result["lengths"]:
        one["prefill"]["tokens_per_s"] *= 2
        one["decode"] |= {"steps": 64, "tokens_per_s": 400.0}
        for kind in ("prompt", "decode"):
            one["fidelity"][kind]["top1_agreement"] = 0.95
    flags = "--checkpoint /models/x/ --batch-size 2 --decode-tokens 64 --prefill-attention fp8"
    assert bad(run_of(result, LIST.replace("--tensor-parallel-gpus 8", f"--tensor-parallel-gpus 8 {flags}"))) == {}


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("long_context_*.json")), ids=lambda path: path.stem)
def test_the_published_results_hold(run_of, path):
    result = json.loads(path.read_bytes())
    asked, setup = result["asked"], result["setup"]
    flags = (
        f"--sequence-lengths {' '.join(map(str, asked['sequence_lengths']))} --model {asked['model']} "
        f"--tensor-parallel-gpus {asked['tensor_parallel']} --prefill-attention {asked['prefill_attention']} "
        f"--batch-size {setup['batch']} --decode-tokens {setup['decode_tokens']}"
    )
    text = LIST.replace("--sequence-lengths 32768 65536 --tensor-parallel-gpus 8", flags)
    found = bad(run_of(result, text))
    assert [name for name in found if "fidelity" not in name] == [], "how far FP8 may be from BF16 is another question"


def test_the_gated_item_counts_the_lengths_that_passed(workspace, run_of):
    divided = LIST.replace("--tensor-parallel-gpus 8", "--length-divisor 64 --tensor-parallel-gpus 8")
    result = result_of(512, 1024)
    run = run_of(result, divided)
    assert bad(run) == {}
    workspace.judge(run, Outcome.PASS)
    assert "do not cover 32768, 65536 tokens" in (workspace.propose(divided, "4.3").refusal or "")
    assert workspace.propose(divided, "4.3", demo=True).runnable
    run = run_of()
    workspace.judge(run, Outcome.PASS)
    archive(run.folder, run.verdict().evidence, workspace.folder)
    workspace.write(PATH, json.dumps(result))
    assert workspace.propose(LIST, "4.3").runnable, "the run's own copy is what it was judged by"
    next(run.folder.glob("evidence/*")).unlink()
    assert "do not cover" in (workspace.propose(LIST, "4.3").refusal or ""), "another run's file is not this one's"


def test_a_file_that_is_no_result_is_invalid(run_of):
    run = run_of({"schema": 1})
    assert bad(run) == {"result": Outcome.INVALID}


def test_bf16_on_a_cpu_needs_no_comparison_and_no_peak(run_of):
    result = result_of(32768, 65536)
    result["identity"] |= {"matrix_dtype": "float32", "kv_dtype": "float32", "device": "cpu"}
    result["setup"] |= {"weight_dtype": "float32", "kv_dtype": "float32", "dtype": "float32"}
    for one in result["lengths"]:
        one["fidelity"] = {"status": "not_compared", "reason": "the reference itself", "prompt": None, "decode": None}
        for rank in one["memory"]:
            rank |= {"allocated_peak_bytes": None, "missing": "a CPU"}
    assert bad(run_of(result)) == {}


@pytest.fixture
def noted(workspace, run_of):
    """Runs 4.1 with a result, then 4.2; its run, judged."""

    def make(result=None, **changes):
        source = run_of(result, **changes)
        workspace.judge(source, Outcome.PASS)
        return note(workspace)

    return make


def note(workspace):
    proposal = workspace.propose(LIST, "4.2")
    assert proposal.refusal is None, proposal.refusal
    run = workspace.run(workspace.context(LIST, "4.2"), proposal)
    assert perform.main([str(run.folder)]) == 0
    gates, _, _, question = action_named("findings_note").judge(run)
    workspace.judge(run, worst(gates), question)
    return run, worst(gates), question


def test_from_no_document_to_two_sections(workspace, noted):
    path = workspace.folder / "docs/f.md"
    run, outcome, question = noted()
    assert outcome is Outcome.INCONCLUSIVE
    assert not path.exists(), "nothing is made before the operator says so"
    assert question["diff"].startswith("--- /dev/null")
    accept(run)
    text = path.read_text()
    assert "### 2026-01-02: llama-3.1-8b, 8 × NVIDIA H200, weights float8_e4m3fn, KV cache float8_e4m3fn" in text
    assert "| 65,536 | passed | 1.50 | 1.50 | +0.06 | 2.50 | 2.000 | 32768 | 40.0 | 2001.0 | 5.000 | 60.0 |" in text
    assert "SHA-256 `" in text
    assert worst(action_named("findings_note").judge(run)[0]) is Outcome.PASS
    assert accepted(run)["by"]

    _, outcome, question = note(workspace)
    assert (outcome, question) == (Outcome.PASS, None), "the same run is not noted twice"

    run, _, question = noted(result_of(32768, 65536))
    assert all(not line.startswith("-") or line.startswith("---") for line in question["diff"].splitlines())
    accept(run)
    assert path.read_text().startswith(text.partition(END)[0].rstrip()), "appended behind what was there"
    assert path.read_text().count("### 2026-01-02") == 2


def test_the_operators_words_and_line_ends_stay(workspace, noted):
    document = (
        "# P\r\n\r\nMine.\r\n\r\n" + f"{BEGIN}\r\nNot measured yet. Run it.\r\nMy note.\r\n{END}\r\n\r\nMore.\r\n"
    )
    path = workspace.write("docs/f.md", document)
    run, *_ = noted()
    accept(run)
    new = path.read_bytes().decode()
    assert "\n" not in new.replace("\r\n", "")
    assert new.startswith(document.partition("Not measured")[0])
    assert new.endswith(document.partition(END)[2])
    assert "My note.\r\n" in new
    assert "Not measured yet" not in new


def test_an_edit_meanwhile_and_a_changed_artifact_are_refused(workspace, noted):
    path = workspace.write("docs/f.md", f"{BEGIN}\n{END}\n")
    run, *_ = noted()
    path.write_text(path.read_text() + "vim\n")
    with pytest.raises(Refused, match="was edited after"):
        accept(run)
    workspace.write(PATH, json.dumps(result_of(32768)))
    proposal = workspace.propose(LIST, "4.2")
    again = workspace.run(workspace.context(LIST, "4.2"), proposal)
    assert perform.main([str(again.folder)]) != 0


def test_nothing_to_note_is_said(workspace, run_of):
    assert "no long-context run of this section has passed yet" in (workspace.propose(LIST, "4.2").refusal or "")
    workspace.write("docs/f.md", f"{END}\n{BEGIN}\n")
    workspace.judge(run_of(), Outcome.PASS)
    assert "repair its markers" in (workspace.propose(LIST, "4.2").refusal or "")


def test_text_from_a_result_cannot_break_the_table(workspace, noted):
    result = deepcopy(result_of(32768, 65536))
    result["identity"]["attention_kernel"] = f"a | b\n{END}\x1b[2J"
    run, *_ = noted(result)
    accept(run)
    text = (workspace.folder / "docs/f.md").read_text()
    assert text.count(END) == 1
    assert "\x1b" not in text


def test_the_playbook_takes_a_section():
    text = (bundled("docs") / "long_context_playbook.md").read_text()
    new = with_section(text, ["### x", ""], "p")
    assert new.partition(BEGIN)[0] == text.partition(BEGIN)[0]
    assert "### x" in new
    assert "Not measured yet" not in new
    assert with_section(new, ["### y", ""], "p").index("### x") < with_section(new, ["### y", ""], "p").index("### y")


def test_the_gated_record_rests_on_this_verdict(workspace, run_of):
    run = run_of()
    workspace.judge(run, worst(judge_results(run)[0]))
    assert workspace.propose(LIST, "4.3").refusal is None
