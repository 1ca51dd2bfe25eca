"""The general gates: exit codes, artifacts and unknown ends. Each case is a hand-made run folder."""

import json
import os

import pytest

from llmval_tui.actions.gates.artifacts import schema_problem
from llmval_tui.actions.gates.general import general_gates
from llmval_tui.actions.gates.telemetry import measure_windows
from llmval_tui.foundation.files import sha256_of
from llmval_tui.runs import artifact_snapshot
from llmval_tui.runs.records import Artifact, Command, CommandStatus, Outcome, ServerStatus, worst
from llmval_tui.telemetry.sample import HostSample, Sample

TORCHRUN = Command("main", ["torchrun", "x.py"], "torchrun x.py", nproc=2)


def gate(run, start):
    gates, _ = general_gates(run)
    (found,) = [one for one in gates if one.name.startswith(start)]
    return found


def test_a_clean_run_passes_with_hashed_evidence(workspace):
    path = workspace.write("artifacts/r.json", "{}")
    run = workspace.run(workspace.context("x"), artifacts=[Artifact("artifacts/r.json")], telemetry=False)
    gates, evidence = general_gates(run)
    assert worst(gates) is Outcome.PASS
    assert [(item.path, item.sha256, item.bytes) for item in evidence] == [("artifacts/r.json", sha256_of(path), 2)]


@pytest.mark.parametrize(
    ("code", "ranks", "outcome", "measured"),
    [
        (0, {"0": 0, "1": 0}, Outcome.PASS, "exit 0, 2 ranks"),
        (0, {"0": 0, "1": 3}, Outcome.FAIL, "rank 1: exit 3"),
        (1, {"0": -15, "1": -11}, Outcome.FAIL, "rank 1: killed by SIGSEGV"),
        (1, {}, Outcome.FAIL, "exit 1"),
        (-9, {}, Outcome.FAIL, "killed by SIGKILL"),
        (None, {}, Outcome.INCONCLUSIVE, "unknown"),
        (None, {"0": 0}, Outcome.INCONCLUSIVE, "unknown"),  # the end of the other rank is unknown
    ],
)
def test_exit(workspace, code, ranks, outcome, measured):
    status = {"commands": [CommandStatus("main", exit_code=code, ranks=ranks)]}
    run = workspace.run(workspace.context("x"), commands=[TORCHRUN], status=status, telemetry=False)
    found = gate(run, "exit")
    assert (found.outcome, found.measured) == (outcome, measured)


def test_a_damaged_status_that_names_a_server_does_not_hide_the_exit_code(workspace):
    status = {"commands": [CommandStatus("main", exit_code=1)], "server": ServerStatus()}
    run = workspace.run(workspace.context("x"), status=status, telemetry=False)  # its intent has no server
    assert gate(run, "exit").outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("runner", "outcome"), [("engine_benchmark.py", Outcome.FAIL), ("long_context_validation.py", Outcome.INCONCLUSIVE)]
)
def test_three_from_one_of_our_runners_is_not_a_failure_of_the_node(workspace, runner, outcome):
    status = {"commands": [CommandStatus("main", exit_code=3, ranks={"0": 3, "1": -15})]}
    run = workspace.run(
        workspace.context("x"), commands=[TORCHRUN], status=status, telemetry=False, params={"runner": runner}
    )
    found = gate(run, "exit")
    assert (found.outcome, worst(general_gates(run)[0])) == (outcome, outcome)


def test_the_agents_record_counts_if_the_supervisor_died(workspace):
    run = workspace.run(workspace.context("x"), commands=[TORCHRUN], exit_code=None, telemetry=False)
    (run.folder / "ranks.main.json").write_text('{"ranks": {"0": 0, "1": 0}}')
    assert gate(run, "exit").outcome is Outcome.PASS
    (run.folder / "ranks.main.json").write_text('{"ranks": {"0": 0, "1": -6}}')
    assert gate(run, "exit").measured == "rank 1: killed by SIGABRT"


def test_the_reason_is_the_failing_ranks_last_line(workspace):
    status = {"commands": [CommandStatus("main", exit_code=1, ranks={"0": -15, "1": 2})]}
    run = workspace.run(workspace.context("x"), commands=[TORCHRUN], status=status, telemetry=False)
    run.logs_folder.joinpath("main.stderr.log").write_text("agent says much\n")
    run.logs_folder.joinpath("main.rank1.stderr.log").write_text("noise\n\x1b[31mno memory: use 4 GPUs\x1b[0m\n\n")
    assert gate(run, "exit").reason == "no memory: use 4 GPUs"


@pytest.mark.parametrize("code", [-9, 137])
def test_a_killed_command_is_not_explained_by_its_last_line(workspace, code):
    memory = "out of memory (cgroup limit of 2.0 GiB)"
    for known in (memory, None):
        status = {"commands": [CommandStatus("main", exit_code=code, out_of_memory=known)]}
        run = workspace.run(workspace.context("x"), commands=[TORCHRUN], status=status, telemetry=False)
        run.logs_folder.joinpath("main.stderr.log").write_text("cpu = _conversion_method_template(device)\n")
        assert gate(run, "exit").reason.startswith(memory if known else "the kernel reports no lack of memory")


def test_the_reason_comes_from_the_rank_that_failed_first(workspace):
    status = {"commands": [CommandStatus("main", exit_code=1, ranks={"0": 1, "1": 1})]}
    run = workspace.run(workspace.context("x"), commands=[TORCHRUN], status=status, telemetry=False)
    run.logs_folder.joinpath("main.rank0.stderr.log").write_text("connection closed by peer\n")
    run.logs_folder.joinpath("main.rank1.stderr.log").write_text("out of memory\n")
    (run.folder / "ranks.main.json").write_text('{"ranks": {"0": 1, "1": 1}, "first_failure": {"rank": 1}}')
    assert gate(run, "exit").reason == "out of memory"


def test_a_command_that_never_started_and_a_run_without_one(workspace):
    run = workspace.run(workspace.context("x"), status={"commands": []}, telemetry=False)
    assert gate(run, "exit").outcome is Outcome.INCONCLUSIVE
    assert gate(workspace.run(workspace.context("x"), commands=[], telemetry=False), "commands").outcome is (
        Outcome.INCONCLUSIVE
    )


def test_a_cancelled_run_is_inconclusive_and_not_failed(workspace):
    run = workspace.run(workspace.context("x"), exit_code=-2, status={"cancelled": "the operator"}, telemetry=False)
    assert worst(general_gates(run)[0]) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("kind", ["missing", "empty", "stale", "not json", "folder empty", "link out"])
def test_an_artifact_that_proves_nothing_fails(workspace, tmp_path_factory, kind):
    path = workspace.folder / "a" / "r.json"
    if kind != "missing":
        workspace.write("a/r.json", {"empty": "", "not json": "{"}.get(kind, "{}"))
    if kind == "stale":
        os.utime(path, (1_000_000_000, 1_000_000_000))
    if kind == "folder empty":
        path.unlink()
        path.mkdir()
    if kind == "link out":
        path.unlink()
        path.symlink_to(tmp_path_factory.mktemp("other") / "x")
    artifact = Artifact("a/r.json", "load_test" if kind == "not json" else None)
    run = workspace.run(workspace.context("x"), artifacts=[artifact], telemetry=False)
    gates, evidence = general_gates(run)
    assert [one.outcome for one in gates if one.name.startswith("artifact")] == [Outcome.FAIL]
    assert len(evidence) == (kind == "not json")


def test_a_folder_counts_with_its_new_files_only(workspace):
    old = workspace.write("out/old.json", "{}")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    workspace.write("out/deep/new.json", "{}")
    run = workspace.run(workspace.context("x"), artifacts=[Artifact("out")], telemetry=False)
    gates, evidence = general_gates(run)
    assert worst(gates) is Outcome.PASS
    assert [item.path for item in evidence] == ["out/deep/new.json"]


def test_a_command_without_artifacts_is_backed_by_its_output(workspace):
    run = workspace.run(workspace.context("x"), telemetry=False)
    run.logs_folder.joinpath("main.stdout.log").write_text("GPU0 NV18\n")
    run.logs_folder.joinpath("main.stderr.log").touch()
    _, evidence = general_gates(run)
    assert [item.path for item in evidence] == [f"artifacts/runs/{run.id}/logs/main.stdout.log"]


def test_nothing_to_hash_is_not_evidence(workspace):
    """A tick needs evidence: a command that exits with 0 and leaves nothing has none."""
    run = workspace.run(workspace.context("x"), telemetry=False)
    run.logs_folder.joinpath("main.stdout.log").touch()
    gates, evidence = general_gates(run)
    assert evidence == []
    assert [(gate.name, gate.outcome) for gate in gates if gate.outcome is not Outcome.PASS] == [
        ("evidence", Outcome.INCONCLUSIVE)
    ]


def test_the_run_id_stands_in_a_path(workspace):
    run = workspace.run(workspace.context("x"), artifacts=[Artifact("env/{run_id}.json")], telemetry=False)
    workspace.write(f"env/{run.id}.json", "{}")
    assert gate(run, "artifact").outcome is Outcome.PASS


def test_a_schema_names_the_place(tmp_path, monkeypatch):
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    schema = {"type": "object", "properties": {"a": {"type": "object", "required": ["b"]}}, "required": ["a"]}
    (schemas / "probe.schema.json").write_text(json.dumps(schema))
    monkeypatch.setattr("llmval_tui.actions.gates.artifacts.bundled", lambda name: schemas)
    value = tmp_path / "v.json"
    value.write_text('{"a": {"b": 1}}')
    assert schema_problem(value, "probe") is None
    value.write_text('{"a": {}}')
    assert "data.a" in (schema_problem(value, "probe") or "")
    assert "lacks other.schema.json" in (schema_problem(value, "other") or "")


def test_deviations_are_listed(workspace):
    run = workspace.run(workspace.context("x"), deviations=["4 GPUs instead of 8"], telemetry=False)
    assert gate(run, "as written").measured == "4 GPUs instead of 8"


def test_telemetry_is_judged_over_the_measured_window_only(workspace):
    run = workspace.run(workspace.context("x"), telemetry=True)
    second = 1_000_000_000
    # 20 s without a sample, before the measured window.
    times = [0, 20, 21, 22, 23, 24, 25]
    run.telemetry.write_bytes(b"".join(Sample(t * second, t * second, HostSample()).to_line() for t in times))
    phases = [("warmup", 0), ("measure", 20), ("drain", 25)]
    events = [{"v": 1, "mono_ns": t * second, "kind": "phase", "data": {"name": name}} for name, t in phases]
    assert gate(run, "telemetry.samples").outcome is Outcome.INVALID
    run.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    assert measure_windows(run) == [(20 * second, 25 * second)]
    assert gate(run, "telemetry.samples").outcome is Outcome.PASS
    run.telemetry.unlink()
    assert gate(run, "telemetry.samples").outcome is not Outcome.PASS


def left_by(workspace, before, during, after=None, run_id_in_path=False):
    """The artifact gate of a run, after it and other runs wrote at the path of its artifact."""
    artifact = Artifact("a.{run_id}.json" if run_id_in_path else "a.json")
    run = workspace.run(workspace.context("x"), artifacts=[artifact], telemetry=False)
    path = workspace.folder / run.intent.artifacts[0].path
    if before is not None:
        path.write_text(before)
    artifact_snapshot.record_before(run)
    if during is not None:
        path.write_text(during)
    artifact_snapshot.record_after(run)
    if after is not None:
        path.write_text(after)
    gates, evidence = general_gates(run)
    (found,) = [one for one in gates if one.name.startswith("artifact")]
    return found.outcome, len(evidence)


def test_a_file_of_another_run_is_never_evidence(workspace):
    # The earlier run's file is newer than this run's start: the same second, or a clock that was set back.
    assert left_by(workspace, "an earlier run", None) == (Outcome.FAIL, 0)
    assert left_by(workspace, "an earlier run", "this one's own") == (Outcome.PASS, 1)
    # A later run wrote there before this one was judged.
    assert left_by(workspace, None, "this run", "some later run") == (Outcome.INVALID, 0)
    assert left_by(workspace, None, None, "some later run") == (Outcome.INVALID, 0)


def test_a_file_with_an_old_time_counts_if_the_run_wrote_it(workspace):
    path = workspace.folder / "a.json"
    run = workspace.run(workspace.context("x"), artifacts=[Artifact("a.json")], telemetry=False)
    artifact_snapshot.record_before(run)
    path.write_text("copied with its time, or by a server whose clock is behind")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    artifact_snapshot.record_after(run)
    assert gate(run, "artifact").outcome is Outcome.PASS


def test_a_report_of_the_runs_own_may_be_edited_before_it_is_filed(workspace):
    assert left_by(workspace, None, "a report", "a better report", run_id_in_path=True) == (Outcome.PASS, 1)


def test_a_folder_counts_without_files_of_others(workspace):
    run = workspace.run(workspace.context("x"), artifacts=[Artifact("out")], telemetry=False)
    workspace.write("out/before.json", "{}")
    artifact_snapshot.record_before(run)
    workspace.write("out/own.json", "{}")
    artifact_snapshot.record_after(run)
    workspace.write("out/later.json", "{}")
    gates, evidence = general_gates(run)
    assert worst(gates) is Outcome.PASS
    assert [item.path for item in evidence] == ["out/own.json"]
