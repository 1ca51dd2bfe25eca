"""A server's run with real processes: ready, ended, killed, abandoned, adopted; nothing is left each time."""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from llmval_tui.foundation.files import take_lock
from llmval_tui.foundation.process import Identity
from llmval_tui.foundation.text import utc_iso
from llmval_tui.runs import client, supervisor
from llmval_tui.runs.create import create_run, new_run_id
from llmval_tui.runs.records import Command, Intent, ServerSpec, ServerStatus, State, StepRef
from llmval_tui.runs.server_life import ServerLife, is_serving, request_stop, sentence
from llmval_tui.runs.store import Run, RunStore, plan_lock
from tests.helpers.processes import supervisor_of, until

SERVER = Path(__file__).parents[1] / "helpers" / "fake_openai_server.py"
STEP = StepRef("2.1", "2. Serve", "Start", 1, "list.md")
Start = Callable[..., Run]


def free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def start(store: RunStore) -> Iterator[Start]:
    """`start("--hang", ready_s=2)`: the run of a server with these options, started; it is ended at the end."""
    made: list[Run] = []

    def begin(*options: str, ready_s: float = 60.0, plan_id: str | None = None) -> Run:
        port = free_port()
        argv = [sys.executable, str(SERVER), "serve", "--port", str(port), *options]
        intent = Intent(
            1, new_run_id("2.1"), "server", STEP, [Command("main", argv, "serve")], str(store.workspace), utc_iso(),
            telemetry=False, plan_id=plan_id, server=ServerSpec(f"http://127.0.0.1:{port}", ready_s),
        )  # fmt: skip
        run = create_run(store, intent)
        made.append(run)
        client.start(run)
        return run

    yield begin
    for run in made:
        if client.request_cancel(run, "end of test"):
            client.wait(run, 180)


def known(run: Run) -> ServerStatus:
    server = run.status().server
    assert server is not None
    return server


def test_it_serves_until_somebody_ends_it(start: Start) -> None:
    run = start("--load", "0.5")
    until(lambda: is_serving(run))
    assert known(run).model == "tiny" and (known(run).ready_s or 0) >= 0.5
    assert sentence(run).startswith("serving tiny, ready in ")
    request_stop(run, "the test")
    request_stop(run, "somebody else")  # changes nothing
    assert client.wait(run, 180)
    assert not is_serving(run)
    assert sentence(run) == "ended by the test" and run.status().state is State.FINISHED
    assert run.status().commands[0].exit_code == 0 and not known(run).forced
    assert [step.partition(" to ")[0] for step in known(run).stop] == ["sent SIGINT"]


def test_the_supervisor_is_killed_and_the_next_one_ends_server_and_renamed_worker(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("setproctitle", reason="install the extra `dev`")
    run = start("--worker", str(tmp_path / "worker"))
    until(lambda: is_serving(run))
    worker = Identity.of(int((tmp_path / "worker").read_text()))
    assert worker is not None
    until(lambda: str(worker.pid) in (run.folder / "processes.json").read_text())
    supervisor_of(run).send(signal.SIGKILL)
    until(lambda: not run.supervised())
    assert is_serving(run), "the server itself is not disturbed"
    request_stop(run, "the test")
    client.ensure_supervised(run)
    assert client.wait(run, 180)
    assert not worker.alive()
    assert any(step.startswith(f"stopped pid {worker.pid}") for step in known(run).stop)
    assert sentence(run) == "ended by the test"


def test_a_kill_gives_its_other_processes_time_and_then_ends_them(start: Start, tmp_path: Path) -> None:
    run = start()
    until(lambda: is_serving(run))
    request_stop(run, "item 2.4", kill=True)
    assert client.wait(run, 180)
    assert run.status().commands[0].exit_code == -signal.SIGKILL
    assert known(run).stop[0].startswith("sent SIGKILL") and not known(run).forced and known(run).problem is None


def test_its_process_dies_while_it_serves(start: Start) -> None:
    run = start()
    until(lambda: is_serving(run))
    process = run.status().commands[0].identity
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert client.wait(run, 180)
    assert sentence(run).startswith("dead: it ended while it served (killed by SIGKILL)")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--say", "OSError: /m is not a local folder and is not a valid model identifier"],
         "it ended before it was ready (exit 1): the model was not found: OSError: /m is not a local folder"),
        (["--say", "torch.OutOfMemoryError: CUDA out of memory."],
         "it ended before it was ready (exit 1): memory ran out while it was loading: torch.OutOfMemoryError"),
        (["--completion", "422"], "it answers /v1/models, but it completes no request (HTTP 422: engine is not there)"),
    ],
)  # fmt: skip
def test_it_is_never_ready(start: Start, options: list[str], problem: str) -> None:
    run = start(*options)
    assert client.wait(run, 180)
    assert (known(run).problem or "").startswith(problem)
    assert known(run).ready_s is None and known(run).stopped is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--hang"], "it was not ready within 2 s, it still waited for /health (connection refused); its log says: "),
        (["--completion", "500"], "it was not ready within 2 s, it still waited for one completed request; it answers"),
    ],
)
def test_it_is_not_ready_in_time(start: Start, options: list[str], problem: str) -> None:
    run = start(*options, ready_s=2.0)
    assert client.wait(run, 180)
    assert (known(run).problem or "").startswith(problem), known(run).problem
    assert "(ready= in its item gives it more time)" in (known(run).problem or "")


def test_a_server_whose_plan_is_gone_ends_after_the_last_run_that_uses_it(
    start: Start, store: RunStore, make_run: Callable[..., Run]
) -> None:
    lock_file = plan_lock(store.workspace, "plan")
    lock_file.parent.mkdir(parents=True)
    lock = take_lock(lock_file)
    assert lock is not None
    run = start(plan_id="plan")
    until(lambda: is_serving(run))
    user = make_run("while [ ! -e go ]; do sleep 0.1; done", servers=[run.id])
    client.start(user)
    os.close(lock)  # as the kernel does if the plan is killed
    supervisor_of(run).send(signal.SIGKILL)  # nobody is left who knows of it
    until(lambda: not run.supervised())
    client.ensure_supervised(run)  # somebody looks
    until(lambda: supervisor_of(run).alive())
    assert run.stop_file.exists() is False and is_serving(run)
    (store.workspace / "go").touch()
    assert client.wait(user, 180)
    assert client.wait(run, 180)
    assert sentence(run) == "ended by its supervisor, because its plan has ended"
    assert (user.status().ended_utc or "") <= (run.status().ended_utc or "")


def test_it_is_abandoned_if_neither_its_plan_nor_a_run_that_uses_it_is_alive(
    store: RunStore, make_run: Callable[..., Run]
) -> None:
    run = make_run("true")
    object.__setattr__(run, "_intent", replace(run.intent, plan_id="plan"))
    user = make_run("true", servers=[run.id])
    lock_file = plan_lock(store.workspace, "plan")
    lock_file.parent.mkdir(parents=True)

    def ends() -> bool:
        status = ServerStatus(ready_s=1.0)
        spec = ServerSpec("http://127.0.0.1:1", 1.0)
        return ServerLife(run, spec, status, run.intent.commands[0]).must_stop() is not None

    plan, used = take_lock(lock_file), take_lock(user.supervisor_lock)
    assert plan is not None and used is not None
    assert not ends()
    os.close(plan)
    assert not ends()
    os.close(used)
    assert ends()


def test_the_processes_of_its_server_are_not_foreign_to_a_run(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_run("true")
    run = make_run("true", servers=[server.id])
    started: list[list[str]] = []
    monkeypatch.setattr("llmval_tui.runs.run_recorder.subprocess.Popen", lambda argv, **_: started.append(argv))
    supervisor.Supervisor(run)._recorder._start()
    own = [started[0][index + 1] for index, word in enumerate(started[0]) if word == "--own"]
    assert own == [str(run.folder), str(server.folder)]
