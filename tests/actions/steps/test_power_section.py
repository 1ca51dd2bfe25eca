"""The power section: cells, their summary, and the tables of a document."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from llmval_tui.actions import perform
from llmval_tui.actions.accept import accept
from llmval_tui.actions.command.runner_catalog import COMPILE_REPRO, POWER_SWEEP, TRACE, artifacts_in
from llmval_tui.actions.documents.marker_block import POWER_BEGIN, POWER_END, with_power_tables
from llmval_tui.actions.gates.artifacts import schema_problem
from llmval_tui.actions.judges.power_cell import problems_of
from llmval_tui.actions.registry import action_named
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json, sha256_of, write_json
from llmval_tui.runs import artifact_snapshot
from llmval_tui.runs.records import Outcome, worst
from llmval_tui.runs.store import Run
from tests.helpers.study_results import MODEL, SETTINGS, power_cell, power_phase, write_sweep

SWEEP = (
    "python tools/precision_power_sweep.py --sequence-length 64 --model-layers 2 --model-d-model 64 --model-heads 4 "
    "--model-d-ff 256 --batch-size 1 --modes bf16 fp8_te --phases prefill --skip-compile "
    "--output-dir power_results/20260102"
)
ANALYZER = "python tools/power_efficiency_analyzer.py power_results/<date>/*.json --output artifacts/s_<date>.json"
LIST = f"""# L

## 3. Power
- [ ] Run: `{SWEEP}`.
- [ ] Summarise with `{ANALYZER}`.
- [ ] Update `docs/power.md` with new tables.
"""
FOLDER = "power_results/20260102"
PUBLISHED = Path(__file__).parents[3] / "docs/results/h200-power-2026-11-23/cells"
REFUSED = power_cell("fp8_te", status="refused", reasons=("Transformer Engine is not installed",))


def swept(workspace, *cells, text=LIST, **changes):
    proposal = workspace.propose(text, "3.1")
    assert proposal.refusal is None, proposal.refusal
    write_sweep(workspace.folder / FOLDER, *cells, **changes)
    return workspace.run(workspace.context(text, "3.1"), proposal, telemetry=False)


def judged(run):
    gates, metrics, summary, question = action_named(run.intent.action).judge(run)
    return {gate.name: gate for gate in gates}, worst(gates), metrics, summary, question


def test_every_promised_schema_exists(tmp_path):
    path = tmp_path / "empty.json"
    path.write_text("{}")
    promised = {item.schema for runner in (COMPILE_REPRO, POWER_SWEEP, TRACE) for item in artifacts_in("x", runner)}
    assert len(promised - {None}) == 3
    for schema in promised - {None}:
        assert "lacks" not in schema_problem(path, schema)


def test_a_sweep_s_record_is_judged_by_its_schema(workspace):
    sweep = next(item for item in swept(workspace, power_cell("bf16")).intent.artifacts if item.schema is not None)
    assert (sweep.path, sweep.schema) == (f"{FOLDER}/sweep.json", "power_sweep")
    assert schema_problem(workspace.folder / sweep.path, sweep.schema) is None


def test_the_example_is_as_the_sweep_writes_it(tmp_path):
    path = tmp_path / "cell.json"
    for cell in (power_cell("bf16"), REFUSED):
        path.write_text(json.dumps(cell))
        assert schema_problem(path, "power_cell") is None


def test_a_sweep_passes_with_cells_valid_or_refused(workspace):
    gates, outcome, metrics, summary, _ = judged(swept(workspace, power_cell("bf16"), REFUSED))
    assert outcome is Outcome.PASS
    assert summary == "2 of 2 cells: 1 refused, 1 valid"
    assert gates[f"cell {MODEL}-s64-b1-fp8_te"].reason == "Transformer Engine is not installed"
    assert metrics["best_prefill_tokens_per_joule"] == 2.0


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("failed", Outcome.FAIL), ("invalid", Outcome.INVALID), ("no_energy", Outcome.INCONCLUSIVE)],
)
def test_a_cell_without_a_figure_spoils_the_sweep(workspace, status, outcome):
    other = power_cell("fp8_te", status=status, reasons=("why",))
    assert judged(swept(workspace, power_cell("bf16"), other))[1] is outcome


def test_cells_that_are_all_refused_are_not_a_sweep(workspace):
    other = power_cell("bf16", status="refused", reasons=("no room",))
    assert judged(swept(workspace, other, REFUSED))[1] is Outcome.INCONCLUSIVE


def test_a_missing_or_damaged_cell_has_its_gate(workspace):
    run = swept(workspace, power_cell("bf16"), order=[f"{MODEL}-s64-b1-bf16", f"{MODEL}-s64-b1-fp8_te"])
    gate = judged(run)[0][f"cell {MODEL}-s64-b1-fp8_te"]
    assert (gate.outcome, gate.measured) == (Outcome.INCONCLUSIVE, "missing")
    workspace.write(f"{FOLDER}/{MODEL}-s64-b1-fp8_te.json", "{}")
    assert judged(run)[0][f"cell {MODEL}-s64-b1-fp8_te"].outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("warmup_s",), 4.0, "warm-up"),
        (("tokens_per_joule",), 2.5, "its trials give"),
        (("trials", 0, "window_s"), 9.0, "a window of 9 s"),
        (("trials", 0, "tokens_per_s"), 900.0, "varies by"),
        (("trials", 2, "gpus", 0, "integrated_j"), 1.0, "differ by more than"),
        (("trials", 2, "gpus", 0, "utilisation_percent"), 70.0, "utilisation 70"),
        (("trials", 1, "gpus", 0, "throttle_share"), {"sw_thermal_slowdown": 0.01}, "throttled"),
        (("trials", 1, "energy_j"), None, "no energy"),
        (("trials",), power_phase()["trials"][:2], "2 trials instead of at least 3"),
        (("trials",), [{**trial, "gpus": []} for trial in power_phase()["trials"]], "reports 0 GPUs instead of 1"),
        (("trials",), [{**trial, "gpus": trial["gpus"] * 2} for trial in power_phase()["trials"]], "reports 2 GPUs"),
        (("trials", 1, "steps"), 93.75, "a trial's tokens is 60000.0"),
        (("trials", 1, "tokens_per_s"), 1001.0, "a trial's tokens_per_s is 1001.0"),
        (("trials", 1, "tokens_per_joule"), 2.01, "a trial's tokens_per_joule is 2.01"),
        (("trials", 1, "gpus", 0, "window_s"), 60.2, "a trial's energy_j is 30000.0"),
        (("tokens_per_step",), 640, "640 tokens a step, its batch makes 64"),
    ],
)
def test_a_claim_to_be_valid_is_not_trusted(workspace, path, value, said):
    cell = power_cell("bf16")
    assert problems_of(cell) == []
    place = cell["phases"]["prefill"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert said in " ".join(problems_of(cell))
    assert judged(swept(workspace, cell, REFUSED))[1] is Outcome.INVALID


def test_energy_must_agree_with_the_gpus_counters(workspace):
    cell = power_cell("bf16")
    phase = cell["phases"]["prefill"]
    for place in (phase, *phase["trials"]):
        place["tokens_per_joule"] *= 10
        place["power_w"] /= 10
    for trial in phase["trials"]:
        trial["energy_j"] /= 10
    phase["joules_per_token"] /= 10
    assert problems_of(cell) == ["prefill: a trial's energy_j is 3000.0, but its steps, window and counters give 30000"]
    assert judged(swept(workspace, cell, REFUSED))[1] is Outcome.INVALID


def test_a_cell_without_gpus_or_without_a_phase_is_doubted():
    cell = power_cell("bf16")
    cell["identity"]["gpus"] = []
    assert "it names no GPU" in problems_of(cell)[0]
    cell = power_cell("bf16", settings={**SETTINGS, "phases": ["prefill", "decode"]})
    assert problems_of(cell) == ["prefill measured, prefill and decode asked for"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("--phases prefill ", "", "phases ['prefill'] instead of ['prefill', 'decode']"),
        ("--phases prefill", "--phases decode", "phases ['prefill'] instead of ['decode']"),
        ("--skip", "--devices 2 3 --skip", "devices [0] instead of [2, 3]"),
        ("--skip", "--devices all --skip", "devices [0] instead of [0, 1, 2, 3, 4, 5, 6, 7]"),
        ("--skip", "--seed 7 --skip", "seed 0 instead of 7"),
        ("--skip", "--window-s 10 --skip", "window_s 60 instead of 10"),
        ("--skip", "--warmup-s 10 --skip", "warmup_s 5 instead of 10"),
        ("--skip", "--trials 5 --skip", "trials 3 instead of 5"),
    ],
)
def test_the_settings_are_compared_with_flags_and_defaults(workspace, old, new, said):
    gate = judged(swept(workspace, power_cell("bf16"), REFUSED, text=LIST.replace(old, new, 1)))[0]["ran as asked"]
    assert (gate.outcome, gate.measured) == (Outcome.FAIL, said)


def test_a_cell_of_other_settings_than_its_sweep_fails(workspace):
    other = power_cell("bf16", settings={**SETTINGS, "window_s": 30.0})
    gate = judged(swept(workspace, other, REFUSED))[0]["ran as asked"]
    assert (gate.outcome, gate.measured) == (Outcome.FAIL, f"{other['cell']} has other settings than the sweep")


def test_the_published_cells_hold():
    cells = [read_json(path) for path in sorted(PUBLISHED.glob("*L-*.json"))]
    valid = [cell for cell in cells if cell["status"] == "valid"]
    assert (len(cells), len(valid)) == (18, 15)
    assert [problems_of(cell) for cell in valid] == [[]] * 15
    settings = read_json(PUBLISHED / "sweep.json")["settings"]
    assert all(cell["settings"] == settings for cell in cells)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("gpus", 0, "uuid"), "GPU-b", "GPU GPU-b instead of GPU-a"),
        (("gpus", 0, "power_limit_w"), 500.0, "power limit 500 W instead of 700 W"),
        (("driver",), "590.2", "driver 590.2 instead of 580.1"),
        (("torch",), "2.13.0", "torch 2.13.0 instead of 2.11.0"),
    ],
)
def test_a_cell_of_another_machine_is_invalid(workspace, place, value, said):
    other = power_cell("fp8_te")
    part = other["identity"]
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    gates, outcome, *_ = judged(swept(workspace, power_cell("bf16"), other))
    assert gates["machine"].measured == f"{other['cell']} was measured with {said}"
    assert outcome is Outcome.INVALID


def test_transformer_engine_is_part_of_the_machine_if_a_cell_uses_it(workspace):
    cells = [power_cell("bf16"), power_cell("fp8_te"), power_cell("fp8_te", 2)]
    for cell, version in zip(cells, ("2.20.2", "2.20.2", "2.21.0"), strict=True):
        cell["identity"]["transformer_engine"] = version
    run = swept(workspace, *cells)
    assert (
        judged(run)[0]["machine"].measured
        == f"{cells[2]['cell']} was measured with transformer_engine 2.21.0 instead of 2.20.2"
    )
    cells[0]["identity"]["transformer_engine"] = None
    assert judged(swept(workspace, cells[1], cells[0]))[0]["machine"].outcome is Outcome.PASS


def test_a_sweep_of_another_node_than_the_runs_is_invalid(workspace):
    proposal = workspace.propose(LIST, "3.1")
    write_sweep(workspace.folder / FOLDER, power_cell("bf16"), REFUSED)

    def gate(**host):
        run = workspace.run(workspace.context(LIST, "3.1"), proposal, telemetry=False, host=host)
        return judged(run)[0]["machine"]

    assert gate(name="node1", gpu={"gpus": [{"uuid": "GPU-a"}]}).outcome is Outcome.PASS
    assert gate().outcome is Outcome.PASS, "an unknown value is not a difference"
    assert gate(name="node2").measured == "the sweep was measured on host node1, the run on node2"
    assert gate(name="node1", gpu={"gpus": [{"uuid": "GPU-c"}]}).measured == "the node of the run has no GPU-a"


def test_a_damaged_result_is_invalid_and_not_an_error(workspace):
    run = swept(workspace, power_cell("bf16"), REFUSED)
    manifest = read_json(workspace.folder / FOLDER / "sweep.json")
    for damaged in ({"kind": "power_sweep", "order": []}, {**manifest, "identity": {"gpus": ["GPU-a"]}}):
        workspace.write(f"{FOLDER}/sweep.json", json.dumps(damaged))
        assert judged(run)[1] is Outcome.INVALID
    summary = summarised(workspace)
    workspace.write("artifacts/s_20260102.json", '{"kind": "power_summary"}')
    assert judged(summary)[1] is Outcome.INVALID


def test_a_sweep_of_other_cells_than_asked_for_fails(workspace):
    assert judged(swept(workspace, power_cell("bf16")))[0]["ran as asked"].outcome is Outcome.FAIL


def test_cells_of_an_earlier_run_need_its_evidence(workspace):
    first = swept(workspace, power_cell("bf16"), REFUSED)
    second = swept(workspace, power_cell("bf16"), REFUSED)
    artifact_snapshot.record_before(second)
    assert judged(second)[0]["measured by"].outcome is Outcome.INCONCLUSIVE
    workspace.judge(first, Outcome.INCONCLUSIVE)
    verdict = read_json(first.folder / "verdict.json")
    for cell in (power_cell("bf16"), REFUSED):
        path = f"{FOLDER}/{cell['cell']}.json"
        sha256 = sha256_of(workspace.folder / path)
        verdict["evidence"].append({"path": path, "sha256": sha256, "bytes": 1})
    write_json(first.folder / "verdict.json", verdict)
    gate = judged(second)[0]["measured by"]
    assert gate.outcome is Outcome.PASS
    assert f"2 by run {first.id}" in gate.measured
    write_json(first.folder / "run.json", replace(first.intent, preset="smoke"))
    assert judged(Run(second.folder))[0]["measured by"].outcome is Outcome.INCONCLUSIVE, (
        "a trial is not evidence of a full run"
    )


def test_a_sweep_needs_a_gpu_or_smoke(workspace):
    assert "this machine has none" in (workspace.propose(LIST, "3.1", gpus=0).refusal or "")
    small = workspace.propose(LIST, "3.1", gpus=0, preset="smoke")
    assert small.refusal is None
    argv = small.commands[0].argv
    at = argv.index("--batch-size")
    assert argv[at + 1 : at + 4] == ["1", "2", "--modes"]
    assert f"{FOLDER}.smoke" in argv
    assert workspace.propose(LIST, "3.1").params["gpu_indices"] == [0]
    some = workspace.propose(LIST.replace("--skip-compile", "--devices 2 3"), "3.1")
    assert some.params["gpu_indices"] == [2, 3]
    dropped = (
        workspace.propose(LIST.replace("--modes", "--devices 2 3 --modes"), "3.1", preset="smoke").commands[0].argv
    )
    assert "--devices" not in dropped
    assert dropped[dropped.index("--modes") - 1] == "2", "only its own values are removed"


def summarised(workspace, outcome=Outcome.PASS):
    """A run of item 3.2 with the real analyzer."""
    swept(workspace, power_cell("bf16"), REFUSED)
    proposal = workspace.propose(LIST, "3.2")
    assert proposal.refusal is None, proposal.refusal
    done = subprocess.run(proposal.commands[0].argv, cwd=workspace.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return workspace.run(workspace.context(LIST, "3.2"), proposal, telemetry=False, outcome=outcome)


def test_a_summary_is_held_against_its_cells(workspace):
    run = summarised(workspace)
    _, outcome, metrics, summary, _ = judged(run)
    assert outcome is Outcome.PASS
    assert metrics["cells_valid"] == 1
    assert "2 tokens/J" in summary
    path = workspace.folder / "artifacts/s_20260102.json"
    value = json.loads(path.read_text())
    value["cells"][0]["tokens_per_joule"] *= 1.1
    path.write_text(json.dumps(value))
    assert judged(run)[0]["figures"].outcome is Outcome.INVALID
    workspace.write(f"{FOLDER}/{REFUSED['cell']}.json", json.dumps(REFUSED) + " ")
    assert judged(run)[0]["inputs"].outcome is Outcome.INVALID


def test_a_summary_s_cost_follows_and_it_read_every_file(workspace):
    run = summarised(workspace)
    path = workspace.folder / "artifacts/s_20260102.json"
    value = json.loads(path.read_text())
    changed = json.loads(json.dumps(value))
    changed["cells"][0]["cost_per_million_tokens"] *= 0.9
    path.write_text(json.dumps(changed))
    assert judged(run)[0]["figures"].outcome is Outcome.INVALID
    left_out = next(item for item in value["inputs"] if REFUSED["cell"] in item["path"])
    path.write_text(json.dumps({**value, "inputs": [item for item in value["inputs"] if item != left_out]}))
    gate = judged(run)[0]["inputs"]
    assert (gate.outcome, gate.reason) == (Outcome.INVALID, f"not read: {left_out['path']}; run the item again")


def test_a_summary_without_a_valid_cell_is_inconclusive(workspace):
    run = summarised(workspace)
    path = workspace.folder / "artifacts/s_20260102.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "cells": [], "counts": {**value["counts"], "valid": 0}}))
    assert judged(run)[0]["cells"].outcome is Outcome.INCONCLUSIVE
    path.write_text(json.dumps({**value, "counts": {**value["counts"], "missing": 1}}))
    assert judged(run)[0]["cells"].outcome is Outcome.INCONCLUSIVE


def test_the_newest_folder_is_shown_and_trials_look_at_trials(workspace):
    workspace.write("power_results/20260101/a.json", "{}")
    workspace.write("power_results/20260103.smoke/b.json", "{}")
    proposal = workspace.propose(LIST, "3.2")
    assert "power_results/20260101, the newest date" in proposal.summary
    trial = workspace.propose(LIST, "3.2", preset="smoke")
    assert "power_results/20260103.smoke" in trial.summary
    assert trial.artifacts[0].path == "artifacts/s_20260103.smoke.json"


DOCUMENT = f"# Mine\r\n\r\nprose\r\n{POWER_BEGIN}\r\nold\r\n{POWER_END}\r\n\r\nmore\r\n"


def test_tables_are_proposed_and_only_the_block_changes(workspace):
    path = workspace.write("docs/power.md", DOCUMENT)
    assert "no summary of this section has passed" in (workspace.propose(LIST, "3.3").refusal or "")
    summarised(workspace)
    proposal = workspace.propose(LIST, "3.3")
    assert proposal.refusal is None, proposal.refusal
    run = workspace.run(workspace.context(LIST, "3.3"), proposal)
    assert perform.main([str(run.folder)]) == 0
    assert path.read_bytes() == DOCUMENT.encode(), "nothing changes before the operator accepts"
    _, outcome, _, _, question = judged(run)
    assert outcome is Outcome.INCONCLUSIVE
    assert "-old" in question["diff"]
    workspace.judge(run, outcome, question)
    accept(run)
    new = path.read_bytes().decode()
    head, tail = DOCUMENT.split("old\r\n")
    assert new.startswith(head)
    assert new.endswith(tail)
    assert "| 1 | BF16 | 1,000 |" in new
    assert "\n" not in new.replace("\r\n", "")
    assert judged(run)[1] is Outcome.PASS
    again = workspace.run(workspace.context(LIST, "3.3"), workspace.propose(LIST, "3.3"))
    assert perform.main([str(again.folder)]) == 0
    assert judged(again)[1] is Outcome.PASS
    assert judged(again)[4] is None, "equal tables have no question"


def test_tables_of_a_changed_summary_are_refused(workspace, capsys):
    workspace.write("docs/power.md", DOCUMENT)
    summarised(workspace)
    run = workspace.run(workspace.context(LIST, "3.3"), workspace.propose(LIST, "3.3"))
    workspace.write("artifacts/s_20260102.md", f"{POWER_BEGIN}\n| forged |\n{POWER_END}\n")
    assert perform.main([str(run.folder)]) == 2
    assert "changed after run" in capsys.readouterr().err


def test_markers_that_do_not_pair_up_are_refused(workspace):
    workspace.write("docs/power.md", f"{POWER_BEGIN}\n")
    assert "repair its markers" in (workspace.propose(LIST, "3.3").refusal or "")
    with pytest.raises(Refused, match="repair"):
        with_power_tables(f"{POWER_END}\n{POWER_BEGIN}\n", "x\n", "d.md")
    assert with_power_tables("", "x\n", "d.md").endswith(f"{POWER_BEGIN}\nx\n{POWER_END}\n")
