"""The ready list for servers, run from start to end with a mock in the place of vLLM, and its yardstick."""

import json
import re
import sys
from pathlib import Path

import pytest

from llmval_tui.foundation.paths import bundled
from tests.console.conftest import Workspace
from tests.helpers.trusted import trust
from tests.runs.test_server_life import free_port

HELPERS = Path(__file__).parents[1] / "helpers"
LIST = bundled("docs") / "lists" / "serving_acceptance.md"
# What makes the list small enough for a test: the flags stay those of the list.
SMALLER = (
    (r"--duration \d+", "--duration 2"),
    (r"--trial-duration 60", "--trial-duration 2 --max-qps 8"),
    (r"--target-qps \S+", "--target-qps 8"),
    (r"--prompt-len \S+", "--prompt-len 8"),
    (r"--output-len \d+", "--output-len 4"),
    (r"--slo-ttft-ms \d+", "--slo-ttft-ms 60000"),
    (r"--slo-tpot-ms \d+", "--slo-tpot-ms 60000"),
)


def fake_vllm(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `vllm` on PATH that serves like the mock of the client's tests, on the port that it is told."""
    program = workspace.folder / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != --port ]; do shift; done\n'
        f'exec {sys.executable} {HELPERS}/openai_mock.py --port "$2" --first-s 0.01 --gap-s 0.002\n'
    )
    program.chmod(0o755)
    (program.parent / "sglang").symlink_to(program)  # the list asks for it by this name
    monkeypatch.setenv("PATH", f"{program.parent}:{Path(sys.executable).parent}:/usr/bin:/bin")


def results(workspace: Workspace, *arguments: str, check: int) -> dict[str, str]:
    done = workspace.llmval("run", *arguments, "--json", check=check, timeout=600)
    return {one["number"]: f"{one['outcome']}: {one['message']}" for one in json.loads(done.stdout)["results"]}


def test_every_item_of_the_list_is_read_as_it_is_meant(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_vllm(workspace, monkeypatch)
    workspace.checklist.write_text(LIST.read_text())
    trust(workspace.checklist, "vllm", "python")
    values = ("--set", "model=/models/m", "--set", "qps=4")
    planned = json.loads(workspace.llmval("run", "--all", "--dry-run", "--json", *values, check=0).stdout)["steps"]
    kinds = ["server", *["command"] * 5, "server_stop", "server", "command", "server_stop"]
    assert [step["action"] for step in planned] == kinds * 2
    assert all(step["expected"].startswith("runs") and not step["deviations"] for step in planned)
    assert not any(step["criteria"] for step in planned), "words that nobody meant as a demand"
    one_by_one = [step["artifacts"][0]["path"] for step in planned if step["action"] == "command"]
    assert len(set(one_by_one)) == len(one_by_one) == 12
    smoke = json.loads(
        workspace.llmval("run", "--all", "--dry-run", "--json", "--preset", "smoke", *values, check=0).stdout
    )["steps"]
    assert all(step["expected"].startswith("runs") for step in smoke)
    written = [[artifact["path"] for artifact in step["artifacts"]] for step in smoke if step["action"] == "command"]
    assert written == [[path.replace(".json", ".smoke.json")] for path in one_by_one], "and not the real ones as well"


def test_the_dry_run_names_the_values_that_are_missing_even_of_a_server_that_is_not_installed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    workspace.checklist.write_text(LIST.read_text())
    text = workspace.llmval("run", "--section", "1", "--dry-run").stdout
    assert "needs the value of <model>" in text and "needs the value of <qps>" in text
    *_, hint, _, count = text.splitlines()
    assert hint.startswith("Nobody has given <model> and <qps> yet. To give them: llmval review --set model=VALUE")
    assert count.startswith("10 items: 0 would run")
    planned = json.loads(workspace.llmval("run", "1.1", "1.2", "--dry-run", "--json").stdout)["steps"]
    assert [step["missing"] for step in planned] == [["model"], []]
    given = workspace.llmval("run", "--section", "1", "--dry-run", "--set", "model=m", "--set", "qps=4").stdout
    assert "needs the value" not in given and "Nobody has given" not in given


def test_the_dry_run_knows_the_yardstick_of_an_item_whose_questions_are_open(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm(workspace, monkeypatch)
    workspace.checklist.write_text(LIST.read_text())
    yardsticks = {
        step["step"]: step["yardstick"]
        for step in json.loads(workspace.llmval("run", "1.3", "--yardstick", "--dry-run", "--json", check=2).stdout)[
            "steps"
        ]
    }
    assert yardsticks == {"1.1": None, "1.3": "its command is known after the open questions are answered"}
    done = workspace.llmval("run", "1.3", "--yardstick", check=2)
    assert "questions are open, so nothing was started" in done.stderr
    assert "Answer on a terminal" in done.stderr and "Answer on a terminal" not in done.stdout, "said once"
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (skipped,) = [
        step["yardstick"]
        for step in json.loads(workspace.llmval("run", "1.3", "--yardstick", "--dry-run", "--json").stdout)["steps"]
        if step["step"] == "1.3"
    ]
    assert skipped == "none: 1.3 is skipped"


def test_a_python_without_the_packages_of_the_load_test_is_said_before_anything_starts(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm(workspace, monkeypatch)
    workspace.checklist.write_text(LIST.read_text())
    trust(workspace.checklist, "vllm", "python")
    bare = workspace.folder / "bare"
    bare.write_text("#!/bin/sh\necho httptools uvloop\n")  # what it lacks
    bare.chmod(0o755)
    planned = json.loads(
        workspace.llmval(
            "run", "1.2", "--dry-run", "--json", "--runner-python", str(bare), "--set", "model=m", check=2
        ).stdout
    )["steps"]
    said = f"{bare} has no httptools and no uvloop, which openai_load_test.py needs: {bare} -m pip install httptools "
    assert {step["step"]: said in (step["refusal"] or "") for step in planned} == {"1.1": False, "1.2": True}
    bare.write_text('#!/bin/sh\necho \'{"python": "3.12.3", "torch": "2.13.0", "uvloop": "0.21.0"}\'\n')
    checks = json.loads(workspace.llmval("doctor", "--json", "--runner-python", str(bare), check=0).stdout)["checks"]
    client = next(check for check in checks if check["name"] == "HTTP client")
    assert client["state"] == "missing" and client["found"] == "httptools not installed"
    assert client["consequence"] == f"openai_load_test.py is refused: {bare} -m pip install httptools"


@pytest.mark.slow
def test_the_list_runs_to_its_end_and_leaves_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_vllm(workspace, monkeypatch)
    text = LIST.read_text().replace("8300", str(free_port()))
    for pattern, smaller in SMALLER:
        text = re.sub(pattern, smaller, text)
    workspace.checklist.write_text(text)
    trust(workspace.checklist, "vllm", "python")
    found = results(workspace, "--section", "1", "--set", "model=m", "--set", "qps=8", check=3)
    # The mock answers everything, so that no rate is too high within the test's time.
    assert found.pop("1.4").startswith("inconclusive: highest rate: 8 requests/s hold the service level")
    assert {number: text.partition(":")[0] for number, text in found.items()} == {
        f"1.{number}": "pass" for number in (1, 2, 3, 5, 6, 7, 8, 9, 10)
    }, found
    assert "killed on purpose" in workspace.llmval("report", "1.1", "--format", "md", "-o", "-").stdout
    assert not workspace.store.active()


@pytest.mark.slow
def test_a_yardstick_repeats_the_load_on_our_engine_after_the_server(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_vllm(workspace, monkeypatch)
    port = free_port()
    model = workspace.folder / "tiny"
    model.mkdir()
    shape = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 64,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 128, "dtype": "float32",
    }  # fmt: skip
    (model / "config.json").write_text(json.dumps(shape))
    load = (
        f"python openai_load_test.py --url http://127.0.0.1:{port} --target-qps 8 --duration 2 --prompt-len 8 "
        "--output-len 4 --output-json artifacts/load.json"
    )
    start = f"vllm serve tiny --port {port} --load-format dummy"
    workspace.checklist.write_text(f"# List\n\n## 1. Serve\n- [ ] Start: `{start}`\n- [ ] Load: `{load}`\n")
    trust(workspace.checklist, "vllm", "python")
    found = results(workspace, "--all", "--yardstick", check=0)
    assert found["1.2 yardstick"].startswith("pass") and "on our engine" in found["1.2 yardstick"], found
    server, ours = sorted(
        (run for run in workspace.store.runs() if run.intent.step.number == "1.2"), key=lambda run: run.intent.order
    )
    assert ours.intent.params["yardstick_of"] == server.id and not ours.intent.tick
    compared = json.loads(workspace.llmval("compare", server.id, ours.id, "--format", "json", check=0).stdout)
    assert compared["comparable"] and compared["method"]["paired"]
    # The mock publishes no metrics: all that is known is the generator's part.
    assert [part["name"] for part in compared["yardstick"]["parts"]] == ["generator", "unattributed"]
    assert {one["what"] for one in compared["varied"]} >= {"engine", "path"}
    # It is not a run of the item: the item keeps the verdict of its own run, and its tick.
    assert "[x] Load" in workspace.checklist.read_text()


def test_a_yardstick_without_a_server_of_the_list_is_refused(workspace: Workspace) -> None:
    done = workspace.llmval("run", "1.1", "--yardstick", check=2)
    assert "repeats a load test by openai_load_test.py against a server that the list starts" in done.stderr
    assert not workspace.store.runs()
