"""The command line with real processes: its effects and exit codes, and that a refusal changes no byte."""

import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzing import checkpoints
from llmval_tui.cli import find_command
from llmval_tui.console.commands.all_commands import COMMANDS
from llmval_tui.console.parser import parser, value_options
from llmval_tui.foundation.errors import Refused
from tests.console.conftest import PROGRAMS


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ([], "open"),
        (["list.md"], "open"),
        (["--theme", "status"], "open"),
        (["--workspace", "run", "list.md", "--readonly"], "open"),
        (["--workspace", "x", "status"], "status"),
        (["status", "--workspace", "x"], "status"),
        (["run", "1.2"], "run"),
    ],
)
def test_the_command_is_found_anywhere_on_the_command_line(typed: list[str], command: str) -> None:
    assert parser().parse_args(find_command(typed, COMMANDS, value_options)).command == command


@pytest.mark.parametrize(
    ("typed", "name", "words"),
    [
        ("run 2.3 --preset smoke 4.2", "steps", ["2.3", "4.2"]),
        ("run --preset smoke 2.3 4.2", "steps", ["2.3", "4.2"]),
        ("run 2.3 -- 4.2", "steps", ["2.3", "4.2"]),
        ("run --all", "steps", []),
        ("report one --format md two -o x.md three", "runs", ["one", "two", "three"]),
        ("report", "runs", []),
        ("compare one --anyway two", "b", "two"),
        ("tick --note why 1.1", "step", "1.1"),
        ("--theme dark list.md --readonly", "checklist_file", "list.md"),
        ("locate --json config", "what", "config"),
    ],
)
def test_options_may_stand_between_words(typed: str, name: str, words: list[str] | str) -> None:
    assert getattr(parser().parse_args(find_command(typed.split(), COMMANDS, value_options)), name) == words


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("run 1.1 --presett smoke 1.2", "unrecognized arguments: --presett"),
        ("run 1.1 --preset huge 1.2", "argument --preset: invalid choice"),
        ("tick 1.1 --note why 1.2", "unrecognized arguments: 1.2"),
        ("tick 1.1", "the following arguments are required: --note"),
        ("compare one --anyway", "the following arguments are required: B"),
        ("locate --json moon", "argument what: invalid choice"),
        ("run --interval abc", "--interval abc is not a number of seconds from 0.1 to 60;"),
        ("watch --every nan", "--every nan is not a number of seconds from 0.1 to 60;"),
        ("sttaus", "no file 'sttaus': did you mean llmval status?"),
        ("why 1.2", "no file 'why': llmval help lists the commands."),
        ("--workspace x rnu 1.2", "no file 'rnu': did you mean llmval run?"),
    ],
)
def test_bad_words_are_refused_in_one_sentence(typed: str, complaint: str) -> None:
    with pytest.raises(Refused) as refusal:
        parser().parse_args(find_command(typed.split(), COMMANDS, value_options))
    assert complaint in str(refusal.value)


@pytest.mark.parametrize("word", ["reports", "./statsu", "/statsu", "checks.md"])
def test_a_file_or_a_word_unlike_any_command_is_a_checklist(word: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").touch()
    assert find_command([word], COMMANDS, value_options) == ["open", word]


def test_a_pass_ticks_one_byte_and_is_recorded(workspace) -> None:
    before = workspace.checklist.read_bytes()
    done = workspace.llmval("run", "1.1", check=0)
    after = workspace.checklist.read_bytes()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [(ord(" "), ord("x"))]
    todo = (workspace.folder / "docs/TODO.md").read_text()
    assert "artifacts/ok.json" in todo
    assert "pass, ticked" in done.stdout
    ledger = [json.loads(line) for line in workspace.store.ledger.read_text().splitlines()]
    assert [entry["path"] for entry in ledger[-1]["evidence"]] == ["artifacts/ok.json"]
    assert ledger[-1]["evidence"][0]["sha256"][:12] in todo

    assert "1 file of evidence: 1 intact, 0 changed or missing." in workspace.llmval("verify", check=0).stdout
    (workspace.folder / "artifacts/ok.json").write_text('{"value": 2}')
    kept = workspace.llmval("verify", check=0).stdout
    assert (
        "kept     1.1  artifacts/ok.json" in kept
        and "0 intact, 1 intact only as a copy in the run folder, 0 changed or missing" in kept
    )
    (copy,) = workspace.store.runs()[0].folder.glob("evidence/*")
    copy.write_text('{"value": 2}')
    stale = workspace.llmval("verify", "--json", check=1)
    assert json.loads(stale.stdout)["files"][0]["state"] == "changed"


def test_a_failure_ticks_nothing(workspace) -> None:
    before = workspace.checklist.read_bytes()
    done = workspace.llmval("run", "1.2", check=1)
    assert workspace.checklist.read_bytes() == before
    assert not (workspace.folder / "docs/TODO.md").exists()
    assert "exit" in done.stdout
    assert "boom" in (workspace.store.runs()[0].logs_folder / "main.stderr.log").read_text()


def test_no_tick_judges_only(workspace) -> None:
    before = workspace.checklist.read_bytes()
    workspace.llmval("run", "1.1", "--no-tick", check=0)
    assert workspace.checklist.read_bytes() == before
    status = json.loads(workspace.llmval("status", "--json", check=0).stdout)
    assert status["steps"][0]["state"] == "passed"
    assert workspace.checklist.read_bytes() == before  # status does not tick it either


@pytest.mark.parametrize("words", [("1.1", "--all"), ("1.1", "--section", "1"), ("--section", "1", "--all")])
def test_two_ways_of_choosing_steps_are_refused(workspace, words: tuple[str, ...]) -> None:
    refused = workspace.llmval("run", *words, check=2)
    assert "give only one of them" in refused.stderr
    assert not (workspace.folder / "artifacts/plans").exists()


@pytest.mark.parametrize(
    "words", [("run", "--preset", "big"), ("status", "1.2"), ("tick", "1.1"), ("run", "--interval", "0")]
)
def test_a_usage_error_is_one_sentence_or_json(workspace, words: tuple[str, ...]) -> None:
    answer = json.loads(workspace.llmval(*words, "--json", check=2).stdout)
    assert answer["ok"] is False
    assert "--help" in answer["message"]
    assert workspace.llmval(*words, check=2).stderr.count("\n") == 1


def test_a_tick_is_undone_if_its_note_cannot_be_recorded(workspace) -> None:
    before = workspace.checklist.read_bytes()
    (workspace.folder / "docs/TODO.md").mkdir()
    workspace.llmval("tick", "1.4", "--note", "seen", check=2)
    assert workspace.checklist.read_bytes() == before


def test_verify_refuses_where_there_is_nothing_to_verify(workspace, tmp_path) -> None:
    assert "no item is ticked, and no tick is on record" in workspace.llmval("verify", check=2).stderr
    (tmp_path / "empty").mkdir()
    answer = json.loads(workspace.llmval("verify", "--workspace", str(tmp_path / "empty"), "--json", check=2).stdout)
    assert answer["ok"] is False and "there is nothing to verify" in answer["message"]
    workspace.llmval("tick", "1.4", "--note", "seen", check=0)
    assert "0 files of evidence" in workspace.llmval("verify", check=0).stdout
    assert (
        "belongs to the workspace"
        in workspace.llmval(
            "verify", "--workspace", "docs", "--checklist", "docs/llm_validation_checklist.md", check=2
        ).stderr
    )


def test_verify_of_a_run_without_evidence_is_refused(workspace, tmp_path) -> None:
    workspace.llmval("run", "1.2", check=1)
    (run,) = workspace.store.runs()
    copy = tmp_path / "unjudged"
    shutil.copytree(run.folder, copy)
    (copy / "verdict.json").unlink()
    refused = workspace.llmval("verify", str(copy), check=2)
    assert f"{copy} has no file of evidence" in refused.stderr and "it has no verdict yet" in refused.stderr
    assert refused.stdout == ""


def test_verify_names_ticks_without_a_record_in_json_too(workspace) -> None:
    workspace.checklist.write_text(workspace.checklist.read_text().replace("- [ ] Ask", "- [x] Ask"))
    (line,) = json.loads(workspace.llmval("verify", "--json", check=3).stdout)["unbacked"]
    assert "1.4" in line


def test_readonly_changes_nothing(workspace) -> None:
    refused = workspace.llmval("run", "1.1", "--readonly", check=2)
    assert "--readonly" in refused.stderr
    workspace.llmval("status", "--readonly", check=0)
    assert not (workspace.folder / "artifacts/runs").exists()


def test_tick_by_hand_needs_a_note_and_is_recorded_as_such(workspace) -> None:
    before = workspace.checklist.read_bytes()
    assert "note" in workspace.llmval("tick", "1.4", "--note", "  ", check=2).stderr
    assert workspace.checklist.read_bytes() == before
    workspace.llmval("tick", "1.4", "--note", "asked Ada, all labelled", check=0)
    assert workspace.checklist.read_text().count("[x]") == 1
    todo = (workspace.folder / "docs/TODO.md").read_text()
    assert "**by hand**" in todo
    assert "asked Ada" in todo


@pytest.mark.parametrize(
    "command",
    [
        "python ok.py; rm -rf /",
        "python ok.py `id`",
        "python ok.py $(curl evil)",
        "python ok.py *.json",
        "python ok.py || true",
        "python ../../outside.py",
        "python ok.py --output-json ../../outside.json",
        "python ok.py --output-json /etc/outside.json",
        "python ok.py 'unbalanced",
        "python missing.py",
    ],
)
def test_refused_commands_change_no_byte(workspace, command: str) -> None:
    text = f"## 1. Only\n- [ ] Run: ``{command}``\n"
    workspace.checklist.write_text(text)
    done = workspace.llmval("run", "1.1", check=2)
    assert len((done.stdout + done.stderr).strip()) > 20
    assert workspace.checklist.read_text() == text
    assert workspace.store.runs() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"# No tasks\n", "no task items"),
        (b"- [ ] bad \xff byte\n", "line 1"),
    ],
)
def test_bad_checklists(workspace, content: bytes | None, message: str) -> None:
    path = workspace.folder / "list.md"
    if content is not None:
        path.write_bytes(content)
    for command in (["run", "--all"], ["status"]):
        done = workspace.llmval(*command, "--checklist", "list.md", check=2)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
    if content is not None:
        assert path.read_bytes() == content


def test_the_dashboard_without_a_terminal_names_other_commands(workspace) -> None:
    assert "needs a terminal" in workspace.llmval(check=2).stderr


def test_a_terminal_without_a_cursor_is_refused_before_anything_is_drawn(workspace, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal, screen = os.openpty()
    try:
        command = [sys.executable, "-m", "llmval_tui", "--workspace", str(workspace.folder)]
        done = subprocess.run(command, stdin=screen, stdout=screen, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2 and "TERM=xterm-256color" in done.stderr and done.stderr.count("\n") == 1
        assert select.select([terminal], [], [], 0)[0] == []
    finally:
        os.close(terminal)
        os.close(screen)


@pytest.mark.parametrize(
    ("command", "code"), [(["status"], 0), (["verify"], 3), (["report", "last"], 0), (["status", "--json"], 0)]
)
def test_a_ledger_that_cannot_be_read_is_named_and_the_rest_works(workspace, command: list[str], code: int) -> None:
    workspace.llmval("run", "1.1")
    before = workspace.checklist.read_bytes()
    (workspace.folder / "artifacts" / "runs" / "ledger.jsonl").unlink()
    (workspace.folder / "artifacts" / "runs" / "ledger.jsonl").mkdir()
    done = workspace.llmval(*command, check=code)
    assert "ledger.jsonl cannot be" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert workspace.checklist.read_bytes() == before


def test_a_state_folder_that_cannot_be_written_is_named_before_anything_runs(workspace, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    done = workspace.llmval("run", "1.1", check=2)
    assert "set XDG_STATE_HOME to a folder of yours" in done.stderr
    assert workspace.store.runs() == []


def test_ctrl_c_during_the_imports_ends_llmval_without_a_word() -> None:
    command = [sys.executable, str(PROGRAMS / "interrupted_start.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_start_up_imports_nothing_heavy() -> None:
    command = [sys.executable, str(PROGRAMS / "heavy_imports.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path("/"))
    assert done.stdout.strip() == "[]"


def test_runner_python_that_cannot_run_the_runners_is_refused(workspace, tmp_path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    for python, message in (
        ("/bin/ls", "not a Python"),
        ("/no/such", "cannot be started"),
        (bare / "bin/python", "no torch"),
    ):
        done = workspace.llmval("run", "1.1", "--runner-python", str(python), check=2)
        assert message in done.stderr
    assert workspace.store.runs() == []


def test_run_takes_the_runners_python_from_the_settings(workspace, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "llmval" / "config.toml"
    file.parent.mkdir()
    file.write_text("runner_python = '/no/such'\npreset = 'smoke'\n[keys]\nnonsense = 'x'\n")
    assert "/no/such cannot be started" in workspace.llmval("run", "1.1", check=2).stderr
    # The command line wins. The preset of the file is ignored: a smoke run would be a deviation.
    workspace.llmval("run", "1.1", "--runner-python", sys.executable, check=0)
    (run,) = workspace.store.runs()
    assert run.intent.deviations == []
    file.write_text("runner_pyton = '/no/such'\n")
    assert "config.toml, line 1: there is no setting 'runner_pyton'" in workspace.llmval("run", "1.1", check=2).stderr


def test_a_dry_run_says_what_would_happen_and_does_nothing(workspace) -> None:
    before = set(workspace.folder.rglob("*"))
    message = workspace.llmval("run", "1.1", "1.2", "--dry-run", "--readonly", check=0).stdout
    assert "1.1  Run: `python ok.py" in message and "  $ python ok.py" in message and "1.2  Run" in message
    assert "  writes artifacts/ok.json" in message
    assert message.endswith("\n\n2 items: 2 would run.\n")
    everything = workspace.llmval("run", "--all", "--dry-run", check=0).stdout
    assert everything.endswith("\n\n4 items: 3 would run, 1 is done by hand.\n")
    by_hand = workspace.llmval("run", "1.4", "--dry-run", check=2).stdout
    assert by_hand.endswith("\n\n1 item: 0 would run, 1 is done by hand.\n")
    planned = workspace.llmval("run", "--all", "--dry-run", "--json", check=0)
    steps = json.loads(planned.stdout)["steps"]
    assert [step["expected"] for step in steps] == ["runs", "runs", "runs", "by hand"]
    assert [(step["step"], step["refusal"] is None) for step in steps] == [
        ("1.1", True), ("1.2", True), ("1.3", True), ("1.4", False),
    ]  # fmt: skip
    assert steps[0]["artifacts"][0]["path"] == "artifacts/ok.json" and "by hand" in steps[3]["summary"]
    assert set(workspace.folder.rglob("*")) == before


def test_doctor_and_attach_work_with_invalid_settings(workspace, tmp_path, monkeypatch) -> None:
    workspace.llmval("run", "1.1", check=0)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "llmval" / "config.toml"
    file.parent.mkdir()
    for text, message in (("bel = true\n", "line 1: there is no setting 'bel'"), ("bell = \n", "is not TOML")):
        file.write_text(text)
        checks = json.loads(workspace.llmval("doctor", "--json", check=0).stdout)["checks"]
        (bad,) = (check for check in checks if check["name"] == "settings")
        assert bad["state"] == "missing" and message in bad["found"]
        assert {"runner python", "torch", "workspace"} <= {check["name"] for check in checks}
        attached = workspace.llmval("attach", "--json", check=0)
        assert message in attached.stderr and json.loads(attached.stdout)["ok"] is True
    file.write_text("bell = true\n")
    checks = json.loads(workspace.llmval("doctor", "--json", check=0).stdout)["checks"]
    assert "settings" not in {check["name"] for check in checks}


def test_doctor_says_whether_the_runners_can_serve_a_checkpoint(workspace, tmp_path) -> None:
    config, header, data = checkpoints.checkpoint(random.Random(2))
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)

    def asked(config: dict, code: int) -> dict[str, dict]:
        (tmp_path / "config.json").write_text(json.dumps(config))
        answer = workspace.llmval("doctor", "--json", "--checkpoint", str(tmp_path), check=code)
        return {check["name"]: check for check in json.loads(answer.stdout)["checks"]}

    found = asked(config, 0)
    assert found["checkpoint"]["state"] == "ok" and config["architectures"][0] in found["checkpoint"]["found"]
    assert "tokens" in found["context"]["found"] and "2 GPUs" in found
    refused = asked(config | {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}, 2)
    assert refused["checkpoint"]["state"] == "missing"
    assert "MixtralForCausalLM has a mixture of experts" in refused["checkpoint"]["found"]
    assert "context" not in refused and "workspace" in refused
