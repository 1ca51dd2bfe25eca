"""A run's life with real processes: it ends, is cancelled, meets a full disk, leaves nothing behind."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import take_lock, write_json
from llmval_tui.foundation.process import Identity, processes_with
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import artifact_snapshot, client, supervisor, termination
from llmval_tui.runs.create import create_run, new_run_id
from llmval_tui.runs.records import Artifact, Command, Intent, State, StepRef
from llmval_tui.runs.store import Run
from llmval_tui.telemetry.process_ownership import RUN_ID_VARIABLE, RunProcesses
from tests.helpers.processes import supervisor_of, until

ENDLESS = "while :; do sleep 0.1; done"


def test_commands_run_in_order_with_their_logs_and_codes(make_run: Callable[..., Run], store) -> None:
    run = make_run("echo one; echo warn >&2; exit 3", "echo $LLMVAL_RUN_ID; test -t 0; echo tty=$?", tee="out/both.txt")
    assert run.state() is State.LOST  # nothing holds it yet: never started
    client.start(run)
    assert client.wait(run, 180)
    status = run.status()
    assert status.state is State.FINISHED
    assert [command.exit_code for command in status.commands] == [3, 0]
    assert (run.logs_folder / "c0.stdout.log").read_text() == "one\n"
    assert (run.logs_folder / "c0.stderr.log").read_text() == "warn\n"
    assert (run.logs_folder / "c1.stdout.log").read_text() == f"{run.id}\ntty=1\n"
    assert (store.workspace / "out/both.txt").read_text() == f"{run.id}\ntty=1\n"
    assert [log.label for log in run.logs()] == ["c0", "c0", "c1", "c1"]


def test_orphans_do_not_outlive_the_run(make_run: Callable[..., Run], tmp_path: Path) -> None:
    # One orphan keeps the run's id, one has cleared its environment and is known only as a descendant.
    run = make_run("setsid sleep 300 & echo $! > kept; setsid env -i sleep 301 & echo $! > cleared; exit 0")
    client.start(run)
    assert client.wait(run, 180)
    for name in ("kept", "cleared"):
        assert Identity.of(int((tmp_path / name).read_text())) is None
    assert any("outlived the command" in note for note in run.status().notes)


def test_cancel_is_one_ladder(make_run: Callable[..., Run], tmp_path: Path) -> None:
    traps = "trap 'echo INT >> seen' INT; trap 'echo TERM >> seen; exit 7' TERM"
    run = make_run(f"{traps}; touch up; {ENDLESS}")
    client.start(run)
    until((tmp_path / "up").exists)
    for _ in range(3):  # pressing the key three times is one cancel
        assert client.request_cancel(run, "operator")
    assert client.wait(run, 180)
    status = run.status()
    assert (tmp_path / "seen").read_text() == "INT\nTERM\n"
    assert status.cancelled == "operator"
    assert status.commands[0].exit_code == 7
    assert not client.request_cancel(run, "late")


def test_a_shell_that_waits_for_a_program_is_ended_by_the_first_rung(make_run: Callable[..., Run]) -> None:
    """It hears a signal only once that program has ended, which is therefore sent it too."""
    run = make_run("sleep 300; echo on")
    client.start(run)
    until(lambda: len(processes_with(RUN_ID_VARIABLE, run.id)) == 2 and run.status().commands != [])
    assert client.request_cancel(run, "operator")
    assert client.wait(run, 180)
    assert run.status().commands[0].exit_code == -signal.SIGINT
    assert not any("SIGTERM" in note for note in run.status().notes), "the second rung was not needed"
    assert (run.logs_folder / "c0.stdout.log").read_text() == ""


def climb_here(run: Run) -> list[str]:
    """Climb the ladder in this process, with a short grace, in place of the supervisor."""
    agent = run.status().commands[0].identity
    assert agent is not None
    os.kill(supervisor_of(run).pid, signal.SIGKILL)
    return termination.terminate(RunProcesses(run.folder), agent, grace_s=0.3, term_s=0.3)


def test_ladder_ends_in_sigkill(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run(f"trap '' INT TERM; (touch up; {ENDLESS}) & {ENDLESS}")
    client.start(run)
    # The command may be up before its supervisor has written so.
    until(lambda: (tmp_path / "up").exists() and run.status().commands != [])
    done = climb_here(run)
    assert [line.split()[0] for line in done] == ["sent", "sent", "killed"]
    assert processes_with(RUN_ID_VARIABLE, run.id) == []


def test_the_ladder_waits_for_a_record_that_is_being_written(make_run: Callable[..., Run], tmp_path: Path) -> None:
    writes = f"echo {termination.SAVING} > /proc/$$/comm; sleep 2; echo whole > $0; exit 130"
    (tmp_path / "rank.sh").write_text(
        f"trap '' INT\ntrap '{writes.replace('$0', 'orphan')}' TERM\necho > up\n{ENDLESS}"
    )
    run = make_run(f"setsid bash rank.sh & trap '{writes.replace('$0', 'record')}' INT TERM; {ENDLESS}")
    client.start(run)
    until(lambda: (tmp_path / "up").exists() and run.status().commands != [])
    done = climb_here(run)
    assert (tmp_path / "record").read_text() == (tmp_path / "orphan").read_text() == "whole\n"
    assert [line.split()[0] for line in done] == ["sent", "stopped"], "neither SIGTERM nor SIGKILL came in between"


def test_a_leftover_that_ends_just_after_the_wait_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = Identity.of(os.getpid())
    looks = iter([[own], [own], []])  # the first look, the wait, the look after the wait
    monkeypatch.setattr(RunProcesses, "own", lambda _processes, _exclude: next(looks))
    monkeypatch.setattr(termination, "_is_saving", lambda _left: False)
    monkeypatch.setattr(Identity, "send", lambda _identity, _number: True)
    monkeypatch.setattr(termination, "_wait", lambda gone, _seconds, _is_saving: gone())
    assert termination.kill_leftovers(RunProcesses(tmp_path)) == [
        f"stopped pid {os.getpid()}, which had outlived the command"
    ]


def test_closed_terminal_does_not_reach_the_run(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("while [ ! -e go ]; do sleep 0.1; done; echo done")
    client.start(run)
    supervisor = run.status().supervisor
    assert supervisor is not None
    assert os.getsid(supervisor.pid) == supervisor.pid != os.getsid(0)
    supervisor.send(signal.SIGHUP)
    supervisor.send(signal.SIGPIPE)
    (tmp_path / "go").touch()
    assert client.wait(run, 180)
    assert run.status().commands[0].exit_code == 0


def test_command_that_does_not_exist(make_run: Callable[..., Run]) -> None:
    run = make_run("true")
    run.intent.commands[0].argv[:] = ["/no/such/program"]
    (run.folder / "run.json").write_text((run.folder / "run.json").read_text().replace('"bash"', '"/no/such/program"'))
    client.start(run)
    assert client.wait(run, 180)
    status = run.status()
    assert status.commands[0].exit_code == 127
    assert any("/no/such/program could not be started" in note for note in status.notes)


def test_second_supervisor_is_refused(make_run: Callable[..., Run]) -> None:
    run = make_run("sleep 5")
    client.start(run)
    second = subprocess.run(
        [sys.executable, "-m", "llmval_tui.runs.supervisor", str(run.folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert "already has a supervisor" in second.stderr
    assert json.loads((run.folder / "status.json").read_text())["supervisor"]["pid"] == supervisor_of(run).pid


def test_a_full_disk_does_not_end_the_run(make_run: Callable[..., Run], tmp_path: Path, monkeypatch) -> None:
    run = make_run("touch started; sleep 0.3; exit 0", "echo second")

    def write(path: Path, value: object) -> None:
        if (tmp_path / "started").exists() and not (tmp_path / "room").exists():
            refused.append(path.name)
            if (run.logs_folder / "c1.stdout.log").exists() and len(refused) > 3:
                (tmp_path / "room").touch()
            raise Refused(f"{path} cannot be written (No space left on device).")
        write_json(path, value)

    refused: list[str] = []
    monkeypatch.setattr(supervisor, "write_json", write)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    supervisor.Supervisor(run).supervise()
    assert refused
    status = run.status()
    assert status.state is State.FINISHED
    assert [command.exit_code for command in status.commands] == [0, 0]
    assert any("No space left" in note for note in status.notes)


def test_a_run_that_cannot_be_recorded_is_not_started(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("touch started")
    (run.folder / "artifacts.json").mkdir()
    with pytest.raises(Refused, match=r"artifacts\.json cannot be written"):
        client.start(run)
    assert not (tmp_path / "started").exists()


def test_a_rank_whose_end_nobody_learned_does_not_stop_the_run(make_run: Callable[..., Run], tmp_path: Path) -> None:
    script = """echo '{"ranks": {"0": null, "1": 7}}' > $LLMVAL_RUN_FOLDER/ranks.c0.json; exit 1"""
    run = make_run(script, "echo second > second")
    client.start(run)
    assert client.wait(run, 180)
    assert run.status().commands[0].ranks == {"1": 7}
    assert (tmp_path / "second").exists()


def test_a_cancel_before_the_command_starts_nothing(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("touch started")
    run.cancel_file.write_text('{"by": "operator"}')
    client.start(run)
    assert client.wait(run, 180)
    assert run.status().cancelled == "operator"
    assert not (tmp_path / "started").exists()


def test_a_stranger_with_the_commands_lock_does_not_keep_a_finished_run_alive(make_run: Callable[..., Run]) -> None:
    run = make_run("true")
    client.start(run)
    assert client.wait(run, 180)
    lock = take_lock(run.command_lock)  # as a process in the kernel's hands would, that nobody can kill
    assert lock is not None
    assert not run.alive()
    assert client.wait(run, 0.1)
    assert not client.request_cancel(run, "operator")
    os.close(lock)


def test_a_cancel_reaches_the_run_where_the_disk_is_full(make_run: Callable[..., Run], monkeypatch) -> None:
    run = make_run("sleep 300")
    client.start(run)

    def full(path: Path, _value: object) -> None:
        raise Refused(f"{path} cannot be written (No space left on device).")

    monkeypatch.setattr(client, "write_json", full)
    assert client.request_cancel(run, "operator")
    assert client.wait(run, 180)
    assert run.status().cancelled == "SIGTERM to the supervisor"


def test_what_lay_there_before_and_after_is_noted(store) -> None:
    (store.workspace / "out").mkdir()
    (store.workspace / "out/old").write_text("old")
    command = Command("main", ["bash", "-c", "echo new > out/new"], "")
    step = StepRef("1.1", "1. Section", "text", 1, "list.md")
    cwd = str(store.workspace)
    intent = Intent(
        1, new_run_id("1.1"), "command", step, [command], cwd, utc_iso(), [Artifact("out")], telemetry=False
    )
    run = create_run(store, intent)
    client.start(run)
    assert client.wait(run, 180)
    noted = artifact_snapshot.read_snapshots(run)
    assert noted.before is not None and noted.after is not None
    assert list(noted.before) == ["out/old"]
    assert sorted(noted.after) == ["out/new", "out/old"]
    assert noted.before["out/old"] == noted.after["out/old"]


def test_secrets_that_cannot_be_removed_yet_do_not_cost_the_final_record(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("true")
    attempts: list[Path] = []

    def read_only(folder: Path) -> None:
        attempts.append(folder)
        if len(attempts) < 3:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(supervisor, "forget_secrets", read_only)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    supervisor.Supervisor(run).supervise()
    assert len(attempts) == 3 and run.status().state is State.FINISHED


def test_a_defect_of_the_supervisor_ends_the_run_with_its_reason(make_run: Callable[..., Run], monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    run = make_run("true")
    monkeypatch.setattr(supervisor.Supervisor, "_run_command", broken)
    supervisor.Supervisor(run).supervise()
    status = run.status()
    assert status.state is State.FINISHED and "internal error (KeyError: 'x')" in status.notes[-1]


def test_a_supervisor_whose_run_was_removed_ends(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """It waits for a full disk, and not for a folder that somebody has removed."""
    run = make_run("touch begun; while [ ! -e go ]; do sleep 0.05; done")
    client.start(run)
    until(lambda: (tmp_path / "begun").exists() and run.status().commands != [])
    owner = supervisor_of(run)

    def removed() -> bool:
        shutil.rmtree(run.folder, ignore_errors=True)
        return not run.folder.exists()

    until(removed)
    (tmp_path / "go").touch()
    until(lambda: not owner.alive())
