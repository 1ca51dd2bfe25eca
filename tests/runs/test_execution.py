"""Several commands, working folders, merged output, appended output, timeouts, retries and frozen scripts."""

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmval_tui.foundation.decode import decode
from llmval_tui.runs import client
from llmval_tui.runs.command_end import succeeded
from llmval_tui.runs.records import Command, CommandStatus, FrozenScript, Intent, State
from llmval_tui.runs.store import Run
from tests.helpers.processes import supervisor_of, until

MakeRun = Callable[..., Run]


def run_to_its_end(run: Run) -> Run:
    client.start(run)
    assert client.wait(run, 180)
    assert run.status().state is State.FINISHED
    return run


def codes(run: Run) -> list[int | None]:
    return [command.exit_code for command in run.status().commands]


def test_the_first_command_that_fails_ends_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = run_to_its_end(make_run("true", "exit 4", "touch third", needs_success=True))
    assert codes(run) == [0, 4]
    assert not (tmp_path / "third").exists()
    assert run.status().notes[-1].endswith("c2 was not started: c1 failed")


def test_an_exit_code_that_is_a_finding_does_not_end_the_run(make_run: MakeRun) -> None:
    run = run_to_its_end(make_run("exit 3", "true", needs_success=True, findings=[3]))
    assert codes(run) == [3, 0]


def test_a_command_runs_in_its_own_folder(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    run = run_to_its_end(make_run("pwd", cwd="sub"))
    assert (run.logs_folder / "c0.stdout.log").read_text() == f"{tmp_path / 'sub'}\n"


def test_merged_output_keeps_its_order(make_run: MakeRun, tmp_path: Path) -> None:
    run = run_to_its_end(make_run("echo 1; echo 2 >&2; echo 3", merge_stderr=True, tee="out.txt"))
    assert (tmp_path / "out.txt").read_text() == "1\n2\n3\n"
    assert (run.logs_folder / "c0.stderr.log").read_text() == ""


def test_merged_output_holds_the_standard_error_of_the_ranks(make_run: MakeRun, tmp_path: Path) -> None:
    script = "echo rank fault > $LLMVAL_RUN_FOLDER/logs/c0.rank1.stderr.log"
    run_to_its_end(make_run(script, merge_stderr=True, tee="out.txt"))
    assert (tmp_path / "out.txt").read_text() == "rank fault\n"


def test_appended_bytes_are_kept_by_themselves(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text("of yesterday\n")
    run = run_to_its_end(make_run("echo of today", append=True, tee="all.txt"))
    assert (tmp_path / "all.txt").read_text() == "of yesterday\nof today\n"
    assert (run.folder / "appended.c0.txt").read_text() == "of today\n"


def test_a_command_that_runs_too_long_is_ended_and_fails(make_run: MakeRun) -> None:
    run = run_to_its_end(make_run("sleep 300", "true", needs_success=True, timeout_s=0.5))
    status = run.status().commands[0]
    assert status.timed_out
    assert succeeded(run.intent.commands[0], status) is False
    assert codes(run) == [-signal.SIGINT]
    assert not run.status().cancelled


def test_a_timeout_also_fails_a_command_that_ends_well_on_the_signal(make_run: MakeRun) -> None:
    run = run_to_its_end(make_run("trap 'exit 0' INT; sleep 300 & wait", timeout_s=2))
    assert codes(run) == [0]
    assert succeeded(run.intent.commands[0], run.status().commands[0]) is False


def test_a_new_supervisor_does_not_grant_the_time_again(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("touch up; sleep 300", timeout_s=600)
    client.start(run)
    until(lambda: (tmp_path / "up").exists() and run.status().commands != [])
    identity = run.status().commands[0].identity
    assert identity is not None
    os.kill(supervisor_of(run).pid, signal.SIGKILL)
    until(lambda: not run.supervised())
    record = json.loads((run.folder / "run.json").read_text())
    record["commands"][0]["timeout_s"] = identity.age_s()  # as if the time had passed without a supervisor
    (run.folder / "run.json").write_text(json.dumps(record))
    again = Run(run.folder)
    client.ensure_supervised(again)
    assert client.wait(again, 180)
    assert again.status().commands[0].timed_out


def test_a_failed_command_is_started_again(make_run: MakeRun, tmp_path: Path) -> None:
    script = "echo x >> count; echo attempt $(wc -l < count); test $(wc -l < count) -ge 3"
    run = run_to_its_end(make_run(script, "true", needs_success=True, retries=4))
    status = run.status().commands[0]
    assert status.failed_attempts == ["exit 1", "exit 1"]
    assert codes(run) == [0, 0]
    logs = {log.label: log.path.read_text() for log in run.logs() if log.stream == "stdout"}
    assert logs == {
        "c0": "attempt 3\n",
        "c0-attempt1": "attempt 1\n",
        "c0-attempt2": "attempt 2\n",
        "c1": "",
    }


def test_retries_end_after_their_number(make_run: MakeRun, tmp_path: Path) -> None:
    run = run_to_its_end(make_run("echo x >> count; exit 5", retries=2))
    assert (tmp_path / "count").read_text() == "x\n" * 3
    assert codes(run) == [5]
    assert run.status().commands[0].failed_attempts == ["exit 5", "exit 5"]


def test_a_cancelled_command_is_not_started_again(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("echo x >> count; touch up; sleep 300", retries=3)
    client.start(run)
    until((tmp_path / "up").exists)
    client.request_cancel(run, "operator")
    assert client.wait(run, 180)
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_command_that_timed_out_is_started_again(make_run: MakeRun, tmp_path: Path) -> None:
    run = run_to_its_end(make_run("test -e up && exit 0; touch up; sleep 300", retries=9, timeout_s=2))
    assert run.status().commands[0].failed_attempts[0] == "timed out after 2 s"
    assert codes(run) == [0]
    assert not run.status().commands[0].timed_out


def test_the_rest_runs_after_the_supervisor_was_killed_in_a_later_command(make_run: MakeRun, tmp_path: Path) -> None:
    def adopted(ranks: str) -> Run:
        for name in ("up", "go", "end"):
            (tmp_path / name).unlink(missing_ok=True)
        script = f"echo '{ranks}' > $LLMVAL_RUN_FOLDER/ranks.c1.json; touch up; until [ -e go ]; do sleep 0.1; done"
        second = Command("c1", ["bash", "-c", script], script, needs_success=True, nproc=1)
        run = make_run("true", second, "touch end", needs_success=True)
        client.start(run)
        until(lambda: (tmp_path / "up").exists() and len(run.status().commands) == 2)
        supervisor_of(run).send(signal.SIGKILL)
        until(lambda: not run.supervised())
        client.ensure_supervised(run)
        (tmp_path / "go").touch()
        assert client.wait(run, 180)
        return run

    assert codes(adopted('{"ranks": {"0": 0}}')) == [0, None, 0]
    assert (tmp_path / "end").exists()
    run = adopted("{}")  # its end was not observed, so the next command does not start
    assert codes(run) == [0, None]
    assert not (tmp_path / "end").exists()
    assert run.status().notes[-1].endswith("c2 was not started: c1 ended unobserved")


@pytest.mark.parametrize("recorded", [True, False])
def test_a_second_attempt_is_adopted(make_run: MakeRun, tmp_path: Path, recorded: bool) -> None:
    script = "echo x >> count; [ $(wc -l < count) = 1 ] && exit 1; touch up; until [ -e go ]; do sleep 0.1; done"
    run = make_run(script, retries=5)
    client.start(run)
    until(lambda: (tmp_path / "up").exists() and run.status().commands[0].identity is not None)
    supervisor_of(run).send(signal.SIGKILL)
    until(lambda: not run.supervised())
    if not recorded:  # the supervisor was killed before it wrote down that it had started the attempt
        status = json.loads((run.folder / "status.json").read_text())
        status["commands"][0] |= {"identity": None, "started_utc": None}
        (run.folder / "status.json").write_text(json.dumps(status))
    client.ensure_supervised(run)
    (tmp_path / "go").touch()
    assert client.wait(run, 180)
    assert (tmp_path / "count").read_text() == "x\n" * 2
    assert run.status().commands[0].failed_attempts == ["exit 1"]


SCRIPT = "set -e\nfor i in 1 2; do echo $i; done | tac\n"


def scripted(text: str = SCRIPT) -> Command:
    script = FrozenScript("main.sh", text, hashlib.sha256(text.encode()).hexdigest())
    return Command("main", ["bash", "-euo", "pipefail", "{run}/main.sh"], "main.sh", script=script)


def test_a_frozen_script_lies_in_the_run_folder(make_run: MakeRun) -> None:
    run = make_run(scripted())
    file = run.folder / "main.sh"
    assert file.read_text() == SCRIPT
    assert file.stat().st_mode & 0o777 == 0o500
    run_to_its_end(run)
    assert (run.logs_folder / "main.stdout.log").read_text() == "2\n1\n"


def test_a_script_that_was_changed_is_not_started(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(scripted("touch started\n"))
    (run.folder / "main.sh").chmod(0o700)
    (run.folder / "main.sh").write_text("touch started; echo more\n")
    run_to_its_end(run)
    assert codes(run) == [127]
    assert not (tmp_path / "started").exists()
    assert any("not the script that was frozen" in note for note in run.status().notes)


def test_records_of_an_older_version_can_be_read() -> None:
    old: dict[str, Any] = {"label": "main", "argv": ["true"], "display": "true", "env": {}, "tee": None, "nproc": None}
    step = {"number": "1.1", "section": "s", "text": "t", "occurrence": 1}
    record = {"v": 1, "run_id": "r", "action": "command", "step": step, "cwd": "/w", "created_utc": ""}
    command = decode(Intent, {**record, "commands": [old]}).commands[0]
    assert (command.cwd, command.retries, command.timeout_s, command.needs_success) == (None, 0, None, False)
    assert decode(CommandStatus, {"label": "main"}).failed_attempts == []


@pytest.mark.parametrize("append", [False, True])
def test_a_pipe_or_a_link_at_the_output_path_is_not_written(make_run: MakeRun, tmp_path: Path, append: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "other").write_text("kept")
    (tmp_path / "link").symlink_to("other")
    for name in ("pipe", "link"):
        run = run_to_its_end(make_run("echo 1", tee=name, append=append))
        assert f"the output could not be copied to {name}: " in run.status().notes[-1]
    assert (tmp_path / "other").read_text() == "kept"
