"""Items that start and end servers: how they are read, where the server answers, and their verdicts."""

from pathlib import Path

import pytest

from llmval_tui.actions.api import Options
from llmval_tui.actions.gates.exit import exit_gates
from llmval_tui.actions.gates.servers import record_servers, server_gates
from llmval_tui.actions.reading.model import Kind
from llmval_tui.actions.registry import action_named, reading_of
from llmval_tui.actions.tools.servers import known_server_in, listener_on
from llmval_tui.checklist.model import parse
from llmval_tui.foundation.errors import Refused
from llmval_tui.foundation.files import read_json
from llmval_tui.plans.client import plan_preview, with_servers
from llmval_tui.runs.records import Command, CommandStatus, Gate, Outcome, ServerSpec, ServerStatus, StepRef
from llmval_tui.runs.store import Run
from tests.actions.conftest import Workspace
from tests.helpers.workspace import run_id_of, write_run

SPEC = ServerSpec("http://127.0.0.1:8300", 60.0)


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("vllm serve m", "http://127.0.0.1:8000"),
        ("/opt/v/bin/vllm serve m --port 8300 --host 0.0.0.0", "http://127.0.0.1:8300"),
        ("HF_HUB_OFFLINE=1 numactl -N 0 vllm serve m --port=8301 --host=10.0.0.7", "http://10.0.0.7:8301"),
        ("python -m vllm.entrypoints.openai.api_server --model m --host ::", "http://127.0.0.1:8000"),
        ("python3 -m sglang.launch_server --model-path m", "http://127.0.0.1:30000"),
        ("transformers serve m --host 127.0.0.1 --port 8200", "http://127.0.0.1:8200"),
        ("trtllm-serve m --port 9", "http://127.0.0.1:9"),
        ("uv run vllm serve m --host ::1", "http://[::1]:8000"),
    ],
)
def test_a_known_server_and_its_address(command: str, url: str) -> None:
    server = known_server_in(command)
    assert server is not None and server.url == url


@pytest.mark.parametrize(
    "command",
    ["vllm bench serve --model m", "vllm serve --help", "echo vllm serve m", "python serve.py", "vllm 'serve"],
)
def test_what_starts_no_server(command: str) -> None:
    assert known_server_in(command) is None


def test_a_server_elsewhere_has_no_address() -> None:
    server = known_server_in("docker run vllm serve m --port 8300")
    assert server is not None and server.url is None


@pytest.mark.parametrize(
    ("text", "kind", "action"),
    [
        ("Start the server: `vllm serve m`", Kind.BUILTIN, "server"),
        ("Run `python serve.py` <!-- llmval: action=server url=http://127.0.0.1:8300 -->", Kind.BUILTIN, "server"),
        ("Stop the server <!-- llmval: action=server_stop -->", Kind.BUILTIN, "server_stop"),
        ("If it is down, start the server: `vllm serve m`", Kind.ASK, "command"),
        ("Do not run `vllm serve m`", Kind.MANUAL, "manual"),
        ("Run `vllm serve m` and `vllm bench serve --model m`", Kind.ASK, "command"),
        ("Run `tail -f x.log`", Kind.ASK, "command"),
    ],
)
def test_how_an_item_is_read(text: str, kind: Kind, action: str) -> None:
    checklist = parse(f"## 1. A\n- [ ] {text}\n".encode(), Path("list.md"))
    reading = reading_of(checklist.steps[0], checklist)
    assert (reading.kind, reading.action) == (kind, action)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("Run `python x.py` <!-- llmval: action=server -->", "llmval does not know where this server answers"),
        ("Run `vllm serve m` <!-- llmval: url=localhost:80 -->", "url=localhost:80 is not the address of a server"),
        ("Run `vllm serve m` <!-- llmval: url=http://h:80/v1 -->", "url=http://h:80/v1 is not the address of a server"),
        ("Run `vllm serve m` <!-- llmval: ready=soon -->", "ready=soon is not a duration up to 30 days"),
        ("Run `vllm serve m` <!-- llmval: timeout=5min -->", "contains timeout=, but to start a server llmval reads"),
        ("Run `vllm serve m > log.txt`", "the output of a server is in the logs of its run"),
        ("Run `echo a` and `echo b` <!-- llmval: action=server url=http://h:1 -->", "has exactly one command"),
        ("End it <!-- llmval: action=server_stop signal=TERM -->", "signal=TERM is not understood"),
        ("Run `echo a` <!-- llmval: server=2.1 -->", "server=2.1 is not understood"),
    ],
)
def test_a_wrong_item_is_refused_in_one_sentence(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, text: str, refusal: str
) -> None:
    monkeypatch.setattr("llmval_tui.actions.command.freeze.shutil.which", lambda name, **_: f"/bin/{name}")
    workspace.write("x.py", "")
    assert refusal in (workspace.propose(text).refusal or "")


def test_what_the_comment_says_of_a_server(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmval_tui.actions.command.freeze.shutil.which", lambda name, **_: f"/bin/{name}")
    text = "Run `vllm serve m --port 8300` <!-- llmval: ready=10min model=mine -->"
    assert workspace.propose(text).server == ServerSpec("http://127.0.0.1:8300", 600.0, "mine")
    monkeypatch.setattr("llmval_tui.actions.steps.server.listener_on", lambda _url: "pid 7 (nginx)")
    assert workspace.propose(text).refusal == (
        "something listens on http://127.0.0.1:8300 already: pid 7 (nginx). End it, or give the server another port."
    )


def test_a_listener_is_found_without_a_connection() -> None:
    import os
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (listener_on(f"http://127.0.0.1:{port}") or "").startswith(f"pid {os.getpid()} (")
        with pytest.raises(BlockingIOError):
            server.setblocking(False)
            server.accept()
    assert listener_on(f"http://127.0.0.1:{port}") is None


SERVE = "<!-- llmval: action=server url=http://127.0.0.1:{} -->"
LIST = f"""## 1. Before
- [ ] Run `echo a`

## 2. Serve
- [ ] Run `python a.py` {SERVE.format(1)}
- [ ] Run `echo a`
- [ ] Run `python a.py 2` {SERVE.format(2)}
- [ ] Run `echo a` and `echo b`
- [ ] Run `echo a`. <!-- llmval: server=none -->
- [ ] End it. <!-- llmval: action=server_stop -->
- [ ] Run `echo a` once more
- [ ] Run `python a.py again` {SERVE.format(1)}
- [ ] Run `echo a` at last

## 3. After
- [ ] End it. <!-- llmval: action=server_stop -->
"""


def sentences(workspace: Workspace, *numbers: str) -> dict[str, str]:
    workspace.write("a.py", "")
    checklist = parse(LIST.encode(), workspace.write("list.md", LIST))
    steps = [step for step in checklist.steps if not numbers or step.number in numbers]
    items = plan_preview(checklist, steps, workspace.folder, Options())
    return {item.step.number: "asks" if item.sentence.startswith("asks first: ") else item.sentence for item in items}


def test_what_rests_on_which_server(workspace: Workspace) -> None:
    assert sentences(workspace) == {
        "1.1": "runs",
        "2.1": "asks",
        "2.2": "runs while 2.1 serves",
        "2.3": "asks",
        "2.4": "runs while 2.1 and 2.3 serve",
        "2.5": "runs",
        "2.6": "runs while 2.3 serves",
        "2.7": "runs while 2.1 serves",
        "2.8": "asks",
        "2.9": "runs while 2.8 serves",
        "3.1": "refused: no item before it starts a server in this section",
    }


@pytest.mark.parametrize(
    ("chosen", "with_them"),
    [
        ("2.2", ["2.1", "2.2"]),
        ("2.4", ["2.1", "2.3", "2.4"]),
        ("2.5", ["2.5"]),
        ("2.6", ["2.3", "2.6"]),
        ("2.7", ["2.1", "2.7"]),
        ("1.1", ["1.1"]),
        ("2.1", ["2.1"]),
    ],
)
def test_the_servers_of_a_chosen_item_are_started_with_it(
    workspace: Workspace, chosen: str, with_them: list[str]
) -> None:
    checklist = parse(LIST.encode(), workspace.write("list.md", LIST))
    steps = with_servers(checklist, [checklist.step(chosen)], workspace.folder)
    assert [step.number for step in steps] == with_them


def server_run(
    workspace: Workspace, server: ServerStatus, *, exit_code: int | None = 0, cancelled: str | None = None
) -> Run:
    command = CommandStatus("main", exit_code=exit_code, ended_utc="2026-01-02T03:10:00Z")
    return write_run(
        workspace.folder, run_id_of(1, "2.1"), StepRef("2.1", "2. Serve", "Start", 1, "list.md"),
        [Command("main", ["serve"], "serve it")], action="server", server=SPEC, telemetry=False,
        status={"server": server, "commands": [command], "cancelled": cancelled},
    )  # fmt: skip


def judged(run: Run) -> dict[str, Gate]:
    gates, metrics, _, _ = action_named("server").judge(run)
    known = run.status().server
    assert known is not None and metrics == {"ready_s": known.ready_s, "left_behind": known.left_behind}
    return {gate.name: gate for gate in [*exit_gates(run), *gates]}


def test_the_verdict_of_a_server_that_was_ended(workspace: Workspace) -> None:
    gates = judged(
        server_run(workspace, ServerStatus(ready_s=5.0, stopped="the end", stop=["sent SIGINT"]), exit_code=-2)
    )
    assert {gate.outcome for gate in gates.values()} == {Outcome.PASS}
    assert gates["server end"].measured == "killed by SIGINT: sent SIGINT"


def test_a_server_that_had_to_be_killed_fails(workspace: Workspace) -> None:
    known = ServerStatus(ready_s=5.0, stopped="the end", stop=["sent SIGINT", "killed pid 7"], forced=True)
    gates = judged(server_run(workspace, known, exit_code=-9))
    assert gates["server alive"].outcome is Outcome.PASS
    assert gates["server end"].outcome is Outcome.FAIL and "killed pid 7" in gates["server end"].measured


def test_a_server_that_ended_by_itself_fails_whatever_its_exit_code(workspace: Workspace) -> None:
    gates = judged(server_run(workspace, ServerStatus(ready_s=5.0, problem="it ended while it served (exit 0)")))
    assert gates["server alive"].outcome is Outcome.FAIL and gates["server alive"].measured == "exit 0"
    assert "exit: main" not in gates


def test_a_server_that_was_never_ready(workspace: Workspace) -> None:
    gates = judged(server_run(workspace, ServerStatus(problem="the model was not found: x"), exit_code=1))
    assert gates["server ready"].outcome is Outcome.FAIL
    assert gates["server ready"].reason == "the model was not found: x" and "server alive" not in gates


def user_run(workspace: Workspace, server: Run, ended: str) -> Run:
    return write_run(
        workspace.folder, run_id_of(2, "2.2"), StepRef("2.2", "2. Serve", "Load", 1, "list.md"),
        [Command("main", ["load"], "load")], servers=[server.id], status={"ended_utc": ended},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("server", "ended", "outcome", "reason"),
    [
        (ServerStatus(ready_s=5.0, model="tiny", stopped="the end"), "2026-01-02T03:09:00Z", Outcome.PASS, ""),
        (ServerStatus(ready_s=5.0, stopped="item 2.6"), "2026-01-02T03:11:00Z",
         Outcome.FAIL, "it was ended by item 2.6"),
        (ServerStatus(ready_s=5.0, problem="it ended while it served (exit 7): boom"), "2026-01-02T03:11:00Z",
         Outcome.FAIL, "it ended while it served (exit 7): boom"),
        (ServerStatus(ready_s=5.0), "2026-01-02T03:11:00Z", Outcome.FAIL, "it ended, and its end was not observed"),
    ],
)  # fmt: skip
def test_an_item_is_judged_late_by_what_is_known_of_its_server(
    workspace: Workspace, server: ServerStatus, ended: str, outcome: Outcome, reason: str
) -> None:
    used = server_run(workspace, server)
    run = user_run(workspace, used, ended)
    assert server_gates(run)[0][0].outcome is Outcome.INCONCLUSIVE  # nothing is recorded yet
    record_servers(run)
    (gate,), (evidence,) = server_gates(run)
    assert gate.outcome is outcome and gate.reason.startswith(reason)
    record = read_json(run.folder / "servers.json")
    assert (
        record is not None and record["servers"][0]["command"] == "serve it" and evidence.path.endswith("servers.json")
    )


def test_a_run_without_servers_has_no_gate_and_no_record(workspace: Workspace) -> None:
    run = write_run(
        workspace.folder, run_id_of(3, "1.1"), StepRef("1.1", "1. A", "x", 1), [Command("main", ["x"], "x")]
    )
    record_servers(run)
    assert server_gates(run) == ([], []) and not (run.folder / "servers.json").exists()


def test_a_stop_without_a_server_says_so(workspace: Workspace) -> None:
    run = write_run(
        workspace.folder, run_id_of(4, "2.6"), StepRef("2.6", "2. Serve", "End", 1), [Command("main", ["x"], "x")],
        action="server_stop",
    )  # fmt: skip
    with pytest.raises(Refused, match="no server of this section is running"):
        action_named("server_stop").perform(run)
