"""Servers in a list, as a user runs them: they serve the items after them, die, are killed, and are never left."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmval_tui.runs.evidence import check_ledger
from llmval_tui.runs.records import Outcome, Verdict
from llmval_tui.runs.server_life import is_serving, sentence
from llmval_tui.runs.store import Run
from tests.console.conftest import Workspace
from tests.console.test_plans import kill_plan
from tests.helpers.processes import until
from tests.helpers.trusted import trust
from tests.runs.test_server_life import free_port

HELPERS = Path(__file__).parents[1] / "helpers"
CLIENT = """import json, os, sys, time, urllib.request
from pathlib import Path
url = os.environ["LLMVAL_SERVER_URL"] + "/v1/completions"
HEADERS = {"Content-Type": "application/json"}
body = json.dumps({"model": os.environ["LLMVAL_SERVER_MODEL"], "prompt": "a"}).encode()
for number in range(int(sys.argv[1])):
    answer = json.load(urllib.request.urlopen(urllib.request.Request(url, body, HEADERS), timeout=300))
    print(number, answer["choices"][0]["text"], flush=True)
Path("asked").touch()
while len(sys.argv) > 2 and not Path(sys.argv[2]).exists():
    time.sleep(0.1)
"""


def write_list(workspace: Workspace, *items: str, options: str = "", more: str = "") -> None:
    """A list whose first section starts a server with these options; `{start}` in an item starts it again."""
    port = free_port()
    start = (
        f"Start the server: `python fake_openai_server.py serve --port {port} {options}`"
        f" <!-- llmval: action=server url=http://127.0.0.1:{port} -->"
    )
    lines = [f"- [ ] {item.replace('{start}', start)}" for item in ("{start}", *items)]
    workspace.checklist.write_text("# List\n\n## 1. Serve\n" + "\n".join(lines) + f"\n\n{more}")
    trust(workspace.checklist)
    shutil.copy(HELPERS / "fake_openai_server.py", workspace.folder)
    (workspace.folder / "client.py").write_text(CLIENT)


def results_of(workspace: Workspace, *arguments: str, check: int) -> dict[str, tuple[str, str]]:
    done = json.loads(workspace.llmval("run", *arguments, "--json", check=check).stdout)
    return {item["number"]: (item["outcome"], item["message"]) for item in done["results"]}


def newest(workspace: Workspace, number: str) -> Run:
    return next(run for run in workspace.store.runs() if run.intent.step.number == number)


def verdict_of(run: Run) -> Verdict:
    verdict = run.verdict()
    assert verdict is not None
    return verdict


def process_of(server: Run) -> int:
    identity = server.status().commands[0].identity
    assert identity is not None
    return identity.pid


def nothing_is_left(workspace: Workspace) -> bool:
    return not workspace.store.active() and not any(is_serving(run) for run in workspace.store.runs())


def test_one_item_alone_gets_its_server_and_its_evidence(workspace: Workspace) -> None:
    write_list(workspace, "Run `python client.py 2`.", "Run `python ok.py`. <!-- llmval: server=none -->")
    planned = json.loads(workspace.llmval("run", "1.2", "--dry-run", "--json", check=0).stdout)["steps"]
    assert [(step["step"], step["expected"]) for step in planned] == [
        ("1.1", "runs, because 1.2 rests on it"),
        ("1.2", "runs while 1.1 serves"),
    ]
    results = results_of(workspace, "1.2", check=0)
    assert {number: outcome for number, (outcome, _) in results.items()} == {"1.1": "pass", "1.2": "pass"}
    server, run = newest(workspace, "1.1"), newest(workspace, "1.2")
    assert sentence(server) == "ended by the end of its plan" and nothing_is_left(workspace)
    gates = {gate.name: gate for gate in verdict_of(run).gates}
    assert gates["server: 1.1"].outcome is Outcome.PASS and server.id in gates["server: 1.1"].measured
    record = json.loads((run.folder / "servers.json").read_text())["servers"][0]
    assert record["run_id"] == server.id and record["model"] == "tiny" and "fake_openai_server.py" in record["command"]
    assert any(item.path.endswith("servers.json") for item in verdict_of(run).evidence)
    assert {finding.state for finding in check_ledger(workspace.store)} == {"intact"}
    # A ticked server is started again for an open item.
    workspace.checklist.write_text(workspace.checklist.read_text().replace("[x] Run", "[ ] Run"))
    assert set(results_of(workspace, "1.2", check=0)) == {"1.1", "1.2"}


def test_kill_start_again_stop(workspace: Workspace) -> None:
    write_list(
        workspace,
        "Kill the server. <!-- llmval: action=server_stop signal=KILL -->",
        "{start}",
        "Run `python client.py 1`.",
        "Stop the server. <!-- llmval: action=server_stop -->",
        more="## 2. After\n- [ ] Run `python ok.py`.\n",
    )
    results = results_of(workspace, "--all", check=0)
    assert {outcome for outcome, _ in results.values()} == {"pass"} and len(results) == 6
    assert sentence(newest(workspace, "1.1")) == "ended by item 1.2"
    assert verdict_of(newest(workspace, "1.4")).evidence and newest(workspace, "1.4").intent.servers == [
        newest(workspace, "1.3").id
    ]
    assert sentence(newest(workspace, "1.3")) == "ended by item 1.5"


def test_a_server_that_dies_fails_the_item_and_the_rest_is_not_run(workspace: Workspace) -> None:
    write_list(
        workspace, "Run `python client.py 9`.", "Run `python client.py 1`.", options="--die-after 3",
        more="## 2. After\n- [ ] Run `python ok.py`.\n",
    )  # fmt: skip
    results = results_of(workspace, "--all", check=1)
    words = "it ended while it served (exit 7): RuntimeError: engine died of a broken wire"
    assert results["1.1"] == ("fail", f"server alive: exit 7 ({words})")
    assert results["1.2"][0] == "fail"
    gate = next(gate for gate in verdict_of(newest(workspace, "1.2")).gates if gate.name == "server: 1.1")
    assert gate.outcome is Outcome.FAIL and gate.reason == words
    assert results["1.3"][0] == "not run" and words in results["1.3"][1]
    assert results["2.1"][0] == "pass"  # another section needs no server
    assert nothing_is_left(workspace)


def test_the_plan_is_killed_and_the_server_ends_after_the_run_that_uses_it(workspace: Workspace) -> None:
    write_list(workspace, "Run `python client.py 1 go`.")
    watching = workspace.start("run", "--all")
    until((workspace.folder / "asked").exists)
    server = newest(workspace, "1.1")
    kill_plan(workspace)
    watching.communicate(timeout=300)
    assert is_serving(server)
    (workspace.folder / "go").touch()
    until(lambda: nothing_is_left(workspace))
    status = workspace.llmval("status", check=0)
    assert "1.2" in status.stdout
    assert verdict_of(newest(workspace, "1.2")).outcome is Outcome.PASS
    assert sentence(server) == "ended by its supervisor, because its plan has ended"
    assert verdict_of(server).outcome is Outcome.PASS


def test_a_cancel_ends_the_server_too(workspace: Workspace) -> None:
    write_list(workspace, "Run `python client.py 1 go`.")
    watching = workspace.start("run", "--all")
    until((workspace.folder / "asked").exists)
    shown = workspace.llmval("status", check=0).stdout
    assert "server of 1.1: serving tiny, ready in " in shown
    workspace.llmval("cancel", check=0)
    watching.communicate(timeout=300)
    assert watching.returncode == 130 and nothing_is_left(workspace)
    assert verdict_of(newest(workspace, "1.1")).outcome is Outcome.INCONCLUSIVE


def test_a_taken_port_is_refused_with_its_process(workspace: Workspace) -> None:
    write_list(workspace, "Run `python client.py 1`.")
    port = workspace.checklist.read_text().partition("--port ")[2].split()[0]
    code = f"import signal, socket; one = socket.create_server(('127.0.0.1', {port})); signal.pause()"
    other = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: f":{int(port):04X} " in Path("/proc/net/tcp").read_text())
        results = results_of(workspace, "--all", check=2)
    finally:
        other.kill()
        other.wait()
    outcome, message = results["1.1"]
    assert (
        outcome == "refused" and f"something listens on http://127.0.0.1:{port} already: pid {other.pid} (" in message
    )
    assert results["1.2"] == ("not run", "it rests on the server of 1.1, which was refused")


@pytest.mark.parametrize("answer", ["manual", "skip"])
def test_a_server_that_a_person_starts_is_not_started(workspace: Workspace, answer: str) -> None:
    write_list(workspace, "Run `python ok.py`.")
    workspace.checklist.with_name("llm_validation_checklist.llmval.toml").unlink()
    question = workspace.llmval("review", "--json").stdout
    codes = [item["code"] for item in json.loads(question)["questions"]]
    workspace.llmval("review", "--answer", f"{codes[0]}={answer}", "--answer", f"{codes[1]}=run", check=0)
    planned = json.loads(workspace.llmval("run", "1.2", "--dry-run", "--json", check=0).stdout)["steps"]
    assert [(step["step"], step["expected"]) for step in planned] == [("1.2", "runs")]
