"""The output of the command line: tables that fit, full disks, closed pipes, and encodings with few characters."""

import io
import json
import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from llmval_tui.console.status import print_table


def test_only_a_pass_is_shown_as_evidence(workspace) -> None:
    (workspace.folder / "ok.py").write_text("open('artifacts/ok.json', 'w').write('{}'); raise SystemExit(3)")
    workspace.llmval("run", "1.1", check=1)
    workspace.llmval("tick", "1.1", "--note", "measured by hand", check=0)
    row = next(line for line in workspace.llmval("status", check=0).stdout.splitlines() if line.startswith("1.1"))
    assert "by hand" in row and "contradicts run" in row
    assert workspace.store.runs()[0].verdict().evidence  # the file exists, but its run failed
    assert "artifacts/ok.json " not in row.split("`")[-1]


def test_a_run_counts_its_items_and_status_says_why_one_did_not_pass(workspace) -> None:
    (workspace.folder / "ok.py").write_text("raise SystemExit(3)")
    assert workspace.llmval("run", "1.1", check=1).stdout.splitlines()[-1] == "1 item: 1 fail."
    *_, reason, advice = workspace.llmval("status", check=0).stdout.splitlines()
    assert reason.startswith("1.1  fail: exit: main: exit 3") and advice.startswith("llmval watch STEP")
    workspace.llmval("tick", "1.1", "--note", "measured by hand", check=0)
    assert "exit 3" not in workspace.llmval("status", check=0).stdout


def test_a_tick_that_a_newer_run_contradicts_names_that_run(workspace) -> None:
    workspace.llmval("run", "1.1", check=0)
    (workspace.folder / "ok.py").write_text("raise SystemExit(3)")
    workspace.llmval("run", "1.1", check=1)
    row = workspace.llmval("status", check=0).stdout.splitlines()[1]
    assert "contradicted" in row and f"run {workspace.store.runs()[0].id} failed since" in row
    workspace.llmval("tick", "1.1", "--note", "measured by hand", check=0)
    assert "measured by hand" in workspace.llmval("status", check=0).stdout.splitlines()[1]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_table_keeps_numbers_states_and_the_ends_of_evidence(workspace, monkeypatch) -> None:
    item = "- [ ] Run: `python ok.py --output-json artifacts/a_folder/with_a_long_name/the_result.json`"
    workspace.checklist.write_text(
        f"## 11. 名前\n{item}\n- [ ] Ask 名前 {'名前' * 40}\n- [ ] Run: `python broken.py`\n"
    )
    workspace.llmval("run", "11.1", check=0)
    workspace.llmval("run", "11.3", check=1)
    monkeypatch.setenv("TERM", "xterm")
    (entry,) = [json.loads(line) for line in workspace.store.ledger.read_text().splitlines()]
    for width in (160, 80, 60, 40, 20):
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(workspace.checklist, workspace.store, out := _Terminal())
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.getvalue().splitlines()]
        assert [line.split()[:3] for line in lines[1:]] == [
            ["11.1", "◑", "exit"], ["11.2", "○", "open"], ["11.3", "✗", "failed"],
        ] or width < 24  # fmt: skip
        assert len(lines) == 4 and all(cell_len(line) <= width for line in lines), width
        if width >= 60:
            assert lines[1].rstrip().endswith(f".json {entry['evidence'][0]['sha256'][:8]}"), width
            assert lines[1].split("exit code")[1].strip().startswith("Run: `python ok.py --ou"), width
            assert lines[3].rstrip().endswith(workspace.store.runs()[0].id[-11:]), width


@pytest.mark.parametrize("words", ["status", "status --json", "watch", "--help", "doctor"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_sentence(workspace, words: str, unbuffered: str) -> None:
    done = _piped(workspace, f"$llmval {words} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    if words == "--help" and unbuffered and not done.stderr:  # argparse ignores the error, from Python 3.11.4 on
        return
    assert done.returncode == 2 and done.stderr.startswith("llmval: cannot write to standard output")
    assert "(No space left on device)" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["status", "status --json", "locate artifacts"])
def test_a_closed_pipe_is_not_a_pass_and_prints_nothing(workspace, words: str, unbuffered: str) -> None:
    line = f"{{ sleep 0.2; $llmval {words}; echo $? > code; }} | exec 0<&-; cat code"
    done = _piped(workspace, line, PYTHONUNBUFFERED=unbuffered)
    assert (done.stdout, done.stderr) == ("130\n", "")


def test_a_character_that_the_output_cannot_encode_is_replaced(workspace) -> None:
    workspace.checklist.write_text("## 1. Only\n- [ ] Ask “Ada” – 名, 😀\n")
    plain = {"PYTHONIOENCODING": "ascii"}
    assert "1.1   . open" in _piped(workspace, "$llmval status", **plain).stdout
    for environment in ({}, plain):
        done = _piped(workspace, "$llmval status --ascii", **environment)
        assert done.returncode == 0 and '1.1   . open  Ask "Ada" - ?, ?' in done.stdout and done.stdout.isascii()
        answer = _piped(workspace, "$llmval status --ascii --json", **environment).stdout
        assert answer.isascii() and json.loads(answer)["steps"][0]["text"] == "Ask “Ada” – 名, 😀"
    assert 'has no step "x";' in _piped(workspace, "$llmval tick x --note y", **plain).stderr


def _piped(workspace, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command line in which $llmval is the command."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], cwd=workspace.folder, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, env={**os.environ, "llmval": f"{sys.executable} -m llmval_tui", **environment},
    )  # fmt: skip
